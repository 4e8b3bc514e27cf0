"""Work that turns out to be much is shared, and comes out as if one process had done it."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from feedback.datasets.crew import Crew
from feedback.errors import HelperLost
from tests.support.feedback import Room, a_days_events, a_messy_days_events, make_room


@dataclass(frozen=True)
class Times:
    """Multiplies by what the crew has, and says who did it."""

    number: int

    def run(self, factor: int) -> tuple[int, int]:
        return self.number * factor, os.getpid()


@dataclass(frozen=True)
class KillsItself:
    def run(self, _factor: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls for help with the first piece already."""
    monkeypatch.setattr(Crew, "patience_s", 0.0)


def test_little_work_is_done_by_this_process_alone() -> None:
    with Crew(3, 4) as crew:
        assert list(crew.each([Times(at) for at in range(5)])) == [(3 * at, os.getpid()) for at in range(5)]


@pytest.mark.usefixtures("impatient")
def test_much_work_is_done_by_others_and_comes_in_order() -> None:
    with Crew(3, 2) as crew:
        found = list(crew.each([Times(at) for at in range(20)]))
    assert [number for number, _ in found] == [3 * at for at in range(20)]
    assert os.getpid() not in {pid for _, pid in found}


@pytest.mark.usefixtures("impatient")
def test_one_process_is_never_helped() -> None:
    with Crew(3, 1) as crew:
        assert {pid for _, pid in crew.each([Times(at) for at in range(5)])} == {os.getpid()}


@pytest.mark.usefixtures("impatient")
def test_a_helper_that_is_killed_is_said_to_be_lost() -> None:
    with Crew(3, 2) as crew, pytest.raises(HelperLost, match="has to be made again"):
        list(crew.each([KillsItself(), KillsItself()]))


@pytest.mark.usefixtures("impatient")
def test_a_dataset_is_the_same_however_many_processes_make_it(room: Room, tmp_path: Path) -> None:
    events = [*a_days_events(30, raters=12), *a_messy_days_events()]
    shaping = {"test_share": 0.3, "gate_share": 0.2, "report_share": 0.1}
    alone = make_room(tmp_path / "alone")
    for one in (room, alone):
        one.append(events)
        one.consume()
    together = room.build(snapshot_processes=2, **shaping)
    assert together.sha256 == alone.build(snapshot_processes=1, **shaping).sha256
    alone.close()
