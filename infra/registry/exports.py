"""Exports: wishes for everything of one person. The gateway writes them, the feedback process fulfils them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from infra.clock import now
from infra.database.tables import ExportRow
from infra.registry import audit
from infra.registry.errors import IllegalTransition, NotFound


class ExportState(StrEnum):
    REQUESTED = "requested"
    READY = "ready"
    GONE = "gone"  # fetched, too old, or its person was erased meanwhile


X = ExportState
TRANSITIONS: dict[ExportState, frozenset[ExportState]] = {
    X.REQUESTED: frozenset({X.READY, X.GONE}),
    X.READY: frozenset({X.GONE}),
    X.GONE: frozenset(),
}


def request(session: Session, tenant: str, rater: str, actor: str) -> ExportRow:
    """The wish that is open for this person, or a new one: asking again is how one waits."""
    if row := session.scalars(_open(tenant, rater)).first():
        return row
    row = ExportRow(tenant=tenant, export_id=uuid7().hex, rater=rater, state=X.REQUESTED, requested_at=now())
    session.add(row)
    audit.record(session, tenant=tenant, actor=actor, action="rater.export", subject=row.export_id)
    session.flush()
    return row


def get(session: Session, tenant: str, export_id: str) -> ExportRow:
    """Raises NotFound."""
    row = session.get(ExportRow, (tenant, export_id))
    if row is None:
        raise NotFound(f"there is no export {export_id}")
    return row


def requested(session: Session) -> Sequence[ExportRow]:
    """Oldest first."""
    return session.scalars(
        select(ExportRow).where(ExportRow.state == X.REQUESTED).order_by(ExportRow.requested_at)
    ).all()


def ready_before(session: Session, moment: datetime) -> Sequence[ExportRow]:
    return session.scalars(select(ExportRow).where(ExportRow.state == X.READY, ExportRow.finished_at < moment)).all()


def move(session: Session, tenant: str, export_id: str, target: ExportState, path: str | None = None) -> None:
    """Raises IllegalTransition; moving to where it is already does nothing."""
    row = get(session, tenant, export_id)
    source = ExportState(row.state)
    if target is source:
        return
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"export {export_id} cannot go from {source} to {target}")
    row.state, row.path, row.finished_at = target, path, now()


def of_rater(session: Session, tenant: str, rater: str) -> Sequence[ExportRow]:
    return session.scalars(select(ExportRow).where(ExportRow.tenant == tenant, ExportRow.rater == rater)).all()


def forget(session: Session, tenant: str, export_ids: Sequence[str]) -> None:
    mine = (ExportRow.tenant == tenant, ExportRow.export_id.in_(export_ids))
    session.execute(delete(ExportRow).where(*mine))


def _open(tenant: str, rater: str) -> Select[ExportRow]:
    mine = (ExportRow.tenant == tenant, ExportRow.rater == rater, ExportRow.state != X.GONE)
    return select(ExportRow).where(*mine).order_by(ExportRow.requested_at.desc()).with_for_update()
