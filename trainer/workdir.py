"""What a cycle leaves on disk: one directory per finished stage, marked last, so that a killed worker can go on."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

MARKER = "_DONE"
CYCLES = "cycles"
METRICS = "metrics"
GONE = ".gone"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a training process ended: its exit status, and why in one line."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class WorkDir:
    """`home/cycles/<cycle_id>`. A stage is written beside its place and renamed into it when it is whole."""

    root: Path

    def at(self, stage: str) -> Path:
        return self.root / stage

    def result(self, stage: str) -> dict[str, Any] | None:
        """What the finished stage returned; None while it is not finished."""
        marker = self.at(stage) / MARKER
        return dict(json.loads(marker.read_text())) if marker.is_file() else None

    def results(self) -> dict[str, dict[str, Any]]:
        """Of the stages that are finished, by their names."""
        return {marker.parent.name: json.loads(marker.read_text()) for marker in self.root.glob(f"[!.]*/{MARKER}")}

    def begin(self, stage: str, epoch: int) -> Path:
        """A fresh directory of this worker's own: an earlier holder that wakes up writes into another."""
        for left in self.root.glob(f"{stage}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
        part = self.root / f"{stage}.{epoch}.part"
        part.mkdir(parents=True)
        return part

    def finish(self, stage: str, part: Path, result: dict[str, Any]) -> dict[str, Any]:
        """Marks the stage and moves it into place; where another has finished it already, that one stays."""
        (part / MARKER).write_text(json.dumps(result, sort_keys=True))
        try:
            part.rename(self.at(stage))
        except OSError:
            finished = self.result(stage)
            if finished is None:
                raise
            shutil.rmtree(part)
            return finished
        return result

    def metrics_file(self, stage: str) -> Path:
        """Beside the stages: it outlives an attempt that was killed, whose successor goes on in it."""
        return self.root / METRICS / f"{stage}.jsonl"

    def metrics_files(self, stages: Sequence[str]) -> list[Path]:
        """One for each series of steps: `reward.jsonl` and its parts, `reward-judge.jsonl`."""
        return [file for stage in stages for file in sorted((self.root / METRICS).glob(f"{stage}*.jsonl"))]

    def remove(self) -> None:
        """At once as a whole, so that nobody reads a part of it; another process may do the same."""
        with suppress(FileNotFoundError):
            self.root.rename(self.root.with_name(f".{self.root.name}.{uuid4().hex}{GONE}"))
        clear_removed(self.root.parent)

    def note_ending(self, epoch: int, ending: Ending) -> None:
        """The first word of an epoch stands: when one of several processes ends, the others end because of it."""
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.root / f"ending.{uuid4().hex}.part"
        part.write_text(json.dumps([ending.status, ending.reason]))
        with suppress(FileExistsError):
            os.link(part, self._ending(epoch))
        part.unlink()

    def ending(self, epoch: int) -> Ending | None:
        """None where no process of that epoch could say it."""
        path = self._ending(epoch)
        return Ending(*json.loads(path.read_text())) if path.is_file() else None

    def _ending(self, epoch: int) -> Path:
        return self.root / f"ending-{epoch}.json"

    def note_crash(self, reason: str) -> int:
        """Remembers that a child died and returns how often that has happened in this cycle."""
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "crashes.txt"
        with path.open("a") as file:
            file.write(reason.replace("\n", " ") + "\n")
        return len(path.read_text().splitlines())


def work_dir(home: Path, cycle_id: str) -> WorkDir:
    return WorkDir(home / CYCLES / cycle_id)


def work_dirs(home: Path) -> list[str]:
    """The cycles that have one here, and whatever else lies there. What a killed sweep was removing goes."""
    clear_removed(home / CYCLES)
    return sorted(path.name for path in (home / CYCLES).glob("[!.]*"))


def clear_removed(directory: Path) -> None:
    for left in directory.glob(f".*{GONE}"):
        shutil.rmtree(left, ignore_errors=True)  # another process may do the same
