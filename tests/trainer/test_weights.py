"""A row weighs what it says by itself, times what the dataset's side files say of its rater, segment and prompt."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.data import read_table
from trainer.weights import Factors


def put(directory: Path, name: str, rows: list[dict[str, Any]]) -> None:
    target = directory / name
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), target)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    raters = [("r1", None, 0.5), ("r1", "de", 2.0), ("r2", None, 0.0)]
    put(
        tmp_path,
        "weights/raters.parquet",
        [dict(zip(("unit", "segment", "factor"), row, strict=True)) for row in raters],
    )
    put(tmp_path, "weights/prompts.parquet", [{"prompt_id": "loud", "factor": 0.1}])
    put(tmp_path, "weights/segments.parquet", [{"segment": "de", "factor": 3.0}, {"segment": None, "factor": 1.0}])
    return tmp_path


@pytest.mark.parametrize(
    ("row", "factor"),
    [
        ({"unit": "r1", "segment": "en"}, 0.5),
        ({"unit": "r1", "segment": "de"}, 6.0),
        ({"unit": "r1", "prompt_id": "loud"}, 0.05),
        ({"unit": "nobody:s1"}, 1.0),
    ],
)
def test_factors_multiply_and_what_is_not_listed_has_one(dataset: Path, row: dict[str, Any], factor: float) -> None:
    assert Factors.read(dataset).of(row) == pytest.approx(factor)


def test_rows_that_weigh_nothing_are_not_trained_on(dataset: Path) -> None:
    rows = [{"unit": unit, "segment": None, "prompt_id": "p", "weight": 0.8} for unit in ("r1", "r2")]
    put(dataset, "preference/train/a.parquet", rows)
    assert [(row["unit"], row["weight"]) for row in read_table(dataset, "preference", "train")] == [("r1", 0.4)]


def test_prompts_of_those_who_weigh_nothing_may_still_be_asked(dataset: Path) -> None:
    put(dataset, "prompts/train/a.parquet", [{"unit": "r2", "prompt_id": "p", "weight": 1.0}])
    assert len(read_table(dataset, "prompts", "train")) == 1


def test_a_dataset_without_side_files_weighs_as_its_rows_say(tmp_path: Path) -> None:
    assert Factors.read(tmp_path).of({"unit": "anybody"}) == 1.0
