"""Questions that gateways wrote down are answered by one feedback process, and are gone after an hour."""

from datetime import timedelta

import pytest

from feedback.tracing.tracing import Tracing
from feedback.tracing.wishes import LEASE, Tracer
from infra.clock import now
from infra.contracts.traces import KEPT, Question
from infra.database.tables import TraceRow
from infra.keystore.base import KeyringAway
from infra.registry import leases, traces
from infra.registry.errors import NotFound
from tests.support.events import TENANT, event_id, make_feedback, make_inference
from tests.support.feedback import Event, Room
from tests.support.lineages import make_tracing, trace_answer, trace_event


def make_tracer(room: Room) -> Tracer:
    return Tracer(room.database, make_tracing(room), lease_ttl_s=5.0)


def ask(room: Room, **question: str) -> TraceRow:
    with room.database.transaction() as session:
        return traces.request(session, TENANT, Question.model_validate(question))


def stored(room: Room, row: TraceRow) -> TraceRow:
    with room.database.reading() as session:
        return traces.get(session, TENANT, row.trace_id)


def live(room: Room) -> None:
    room.append([Event(make_inference("r1"), "chat"), Event(make_feedback("r1"), "thumb")])
    room.consume()


def test_each_question_is_answered_as_the_command_would(room: Room) -> None:
    live(room)
    answer, event = ask(room, response_id="r1"), ask(room, event_id=event_id("thumb").hex)
    tracer = make_tracer(room)
    assert (tracer.turn(), tracer.turn()) == (2, 0)
    assert stored(room, answer).answer == trace_answer(room, "r1").model_dump(mode="json")
    assert stored(room, event).answer == trace_event(room, event_id("thumb").hex).model_dump(mode="json")


def test_what_is_not_there_is_said_to_be_not_there(room: Room) -> None:
    row = ask(room, response_id="nothing")
    assert make_tracer(room).turn() == 1
    found = stored(room, row)
    assert (found.state, found.answer) == ("not_found", None)
    assert "nothing" in (found.reason or "")


def test_while_something_is_away_a_question_waits(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    live(room)
    row, tracer = ask(room, response_id="r1"), make_tracer(room)

    def away(*_: object) -> None:
        raise KeyringAway("the keyring does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Tracing, "answer", away)
        assert tracer.turn() == 0
    assert stored(room, row).state == "requested"
    assert tracer.turn() == 1
    assert stored(room, row).state == "done"


def test_while_another_process_answers_nothing_is_done(room: Room) -> None:
    row = ask(room, response_id="r1")
    with room.database.transaction() as session:
        leases.acquire(session, LEASE, "another", 60)
    assert make_tracer(room).turn() == 0
    assert stored(room, row).state == "requested"


def test_questions_and_answers_are_gone_after_an_hour(room: Room) -> None:
    row, tracer = ask(room, response_id="nothing"), make_tracer(room)
    tracer.turn()
    with room.database.transaction() as session:
        traces.get(session, TENANT, row.trace_id).requested_at = now() - KEPT - timedelta(seconds=1)
    tracer.turn()
    with pytest.raises(NotFound):
        stored(room, row)
