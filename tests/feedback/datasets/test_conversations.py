"""Verdicts on whole conversations become rows of their turns, however the events came, and go when they have to."""

import random
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.errors import NoRows
from infra.contracts.events import Consent
from infra.contracts.manifests import DatasetManifest
from infra.database.engine import open_database
from infra.services.postgres import Postgres
from tests.support.conversations import about, thumb, turns, verdict
from tests.support.events import TENANT, make_feedback, moment
from tests.support.feedback import AS_OF, Event, Room, a_days_events, a_messy_days_events, make_room
from tests.support.servers import emptied_database

SHARED = {"test_share": 0.3, "gate_share": 0.1, "report_share": 0.1}
HOUR = 3600.0
DAY = 24 * HOUR
NEXT_DAY = 0.9 * DAY  # tests happen at noon: what is cast then is in other files


def put(room: Room, *events: Event) -> None:
    room.append(events)
    room.consume()


def rows(room: Room, manifest: DatasetManifest, split: str = "train") -> list[dict[str, Any]]:
    directory = room.artifacts.local_path(f"datasets/{TENANT}/{manifest.dataset_id}") / "unpaired" / split
    found = [row for file in sorted(directory.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    return sorted(found, key=lambda row: (row["occurred_at"], row["conversation_turn"] or 0))


def told(row: dict[str, Any]) -> tuple[str, bool, int | None, int | None]:
    return row["completion"][0]["content"], row["label"], row["conversation_turn"], row["conversation_turns"]


def built(room: Room, *events: Event, **shaping: Any) -> list[dict[str, Any]]:
    put(room, *events)
    return rows(room, room.build(**shaping))


def same_as_at_once(room: Room, tmp_path: Path, manifest: DatasetManifest, *events: Event, **shaping: Any) -> bool:
    fresh = make_room(tmp_path / "fresh")
    put(fresh, *events)
    whole = fresh.build(as_of=manifest.as_of, **shaping)
    fresh.close()
    return (manifest.sha256, manifest.filtered) == (whole.sha256, whole.filtered)


def test_a_verdict_on_a_conversation_is_one_row_for_each_turn(room: Room) -> None:
    found = built(room, *turns(count=3), verdict(value=False))
    assert [told(row) for row in found] == [
        ("s1 is told 1.", False, 1, 3), ("s1 is told 2.", False, 2, 3), ("s1 is told 3.", False, 3, 3),
    ]  # fmt: skip
    assert [len(row["prompt"]) for row in found] == [1, 3, 5]
    assert len({row["pair_id"] for row in found}) == 3
    assert {(row["rater"], row["weight"], len(row["source_event_ids"])) for row in found} == {("rater-1", 1.0, 2)}


def test_stars_for_a_conversation_read_as_thumbs_and_three_say_nothing(room: Room) -> None:
    at = {"rater": "rater-1", "session_id": "s1", "occurred_at": moment(HOUR)}
    stars = Event(about(kind="rating", name="rating", value=5), "stars", at)
    neutral = Event(about("s2", kind="rating", name="rating", value=3), "neutral", {**at, "session_id": "s2"})
    put(room, *turns("s1", 2), *turns("s2", 2), stars, neutral)
    manifest = room.build()
    assert [row["label"] for row in rows(room, manifest)] == [True, True]
    assert manifest.filtered == {"neutral_rating": 2}


def test_a_turn_that_was_rated_by_itself_has_that_row_alone(room: Room) -> None:
    found = built(room, *turns(count=2), thumb("s1", 1, value=False), verdict())
    assert [told(row) for row in found] == [("s1 is told 1.", False, None, None), ("s1 is told 2.", True, 2, 2)]


def test_another_raters_thumb_takes_no_turn_away(room: Room) -> None:
    found = built(room, *turns(count=2), thumb("s1", 1, rater="rater-2"), verdict())
    assert len(found) == 3


def test_a_thumb_that_is_taken_back_gives_the_turn_back(room: Room, tmp_path: Path) -> None:
    events = [*turns(count=2), thumb("s1", 1, value=False), verdict()]
    put(room, *events)
    room.build()
    put(room, back := thumb("s1", 1, value=None, at_s=NEXT_DAY))
    second = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert [told(row)[2:] for row in rows(room, second)] == [(1, 2), (2, 2)]
    assert same_as_at_once(room, tmp_path, second, *events, back)


def test_a_thumb_that_comes_later_takes_the_turn_out(room: Room, tmp_path: Path) -> None:
    events = [*turns(count=2), verdict()]
    put(room, *events)
    room.build()
    put(room, late := thumb("s1", 1, value=False, at_s=NEXT_DAY))
    second = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert sorted(told(row)[2:] for row in rows(room, second) if row["conversation_turn"]) == [(2, 2)]
    assert same_as_at_once(room, tmp_path, second, *events, late)


def test_an_answer_that_comes_late_is_a_turn_all_the_same(room: Room, tmp_path: Path) -> None:
    first, late, last = turns(count=3)
    put(room, first, last, verdict())
    assert [told(row)[2:] for row in rows(room, room.build())] == [(1, 2), (2, 2)]
    put(room, late)
    second = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert [told(row)[2:] for row in rows(room, second)] == [(1, 3), (2, 3), (3, 3)]
    assert same_as_at_once(room, tmp_path, second, first, last, verdict(), late)


def test_an_answer_that_turns_out_to_be_of_another_conversation_leaves_this_one(room: Room, tmp_path: Path) -> None:
    first, second = turns(count=2)
    events = [first, second, verdict()]
    put(room, *events)
    room.build()
    earlier = {**first.header, "session_id": "elsewhere", "occurred_at": moment()}
    put(room, moved := Event(first.body, "sent before", earlier))
    last = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert [told(row)[2:] for row in rows(room, last)] == [(1, 1)]
    assert same_as_at_once(room, tmp_path, last, *events, moved)


def test_a_turn_that_becomes_a_repetition_leaves_its_verdicts_other_turns(room: Room, tmp_path: Path) -> None:
    alike = turns("s1", 1)[0].body.model_copy(update={"response_id": "alike"})
    start, next_turn = turns("s2", 2)
    again = [Event(alike, "alike", start.header), next_turn, verdict("s2", at_s=NEXT_DAY)]
    put(room, *again)
    assert len(rows(room, room.build())) == 2
    put(room, *(before := [*turns("s1", 1), verdict("s1")]))
    last = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert [told(row) for row in rows(room, last)] == [("s1 is told 1.", True, 1, 1), ("s2 is told 2.", True, 2, 2)]
    assert same_as_at_once(room, tmp_path, last, *again, *before)


def test_an_answer_after_the_vote_changes_no_row(room: Room) -> None:
    put(room, *turns(count=3), verdict(at_s=150))
    first = room.build()
    assert [told(row)[2:] for row in rows(room, first)] == [(1, 2), (2, 2)]


def test_a_verdict_that_is_taken_back_leaves_no_row(room: Room) -> None:
    put(room, *turns(count=2), verdict(), *a_days_events(2))
    room.build()
    put(room, verdict(value=None, at_s=HOUR + 1))
    second = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert all(row["conversation_turn"] is None for row in rows(room, second))
    assert second.filtered["retracted"] == 1


def test_a_person_who_is_erased_takes_the_turns_out_of_others_verdicts(room: Room, tmp_path: Path) -> None:
    hers, theirs = turns(count=1, rater="rater-mia"), turns(count=3, rater="rater-2")[1:]
    events = [*hers, *theirs, verdict(rater="rater-2"), verdict(rater="rater-3")]
    put(room, *events)
    first = room.build()
    erase(room)
    second = room.build(as_of=AS_OF + timedelta(seconds=1))
    fresh = make_room(tmp_path / "fresh")
    put(fresh, *events)
    erase(fresh)
    assert not any("s1 is told 1." in str(row) for row in rows(room, first))
    assert {told(row)[2:] for row in rows(room, second)} == {(1, 2), (2, 2)}
    assert second.sha256 == fresh.build(as_of=second.as_of).sha256
    fresh.close()


def erase(room: Room) -> None:
    room.erase("rater-mia")
    room.consume()
    assert room.eraser().turn() == 1


def test_an_erased_persons_own_rating_gives_no_turn_back_to_their_verdict(room: Room) -> None:
    mine = [thumb("s1", 1, rater="rater-mia"), verdict(rater="rater-mia")]
    put(room, *turns(rater="rater-2"), *mine, verdict(rater="rater-3"))
    room.build()
    erase(room)
    second = room.build(as_of=AS_OF + timedelta(seconds=1))
    assert {row["rater"] for row in rows(room, second)} == {"rater-3"}


def test_the_files_of_older_datasets_with_an_erased_persons_turns_are_deleted(room: Room) -> None:
    put(room, *turns(rater="rater-mia"), verdict(rater="rater-2", at_s=DAY / 2))
    manifest = room.build()
    assert len(rows(room, manifest)) == 3
    erase(room)
    assert rows(room, manifest) == []


def test_a_turn_whose_owner_did_not_agree_makes_no_row_and_its_part_goes_to_nobody(room: Room) -> None:
    first, second = turns(count=2, rater="rater-2")
    no = Event(first.body, first.name, {**first.header, "consent": Consent(train=False)})
    put(room, no, second, verdict())
    manifest = room.build()
    assert [told(row)[2:] for row in rows(room, manifest)] == [(2, 2)]
    assert manifest.filtered == {"no_consent": 1}


def test_the_same_turn_under_the_same_verdict_again_adds_nothing(room: Room) -> None:
    once, again = (
        Event(turns("s1", 1)[0].body.model_copy(update={"response_id": name}), name, {**header, "session_id": name})
        for name, header in (("s1", turns()[0].header), ("s2", turns(start_s=600)[0].header))
    )
    put(room, once, again, verdict("s1"), verdict("s2", at_s=2 * HOUR))
    manifest = room.build()
    assert len(rows(room, manifest)) == 1
    assert manifest.filtered == {"duplicate": 1}


def test_a_thumb_elsewhere_is_not_contradicted_by_what_was_said_of_a_whole(room: Room) -> None:
    same = Event(
        turns("s1", 1)[0].body.model_copy(update={"response_id": "alone"}), "alone", {"occurred_at": moment(9)}
    )
    alone = Event(make_feedback("alone", value=False), "alone thumb", {"occurred_at": moment(99)})
    put(room, *turns("s1", 1), same, alone, verdict())
    manifest = room.build()
    assert sorted(told(row)[1] for row in rows(room, manifest)) == [False, True]
    assert "preference" not in manifest.counts


def test_a_verdict_weighs_as_one_vote_however_many_turns_it_has(room: Room) -> None:
    put(room, *turns(count=4), verdict(), *turns("s2", 1, rater="rater-2"), thumb("s2", 1, rater="rater-2"))
    manifest = room.build()
    assert manifest.counts["unpaired"] == {"train": 5}
    opened = list(facts_of(room))
    assert sum(mass for unit, mass in opened if unit == "rater-1") == pytest.approx(1.0)
    assert [mass for unit, mass in opened if unit == "rater-2"] == [1.0]


def facts_of(room: Room) -> list[tuple[str, float]]:
    [directory] = room.home.glob("artifacts/datasets/*/*/index/votes")
    tables = [pq.read_table(file, columns=["unit", "mass"]) for file in directory.glob("*.parquet")]
    return [(row["unit"], row["mass"]) for table in tables for row in table.to_pylist()]


def test_held_out_prompts_are_left_out_turn_by_turn(room: Room) -> None:
    put(room, *[event for at in range(20) for event in (*turns(f"s{at}", 3), verdict(f"s{at}"))])
    manifest = room.build(report_share=0.3)
    assert 0 < manifest.filtered["held_out_prompt"] < 60
    assert len(rows(room, manifest)) == 60 - manifest.filtered["held_out_prompt"]
    assert len({told(row)[0].split()[0] for row in rows(room, manifest)}) > 15


def test_postgresql_tells_the_same_of_conversations_as_sqlite(room: Room, tmp_path: Path, postgres: Postgres) -> None:
    """And of events that come again from an earlier moment."""
    events = [*a_messy_days_events(), *a_weeks_conversations(7), *turns("hers", rater="rater-mia"), verdict("hers")]
    random.Random(7).shuffle(events)
    served = replace(room, database=open_database(emptied_database(postgres)))
    for at, some in enumerate((events[:60], events[60:])):
        put(served, *some)
        last = served.build(as_of=AS_OF + timedelta(minutes=at), **SHARED)
    assert last.counts["unpaired"]["train"] > 10
    assert same_as_at_once(room, tmp_path, last, *events, **SHARED)
    assert any("hers" in told(row)[0] for row in rows(served, last))
    erase(served)
    assert not any("hers" in told(row)[0] for row in rows(served, last))
    assert not any("hers" in told(row)[0] for row in rows(served, served.build(as_of=AS_OF + timedelta(minutes=3))))
    served.database.close()


def a_weeks_conversations(seed: int) -> list[Event]:
    """People talk, rate answers and whole conversations, take some of it back and say it again."""
    rng, events = random.Random(seed), list[Event]()
    for at in range(12):
        session, day = f"s{at}", DAY * (at % 3 - 3)
        count, rater = rng.randint(1, 4), rng.choice([None, "rater-1", "rater-2", "rater-3"])
        events += turns(session, count, rater=rng.choice([rater, "rater-4"]), start_s=day)
        for said in range(rng.randint(1, 3)):
            when = day + rng.choice([150, 300, DAY]) + said
            events.append(verdict(session, rng.choice([True, True, False, None]), rater=rater, at_s=when))
        for said in range(rng.randint(0, 3)):
            whose, value = rng.choice([rater, "rater-1"]), rng.choice([True, False, None])
            when = day + rng.choice([200, DAY]) + said
            events.append(thumb(session, rng.randint(1, count), value, rater=whose, at_s=when))
        if rng.random() < 0.3:  # one answer once more, under its own response id, from earlier or in another session
            event = rng.choice(turns(session, count, rater=rater, start_s=day - rng.choice([30, DAY])))
            header = {**event.header, "session_id": rng.choice([session, "s0"])}
            events.append(Event(event.body, f"{event.name} again", header))
    return events


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), pieces=st.integers(2, 5))
def test_in_whatever_pieces_conversations_come_the_last_dataset_is_that_of_all_of_them(
    seed: int, pieces: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home, rng, events = tmp_path_factory.mktemp("room"), random.Random(seed), a_weeks_conversations(seed)
    rng.shuffle(events)
    room = make_room(home)
    ends = sorted(rng.sample(range(5, len(events)), pieces - 1))
    for at, (start, end) in enumerate(zip([0, *ends], [*ends, len(events)], strict=True)):
        put(room, *events[start:end])
        last = None
        with suppress(NoRows):
            last = room.build(as_of=AS_OF + timedelta(minutes=at), **SHARED)
    assert last is None or same_as_at_once(room, home, last, *events, **SHARED)
    room.close()
