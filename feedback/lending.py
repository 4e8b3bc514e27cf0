"""Texts that another room reads for a moment, in the artifact store: gone once they are read, or given up."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uuid6 import uuid7

from infra.artifacts import ArtifactStore

FOLDER = "lent"


@contextmanager
def lent(artifacts: ArtifactStore, value: Any) -> Iterator[str]:
    """The path of a JSON file, and of whatever is written as `<path>.<more>`, for as long as the block lasts."""
    name = f"{uuid7().hex}.json"
    try:
        artifacts.write(f"{FOLDER}/{name}", json.dumps(value).encode())
        yield f"{FOLDER}/{name}"
    finally:
        _delete(artifacts, name)


def clear_lent(artifacts: ArtifactStore) -> None:
    """What a killed process has left. An erasure clears all of it: who was reading asks again, without the person."""
    _delete(artifacts, "")


def _delete(artifacts: ArtifactStore, beginning: str) -> None:
    artifacts.delete(f"{FOLDER}/{name}" for name in artifacts.names(FOLDER) if name.startswith(beginning))
