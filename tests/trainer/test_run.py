"""The child's exit status and last line tell its worker how a cycle's training ended."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.base_model import NotAModel
from infra.ports import Ports
from infra.registry.cycles import CycleState
from infra.registry.errors import LeaseLost
from infra.settings import SettingsError
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.home import make_ports
from trainer.cycle import FOLLOWING, Holding, Stage
from trainer.errors import CancelRequested, StageFailed, TryAgain
from trainer.launch import TRY_AGAIN
from trainer.run import CANCELLED, LOST, _run
from trainer.workdir import work_dir

ENDINGS = [
    (StageFailed("only 3 pairs,\n50 are needed"), 1, "only 3 pairs, 50 are needed"),
    (SettingsError("trainer.regression_file: line 1 is wrong"), 1, "trainer.regression_file: line 1 is wrong"),
    (NotAModel("/model has no chat template"), 1, "/model has no chat template"),
    (LeaseLost("another worker has it"), LOST, "another worker has it"),
    (CancelRequested("cycle 1 is to be cancelled"), CANCELLED, "cycle 1 is to be cancelled"),
    (TryAgain("the engine is away"), TRY_AGAIN, "the engine is away"),
]


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def holding_of(ports: Ports) -> Holding:
    cycle_id = make_cycle(ports)
    return Holding(ports.database, cycle_id, hold(ports, cycle_id), work_dir(ports.home, cycle_id))


@contextmanager
def failing(error: Exception) -> Iterator[Mapping[CycleState, Stage]]:
    def fail(*_: object) -> dict[str, object]:
        raise error

    yield {state: Stage(fail) for state in FOLLOWING}


@contextmanager
def succeeding() -> Iterator[Mapping[CycleState, Stage]]:
    yield {state: Stage(lambda part, progress: {}) for state in FOLLOWING}


@pytest.mark.parametrize(("error", "status", "line"), ENDINGS)
def test_each_ending_has_a_status_and_one_line(
    ports: Ports, capsys: pytest.CaptureFixture[str], error: Exception, status: int, line: str
) -> None:
    assert _run(holding_of(ports), lambda: failing(error)) == status
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_a_training_that_went_through_says_nothing(ports: Ports) -> None:
    holding = holding_of(ports)
    assert _run(holding, succeeding) == 0
    assert cycle_row(ports, holding.cycle_id).state == CycleState.GATING


def test_a_fault_of_ours_keeps_its_traceback(ports: Ports) -> None:
    with pytest.raises(ZeroDivisionError):
        _run(holding_of(ports), lambda: failing(ZeroDivisionError()))
