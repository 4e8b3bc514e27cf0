"""Holds the clients' books against the store: what was acknowledged is there once, and each vote has its last value."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from feedback.tables import InferenceRow, VoteEventRow, VoteRow
from infra.ports import Ports
from tests.chaos.books import Books, Cast, Chat, Window, struck

FULL_SPOOL = "spool"  # while nothing more fits, answers go out and their events are lost, counted


@dataclass(frozen=True, slots=True)
class Held:
    """The store: votes' events by id, with the id of the vote, and each vote's current event."""

    events: Mapping[str, tuple[str, object]]  # event id -> vote id, value
    current: Mapping[str, str]  # vote id -> event id
    answers: frozenset[str]
    places: Mapping[str, tuple[int, int]]  # event id -> partition and offset on the log

    def place(self, cast: Cast) -> tuple[int, int]:
        return self.places[_hex(cast)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lost` are acknowledged votes that are not stored, or whose value is not the last one acknowledged.

    `doubled` are events and votes beyond those that were acknowledged. `findings` names some of both.
    """

    acknowledged: int
    stored: int
    lost: int
    doubled: int
    answers_lost: int
    findings: list[str]


def hold(ports: Ports) -> Held:
    """Reads and unseals it all."""
    with ports.database.reading() as session:
        current = session.execute(select(VoteRow.vote_id, VoteRow.event_id)).all()
        answers = frozenset(session.scalars(select(InferenceRow.response_id)))
        rows = session.scalars(select(VoteEventRow)).all()
    events = {row.event_id: (row.vote_id, _value(ports, row)) for row in rows}
    places = {row.event_id: (row.log_partition, row.log_offset) for row in rows}
    return Held(events, {vote_id: event_id for vote_id, event_id in current}, answers, places)  # noqa: C416 a Row is no pair


def compare(books: Books, held: Held, windows: Sequence[Window]) -> Verdict:
    acknowledged = {_hex(cast) for cast in books.casts}
    missing = [f"{cast} is not stored" for cast in books.casts if _hex(cast) not in held.events]
    wrong = list(_wrong(books, held))
    beyond = [f"event {event_id} was never acknowledged" for event_id in held.events.keys() - acknowledged]
    votes = [f"vote {vote_id} was never cast" for vote_id in held.current.keys() - _voted(books, held)]
    lost = [chat for chat in books.chats if _is_owed(chat, windows) and chat.response_id not in held.answers]
    return Verdict(
        acknowledged=len(acknowledged),
        stored=len(acknowledged & held.events.keys()),
        lost=len(missing) + len(wrong),
        doubled=len(beyond) + len(votes) + len(books.casts) - len(acknowledged),
        answers_lost=len(lost),
        findings=[*missing, *wrong, *beyond, *votes, *(f"{chat} is not stored" for chat in lost)][:20],
    )


def _wrong(books: Books, held: Held) -> Iterator[str]:
    """Votes whose current value is another than the last one that was acknowledged."""
    for cast in books.latest().values():
        if (found := held.events.get(_hex(cast))) is None:
            continue
        vote_id, value = found
        if held.current.get(vote_id) != _hex(cast):
            yield f"{cast} is not the current value: {held.current.get(vote_id)} is"
        elif value != cast.value:
            yield f"{cast} is stored as {value}"


def _voted(books: Books, held: Held) -> set[str]:
    return {held.events[_hex(cast)][0] for cast in books.latest().values() if _hex(cast) in held.events}


def _is_owed(chat: Chat, windows: Sequence[Window]) -> bool:
    """Every whole answer leaves an event, but for those that went out while the spool was full."""
    return bool(chat.response_id) and FULL_SPOOL not in struck(chat, windows)


def _value(ports: Ports, row: VoteEventRow) -> object:
    plain = ports.keyring.unseal(row.key_id, row.sealed, context=UUID(row.event_id).bytes)
    return json.loads(plain)["value"]


def _hex(cast: Cast) -> str:
    return UUID(cast.feedback_id).hex
