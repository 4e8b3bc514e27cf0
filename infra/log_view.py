"""What `thumbwheel logs` prints: the ends of the processes' log files, and what is added to them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from infra.child import tail

POLL_S = 0.2


class NoSuchLog(LookupError):
    """No process of that name has written a log here."""


@dataclass(frozen=True, slots=True)
class LogLine:
    process: str
    line: str


def log_files(home: Path, process: str | None) -> list[Path]:
    """One process' file, or all of them; raises NoSuchLog."""
    found = sorted((home / "logs").glob(f"{process or '*'}.log"))
    if not found:
        names = ", ".join(path.stem for path in log_files(home, None)) if process else ""
        raise NoSuchLog(
            f"there is no log of {process or 'any process'} in {home}" + (f"; there is {names}" * bool(names))
        )
    return found


def last_lines(files: list[Path], count: int) -> Iterator[LogLine]:
    for path in files:
        for line in tail(path, count):
            yield LogLine(path.stem, line)


def follow(files: list[Path]) -> Iterator[LogLine]:
    """What is written from now on, for ever; a file that was put aside is opened anew."""
    opened = {path: _at_end(path) for path in files}
    while True:
        idle = True
        for path, file in opened.items():
            while line := file.readline():
                idle = False
                yield LogLine(path.stem, line.rstrip("\n"))
            if path.is_file() and path.stat().st_size < file.tell():
                opened[path] = path.open(errors="replace")
        if idle:
            time.sleep(POLL_S)


def _at_end(path: Path) -> IO[str]:
    file = path.open(errors="replace")
    file.seek(0, 2)
    return file
