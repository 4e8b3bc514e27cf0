"""Names, manifests and the directory that goes into the artifact store."""

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from infra.artifacts import dump_json
from infra.contracts.base import Contract

MANIFEST, EVIDENCE = "manifest.json", "evidence.json"
ROOM = Path(__file__).parent


def version_name(alias: str, cycle_id: str, sha256: str) -> str:
    """`<alias>-<cycle>-<hash8>`: never the same for other weights."""
    return f"{alias}-{cycle_id}-{sha256[:8]}"


def reward_name(alias: str, cycle_id: str, role: str, sha256: str) -> str:
    """A reward model's own name; `role` is `reward` or `judge`."""
    return f"{alias}-{cycle_id}-{role}-{sha256[:8]}"


def adapter_path(version: str) -> str:
    return f"adapters/{version}"


def reward_path(name: str) -> str:
    return f"rewards/{name}"


def closure(own: str, *earlier: list[str]) -> list[str]:
    """Hashes of every dataset that shaped an adapter: this cycle's, and those of whatever it started from."""
    return sorted({own, *(sha256 for group in earlier for sha256 in group)})


def write_contract(path: Path, contract: Contract) -> None:
    path.write_bytes(dump_json(contract.model_dump(mode="json")))


@lru_cache
def code_version() -> str:
    """Release and a hash of this room's source, which tells apart what a version number does not."""
    digest = hashlib.sha256()
    for path in sorted(ROOM.rglob("*.py")):
        digest.update(str(path.relative_to(ROOM)).encode() + b"\0" + path.read_bytes())
    return f"{_release()}+{digest.hexdigest()[:12]}"


def _release() -> str:
    try:
        return version("thumbwheel")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
