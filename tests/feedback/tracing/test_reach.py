"""An event is traced to every row that is made of it, as reading every shard of every dataset would find."""

from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback.intake import erasing
from feedback.tracing import places
from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.contracts.events import Consent, Feedback
from infra.contracts.traces import EventState, EventTrace
from infra.registry.errors import NotFound
from tests.support.events import TENANT, event_id, make_feedback, make_inference, moment
from tests.support.feedback import AS_OF, Event, Room, a_days_events, a_messy_days_events
from tests.support.lineages import VERSION, trace_event, train
from tests.support.people import MIA, mias_day, others_day

DAY = 86400.0
HELD = {"test_share": 0.3, "gate_share": 0.2, "report_share": 0.1}
Found = dict[str, set[tuple[str, str, str, str]]]  # event -> (dataset, table, split, row)


def thumbs_of_days(days: int = 3) -> list[Event]:
    """One person's thumbs on answers to one question, on several days: each good one pairs with each bad one."""
    events = list[Event]()
    for day in range(days):
        header: dict[str, Any] = {"rater": "rater-daily", "occurred_at": moment(-DAY * day)}
        chat = make_inference(f"daily{day}", prompt="The daily question?", texts=[f"Answer of day {day}."])
        cast = {**header, "occurred_at": moment(-DAY * day + 10)}
        events += [
            Event(chat, f"daily {day}", header),
            Event(make_feedback(f"daily{day}", value=day % 2 == 0), f"daily thumb {day}", cast),
        ]
    return events


def a_conversation(turns: int = 3) -> list[Event]:
    header: dict[str, Any] = {"rater": "rater-talker", "session_id": "talk"}
    events = [
        Event(
            make_inference(f"talk{turn}", prompt=f"Turn {turn}?", texts=[f"Said {turn}."], turn=turn + 1),
            f"talk {turn}", {**header, "occurred_at": moment(turn)},
        )
        for turn in range(turns)
    ]  # fmt: skip
    verdict = make_feedback(None, session_id="talk", value=False)
    return [*events, Event(verdict, "whole talk", {**header, "occurred_at": moment(DAY / 4)})]


def put(room: Room, *events: Event) -> None:
    room.append(events)
    room.consume()


def every_row(room: Room) -> Found:
    """By reading everything."""
    found: Found = defaultdict(set)
    root = Path(room.artifacts.local_path(f"datasets/{TENANT}"))
    for file in root.glob("*/*/*/*.parquet"):
        dataset, table, split, _ = file.relative_to(root).parts
        if table == "index":
            continue
        for row in pq.read_table(file).to_pylist():
            for event in row["source_event_ids"]:
                found[event].add((dataset, table, split, row.get("pair_id") or row["prompt_id"]))
    return found


def traced_rows(found: EventTrace) -> set[tuple[str, str, str, str]]:
    return {(one.dataset_id, row.table, row.split, row.row_id) for one in found.datasets for row in one.rows}


def test_every_event_is_traced_to_all_of_its_rows_in_all_datasets(room: Room) -> None:
    events = [*a_messy_days_events(), *thumbs_of_days(), *a_conversation()]
    votes = [event for event in events if isinstance(event.body, Feedback)]
    put(room, *(event for event in events if event not in votes), *votes[::2])
    room.build(**HELD)
    put(room, *votes[1::2])
    room.build(as_of=AS_OF + timedelta(hours=1), **HELD)
    known, pairs = every_row(room), 0
    for event in events:
        try:
            found = trace_event(room, event_id(event.name).hex)
        except NotFound:  # the later of two events of one response: it was never stored
            assert event_id(event.name).hex not in known
            continue
        assert traced_rows(found) == known.get(event_id(event.name).hex, set()), event.name
        assert sum(one.rows_total for one in found.datasets) == len(traced_rows(found))
        pairs += len(traced_rows(found))
    assert pairs > 100
    assert {table for rows in known.values() for _, table, _, _ in rows} >= {
        "preference",
        "ties",
        "unpaired",
        "prompts",
    }


