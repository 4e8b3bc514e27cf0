"""Cells that hold less than they did: stored events were blanked, or came again from another moment.

The next dataset looks at them again, though nothing new has come into them.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Date, Integer, bindparam, column, select, text
from sqlalchemy.orm import Session

from feedback.cells import Cell
from feedback.intake.joins import as_written
from feedback.tables import StaleCellRow
from feedback.votes import SESSION
from infra.database.tables import UtcDateTime

Owned = tuple[str, Cell]  # a tenant's
# From answers `i` to the events `e` of votes on the conversations that they are part of.
TO_CONVERSATIONS = f"""
  JOIN vote_targets t ON t.tenant = i.tenant AND t.target = '{SESSION}' || i.session_id
  JOIN vote_events e ON e.tenant = t.tenant AND e.vote_id = t.vote_id"""
PUT = text(
    "INSERT INTO stale_cells (tenant, kind, day, bucket, at) VALUES (:tenant, :kind, :day, :bucket, :at)"
    " ON CONFLICT (tenant, kind, day, bucket) DO UPDATE SET at = excluded.at"
).bindparams(bindparam("day", type_=Date()), bindparam("at", type_=UtcDateTime()))


def cells_of(session: Session, query: str) -> list[Owned]:
    """`query` gives the tenant, the moment and the bucket of events."""
    typed = text(as_written(session, query)).columns(
        column("tenant"), column("occurred_at", UtcDateTime()), column("bucket", Integer)
    )
    return [(tenant, Cell.of(occurred_at, bucket)) for tenant, occurred_at, bucket in session.execute(typed)]


def put(session: Session, kind: str, cells: Iterable[Owned], at: datetime) -> None:
    """In the order of their keys, so that two processes don't wait for each other."""
    rows = [
        {"tenant": tenant, "kind": kind, "day": cell.day, "bucket": cell.bucket, "at": at}
        for tenant, cell in sorted(set(cells))
    ]
    if rows:
        session.execute(PUT, rows)


def since(session: Session, tenant: str, kind: str, moment: datetime) -> set[Cell]:
    row = StaleCellRow
    found = session.execute(select(row.day, row.bucket).where(row.tenant == tenant, row.kind == kind, row.at >= moment))
    return {Cell(day, bucket) for day, bucket in found}
