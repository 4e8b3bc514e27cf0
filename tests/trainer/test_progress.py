"""Progress is written often enough to be watched and seldom enough to cost nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.ports import Ports
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.home import make_ports
from trainer.progress import RegistryProgress, StageProgress, eta_s


@dataclass
class Clock:
    """Time that passes when told to."""

    at: float = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def make_progress(ports: Ports, clock: Clock) -> tuple[str, StageProgress]:
    cycle_id = make_cycle(ports)
    written = RegistryProgress(ports.database, hold(ports, cycle_id), cycle_id, "policy", every_s=0.5, clock=clock)
    return cycle_id, StageProgress(written)


def test_steps_in_quick_succession_are_not_all_written(ports: Ports) -> None:
    clock = Clock()
    cycle_id, progress = make_progress(ports, clock)
    seen = []
    for step in range(1, 101):
        clock.at += 0.1
        progress(step, 1000, {"reward": float(step)})
        seen.append(cycle_row(ports, cycle_id).progress["step"])
    assert 15 <= len(set(seen)) <= 25


def test_the_last_step_is_always_written(ports: Ports) -> None:
    cycle_id, progress = make_progress(ports, Clock())
    progress(1, 2, {"loss": 3.0})
    progress(2, 2, {"loss": 1.0})
    assert cycle_row(ports, cycle_id).progress["step"] == 2
    assert cycle_row(ports, cycle_id).progress["metrics"] == {"loss": 1.0}


def test_the_time_left_goes_by_the_pace_so_far(ports: Ports) -> None:
    clock = Clock()
    cycle_id, progress = make_progress(ports, clock)
    clock.at = 6.0
    progress(3, 12, {})
    assert cycle_row(ports, cycle_id).progress["eta_s"] == 18.0


def test_a_part_of_a_stage_reports_under_its_own_name(ports: Ports) -> None:
    cycle_id, progress = make_progress(ports, Clock())
    progress.part("judge")(1, 1, {"loss": 0.5})
    assert cycle_row(ports, cycle_id).progress["metrics"] == {"judge/loss": 0.5}


def test_the_time_left_is_the_mean_pace_so_far() -> None:
    assert eta_s(10.0, 4, 12) == 20.0
    assert eta_s(10.0, 0, 12) is None
    assert eta_s(10.0, 12, 12) == 0.0
