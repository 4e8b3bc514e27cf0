"""Reads back what the consumer stored: the events of a window, up to a cut of the log, with their bodies opened."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.tables import InferenceRow, VoteEventRow
from feedback.votes import Answered, Vote
from infra.artifacts import MissingArtifact
from infra.contracts.events import (
    FEEDBACK_TOPIC,
    INFERENCE_TOPIC,
    Consent,
    Envelope,
    Feedback,
    Inference,
    Source,
)
from infra.envelopes import Sealer
from infra.eventlog.base import Position
from infra.sealing import KeyDestroyed, KeyUnknown, SealBroken

Body = TypeVar("Body", bound=BaseModel)
Cut = Mapping[tuple[str, int], int]  # (topic, partition) -> the first offset that is not part of it
LOOKUPS = 5000  # ids in one query


@dataclass(slots=True)
class Material:
    """What a dataset is made of. `lost` counts events that can no longer be read."""

    votes: list[Vote] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Window:
    """Events from `start` on that were on the log before `cut`."""

    tenant: str
    alias: str
    start: datetime
    cut: Cut


def read(session: Session, sealer: Sealer, window: Window) -> Material:
    """Votes of the window, this alias' answers of the window, and older or other answers that those votes are about."""
    material = Material()
    for row in _rows(session, window, VoteEventRow, FEEDBACK_TOPIC):
        if opened := _open(sealer, row, Feedback, material):
            material.votes.append(Vote(*opened, _position(row, FEEDBACK_TOPIC)))
    targets = {target for vote in material.votes for target in vote.targets}
    for answer in _answers(session, window, targets):
        if opened_answer := _open(sealer, answer, Inference, material):
            material.answered.append(Answered(*opened_answer, _position(answer, INFERENCE_TOPIC)))
    return material


def _rows(session: Session, window: Window, table: type[VoteEventRow], topic: str) -> Iterator[VoteEventRow]:
    found = select(table).where(table.tenant == window.tenant, table.occurred_at >= window.start)
    for row in session.scalars(found.execution_options(yield_per=1000)):
        if _before(row, topic, window.cut):
            yield row


def _answers(session: Session, window: Window, targets: set[str]) -> Iterator[InferenceRow]:
    table = InferenceRow
    mine = select(table).where(table.tenant == window.tenant, table.alias == window.alias)
    seen: set[str] = set()
    for row in session.scalars(mine.where(table.occurred_at >= window.start).execution_options(yield_per=1000)):
        seen.add(row.response_id)
        if _before(row, INFERENCE_TOPIC, window.cut):
            yield row
    for ids in _chunks(sorted(targets - seen)):
        for row in session.scalars(select(table).where(table.tenant == window.tenant, table.response_id.in_(ids))):
            if _before(row, INFERENCE_TOPIC, window.cut):
                yield row


def _chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + LOOKUPS] for at in range(0, len(ids), LOOKUPS))


def _before(row: InferenceRow | VoteEventRow, topic: str, cut: Cut) -> bool:
    """A partition that the cut does not know of had nothing on it."""
    return row.log_offset < cut.get((topic, row.log_partition), 0)


def _open(
    sealer: Sealer, row: InferenceRow | VoteEventRow, kind: type[Body], material: Material
) -> tuple[Envelope, Body] | None:
    envelope = _envelope(row)
    try:
        return envelope, sealer.open(envelope, kind)
    except KeyDestroyed:
        material.lost["erased"] += 1
    except (KeyUnknown, SealBroken, MissingArtifact):
        material.lost["unreadable"] += 1
    return None


def _envelope(row: InferenceRow | VoteEventRow) -> Envelope:
    """As it was; it was validated when it came in."""
    return Envelope.model_construct(
        event_id=UUID(row.event_id),
        occurred_at=row.occurred_at,
        tenant=row.tenant,
        rater=row.rater,
        session_id=row.session_id,
        segment=row.segment,
        source=Source(row.source),
        consent=Consent(train=row.consent_train, explicit=row.consent_explicit, retain_until=row.retain_until),
        key_id=row.key_id,
        sealed=row.sealed,
    )


def _position(row: InferenceRow | VoteEventRow, topic: str) -> Position:
    return Position(topic, row.log_partition, row.log_offset)
