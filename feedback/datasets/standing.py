"""Stored events as they stood at a cut of the log: what all queries over them share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_
from sqlalchemy.orm import aliased

from feedback.tables import InferenceRow, VoteEventRow
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC

Cut = Mapping[tuple[str, int], int]  # (topic, partition) -> the first offset that is not part of it
Table = type[VoteEventRow] | type[InferenceRow]
TOPIC: dict[Table, str] = {VoteEventRow: FEEDBACK_TOPIC, InferenceRow: INFERENCE_TOPIC}
LOOKUPS = 5000  # ids in one query


def before(table: Any, topic: str, cut: Cut) -> ColumnElement[bool]:
    """A partition that the cut does not know of had nothing on it."""
    parts = [
        and_(table.log_partition == partition, table.log_offset < offset)
        for (name, partition), offset in sorted(cut.items())
        if name == topic
    ]
    return or_(*parts) if parts else table.log_partition < 0


def superseded(cut: Cut) -> ColumnElement[bool]:
    """Whether a row of `VoteEventRow` is no longer the current value of its vote."""
    mine, later = VoteEventRow, aliased(VoteEventRow)
    return exists().where(
        later.tenant == mine.tenant,
        later.vote_id == mine.vote_id,
        or_(
            later.occurred_at > mine.occurred_at,
            and_(later.occurred_at == mine.occurred_at, later.event_id > mine.event_id),
        ),
        before(later, FEEDBACK_TOPIC, cut),
    )


def chunks(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    """As many as one query may ask for, in a fixed order."""
    ordered = sorted(ids)
    return (ordered[at : at + LOOKUPS] for at in range(0, len(ordered), LOOKUPS))
