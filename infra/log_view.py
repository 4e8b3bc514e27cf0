"""What `thumbwheel logs` prints: the ends of the processes' log files, and what is added to them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """What is written from now on, for ever; a file that was put aside is read from its new beginning."""
    read = {path: path.stat().st_size for path in files}
    while True:
        lines = [LogLine(path.stem, line) for path in files for line in _news(path, read)]
        yield from lines
        if not lines:
            time.sleep(POLL_S)


def _news(path: Path, read: dict[Path, int]) -> list[str]:
    """The whole lines after `read[path]`, which moves on to their end."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        start = read[path] if read[path] <= path.stat().st_size else 0
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
    read[path] = start + len(whole) + len(newline)
    return whole.decode(errors="replace").splitlines()
