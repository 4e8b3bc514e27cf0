"""An answer is traced to the version, rollout and step that gave it, and to everything behind that version."""

from datetime import timedelta

import pytest

from infra.clock import now
from infra.contracts.rollouts import STEPS
from infra.contracts.traces import EventState
from infra.database.tables import RolloutRow
from infra.registry import adapters
from infra.registry.errors import NotFound
from tests.support.events import TENANT, event_id, make_choice, make_comparison, make_feedback, make_inference, moment
from tests.support.feedback import ALIAS, AS_OF, Event, Room, a_days_events
from tests.support.lineages import VERSION, trace_answer, train
from tests.support.people import MIA, mias_day, others_day

NEXT = "assistant-2-bbbbbbbb"


def put(room: Room, *events: Event) -> None:
    room.append(events)
    room.consume()


def start_rollout(room: Room) -> None:
    with room.database.transaction() as session:
        session.add(
            RolloutRow(
                rollout_id="rollout-1", tenant=TENANT, alias=ALIAS, kind="promote", version=NEXT, from_version=VERSION,
                state="canary", actor="test", reason="", requested_at=now(), step=3,
                steps=[step.model_dump(mode="json") for step in STEPS],
            )
        )  # fmt: skip


def test_an_answer_names_who_gave_it_under_which_arm_step_and_propensity(room: Room) -> None:
    start_rollout(room)
    choice = make_choice(version=NEXT, arm="challenger", arm_propensity=0.05)
    put(
        room,
        Event(
            make_inference("r1", choices=[choice], rollout_id="rollout-1", rollout_step=2, routing_revision=41), "chat"
        ),
    )
    found = trace_answer(room, "r1")
    assert found.choices[0].model_dump(exclude={"index", "finish_reason"}) == {
        "version": NEXT, "arm": "challenger", "arm_propensity": 0.05,
    }  # fmt: skip
    assert found.rollout is not None
    assert (found.rollout.step, found.rollout.title, found.rollout.state) == (2, "canary 5%", "canary")
    assert (found.routing_revision, found.base_revision, found.alias) == (41, "base-revision", ALIAS)
    assert (found.event.event_id, found.event.occurred_at) == (event_id("chat").hex, moment())
    assert found.versions == []


def test_choices_of_two_versions_lead_to_both(room: Room) -> None:
    put(room, *a_days_events())
    dataset = room.build()
    for version in (VERSION, NEXT):
        train(room, dataset, version=version)
    choices = [make_choice(index=at, version=version) for at, version in enumerate((VERSION, NEXT))]
    put(room, Event(make_inference("pair", choices=choices), "pair"))
    assert [one.version for one in trace_answer(room, "pair").versions] == [VERSION, NEXT]


def test_a_version_is_traced_to_its_cycle_gates_reward_model_and_datasets(room: Room) -> None:
    put(room, *a_days_events(), Event(make_inference("late", choices=[make_choice(version=VERSION)]), "late"))
    dataset = room.build()
    cycle_id = train(room, dataset, method="dpo")
    (found,) = trace_answer(room, "late").versions
    assert (found.version, found.state, found.method, found.init) == (VERSION, "published", "dpo", "anchor")
    assert found.cycle is not None
    assert (found.cycle.cycle_id, found.cycle.trigger) == (cycle_id, "test")
    assert [(gate.name, gate.blocking, gate.verdict) for gate in found.gates] == [("judge", True, "pass")]
    assert found.reward_model is not None
    assert found.reward_model.dataset_sha256 == [dataset.sha256]
    assert [(one.dataset_id, one.rows) for one in found.datasets] == [(dataset.dataset_id, dataset.counts)]


