"""What became of rollouts, in the transaction that changed it, until it is on the log."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from infra.clock import now
from infra.contracts.rollouts import RolloutEvent
from infra.database.tables import NewsRow, RolloutRow


def add(session: Session, row: RolloutRow, before: str | None = None) -> None:
    """The rollout as it is now; `before` is the state that it has left."""
    event = RolloutEvent(
        rollout_id=row.rollout_id,
        alias=row.alias,
        kind=row.kind,
        version=row.version,
        from_version=row.from_version,
        before=before,
        state=row.state,
        step=row.step,
        steps=len(row.steps),
        actor=row.actor,
        reason=row.reason,
        error=row.error,
    )
    session.add(NewsRow(event_id=uuid7().hex, tenant=row.tenant, at=now(), body=event.model_dump(mode="json")))


def oldest(session: Session, limit: int) -> Sequence[NewsRow]:
    """In the order in which it happened."""
    return session.scalars(select(NewsRow).order_by(NewsRow.news_id).limit(limit)).all()


def forget(session: Session, told: Collection[int]) -> None:
    """What the log has acknowledged."""
    session.execute(delete(NewsRow).where(NewsRow.news_id.in_(told)))
