"""metrics.jsonl: an object per step under TRL's names, written as it happens; each step once, whatever was killed."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

STEP = "step"


class MetricsFile:
    """Opened at the first step. A part lies beside it: `metrics-judge.jsonl`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._parts: list[MetricsFile] = []

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """A reader sees the line at once. What is no number is null: JSON has neither NaN nor infinity."""
        if self._file is None:
            self._file = self._continued(step)
        known = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._file.write(_line({STEP: step, **known}))
        self._file.flush()

    def part(self, name: str) -> "MetricsFile":
        self._parts.append(MetricsFile(self._path.with_name(f"{self._path.stem}-{name}.jsonl")))
        return self._parts[-1]

    def __exit__(self, *exception: object) -> None:
        for part in self._parts:
            part.__exit__(*exception)
        if self._file is not None:
            self._file.close()

    def _continued(self, step: int) -> IO[str]:
        """After a resume, what an earlier attempt wrote from this step on is done again: it goes."""
        kept = [line for line in read_metrics(self._path) if line[STEP] < step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_name(f".{self._path.name}.tmp")
        aside.write_text("".join(map(_line, kept)))
        aside.replace(self._path)
        return self._path.open("a")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """In order of the steps; nothing where there is no file."""
    return parse_metrics(path.read_text()) if path.is_file() else []


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """The last word on each step. A line without its end was cut off by a kill."""
    whole = text[: text.rfind("\n") + 1].splitlines()
    found = {line[STEP]: line for line in map(json.loads, whole)}
    return [found[step] for step in sorted(found)]


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value) + "\n"
