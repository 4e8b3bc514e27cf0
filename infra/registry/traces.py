"""Traces: questions about an answer or an event. The gateway writes them, the feedback process answers them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from infra.clock import now
from infra.contracts.traces import Question
from infra.database.tables import TraceRow
from infra.registry.errors import IllegalTransition, NotFound


class TraceState(StrEnum):
    REQUESTED = "requested"
    DONE = "done"
    NOT_FOUND = "not_found"  # there is no such answer or event


T = TraceState
TRANSITIONS: dict[TraceState, frozenset[TraceState]] = {
    T.REQUESTED: frozenset({T.DONE, T.NOT_FOUND}),
    T.DONE: frozenset(),
    T.NOT_FOUND: frozenset(),
}


def request(session: Session, tenant: str, question: Question) -> TraceRow:
    row = TraceRow(tenant=tenant, trace_id=uuid7().hex, question=question.model_dump(mode="json"))
    row.state, row.requested_at = T.REQUESTED, now()
    session.add(row)
    session.flush()
    return row


def get(session: Session, tenant: str, trace_id: str) -> TraceRow:
    """Raises NotFound."""
    row = session.get(TraceRow, (tenant, trace_id))
    if row is None:
        raise NotFound(f"there is no trace {trace_id}")
    return row


def requested(session: Session) -> Sequence[TraceRow]:
    """Oldest first."""
    query = select(TraceRow).where(TraceRow.state == T.REQUESTED)
    return session.scalars(query.order_by(TraceRow.requested_at)).all()


def answer(session: Session, tenant: str, trace_id: str, answer: dict[str, Any]) -> None:
    """Raises NotFound or IllegalTransition."""
    _move(session, tenant, trace_id, T.DONE).answer = answer


def refuse(session: Session, tenant: str, trace_id: str, reason: str) -> None:
    """There is nothing to be found; raises NotFound or IllegalTransition."""
    _move(session, tenant, trace_id, T.NOT_FOUND).reason = reason


def any_before(session: Session, moment: datetime) -> bool:
    """Whether something is there to be forgotten."""
    return session.scalar(select(TraceRow.trace_id).where(TraceRow.requested_at < moment).limit(1)) is not None


def forget(session: Session, before: datetime) -> int:
    """Those that were asked before, answered or not; returns how many that were."""
    gone = delete(TraceRow).where(TraceRow.requested_at < before).returning(TraceRow.trace_id)
    return len(session.execute(gone).all())


def _move(session: Session, tenant: str, trace_id: str, target: TraceState) -> TraceRow:
    row = get(session, tenant, trace_id)
    source = TraceState(row.state)
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"trace {trace_id} cannot go from {source} to {target}")
    row.state, row.finished_at = target, now()
    return row
