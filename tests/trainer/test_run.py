"""The child's exit status and last line tell its worker how a cycle's training ended."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra.base_model import NotAModel
from infra.ports import Ports
from infra.registry.cycles import CycleState
from infra.registry.errors import LeaseLost
from infra.settings import SettingsError
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.home import make_ports
from trainer.cycle import FOLLOWING, Holding, Stage, run_stages
from trainer.errors import CancelRequested, PeerGone, StageFailed, TryAgain
from trainer.launch import TRY_AGAIN
from trainer.run import CANCELLED, LOST, run
from trainer.workdir import Ending, work_dir

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


def failing(error: Exception) -> Mapping[CycleState, Stage]:
    def fail(*_: object) -> dict[str, object]:
        raise error

    return {state: Stage(fail) for state in FOLLOWING}


SUCCEEDING = {state: Stage(lambda part, progress: {}) for state in FOLLOWING}


@pytest.mark.parametrize(("error", "status", "line"), ENDINGS)
def test_each_ending_has_a_status_and_one_line(
    ports: Ports, capsys: pytest.CaptureFixture[str], error: Exception, status: int, line: str
) -> None:
    holding = holding_of(ports)
    assert run(holding, lambda: run_stages(holding, failing(error))) == status
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert holding.work.ending(holding.lease.epoch) == Ending(status, line)


def test_a_training_that_went_through_says_nothing(ports: Ports) -> None:
    holding = holding_of(ports)
    assert run(holding, lambda: run_stages(holding, SUCCEEDING)) == 0
    assert cycle_row(ports, holding.cycle_id).state == CycleState.GATING
    assert holding.work.ending(holding.lease.epoch) is None


def test_a_fault_of_ours_keeps_its_traceback_and_is_noted_in_a_line(ports: Ports) -> None:
    holding = holding_of(ports)
    with pytest.raises(ZeroDivisionError):
        run(holding, lambda: run_stages(holding, failing(ZeroDivisionError("by\nzero"))))
    assert holding.work.ending(holding.lease.epoch) == Ending(1, "ZeroDivisionError: by zero")


def test_a_process_that_another_one_left_alone_tries_again(ports: Ports) -> None:
    holding = holding_of(ports)
    assert run(holding, lambda: run_stages(holding, failing(PeerGone("another one has ended")))) == TRY_AGAIN


def test_of_several_processes_the_word_of_the_first_that_ends_stands(ports: Ports) -> None:
    holding = holding_of(ports)
    run(holding, lambda: run_stages(holding, failing(StageFailed("only 3 pairs"))))
    run(holding, lambda: run_stages(holding, failing(PeerGone("another one has ended"))))
    assert holding.work.ending(holding.lease.epoch) == Ending(1, "only 3 pairs")
