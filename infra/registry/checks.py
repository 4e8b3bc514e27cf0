"""Check questions that are planted: handed out until they are retired. No row ever goes, since votes on it may come."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.tables import CheckRow
from infra.registry import audit, fleet
from infra.registry.errors import NotFound


def served_alias(session: Session, wanted: str | None, default: str) -> str:
    """The alias to plant for; raises NotFound for one that nobody would ever be asked about."""
    table = fleet.routing_table(session)
    if wanted is None or wanted == default or (table and wanted in table.aliases):
        return wanted or default
    raise NotFound(f"there is no alias {wanted}")


def add(session: Session, row: CheckRow) -> CheckRow:
    session.add(row)
    audit.record(
        session, tenant=row.tenant, actor=row.actor, action="check.plant", subject=row.check_id,
        after={"alias": row.alias, "segment": row.segment},
    )  # fmt: skip
    session.flush()
    return row


def get(session: Session, tenant: str, check_id: str) -> CheckRow:
    """Raises NotFound."""
    row = session.get(CheckRow, (tenant, check_id))
    if row is None:
        raise NotFound(f"there is no check {check_id}")
    return row


def retire(session: Session, *, tenant: str, check_id: str, actor: str) -> CheckRow:
    """Raises NotFound where it is not there, or was retired before."""
    row = get(session, tenant, check_id)
    if row.retired_at is not None:
        raise NotFound(f"check {check_id} was retired before")
    row.retired_at = now()
    audit.record(session, tenant=tenant, actor=actor, action="check.retire", subject=check_id)
    return row


def list_checks(
    session: Session, tenant: str, *, alias: str | None = None, limit: int | None = None
) -> Sequence[CheckRow]:
    """Newest first, with those that are retired."""
    query = select(CheckRow).where(CheckRow.tenant == tenant)
    query = query.order_by(CheckRow.planted_at.desc(), CheckRow.check_id.desc()).limit(limit)
    return session.scalars(query if alias is None else query.where(CheckRow.alias == alias)).all()


def live(session: Session, tenant: str, alias: str, segment: str | None = None) -> dict[str, frozenset[str]]:
    """The response ids of each check that may be handed out; `segment` takes those of another one away."""
    query = select(CheckRow.check_id, CheckRow.response_a, CheckRow.response_b).where(
        CheckRow.tenant == tenant, CheckRow.alias == alias, CheckRow.retired_at.is_(None)
    )
    if segment is not None:
        query = query.where(CheckRow.segment.is_(None) | (CheckRow.segment == segment))
    return {check_id: frozenset((a, b)) for check_id, a, b in session.execute(query)}
