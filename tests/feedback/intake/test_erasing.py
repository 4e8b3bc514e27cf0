"""An erasure reaches the database: rows are blank, nothing counts any more, and nothing comes back."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from feedback.cells import PROMPTS, VOTES, Cell, bucket_of
from feedback.intake import erasing, stale
from feedback.tables import InferenceRow, VoteEventRow, VoteRow, VoteTargetRow
from infra.clock import now
from infra.contracts.events import Consent
from infra.database.tables import ErasureRow
from infra.envelopes import Sealer
from infra.keystore.sqlite import SqliteKeyStore
from infra.registry import audit, erasures, fleet
from infra.registry.fleet import Counts
from infra.sealing import KeyDestroyed, Keyring
from tests.support.events import TENANT, make_comparison, make_envelope, make_erasure, make_feedback, make_inference
from tests.support.feedback import ALIAS, Event, Room
from tests.support.people import MIA, mias_day, others_day, yesterday


def happen(room: Room, events: Sequence[Event]) -> None:
    room.append(events)
    room.consume()


def erased(room: Room, **when: datetime) -> ErasureRow:
    erasure_id = room.erase(MIA, **when)
    room.consume()
    with room.database.reading() as session:
        return erasures.get(session, TENANT, erasure_id)


def rows(room: Room, table: type[InferenceRow] | type[VoteEventRow], rater: str | None = MIA) -> int:
    with room.database.reading() as session:
        return session.scalar(select(func.count()).select_from(table).where(table.rater == rater)) or 0


def counts(room: Room) -> Counts:
    with room.database.reading() as session:
        return fleet.counts(session, TENANT, ALIAS)


def test_what_a_person_wrote_is_blank_and_its_places_stay(room: Room) -> None:
    happen(room, [*mias_day(), *others_day()])
    row = erased(room)
    assert row.state == "accepted"
    assert row.report["blanked"] == {"inferences": 4, "vote_events": 4, "vote_targets": 6, "votes": 4}
    with room.database.reading() as session:
        blank = session.scalars(select(InferenceRow).where(InferenceRow.erased_at.is_not(None))).all()
    assert {one.response_id for one in blank} == {"mia0a", "mia0b", "mia1a", "mia1b"}
    for one in blank:
        assert (one.sealed, one.rater, one.session_id, one.segment, one.stored) == (b"", None, None, None, False)
        assert (one.consent_train, one.consent_explicit, one.erasure_id) == (False, True, row.erasure_id)
    assert rows(room, InferenceRow) == rows(room, VoteEventRow) == 0


def test_her_votes_are_gone_and_those_on_her_answers_no_longer_count(room: Room) -> None:
    happen(room, others_day())
    without = counts(room).pairs
    happen(room, mias_day())
    assert counts(room).pairs == without + 4 + 2
    erased(room)
    assert counts(room).pairs == without
    with room.database.reading() as session:
        left = session.scalars(select(VoteRow).where(VoteRow.rater.in_([MIA, "rater-ann"]))).all()
        targets = session.scalars(select(VoteTargetRow.target).where(VoteTargetRow.target.startswith("mia"))).all()
    assert [(vote.rater, vote.counted) for vote in left] == [("rater-ann", 0)] * 2
    assert len(targets) == 4


def test_her_thumbs_leave_the_count_with_her(room: Room) -> None:
    happen(room, [Event(make_inference("ann"), "ann", {"rater": "rater-ann"})])
    happen(room, [Event(make_feedback("ann"), f"thumb of {rater}", {"rater": rater}) for rater in (MIA, "rater-bob")])
    assert counts(room).thumbs == 2
    erased(room)
    assert counts(room).thumbs == 1


def test_the_cells_of_her_events_and_of_votes_on_her_answers_are_to_be_looked_at_again(room: Room) -> None:
    happen(room, [*mias_day(), *others_day()])
    erased(room)
    day = yesterday()
    with room.database.reading() as session:
        votes, prompts = (stale.since(session, TENANT, kind, day) for kind in (VOTES, PROMPTS))
    buckets = {bucket_of(MIA), bucket_of("rater-ann")}
    assert {cell.bucket for cell in votes} == buckets
    assert {cell.bucket for cell in prompts} == {bucket_of(MIA)}
    assert Cell.of(day, bucket_of(MIA)) in prompts | {Cell.of(yesterday(60), bucket_of(MIA))}


def test_the_erasure_is_audited_with_who_asked(room: Room) -> None:
    row = erased(room)
    with room.database.reading() as session:
        entry = audit.list_entries(session, TENANT, subject=row.erasure_id)[0]
    assert (entry.actor, entry.action, entry.after["rater"]) == ("test", "rater.erase", MIA)


def test_the_same_erasure_again_changes_nothing(room: Room) -> None:
    happen(room, [*mias_day(), *others_day()])
    first = erased(room)
    assert erased(room).report == first.report
    with room.database.reading() as session:
        assert erasures.count(session, TENANT) == 1


def test_a_late_event_of_an_erased_person_is_not_stored_whatever_key_it_has(room: Room) -> None:
    erased(room)
    happen(room, mias_day())
    assert rows(room, InferenceRow) == rows(room, VoteEventRow) == 0
    assert room.metrics.events.labels("erased")._value.get() == 8
    with room.database.reading() as session:
        assert session.scalars(select(VoteTargetRow.vote_id)).all() != []
        raters = set(session.scalars(select(VoteRow.rater)))
    assert raters == {"rater-ann"}


def test_the_erasure_and_events_before_and_after_it_in_one_batch_end_the_same(room: Room) -> None:
    later = {"rater": MIA, "occurred_at": now() + timedelta(seconds=5)}
    after = [Event(make_inference("new", prompt="Hello again?"), "new", later)]
    events = [*mias_day(), *others_day(), *after]
    random.Random(3).shuffle(events)
    room.append(events[:9])
    room.erase(MIA)
    room.append(events[9:])
    room.consume()
    assert rows(room, InferenceRow) == 1
    assert rows(room, VoteEventRow) == 0


def test_what_a_person_does_after_their_erasure_is_stored_under_a_new_key(room: Room) -> None:
    happen(room, mias_day())
    with room.database.reading() as session:
        old = set(session.scalars(select(InferenceRow.key_id).where(InferenceRow.rater == MIA)))
    erased(room)
    happen(room, [Event(make_inference("new"), "new", {"rater": MIA, "occurred_at": now()})])
    with room.database.reading() as session:
        (row,) = session.scalars(select(InferenceRow).where(InferenceRow.rater == MIA)).all()
    assert row.key_id not in old
    assert row.sealed


def test_an_erasure_that_is_handled_late_leaves_later_keys_alone(room: Room) -> None:
    happen(room, mias_day())
    up_to = now()
    room.sealer.forget(TENANT, MIA, up_to)
    happen(room, [Event(make_inference("new"), "new", {"rater": MIA, "occurred_at": now()})])
    erased(room, up_to=up_to)
    with room.database.reading() as session:
        (row,) = session.scalars(select(InferenceRow).where(InferenceRow.rater == MIA)).all()
    assert row.response_id == "new"
    assert row.sealed


def test_the_key_is_destroyed_even_where_the_gateway_could_not(room: Room) -> None:
    happen(room, mias_day())
    body = make_erasure("erasure", MIA)
    room.append([Event(body, "erasure", {"rater": None, "event_id": body.erasure_id, "occurred_at": now()})])
    envelope = make_envelope(room.sealer, make_inference("x"), "x", rater=MIA)
    room.consume()
    with pytest.raises(KeyDestroyed):
        room.sealer.open(envelope, type(make_inference("x")))


def test_a_large_body_leaves_the_artifact_store(room: Room) -> None:
    room.sealer = Sealer(Keyring(SqliteKeyStore(room.home / "keyring.db")), room.artifacts, inline_limit=2000)
    happen(
        room, [Event(make_inference("big", prompt="Large " * 1000), "big", {"rater": MIA, "occurred_at": yesterday()})]
    )
    assert len(room.artifacts.names(f"bodies/{TENANT}")) == 1
    erased(room)
    assert room.artifacts.names(f"bodies/{TENANT}") == []
    happen(
        room, [Event(make_inference("late", prompt="Late " * 1000), "late", {"rater": MIA, "occurred_at": yesterday()})]
    )
    assert room.artifacts.names(f"bodies/{TENANT}") == []


def test_another_tenants_person_of_the_same_hash_is_another_person(room: Room) -> None:
    theirs = {"tenant": "acme", "rater": MIA, "occurred_at": yesterday()}
    happen(room, [*mias_day(), Event(make_inference("acme1"), "acme", theirs)])
    erased(room)
    assert rows(room, InferenceRow) == 1


def test_the_next_dataset_counts_what_was_erased(room: Room) -> None:
    happen(room, [*mias_day(), *others_day()])
    erased(room)
    manifest = room.build(as_of=now())
    assert manifest.filtered["erased"] == 4 + 2
    assert manifest.counts["prompts"] == {"train": 6}


def test_events_that_two_consumers_stored_past_each_other_are_blanked_later(room: Room) -> None:
    erased(room)
    with room.database.transaction() as session:  # as if the tombstone had not been there yet
        session.execute(ErasureRow.__table__.update().values(up_to=yesterday(-86400)))
    happen(room, mias_day())
    with room.database.transaction() as session:
        session.execute(ErasureRow.__table__.update().values(up_to=now()))
    assert erasing.blank_again(room.database, room.artifacts, now() - timedelta(hours=1)) > 0
    assert rows(room, InferenceRow) == rows(room, VoteEventRow) == 0


def kept_until(moment: datetime) -> Consent:
    return Consent(train=True, retain_until=moment)


def test_what_may_no_longer_be_kept_is_blanked_and_the_rest_is_left(room: Room) -> None:
    brief = {"rater": "rater-brief", "occurred_at": yesterday(), "consent": kept_until(now() - timedelta(hours=1))}
    longer = {"rater": "rater-longer", "occurred_at": yesterday(), "consent": kept_until(now() + timedelta(hours=1))}
    chats = [Event(make_inference(r), f"chat {r}", brief) for r in ("b1", "b2")]
    happen(
        room, [*chats, Event(make_comparison("b1", "b2"), "choice", brief), Event(make_inference("l1"), "l1", longer)]
    )
    happen(room, others_day())
    before = counts(room).pairs
    assert erasing.purge(room.database, room.artifacts) == 2 + 1 + 1 + 2
    assert erasing.purge(room.database, room.artifacts) == 0
    assert counts(room).pairs == before - 1
    with room.database.reading() as session:
        blank = session.scalars(select(InferenceRow.response_id).where(InferenceRow.sealed == b"")).all()
    assert sorted(blank) == ["b1", "b2"]


def test_a_replay_of_what_was_purged_stores_nothing_again(room: Room) -> None:
    brief = {"rater": "rater-brief", "occurred_at": yesterday(), "consent": kept_until(now() - timedelta(hours=1))}
    events = [Event(make_inference("b1"), "b1", brief), Event(make_feedback("b1"), "thumb", brief)]
    happen(room, events)
    erasing.purge(room.database, room.artifacts)
    happen(room, events)
    with room.database.reading() as session:
        assert session.scalars(select(InferenceRow.sealed)).all() == [b""]
        assert session.scalars(select(VoteEventRow.sealed)).all() == [b""]


def test_whoever_was_purged_can_still_be_erased(room: Room) -> None:
    brief = {"rater": MIA, "occurred_at": yesterday(), "consent": kept_until(now() - timedelta(hours=1))}
    happen(room, [Event(make_inference("b1"), "b1", brief)])
    erasing.purge(room.database, room.artifacts)
    assert erased(room).report["blanked"] == {"inferences": 1}
    assert rows(room, InferenceRow) == 0
