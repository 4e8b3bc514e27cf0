"""metrics.jsonl can be read while it is written, and has each step once whatever was killed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from trainer.metrics_file import MetricsFile, read_metrics


def write_steps(path: Path, *steps: int, loss: float = 1.0) -> None:
    file = MetricsFile(path)
    for step in steps:
        file.write(step, {"loss": loss / step})
    file.__exit__()


def lines(path: Path) -> list[dict[str, Any]]:
    """As another program reads it: strict JSON, line by line."""
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_a_step_can_be_read_before_the_training_ends(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write(1, {"loss": 0.5, "rewards/chosen": -1.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5, "rewards/chosen": -1.0}]
    file.__exit__()


def test_nothing_is_written_before_the_first_step(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "metrics.jsonl").__exit__()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(tmp_path: Path, value: float) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write(1, {"loss": value})
    file.__exit__()
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None}]


def test_a_resumed_training_replaces_the_steps_that_it_does_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 1, 2, 3, 4)
    write_steps(path, 3, 4, 5, loss=9.0)
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(1, 1.0), (2, 0.5), (3, 3.0), (4, 2.25), (5, 1.8)]


def test_a_training_from_the_start_begins_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 1, 2, 3)
    write_steps(path, 1)
    assert [line["step"] for line in lines(path)] == [1]


def test_a_line_cut_off_by_a_kill_is_no_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_steps(path, 1, 2)
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    write_steps(path, 3)
    assert [line["step"] for line in lines(path)] == [1, 2, 3]


def test_of_two_words_on_a_step_the_last_counts(tmp_path: Path) -> None:
    """A process that was paused, and comes back beside its successor, may still write one."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1}\n{"step": 2, "loss": 2}\n{"step": 1, "loss": 3}\n')
    assert read_metrics(path) == [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}]


def test_a_part_has_a_file_and_steps_of_its_own(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "reward.jsonl")
    file.write(1, {"loss": 1.0})
    file.part("judge").write(1, {"loss": 2.0})
    file.__exit__()
    assert lines(tmp_path / "reward.jsonl") == [{"step": 1, "loss": 1.0}]
    assert lines(tmp_path / "reward-judge.jsonl") == [{"step": 1, "loss": 2.0}]


def test_where_nothing_was_written_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []
