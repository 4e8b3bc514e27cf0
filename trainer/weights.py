"""What a dataset's side files make of a row's weight: its rater's, its segment's and its prompt's factor."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

DIRECTORY = "weights"


@dataclass(frozen=True)
class Factors:
    """What is not listed has the factor 1. A rater may have one for a segment, which goes before the one for all."""

    raters: Mapping[tuple[str, str | None], float]
    segments: Mapping[str | None, float]
    prompts: Mapping[str, float]

    @classmethod
    def read(cls, dataset: Path) -> "Factors":
        """All ones where a dataset has no side files."""
        raters, segments, prompts = (_rows(dataset, name) for name in ("raters", "segments", "prompts"))
        return cls(
            {(row["unit"], row["segment"]): row["factor"] for row in raters},
            {row["segment"]: row["factor"] for row in segments},
            {row["prompt_id"]: row["factor"] for row in prompts},
        )

    def of(self, row: Mapping[str, Any]) -> float:
        unit, segment = str(row.get("unit") or row.get("rater") or ""), row.get("segment")
        everywhere = self.raters.get((unit, None), 1.0)
        trust = self.raters.get((unit, segment), everywhere)
        return trust * self.segments.get(segment, 1.0) * self.prompts.get(str(row.get("prompt_id") or ""), 1.0)


def _rows(dataset: Path, name: str) -> list[dict[str, Any]]:
    file = dataset / DIRECTORY / f"{name}.parquet"
    return pq.read_table(file).to_pylist() if file.is_file() else []
