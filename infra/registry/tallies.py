"""What the raters of a rollout did, one row for each of them and each arm they met: feedback counts, serving judges."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from infra.database.tables import TallyRow


class TallyArm(StrEnum):
    CHAMPION = "champion"
    CHALLENGER = "challenger"
    PAIR = "pair"  # both, side by side
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Tally:
    """`unit` is who the assignment sticks to: a rater, else a session, else one request.

    `share` is the challenger's, in that step. Sums are over answers (`failed`, `tokens`, `seconds`, `refusals`) or over
    votes (`ups`); `wins` of `choices` between the arms were the challenger's, a tie counting half. What a reward model
    says of mirrored answers is no vote: of those that it may be asked about (`judgeable`) it has seen `judged`, and
    preferred `judge_wins` to the answers that were shown.
    """

    rollout_id: str
    step: int
    arm: TallyArm
    unit: str
    share: float
    first_at: datetime
    segment: str = ""
    weight: float = 1.0
    answers: int = 0
    failed: int = 0
    rateable: int = 0
    tokens: int = 0
    seconds: float = 0.0
    refusals: int = 0
    votes: int = 0
    ups: int = 0
    choices: int = 0
    wins: float = 0.0
    judgeable: int = 0
    judged: int = 0
    judge_wins: float = 0.0
    voted_at: datetime | None = None  # the first of those that stand


NAMES = tuple(field.name for field in fields(Tally))


def store(session: Session, tenant: str, tallies: Iterable[Tally]) -> None:
    """Replaces what was known of the same units."""
    for tally in tallies:
        session.merge(TallyRow(tenant=tenant, **{name: getattr(tally, name) for name in NAMES}))


def of_rollout(session: Session, tenant: str, rollout_id: str) -> list[Tally]:
    """In the order in which the units came, which sequential tests go by."""
    columns = [getattr(TallyRow, name) for name in NAMES]
    query = select(*columns).where(TallyRow.tenant == tenant, TallyRow.rollout_id == rollout_id)
    query = query.order_by(TallyRow.first_at, TallyRow.unit)
    return [Tally(**{**row._mapping, "arm": TallyArm(row.arm)}) for row in session.execute(query).all()]


def replace(session: Session, tenant: str, rollout_id: str, units: Sequence[str], tallies: Iterable[Tally]) -> None:
    """All that was known of these units in a rollout by these tallies; of a unit without any nothing stays."""
    mine = (TallyRow.tenant == tenant, TallyRow.rollout_id == rollout_id, TallyRow.unit.in_(units))
    session.execute(delete(TallyRow).where(*mine))
    if rows := [{"tenant": tenant, **{name: getattr(tally, name) for name in NAMES}} for tally in tallies]:
        session.execute(insert(TallyRow), rows)


def forget(session: Session, tenant: str, units: Sequence[str], up_to: datetime) -> int:
    """A person who was erased is in no tally of anything up to then; returns how many rows went."""
    mine = (TallyRow.tenant == tenant, TallyRow.unit.in_(units), TallyRow.first_at <= up_to)
    return len(session.execute(delete(TallyRow).where(*mine).returning(TallyRow.unit)).all())
