"""A cycle goes on from wherever it stands, whoever was killed, and a process that lost its lease changes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.ports import Ports
from infra.registry import cycles, leases
from infra.registry.cycles import TRAINER_STATES, CycleState
from infra.registry.errors import LeaseLost
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.home import make_ports
from trainer.cycle import FOLLOWING, Holding, Stage, run_stages
from trainer.errors import CancelRequested
from trainer.progress import StageProgress
from trainer.workdir import work_dir


class Killed(BaseException):
    """Stands for kill -9: nothing in the trainer catches it."""


class Recorder:
    """Stages that note that they ran; `dies_in` is killed half-way, before anything is marked."""

    def __init__(self, dies_in: CycleState | None = None, *, after_marking: bool = False) -> None:
        self.ran: list[CycleState] = []
        self._dies_in, self._after_marking = dies_in, after_marking

    def stages(self) -> Mapping[CycleState, Stage]:
        return {state: Stage(self._run(state), self._commit(state)) for state in FOLLOWING}

    def _run(self, state: CycleState) -> Any:
        def run(part: Path, progress: StageProgress) -> dict[str, Any]:
            self.ran.append(state)
            (part / "half.txt").write_text("half")
            if state is self._dies_in and not self._after_marking:
                raise Killed
            progress(1, 1, {"loss": 0.5})
            return {"stage": state}

        return run

    def _commit(self, state: CycleState) -> Any:
        def commit(session: Any, result: dict[str, Any]) -> dict[str, Any]:
            if state is self._dies_in and self._after_marking:
                raise Killed
            return {"version": "assistant-1-0badcafe"} if state is CycleState.PUBLISHING else {}

        return commit


@pytest.fixture
def ports(tmp_path: Path) -> Any:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def holding_of(ports: Ports, cycle_id: str, holder: str = "worker-1") -> Holding:
    return Holding(ports.database, cycle_id, hold(ports, cycle_id, holder), work_dir(ports.home, cycle_id))


def test_a_cycle_goes_through_every_stage_and_ends_at_the_gates(ports: Ports) -> None:
    cycle_id, recorder = make_cycle(ports), Recorder()
    assert run_stages(holding_of(ports, cycle_id), recorder.stages()) is CycleState.GATING
    assert recorder.ran == list(FOLLOWING)
    row = cycle_row(ports, cycle_id)
    assert row.version == "assistant-1-0badcafe"
    assert set(row.seconds) >= {state.value for state in TRAINER_STATES}


def test_the_lease_is_free_as_soon_as_the_cycle_is_at_its_gates(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    run_stages(holding_of(ports, cycle_id), Recorder().stages())
    with ports.database.reading() as session:
        assert not leases.is_live(session, leases.cycle_lease(cycle_id))


@pytest.mark.parametrize("after_marking", [False, True])
@pytest.mark.parametrize("dies_in", list(FOLLOWING))
def test_a_killed_worker_resumes_from_the_last_finished_stage(
    ports: Ports, dies_in: CycleState, after_marking: bool
) -> None:
    cycle_id = make_cycle(ports)
    first = Recorder(dies_in, after_marking=after_marking)
    with pytest.raises(Killed):
        run_stages(holding_of(ports, cycle_id), first.stages())
    assert cycle_row(ports, cycle_id).state == dies_in
    hold_expired(ports, cycle_id)
    second = Recorder()
    assert run_stages(holding_of(ports, cycle_id, "worker-2"), second.stages()) is CycleState.GATING
    left = list(FOLLOWING)[list(FOLLOWING).index(dies_in) :]
    assert second.ran == (left[1:] if after_marking else left)


def hold_expired(ports: Ports, cycle_id: str) -> None:
    """Time passes: the lease of whoever holds it runs out."""
    with ports.database.transaction() as session:
        row = session.get(leases.LeaseRow, leases.cycle_lease(cycle_id))
        assert row is not None
        leases.release(session, leases.Lease(row.name, row.holder, row.epoch))


def test_a_half_written_stage_is_not_taken_for_a_finished_one(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    with pytest.raises(Killed):
        run_stages(holding_of(ports, cycle_id), Recorder(CycleState.REWARD).stages())
    work = work_dir(ports.home, cycle_id)
    assert work.result(CycleState.SFT) == {"stage": "sft"}
    assert work.result(CycleState.REWARD) is None


def test_a_paused_process_that_wakes_up_changes_nothing(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    paused = holding_of(ports, cycle_id)
    hold_expired(ports, cycle_id)
    run_stages(holding_of(ports, cycle_id, "worker-2"), Recorder().stages())
    before = cycle_row(ports, cycle_id)
    with pytest.raises(LeaseLost), ports.database.transaction() as session:
        cycles.advance(session, paused.lease, cycle_id, CycleState.FAILED)
    after = cycle_row(ports, cycle_id)
    assert (after.state, after.updated_at, after.progress) == (before.state, before.updated_at, before.progress)


def test_a_process_paused_inside_a_stage_learns_it_at_its_next_report(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    paused = holding_of(ports, cycle_id)

    def overtaken(part: Path, progress: StageProgress) -> dict[str, Any]:
        hold_expired(ports, cycle_id)
        hold(ports, cycle_id, "worker-2")
        progress(1, 1, {})
        raise AssertionError("a report without a lease must not come back")

    with pytest.raises(LeaseLost):
        run_stages(paused, {CycleState.SFT: Stage(overtaken)})
    assert cycle_row(ports, cycle_id).state == CycleState.SFT
    assert work_dir(ports.home, cycle_id).result(CycleState.SFT) is None


def test_a_stage_that_an_overtaken_process_finishes_does_not_replace_the_new_holders(ports: Ports) -> None:
    work = work_dir(ports.home, "1")
    old, new = work.begin("reward", 1), work.root / "reward.2.part"
    new.mkdir()
    work.finish("reward", new, {"by": "new"})
    assert work.finish("reward", old, {"by": "old"}) == {"by": "new"}
    assert work.result("reward") == {"by": "new"}
    assert not old.exists()


def test_a_wish_to_cancel_reaches_the_stage_at_its_next_report(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    with ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="operator")
    with pytest.raises(CancelRequested):
        run_stages(holding_of(ports, cycle_id), Recorder().stages())
