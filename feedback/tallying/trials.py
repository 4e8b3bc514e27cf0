"""Rollouts whose answers are counted: those that are in steps and not over."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.contracts.rollouts import Step
from infra.database.tables import RolloutRow


@dataclass(frozen=True, slots=True)
class Trial:
    """One rollout, as far as counting needs to know it."""

    tenant: str
    rollout_id: str
    alias: str
    requested_at: datetime
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, row: RolloutRow) -> Self:
        steps = tuple(Step.model_validate(step) for step in row.steps)
        return cls(row.tenant, row.rollout_id, row.alias, row.requested_at, steps)


def on_traffic(session: Session) -> list[Trial]:
    """Also one that drains: late votes count until it is over."""
    query = select(RolloutRow).where(RolloutRow.finished_at.is_(None)).order_by(RolloutRow.rollout_id)
    return [Trial.of(row) for row in session.scalars(query) if row.steps]
