"""Events as the database knows them: which they are, and what became of them."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from feedback.datasets.standing import chunks
from feedback.tables import InferenceRow, VoteEventRow, VoteRow, VoteTargetRow
from feedback.votes import SESSION
from infra.contracts.traces import EventState, TracedEvent

INFERENCE, ERASURE = "inference", "erasure"
ASKED = (
    InferenceRow.event_id, InferenceRow.source, InferenceRow.occurred_at, InferenceRow.erased_at,
    InferenceRow.erasure_id,
)  # fmt: skip
CAST = (
    VoteEventRow.event_id, VoteEventRow.kind, VoteEventRow.source, VoteEventRow.occurred_at, VoteEventRow.retracted,
    VoteEventRow.erased_at, VoteEventRow.erasure_id, VoteRow.event_id.label("current"), VoteRow.status,
)  # fmt: skip


def hex_of(text: str) -> str:
    """An event id as it is stored, however it was written."""
    try:
        return UUID(text).hex
    except ValueError:
        return text


def told(session: Session, tenant: str, event_ids: Iterable[str]) -> list[TracedEvent]:
    """These, in their order. What has left the database by its age is `gone`."""
    wanted, known = list(event_ids), dict[str, TracedEvent]()
    for ids in chunks(wanted):
        asked = select(*ASKED).where(InferenceRow.tenant == tenant, InferenceRow.event_id.in_(ids))
        known |= {row.event_id: tell_answer(row) for row in session.execute(asked)}
        known |= {row.event_id: tell_vote(row) for row in _votes(session, tenant, VoteEventRow.event_id.in_(ids))}
    return [known.get(one) or TracedEvent(event_id=one, kind=None, state=EventState.GONE) for one in wanted]


def votes_on_answer(session: Session, answer: InferenceRow, most: int) -> tuple[list[TracedEvent], int]:
    """The newest of the current votes on it and on its conversation, and how many there are."""
    targets = [answer.response_id, *([f"{SESSION}{answer.session_id}"] if answer.session_id else [])]
    target = VoteTargetRow
    mine = (target.tenant == answer.tenant, target.target.in_(targets))
    total = session.scalar(select(func.count(target.vote_id.distinct())).where(*mine)) or 0
    ours = VoteRow.vote_id.in_(select(target.vote_id).where(*mine)) & (VoteRow.event_id == VoteEventRow.event_id)
    return [tell_vote(row) for row in _votes(session, answer.tenant, ours, most=most)], total


def tell_answer(row: Any) -> TracedEvent:
    """Of an `InferenceRow`, or of ASKED."""
    return TracedEvent(
        event_id=row.event_id, kind=INFERENCE, source=row.source, occurred_at=row.occurred_at,
        state=_blank(row) or EventState.STORED,
    )  # fmt: skip


def tell_vote(row: Any) -> TracedEvent:
    """Of CAST. An erased one has no current value; of others the greatest event of a vote is its value."""
    known = EventState(row.status) if row.current == row.event_id else EventState.SUPERSEDED
    return TracedEvent(
        event_id=row.event_id, kind=row.kind, source=row.source, occurred_at=row.occurred_at, retracted=row.retracted,
        state=_blank(row) or known,
    )  # fmt: skip


def find_vote(session: Session, tenant: str, event_id: str) -> TracedEvent | None:
    return next((tell_vote(row) for row in _votes(session, tenant, VoteEventRow.event_id == event_id)), None)


def _votes(session: Session, tenant: str, which: ColumnElement[bool], *, most: int | None = None) -> Sequence[Any]:
    """Newest first."""
    cast, vote = VoteEventRow, VoteRow
    same = (vote.tenant == cast.tenant) & (vote.vote_id == cast.vote_id)
    query = select(*CAST).outerjoin(vote, same).where(cast.tenant == tenant, which)
    return session.execute(query.order_by(cast.occurred_at.desc(), cast.event_id.desc()).limit(most)).all()


def _blank(row: Any) -> EventState | None:
    if row.erased_at is None:
        return None
    return EventState.ERASED if row.erasure_id else EventState.EXPIRED
