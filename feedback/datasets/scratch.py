"""Directories for a dataset while it is made. What a killed process has left may hold what people wrote: it goes."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_directory(root: Path) -> Iterator[Path]:
    """Locked while it is used, gone afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    lock = None
    while lock is None:  # somebody may clear it away before it is locked
        path = Path(tempfile.mkdtemp(dir=root))
        lock = _lock(path)
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.close(lock)


def clear_scratch(root: Path) -> list[str]:
    """Removes those whose process is gone; returns their names."""
    gone = list[str]()
    for path in sorted(root.glob("*")):
        if (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            gone.append(path.name)
    return gone


def _lock(directory: Path) -> int | None:
    """None where another process holds it, or has just removed it."""
    try:
        file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if directory.exists():
            return file
    except BlockingIOError:
        pass
    os.close(file)
    return None