def test_a_thumb_that_pairs_with_one_of_another_day_is_traced_there(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(room, *thumbs_of_days(), *a_days_events())
    dataset = room.build()
    wanted = every_row(room)
    name = event_id("daily thumb 1").hex
    assert len({row for _, table, _, row in wanted[name] if table == "preference"}) == 2
    assert traced_rows(trace_event(room, name)) == wanted[name]
    assert {one.dataset_id for one in trace_event(room, event_id("daily 1").hex).datasets} == {dataset.dataset_id}
    monkeypatch.setattr(places, "RATINGS_MOST", 1)  # of somebody with more than can be looked up, every day is read
    assert traced_rows(trace_event(room, name)) == wanted[name]


def test_shards_that_datasets_share_are_read_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    put(room, *a_days_events())
    for hours in range(4):
        room.build(as_of=AS_OF + timedelta(hours=hours), rater_cap=10 + hours)
    opened = list[str]()
    real = ArtifactStore.open

    def counting(store: ArtifactStore, path: str) -> Any:
        opened.append(path)
        return real(store, path)

    monkeypatch.setattr(ArtifactStore, "open", counting)
    found = trace_event(room, event_id("comparison 3").hex)
    assert len(found.datasets) == 4
    assert len(opened) == len(set(opened))
    assert {path.split("/")[2] for path in opened} == {found.datasets[0].dataset_id}


def test_an_event_is_traced_on_to_cycles_versions_and_reward_models(room: Room) -> None:
    put(room, *a_days_events())
    first = room.build()
    cycle_id = train(room, first)
    put(room, *thumbs_of_days())
    second = room.build(as_of=AS_OF + timedelta(hours=1))
    train(room, first, second, version="v2", init="champion", parent=VERSION)
    old, new = (trace_event(room, event_id(name).hex) for name in ("comparison 3", "daily thumb 1"))
    assert [one.version for one in old.versions] == [VERSION, "v2"]
    assert [one.version for one in new.versions] == ["v2"]
    assert new.versions[0].dataset_ids == [second.dataset_id]
    assert (cycle_id in [one.cycle_id for one in old.cycles], len(old.cycles), len(new.cycles)) == (True, 2, 1)
    assert new.reward_models == ["v2-reward"]


def test_an_answer_is_an_event_by_its_response_id_and_by_any_spelling_of_its_event_id(room: Room) -> None:
    put(room, *a_days_events())
    room.build()
    by_id, by_uuid, by_response = (
        trace_event(room, name) for name in (event_id("inference r3a").hex, str(event_id("inference r3a")), "r3a")
    )
    assert by_id == by_uuid == by_response
    assert (by_id.event.kind, by_id.event.state, by_id.response_ids) == ("inference", "stored", ["r3a"])


def test_a_vote_says_whether_it_has_found_its_answer(room: Room) -> None:
    later = {"occurred_at": moment(5)}
    put(
        room,
        Event(make_inference("r1"), "chat"),
        Event(make_feedback("r1", value=False), "first", {"occurred_at": moment(1)}),
        Event(make_feedback("r1"), "second", later),
        Event(make_feedback("nothing"), "waits", later),
    )
    states = {name: trace_event(room, event_id(name).hex).event.state for name in ("first", "second", "waits")}
    assert states == {"first": EventState.SUPERSEDED, "second": EventState.JOINED, "waits": EventState.PENDING}
    assert trace_event(room, event_id("waits").hex).response_ids == ["nothing"]


def test_what_was_not_consented_to_reached_nothing(room: Room) -> None:
    put(room, *a_days_events(), Event(make_inference("r"), "chat", {"consent": Consent(train=False)}))
    room.build()
    found = trace_event(room, event_id("chat").hex)
    assert (found.consent_train, found.datasets, found.versions) == (False, [], [])


def test_of_an_erased_person_is_told_what_the_erasure_found(room: Room) -> None:
    put(room, *mias_day(), *others_day())
    dataset = room.build(as_of=now())
    train(room, dataset)
    erasure_id = room.erase(MIA)
    room.consume()
    room.eraser().turn()
    found = trace_event(room, event_id("her choice 0").hex)
    assert (found.event.state, found.datasets) == (EventState.ERASED, [])
    assert found.erasure is not None
    assert (found.erasure.erasure_id, found.erasure.state) == (erasure_id, "done")
    assert (found.erasure.datasets, found.erasure.versions) == ([dataset.dataset_id], [VERSION])
    assert trace_event(room, erasure_id).erasure == found.erasure
    assert trace_event(room, erasure_id).event.kind == "erasure"


def test_what_is_kept_until_a_moment_is_told_to_have_expired(room: Room) -> None:
    soon = Consent(train=True, retain_until=now() - timedelta(seconds=1))
    put(room, Event(make_inference("r1"), "chat", {"consent": soon}))
    erasing.purge(room.database, room.artifacts)
    found = trace_event(room, "r1")
    assert (found.event.state, found.erasure) == (EventState.EXPIRED, None)


def test_unknown_events_and_other_tenants_are_not_found(room: Room) -> None:
    put(room, Event(make_inference("r1"), "chat"), Event(make_feedback("r1"), "thumb"))
    for name, tenant in (("nothing", TENANT), ("r1", "acme"), (event_id("thumb").hex, "acme")):
        with pytest.raises(NotFound, match=name):
            trace_event(room, name, tenant=tenant)
