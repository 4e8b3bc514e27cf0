"""Regression cases from live answers. Gateways and commands wish for them, the feedback process finds what was asked,
and each cycle's evaluation asks it again. What a person wrote is blank once they are erased; the row stays, counted."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.tables import CaseRow
from infra.registry import audit
from infra.registry.errors import Conflict, IllegalTransition, NotFound

FEEDBACK = "feedback"  # who decides, in the audit


class CaseState(StrEnum):
    REQUESTED = "requested"
    LIVE = "live"  # every candidate of its alias is asked
    REFUSED = "refused"  # nothing of the answer was kept: `refusal` says why
    ERASED = "erased"  # whoever asked was erased
    EXPIRED = "expired"  # it was to be kept until a day that has passed


C = CaseState
TRANSITIONS: dict[CaseState, frozenset[CaseState]] = {
    C.REQUESTED: frozenset({C.LIVE, C.REFUSED}),
    C.LIVE: frozenset({C.ERASED, C.EXPIRED}),
    C.REFUSED: frozenset(),
    C.ERASED: frozenset(),
    C.EXPIRED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Source:
    """The answer that a case is from: whose, asked when and to be kept until when; and the case, sealed for them."""

    alias: str
    rater: str | None
    asked_at: datetime
    retain_until: datetime | None
    key_id: str
    sealed: bytes


def request(session: Session, row: CaseRow, *, actor: str, reason: str) -> CaseRow:
    """In the place of one of that name that was refused; raises Conflict where another one has the name."""
    if (known := session.get(CaseRow, (row.tenant, row.name))) is not None:
        if known.state != C.REFUSED:
            raise Conflict(f"there is a case named {row.name} already: choose another --name, or remove it first")
        session.delete(known)
        session.flush()
    row.actor, row.reason = actor, reason
    session.add(row)
    session.flush()
    _record(session, row, "case.add", actor, reason, before={}, after=told(row))
    return row


def get(session: Session, tenant: str, name: str) -> CaseRow:
    """Raises NotFound."""
    row = session.get(CaseRow, (tenant, name))
    if row is None:
        raise NotFound(f"there is no case {name}")
    return row


def list_cases(
    session: Session, tenant: str, *, alias: str | None = None, limit: int | None = None
) -> Sequence[CaseRow]:
    """Newest first."""
    query = select(CaseRow).where(CaseRow.tenant == tenant)
    query = query.order_by(CaseRow.requested_at.desc(), CaseRow.case_id.desc()).limit(limit)
    return session.scalars(query if alias is None else query.where(CaseRow.alias == alias)).all()


def requested(session: Session) -> Sequence[CaseRow]:
    """Oldest first."""
    query = select(CaseRow).where(CaseRow.state == C.REQUESTED)
    return session.scalars(query.order_by(CaseRow.requested_at, CaseRow.case_id)).all()


def claim(session: Session, tenant: str, name: str, case_id: str) -> CaseRow | None:
    """Locked until the transaction ends; None where somebody else has decided it, or it was removed."""
    mine = (CaseRow.tenant == tenant, CaseRow.name == name, CaseRow.case_id == case_id, CaseRow.state == C.REQUESTED)
    return session.scalars(select(CaseRow).where(*mine).with_for_update()).one_or_none()


def keep(session: Session, row: CaseRow, source: Source) -> None:
    """Raises IllegalTransition."""
    _decide(session, row, C.LIVE, asdict(source))


def refuse(session: Session, row: CaseRow, refusal: str) -> None:
    """Its checks go too, since they may quote the answer; raises IllegalTransition."""
    _decide(session, row, C.REFUSED, {"sealed": b"", "refusal": refusal})


def remove(session: Session, *, tenant: str, name: str, actor: str, reason: str) -> None:
    """Raises NotFound."""
    row = get(session, tenant, name)
    before = told(row)
    session.delete(row)
    _record(session, row, "case.remove", actor, reason, before=before, after={})


def erase(session: Session, tenant: str, rater: str, up_to: datetime) -> int:
    """Blanks those of answers that this person had by then; returns how many that were."""
    mine = (CaseRow.tenant == tenant, CaseRow.rater == rater, CaseRow.asked_at <= up_to)
    return _blank(session, C.ERASED, *mine)


def expire(session: Session) -> int:
    """Blanks those that may no longer be kept; returns how many that were."""
    return _blank(session, C.EXPIRED, CaseRow.retain_until <= now())


def any_refused_before(session: Session, moment: datetime) -> bool:
    """Whether something is there to be forgotten."""
    return session.scalar(select(CaseRow.case_id).where(*_refused(moment)).limit(1)) is not None


def forget_refused(session: Session, before: datetime) -> int:
    """Whoever wished for them has read why by now; returns how many that were."""
    return len(session.execute(delete(CaseRow).where(*_refused(before)).returning(CaseRow.case_id)).all())


def told(row: CaseRow) -> dict[str, Any]:
    """What the audit says of it: nobody's words."""
    return {"state": row.state, "alias": row.alias, "response_id": row.response_id, "checks": row.checks}


def _refused(before: datetime) -> tuple[Any, ...]:
    return CaseRow.state == C.REFUSED, CaseRow.decided_at < before


def _blank(session: Session, target: CaseState, *which: Any) -> int:
    """Of those in a state that may move there; their person's hash goes too."""
    sources = [source for source, targets in TRANSITIONS.items() if target in targets]
    gone = update(CaseRow).where(*which, CaseRow.state.in_(sources)).values(state=target, sealed=b"", rater=None)
    found = session.execute(gone.returning(CaseRow.case_id), execution_options={"synchronize_session": False})
    return len(found.all())


def _decide(session: Session, row: CaseRow, target: CaseState, values: dict[str, Any]) -> None:
    source = CaseState(row.state)
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"case {row.name} cannot go from {source} to {target}")
    before = told(row)
    for name, value in {**values, "state": target, "decided_at": now()}.items():
        setattr(row, name, value)
    _record(session, row, f"case.{target}", FEEDBACK, row.refusal or "", before=before, after=told(row))


def _record(
    session: Session, row: CaseRow, action: str, actor: str, reason: str, *, before: dict[str, Any],
    after: dict[str, Any],
) -> None:  # fmt: skip
    audit.record(
        session, tenant=row.tenant, actor=actor, action=action, subject=row.name, reason=reason, before=before,
        after=after,
    )  # fmt: skip
