"""Erasures: who is to be forgotten up to when, and how far that has got. Also the tombstones: no row ever goes."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.contracts.events import Erasure
from infra.database.tables import ErasureRow
from infra.registry import audit, leases
from infra.registry.errors import IllegalTransition, NotFound
from infra.registry.leases import Lease


class ErasureState(StrEnum):
    ACCEPTED = "accepted"  # the key is gone, the rows are blank
    ERASING = "erasing"  # files are looked for
    DONE = "done"
    FAILED = "failed"  # the report says why; it is tried again


E = ErasureState
OPEN_STATES = frozenset({E.ACCEPTED, E.ERASING})
TRANSITIONS: dict[ErasureState, frozenset[ErasureState]] = {
    E.ACCEPTED: frozenset({E.ERASING}),
    E.ERASING: frozenset({E.DONE, E.FAILED}),
    E.FAILED: frozenset({E.ERASING}),
    E.DONE: frozenset(),
}


def accept(session: Session, tenant: str, erasure: Erasure, requested_at: datetime) -> ErasureRow:
    """The tombstone. Idempotent on (tenant, erasure_id)."""
    erasure_id = erasure.erasure_id.hex
    if row := session.get(ErasureRow, (tenant, erasure_id)):
        return row
    row = ErasureRow(tenant=tenant, erasure_id=erasure_id, rater=erasure.rater, up_to=erasure.up_to)
    row.requested_at, row.state, row.report = requested_at, E.ACCEPTED, {}
    session.add(row)
    audit.record(
        session, tenant=tenant, actor=erasure.actor, action="rater.erase", subject=erasure_id,
        after={"rater": erasure.rater, "up_to": erasure.up_to.isoformat()},
    )  # fmt: skip
    session.flush()
    return row


def find(session: Session, tenant: str, erasure_id: UUID) -> ErasureRow | None:
    """None where its event has not come this far."""
    return session.get(ErasureRow, (tenant, erasure_id.hex))


def get(session: Session, tenant: str, erasure_id: str) -> ErasureRow:
    """Raises NotFound."""
    row = session.get(ErasureRow, (tenant, erasure_id))
    if row is None:
        raise NotFound(f"there is no erasure {erasure_id}")
    return row


def waiting(session: Session, failed_before: datetime) -> Sequence[ErasureRow]:
    """Oldest first: those that are not done, and those that failed long enough ago to be tried again."""
    again = (ErasureRow.state == E.FAILED) & (ErasureRow.finished_at < failed_before)
    query = select(ErasureRow).where(ErasureRow.state.in_(OPEN_STATES) | again)
    return session.scalars(query.order_by(ErasureRow.requested_at, ErasureRow.erasure_id)).all()


def of_rater(session: Session, tenant: str, rater: str) -> Sequence[ErasureRow]:
    mine = (ErasureRow.tenant == tenant, ErasureRow.rater == rater)
    return session.scalars(select(ErasureRow).where(*mine).order_by(ErasureRow.up_to)).all()


def count(session: Session, tenant: str) -> int:
    """Only ever grows, so that two counts tell whether anybody was erased between them."""
    return session.scalar(select(func.count()).select_from(ErasureRow).where(ErasureRow.tenant == tenant)) or 0


def advance(session: Session, lease: Lease, row: ErasureRow, target: ErasureState, report: dict[str, Any]) -> None:
    """Moves it under the eraser's lease, or only keeps the report; raises LeaseLost or IllegalTransition."""
    leases.fence(session, lease)
    stored = get(session, row.tenant, row.erasure_id)
    source = ErasureState(stored.state)
    if target is not source and target not in TRANSITIONS[source]:
        raise IllegalTransition(f"erasure {row.erasure_id} cannot go from {source} to {target}")
    stored.state, stored.report = target, report
    stored.finished_at = None if target in OPEN_STATES else now()
    if target is E.DONE:
        audit.record(
            session, tenant=row.tenant, actor="eraser", action="rater.erased", subject=row.erasure_id, after=report
        )