def test_the_parents_are_the_chain_of_champions_and_the_datasets_their_closure(room: Room) -> None:
    put(room, *a_days_events(), Event(make_inference("late", choices=[make_choice(version="v3")]), "late"))
    first = room.build()
    second = room.build(as_of=AS_OF + timedelta(hours=1), rater_cap=3)
    first_cycle = train(room, first, version="v1")
    train(room, first, second, version="v2", init="champion", parent="v1")
    train(room, first, second, version="v3", init="champion", parent="v2")
    (found,) = trace_answer(room, "late").versions
    assert [one.version for one in found.parents] == ["v2", "v1"]
    assert found.parents[-1].cycle_id == first_cycle
    assert {one.dataset_id for one in found.datasets} == {first.dataset_id, second.dataset_id}


def test_a_dataset_that_is_not_registered_here_is_told_by_its_hash(room: Room) -> None:
    put(room, *a_days_events(), Event(make_inference("late", choices=[make_choice(version=VERSION)]), "late"))
    dataset = room.build()
    train(room, dataset.model_copy(update={"dataset_id": "elsewhere", "sha256": "9" * 64}))
    (found,) = trace_answer(room, "late").versions
    assert [(one.dataset_id, one.sha256) for one in found.datasets] == [(None, "9" * 64)]
    assert (found.events.count, found.events.complete) == (0, True)


def test_the_votes_on_an_answer_and_on_its_conversation_are_told_without_what_they_say(room: Room) -> None:
    talk = {"session_id": "talk"}
    put(
        room,
        Event(make_inference("r1"), "chat", talk),
        Event(make_inference("r2"), "other chat"),
        Event(make_feedback("r1", comment="pomegranate"), "thumb", {"occurred_at": moment(1)}),
        Event(make_comparison("r1", "r2"), "choice", {"occurred_at": moment(2)}),
        Event(make_feedback(None, session_id="talk", value=False), "whole", {"occurred_at": moment(3)}),
        Event(make_feedback("r2"), "elsewhere", {"occurred_at": moment(4)}),
    )
    found = trace_answer(room, "r1")
    assert [one.event_id for one in found.votes] == [event_id(name).hex for name in ("whole", "choice", "thumb")]
    assert {(one.kind, one.state) for one in found.votes} == {("thumbs", "joined"), ("comparison", "joined")}
    assert found.votes_total == 3
    told = found.model_dump_json()
    assert "pomegranate" not in told
    assert "rater-1" not in told


def test_of_a_changed_vote_only_the_current_value_is_told(room: Room) -> None:
    put(
        room,
        Event(make_inference("r1"), "chat"),
        Event(make_feedback("r1"), "up", {"occurred_at": moment(1)}),
        Event(make_feedback("r1", value=None), "taken back", {"occurred_at": moment(2)}),
    )
    found = trace_answer(room, "r1")
    assert [(one.event_id, one.retracted) for one in found.votes] == [(event_id("taken back").hex, True)]


def test_what_is_unknown_or_another_tenants_is_not_found(room: Room) -> None:
    put(room, Event(make_inference("r1"), "chat"))
    for response_id, tenant in (("r2", TENANT), ("r1", "acme")):
        with pytest.raises(NotFound, match=response_id):
            trace_answer(room, response_id, tenant=tenant)


def test_another_tenants_version_of_that_name_is_not_told(room: Room) -> None:
    put(room, *a_days_events(), Event(make_inference("late", choices=[make_choice(version=VERSION)]), "late"))
    train(room, room.build())
    with room.database.transaction() as session:
        adapters.get(session, VERSION).tenant = "acme"
    assert trace_answer(room, "late").versions == []


def test_of_an_erased_person_the_trace_stays_without_what_was_sealed(room: Room) -> None:
    put(room, *mias_day(), *others_day())
    train(room, room.build(as_of=now()))
    room.erase(MIA)
    room.consume()
    room.eraser().turn()
    found = trace_answer(room, "mia0a")
    assert (found.event.state, found.routing_revision) == (EventState.ERASED, None)
    assert [one.version for one in found.choices] == ["base"]
