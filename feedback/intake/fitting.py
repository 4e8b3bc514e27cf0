"""Whether the tables can hold what an event says: its contract bounds no lengths, columns do.

Asked of each event by itself: one row that the database refuses would hold up everything that comes after it.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, Integer, SmallInteger, Table

from feedback.tables import ChoiceRow, InferenceRow, VoteEventRow, VoteTargetRow
from feedback.votes import Answered, Erased, Vote
from infra.contracts.events import Choice, Envelope, Feedback, Inference
from infra.database.tables import Base

INDEXED_BYTES = 2_000  # of one text: PostgreSQL takes an index row of at most 2,704 bytes
BITS = ((SmallInteger, 15), (BigInteger, 63), (Integer, 31))  # the first that fits


class Limit(NamedTuple):
    """What a column takes: so many characters, numbers of so many bits; None where it has no such limit."""

    name: str
    most: int | None = None
    bits: int | None = None

    @classmethod
    def of(cls, column: Column[Any]) -> "Limit":
        bits = next((bits for kind, bits in BITS if isinstance(column.type, kind)), None)
        return cls(column.name, getattr(column.type, "length", None), bits)


def _shared(model: type[BaseModel], row: type[Base]) -> tuple[Limit, ...]:
    """Of the columns that are filled from the model's fields of the same names."""
    columns = cast(Table, row.__table__).columns
    return tuple(Limit.of(column) for column in columns if column.name in model.model_fields)


ENVELOPE = _shared(Envelope, VoteEventRow)
INFERENCE, CHOICE = _shared(Inference, InferenceRow), _shared(Choice, ChoiceRow)
FEEDBACK = _shared(Feedback, VoteEventRow)
PAIRS = Limit.of(cast(Table, VoteEventRow.__table__).columns["pairs"])
TARGET = Limit.of(cast(Table, VoteTargetRow.__table__).columns["target"])
RETAIN_UNTIL = Limit("retain_until")


def unfit_envelope(envelope: Envelope) -> str:
    """What is wrong with it; empty where nothing is."""
    return next(_wrongs(envelope, ENVELOPE), "") or _wrong(envelope.consent.retain_until, RETAIN_UNTIL)


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
    named = [(target, TARGET) for target in event.targets] + [(event.strict_pairs, PAIRS)]
    yield from filter(None, (_wrong(*one) for one in named))


def _wrongs(model: BaseModel, limits: Iterable[Limit]) -> Iterator[str]:
    for limit in limits:
        value = getattr(model, limit.name)
        if value is not None and (wrong := _wrong(value, limit)):
            yield wrong


def _wrong(value: object, limit: Limit) -> str:
    if isinstance(value, str):
        return _wrong_text(limit.name, value, limit.most)
    if isinstance(value, int):
        return f"{limit.name} is too large" if limit.bits and not -(2**limit.bits) <= value < 2**limit.bits else ""
    if isinstance(value, datetime):
        return _wrong_time(limit.name, value)
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
