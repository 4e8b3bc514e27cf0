"""Whoever wants the figures of a training gets each step's, in every place asked for."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from infra.settings import SettingsError
from trainer.metrics_file import read_metrics
from trainer.progress import StageProgress, silent
from trainer.sinks import OPENERS, Sinks, open_sinks

MISSING = [name for name in ("mlflow", "tensorboard") if find_spec(name) is None]


@dataclass
class Memory:
    """A sink that can be asked."""

    name: str = ""
    steps: list[tuple[str, int, dict[str, float]]] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append((self.name, step, dict(metrics)))

    def part(self, name: str) -> "Memory":
        return Memory(f"{self.name}{name}/", self.steps, self.failed)

    def __exit__(self, *exception: object) -> None:
        self.failed.append(any(exception))


def test_each_sink_gets_each_step() -> None:
    one, other = Memory(), Memory()
    progress = StageProgress(silent, Sinks([one, other]))
    progress(1, 2, {"loss": 0.5})
    progress(2, 2, {"loss": 0.25})
    assert one.steps == other.steps == [("", 1, {"loss": 0.5}), ("", 2, {"loss": 0.25})]


def test_a_step_in_which_nothing_was_measured_is_no_line() -> None:
    memory = Memory()
    StageProgress(silent, memory)(0, 6, {})
    assert memory.steps == []


def test_a_part_is_a_series_of_its_own_and_prefixed_where_both_are_shown() -> None:
    shown: list[dict[str, float]] = []
    memory = Memory()
    progress = StageProgress(lambda step, total, metrics: shown.append(metrics), Sinks([memory]))
    progress.part("judge")(1, 1, {"loss": 0.5})
    assert memory.steps == [("judge/", 1, {"loss": 0.5})]
    assert shown == [{"judge/loss": 0.5}]


def test_what_was_measured_is_kept_before_the_cycle_may_be_cancelled() -> None:
    class Cancelled(Exception):
        pass

    def cancelled(step: int, total: int, metrics: dict[str, float]) -> None:
        raise Cancelled

    memory = Memory()
    with pytest.raises(Cancelled):
        StageProgress(cancelled, memory)(7, 9, {"loss": 0.5})
    assert [step for _, step, _ in memory.steps] == [7]


@pytest.mark.parametrize("fails", [False, True])
def test_every_sink_is_closed_and_told_how_the_training_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    memory = Memory()
    monkeypatch.setitem(OPENERS, "tensorboard", lambda directory, run: memory)
    with (
        pytest.raises(RuntimeError) if fails else nullcontext(),
        open_sinks(tmp_path / "metrics.jsonl", ["tensorboard"], tmp_path, "run") as sinks,
    ):
        sinks.write(1, {"loss": 1.0})
        if fails:
            raise RuntimeError
    assert memory.failed == [fails]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1]


@pytest.mark.parametrize("name", MISSING)
def test_a_tracker_that_is_not_installed_is_named_with_what_installs_it(tmp_path: Path, name: str) -> None:
    opened = open_sinks(tmp_path / "metrics.jsonl", [name], tmp_path, "run")  # type: ignore[list-item]  # one of both
    with pytest.raises(SettingsError, match=rf"{name} is not installed; `pip install 'thumbwheel\[{name}\]'`"):
        opened.__enter__()
    assert list(tmp_path.iterdir()) == []
