"""The books find what is wrong with a store: otherwise a run without findings would say nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from infra.ports import Ports
from tests.chaos.audit import Held, compare, hold
from tests.chaos.books import Books, Cast, Chat, Window, struck
from tests.support.events import event_id, make_feedback, make_inference, moment
from tests.support.feedback import Event, Room
from tests.support.home import make_ports

FIRST, SECOND = (UUID(str(event_id(name))) for name in ("first", "second"))


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path)
    yield made
    made.close()


@pytest.fixture
def held(ports: Ports) -> Held:
    """One answer, and a thumb that was changed."""
    room = Room(ports.home, ports.database, ports.sealer, ports.eventlog)
    room.append([
        Event(make_inference("r1"), "answer"),
        Event(make_feedback("r1", value=True), "first", {"occurred_at": moment(1)}),
        Event(make_feedback("r1", value=False), "second", {"occurred_at": moment(2)}),
    ])  # fmt: skip
    room.consume()
    return hold(ports)


def made_books() -> Books:
    casts = [make_cast(True, FIRST), make_cast(False, SECOND)]
    return Books([Chat(0.0, 1.0, "r1")], casts)


def make_cast(value: bool, feedback_id: UUID) -> Cast:
    return Cast("rater-1", "r1", value, str(feedback_id), "log", 0.0)


def test_a_store_that_agrees_has_nothing_lost_and_nothing_doubled(held: Held) -> None:
    verdict = compare(made_books(), held, [])
    assert (verdict.acknowledged, verdict.stored, verdict.lost, verdict.doubled) == (2, 2, 0, 0)
    assert verdict.answers_lost == 0 and verdict.findings == []


def test_an_acknowledged_vote_that_is_not_stored_is_lost(held: Held) -> None:
    books = made_books()
    books.casts.append(replace(make_cast(True, event_id("third")), rater="rater-2"))
    assert compare(books, held, []).lost == 1


def test_a_vote_whose_value_is_not_the_last_acknowledged_one_is_lost(held: Held) -> None:
    books = made_books()
    books.casts.reverse()
    assert compare(books, held, []).lost == 1
    books = made_books()
    books.casts[1] = replace(books.casts[1], value=None)
    assert compare(books, held, []).lost == 1


def test_an_event_that_nobody_was_acknowledged_is_doubled(held: Held) -> None:
    books = made_books()
    del books.casts[0]
    assert compare(books, held, []).doubled == 1
    assert compare(Books(books.chats), held, []).doubled == 3  # two events and the vote


def test_an_answer_is_owed_its_event_unless_the_spool_was_full(held: Held) -> None:
    books = made_books()
    books.chats.append(Chat(5.0, 6.0, "r2"))
    assert compare(books, held, []).answers_lost == 1
    assert compare(books, held, [Window("spool", 4.0, 5.5)]).answers_lost == 0


def test_a_request_met_the_faults_that_lasted_while_it_did() -> None:
    windows = [Window("kafka", 1.0, 2.0), Window("engine", 3.0)]
    assert struck(Chat(1.5, 1.6, ""), windows) == {"kafka"}
    assert struck(Chat(1.5, 3.5, ""), windows) == {"kafka", "engine"}
    assert struck(Chat(2.1, 2.9, ""), windows) == set()
