"""The same events and settings are the same dataset, and a dataset holds what it says."""

import json
import random
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feedback.datasets.snapshot import Order
from feedback.errors import NoRows
from infra.contracts.events import FEEDBACK_TOPIC, Consent
from infra.registry import adapters, fleet
from tests.support.events import TENANT, make_choice, make_comparison, make_feedback, make_inference, moment
from tests.support.feedback import (
    ALIAS,
    AS_OF,
    Event,
    Room,
    a_days_events,
    a_messy_days_events,
    make_room,
)

SHARED = {"test_share": 0.3, "gate_share": 0.2, "report_share": 0.1}


def test_the_order_on_the_log_and_the_batches_do_not_matter(tmp_path: Path) -> None:
    events = a_days_events()
    hashes = set()
    for seed, batch in ((0, 500), (1, 7), (2, 1)):
        room = make_room(tmp_path / str(seed))
        room.append(random.Random(seed).sample(events, len(events)))
        room.consume(batch_size=batch)
        hashes.add(room.build(**SHARED).sha256)
        room.close()
    assert len(hashes) == 1


def test_neither_do_they_where_minds_change_votes_are_taken_back_and_clients_send_twice(tmp_path: Path) -> None:
    found = set()
    for order, batch_size in enumerate((1000, 7, 60)):
        events = a_messy_days_events()
        random.Random(order).shuffle(events)
        room = make_room(tmp_path / str(order))
        room.append(events)
        room.consume(batch_size=batch_size)
        manifest = room.build()
        with room.database.reading() as session:
            counts = fleet.counts(session, TENANT, ALIAS)
        found.add((manifest.sha256, tuple(manifest.filtered.items()), counts))
        room.close()
    assert len(found) == 1


