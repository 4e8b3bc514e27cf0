"""Whether the tables can hold what an event says: its contract bounds no lengths, columns do.

Asked of each event by itself: one row that the database refuses would hold up everything that comes after it.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, Integer, SmallInteger, Table

from feedback.tables import ChoiceRow, InferenceRow, VoteEventRow, VoteTargetRow
from feedback.votes import Answered, Erased, Vote
from infra.contracts.events import Choice, Envelope, Feedback, Inference
from infra.database.tables import Base

INDEXED_BYTES = 2_000  # of one text: PostgreSQL takes an index row of at most 2,704 bytes
BITS = ((SmallInteger, 15), (BigInteger, 63), (Integer, 31))  # the first that fits
Columns = Mapping[str, Column[Any]]


def _shared(model: type[BaseModel], row: type[Base]) -> Columns:
    """The columns that are filled from the model's fields of the same names."""
    columns = cast(Table, row.__table__).columns
    return {column.name: column for column in columns if column.name in model.model_fields}


ENVELOPE = _shared(Envelope, VoteEventRow)
INFERENCE, CHOICE = _shared(Inference, InferenceRow), _shared(Choice, ChoiceRow)
FEEDBACK = _shared(Feedback, VoteEventRow)
PAIRS, TARGET = VoteEventRow.__table__.columns["pairs"], VoteTargetRow.__table__.columns["target"]


def unfit_envelope(envelope: Envelope) -> str:
    """What is wrong with it; empty where nothing is."""
    return next(_wrongs(envelope, ENVELOPE), "") or _wrong("retain_until", envelope.consent.retain_until, None)


def unfit_body(event: Answered | Vote | Erased) -> str:
    """What is wrong with it; empty where nothing is, and for an erasure, whose table holds its envelope alone."""
    match event:
        case Answered():
            return next(_unfit_answer(event), "")
        case Vote():
            return next(_unfit_vote(event), "")
        case Erased():
            return ""


def _unfit_answer(event: Answered) -> Iterator[str]:
    yield from _wrongs(event.body, INFERENCE)
    for choice in event.body.choices:
        yield from _wrongs(choice, CHOICE)


def _unfit_vote(event: Vote) -> Iterator[str]:
    yield from _wrongs(event.body, FEEDBACK)
    named = [("target", target, TARGET) for target in event.targets] + [("pairs", event.strict_pairs, PAIRS)]
    yield from filter(None, (_wrong(*one) for one in named))


def _wrongs(model: BaseModel, columns: Columns) -> Iterator[str]:
    for name, column in columns.items():
        if wrong := _wrong(name, getattr(model, name), column):
            yield wrong


def _wrong(name: str, value: object, column: "Column[Any] | None") -> str:
    if isinstance(value, str):
        return _wrong_text(name, value, getattr(column.type, "length", None) if column is not None else None)
    if isinstance(value, int) and column is not None:
        bits = next((bits for kind, bits in BITS if isinstance(column.type, kind)), None)
        return f"{name} is too large" if bits and not -(2**bits) <= value < 2**bits else ""
    if isinstance(value, datetime):
        return _wrong_time(name, value)
    return ""


def _wrong_text(name: str, value: str, most: int | None) -> str:
    if "\0" in value:
        return f"{name} holds a NUL character"
    if most is None:
        return f"{name} is longer than {INDEXED_BYTES} bytes" if len(value.encode()) > INDEXED_BYTES else ""
    return f"{name} is longer than {most} characters" if len(value) > most else ""


def _wrong_time(name: str, value: datetime) -> str:
    try:
        value.astimezone(UTC)
    except OverflowError:
        return f"{name} is before the first year or after the last"
    return ""
