"""One cycle, from wherever the registry says it stands: each stage is run once, kept, and only then moved past."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from infra.database.engine import Database
from infra.database.tables import CycleRow
from infra.registry import cycles, leases
from infra.registry.cycles import TRAINER_STATES, CycleState
from infra.registry.leases import Lease
from trainer.progress import RegistryProgress, StageProgress
from trainer.workdir import WorkDir

log = structlog.get_logger()

Result = dict[str, Any]
Fields = dict[str, Any]

FOLLOWING: Mapping[CycleState, CycleState] = {
    CycleState.SFT: CycleState.REWARD,
    CycleState.REWARD: CycleState.POLICY,
    CycleState.POLICY: CycleState.EVALUATING,
    CycleState.EVALUATING: CycleState.PUBLISHING,
    CycleState.PUBLISHING: CycleState.GATING,
}


@dataclass(frozen=True, slots=True)
class Holding:
    """A cycle that this process works on, and the lease that lets it."""

    database: Database
    cycle_id: str
    lease: Lease
    work: WorkDir

    def row(self) -> CycleRow:
        with self.database.reading() as session:
            return cycles.get(session, self.cycle_id)


Run = Callable[[Path, StageProgress], Result]  # fills the directory; the result is JSON
Commit = Callable[[Session, Result], Fields]  # what changes in the registry together with the move


def nothing_more(_session: Session, _result: Result) -> Fields:
    """For stages that register nothing."""
    return {}


@dataclass(frozen=True, slots=True)
class Stage:
    run: Run
    commit: Commit = nothing_more


def run_stages(holding: Holding, stages: Mapping[CycleState, Stage]) -> CycleState:
    """Until the cycle is no longer the trainer's. Raises LeaseLost, CancelRequested, StageFailed or TryAgain."""
    while (state := CycleState(holding.row().state)) in TRAINER_STATES:
        kept = holding.work.result(state)
        result = _run(holding, state, stages[state].run) if kept is None else kept
        _advance(holding, state, stages[state].commit, result)
    return state


def _run(holding: Holding, state: CycleState, run: Run) -> Result:
    log.info("stage_started", stage=state.value)
    part = holding.work.begin(state, holding.lease.epoch)
    progress = StageProgress(RegistryProgress(holding.database, holding.lease, holding.cycle_id, state.value))
    progress(0, 1, {})  # a paused process learns here that its lease is gone, before it costs anything
    result = run(part, progress)
    log.info("stage_finished", stage=state.value)
    return holding.work.finish(state, part, result)


def _advance(holding: Holding, state: CycleState, commit: Commit, result: Result) -> None:
    """One transaction: the fence, what the stage registers, the move; the last one lets go of the lease as well."""
    target = FOLLOWING[state]
    with holding.database.transaction() as session:
        leases.fence(session, holding.lease)
        fields = commit(session, result)
        cycles.advance(session, holding.lease, holding.cycle_id, target, **fields)
        if target not in TRAINER_STATES:
            leases.release(session, holding.lease)
