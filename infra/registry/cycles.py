"""Cycles: one turn of the loop, its states, who owns them, and the moves that are allowed."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.tables import CycleRow
from infra.registry import audit, fleet, leases
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.leases import Lease


class CycleState(StrEnum):
    QUEUED = "queued"
    SNAPSHOTTING = "snapshotting"
    SFT = "sft"
    REWARD = "reward"
    POLICY = "policy"
    EVALUATING = "evaluating"
    PUBLISHING = "publishing"
    GATING = "gating"
    ACCEPTED = "accepted"
    BLOCKED = "blocked"
    AWAITING_PERSON = "awaiting_person"
    FAILED = "failed"
    CANCELLED = "cancelled"


S = CycleState
FEEDBACK_STATES = frozenset({S.QUEUED, S.SNAPSHOTTING})
TRAINER_STATES = frozenset({S.SFT, S.REWARD, S.POLICY, S.EVALUATING, S.PUBLISHING})
SERVING_STATES = frozenset({S.GATING})
FINAL_STATES = frozenset({S.ACCEPTED, S.BLOCKED, S.AWAITING_PERSON, S.FAILED, S.CANCELLED})
_END = {S.FAILED, S.CANCELLED}
TRANSITIONS: dict[CycleState, frozenset[CycleState]] = {
    S.QUEUED: frozenset({S.SNAPSHOTTING, *_END}),
    S.SNAPSHOTTING: frozenset({S.SFT, *_END}),
    S.SFT: frozenset({S.REWARD, *_END}),
    S.REWARD: frozenset({S.POLICY, *_END}),
    S.POLICY: frozenset({S.EVALUATING, *_END}),
    S.EVALUATING: frozenset({S.PUBLISHING, *_END}),
    S.PUBLISHING: frozenset({S.GATING, *_END}),
    S.GATING: frozenset({S.ACCEPTED, S.BLOCKED, S.AWAITING_PERSON, *_END}),
    **{state: frozenset[CycleState]() for state in (S.ACCEPTED, S.BLOCKED, S.FAILED, S.CANCELLED)},
    S.AWAITING_PERSON: frozenset({S.ACCEPTED, S.BLOCKED}),
}


def trigger(
    session: Session, *, tenant: str, alias: str, actor: str, reason: str = "", settings: dict[str, Any] | None = None
) -> CycleRow:
    """Queues a cycle; raises Conflict while another one of this alias is running."""
    if running := active(session, alias):
        raise Conflict(f"cycle {running.cycle_id} of {alias} is {running.state}: wait for it or cancel it")
    number = (session.scalar(select(func.count()).select_from(CycleRow)) or 0) + 1
    row = CycleRow(tenant=tenant, cycle_id=str(number), alias=alias, state=S.QUEUED, trigger=actor)
    row.settings, row.progress, row.seconds = settings or {}, {}, {}
    row.created_at = row.updated_at = now()
    session.add(row)
    counted = fleet.counts(session, tenant, alias)  # the threshold triggers count from here
    audit.record(
        session, tenant=tenant, actor=actor, action="cycle.trigger", subject=row.cycle_id, reason=reason,
        after={"pairs": counted.pairs, "thumbs": counted.thumbs, "settings": row.settings},
    )  # fmt: skip
    session.flush()
    return row


def active(session: Session, alias: str) -> CycleRow | None:
    query = select(CycleRow).where(CycleRow.alias == alias, CycleRow.state.not_in(FINAL_STATES))
    return session.scalar(query.with_for_update())


def get(session: Session, cycle_id: str, tenant: str | None = None) -> CycleRow:
    """Raises NotFound; `tenant` None is for the product's own processes."""
    row = session.scalar(select(CycleRow).where(CycleRow.cycle_id == cycle_id))
    if row is None or (tenant is not None and row.tenant != tenant):
        raise NotFound(f"there is no cycle {cycle_id}")
    return row


def list_cycles(session: Session, tenant: str, *, alias: str | None = None, limit: int = 100) -> Sequence[CycleRow]:
    """Newest first."""
    query = select(CycleRow).where(CycleRow.tenant == tenant).order_by(CycleRow.created_at.desc()).limit(limit)
    return session.scalars(query if alias is None else query.where(CycleRow.alias == alias)).all()


def in_states(session: Session, states: frozenset[CycleState]) -> Sequence[CycleRow]:
    """Oldest first: what a room's own loop or sweep looks for."""
    return session.scalars(select(CycleRow).where(CycleRow.state.in_(states)).order_by(CycleRow.created_at)).all()


def advance(
    session: Session, lease: Lease, cycle_id: str, target: CycleState, *, reason: str | None = None, **fields: Any
) -> CycleRow:
    """Moves a cycle under its lease and sets the given columns; raises LeaseLost or IllegalTransition."""
    leases.fence(session, lease)
    row = get(session, cycle_id)
    _move(row, target, reason)
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def report_progress(session: Session, lease: Lease, cycle_id: str, progress: dict[str, Any]) -> bool:
    """Stores progress and says whether somebody asked to cancel; raises LeaseLost."""
    leases.fence(session, lease)
    row = get(session, cycle_id)
    row.progress = {**progress, "at": now().isoformat()}
    return row.cancel_requested


def request_cancel(session: Session, cycle_id: str, *, tenant: str, actor: str, reason: str = "") -> CycleRow:
    """Whoever works on it sees the wish within seconds; a queued cycle ends at once."""
    row = get(session, cycle_id, tenant)
    if CycleState(row.state) in FINAL_STATES:
        raise IllegalTransition(f"cycle {cycle_id} has already ended: {row.state}")
    before = {"state": row.state}
    row.cancel_requested = True
    if row.state == S.QUEUED:
        _move(row, S.CANCELLED, f"cancelled by {actor}")
    after = {"state": row.state, "cancel_requested": True}
    audit.record(
        session, tenant=row.tenant, actor=actor, action="cycle.cancel", subject=cycle_id, reason=reason,
        before=before, after=after,
    )  # fmt: skip
    return row


def decide(session: Session, cycle_id: str, target: CycleState, *, reason: str) -> CycleRow:
    """A person's word on a cycle that awaits one; raises IllegalTransition from any other state."""
    row = get(session, cycle_id)
    if row.state != S.AWAITING_PERSON:
        raise IllegalTransition(f"cycle {cycle_id} is {row.state}, nobody is asked")
    _move(row, target, reason)
    return row


def _move(row: CycleRow, target: CycleState, reason: str | None) -> None:
    source = CycleState(row.state)
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"cycle {row.cycle_id} cannot go from {source} to {target}")
    at = now()
    spent = row.seconds.get(source, 0.0) + (at - row.updated_at).total_seconds()
    row.seconds = {**row.seconds, source: round(spent, 3)}
    row.state, row.updated_at = target, at
    row.reason = reason if reason is not None else row.reason