def test_a_setting_that_shapes_rows_makes_another_dataset(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    assert room.build(rater_cap=2).sha256 != room.build(rater_cap=100).sha256


def test_the_manifest_counts_rows_and_what_was_left_out(room: Room) -> None:
    hasty = make_comparison("h1", "h2", latency_ms=1.0)
    chats = [Event(make_inference(r, prompt="Why?", texts=[r * 40]), r) for r in ("h1", "h2")]
    room.append([*a_days_events(), *chats, Event(hasty, "hasty")])
    room.consume()
    manifest = room.build()
    assert manifest.filtered["too_fast"] == 1
    files = {file.path: file for file in manifest.files}
    for table, splits in manifest.counts.items():
        for split, rows in splits.items():
            assert rows == sum(f.rows or 0 for path, f in files.items() if path.startswith(f"{table}/{split}/"))


def test_the_manifest_says_as_of_when_and_up_to_which_event(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    manifest = room.build()
    assert manifest.as_of == AS_OF
    assert manifest.window_start == (AS_OF - timedelta(days=90)).replace(hour=0)  # whole days
    assert sum(manifest.event_cut[FEEDBACK_TOPIC].values()) == len(
        [event for event in a_days_events() if not event.name.startswith("inference")]
    )


def test_a_published_dataset_is_complete_registered_and_leaves_no_scratch(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    manifest = room.build()
    directory = room.artifacts.fetch(f"datasets/{TENANT}/{manifest.dataset_id}", room.home / "fetched")
    assert json.loads((directory / "manifest.json").read_text())["sha256"] == manifest.sha256
    assert {file.path for file in manifest.files} < {str(p.relative_to(directory)) for p in directory.rglob("*.*")}
    with room.database.reading() as session:
        assert adapters.get_dataset(session, TENANT, manifest.dataset_id).sha256 == manifest.sha256
    assert list((room.home / "snapshots").iterdir()) == []


def test_the_next_dataset_names_the_one_before(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    first = room.build()
    assert room.build(as_of=AS_OF + timedelta(hours=1)).parent == first.dataset_id


def test_events_behind_the_cut_are_not_part_of_it(room: Room) -> None:
    room.append(a_days_events(10))
    room.consume()
    cut = room.eventlog.end_offsets(("thumbwheel.inference.v1", FEEDBACK_TOPIC))
    before = room.build()
    room.append(a_days_events(20, seed=1)[30:])
    room.consume()
    assert room.snapshots().build(Order(TENANT, ALIAS, AS_OF, cut)).sha256 == before.sha256
    assert room.build().sha256 != before.sha256


def test_a_vote_changed_behind_the_cut_counts_as_it_was(room: Room) -> None:
    room.append(a_days_events(4))
    room.consume()
    before = room.build()
    cut = room.eventlog.end_offsets(("thumbwheel.inference.v1", FEEDBACK_TOPIC))
    room.append([Event(make_comparison("r0a", "r0b", None), "retraction", {"rater": "rater-0", "occurred_at": AS_OF})])
    room.consume()
    assert room.snapshots().build(Order(TENANT, ALIAS, AS_OF, cut)).sha256 == before.sha256


def test_events_older_than_the_window_are_left_out(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    with pytest.raises(NoRows, match="no votes on assistant in the last 0.001 days"):
        room.build(window_days=0.001)


def test_a_fresh_vote_on_an_old_answer_counts(room: Room) -> None:
    chats = [Event(make_inference(r, texts=[r]), r, {"occurred_at": moment(-86400)}) for r in ("r1", "r2")]
    room.append([*chats, Event(make_comparison("r1", "r2"), "vote", {"occurred_at": moment()})])
    room.consume()
    manifest = room.build(as_of=moment(60), window_days=0.5)
    assert manifest.counts["preference"] == {"train": 1}


def test_no_row_has_the_words_of_who_did_not_consent(room: Room) -> None:
    secret = {"rater": "rater-secret", "consent": Consent(train=False, explicit=True)}
    chats = [Event(make_inference(r, prompt="My secret?", texts=[f"secret {r}"]), r, secret) for r in ("s1", "s2")]
    room.append([*a_days_events(), *chats, Event(make_comparison("s1", "s2"), "vote")])
    room.consume()
    manifest = room.build()
    directory = room.artifacts.local_path(f"datasets/{TENANT}/{manifest.dataset_id}")
    for file in manifest.files:
        assert "secret" not in str(pq.read_table(directory / file.path).to_pylist())
    assert manifest.filtered["no_consent"] == 1


def test_a_request_that_keeps_no_content_makes_no_row_and_no_prompt(room: Room) -> None:
    bare = make_inference("r1", stored=False, choices=[make_choice(message=None)], request={})
    room.append([Event(bare, "bare"), Event(make_feedback("r1"), "vote")])
    room.consume()
    with pytest.raises(NoRows, match=r"1 not_stored \(their requests said store: false\)"):
        room.build()


def test_a_dataset_without_rows_says_why_and_what_to_set(room: Room) -> None:
    silent = {"consent": Consent(train=False)}
    room.append([Event(event.body, event.name, {**event.header, **silent}) for event in a_days_events(4)])
    room.consume()
    with pytest.raises(NoRows, match="none of 6 votes on assistant made a row.*6 no_consent .*gateway.consent_default"):
        room.build()


def test_an_erased_persons_events_are_counted_and_skipped(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    theirs = [event for event in a_days_events() if event.header["rater"] == "rater-1"]
    room.sealer._keyring.destroy(TENANT, "rater-1")
    manifest = room.build()
    assert manifest.filtered["erased"] == len([event for event in theirs if not event.name.startswith("inference")])


def test_one_tenants_dataset_holds_nothing_of_another(room: Room) -> None:
    room.append(a_days_events())
    room.append([Event(e.body, f"acme {e.name}", {**e.header, "tenant": "acme"}) for e in a_days_events(3, seed=5)])
    room.consume()
    order = Order("acme", ALIAS, AS_OF, room.eventlog.end_offsets(("thumbwheel.inference.v1", FEEDBACK_TOPIC)))
    manifest = room.snapshots().build(order)
    assert manifest.tenant == "acme"
    assert manifest.counts["prompts"] == {"train": 3}
