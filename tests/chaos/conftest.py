"""A state directory that PostgreSQL's user may enter, as pytest's own folders may not be."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    with TemporaryDirectory(prefix="thumbwheel-chaos-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "stack"
