"""Votes and answers find each other whichever comes first, and the pair count follows."""

import random
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from feedback.intake import matching, repository
from feedback.tables import VoteRow, VoteStatus
from infra.clock import now
from infra.contracts.events import Consent, Feedback, Inference
from infra.registry import fleet
from tests.support.events import TENANT, make_comparison, make_feedback, make_inference, make_ranking, moment
from tests.support.feedback import ALIAS, Event, Room, a_days_events

R1, R2 = (Event(make_inference(name), f"inference {name}") for name in ("r1", "r2"))
CHOICE = Event(make_comparison("r1", "r2"), "choice")


def happen(room: Room, *events: Event) -> None:
    room.append(events)
    room.consume()


def statuses(room: Room) -> list[str]:
    with room.database.reading() as session:
        return sorted(session.scalars(select(VoteRow.status)))


def pairs(room: Room, tenant: str = TENANT) -> int:
    with room.database.reading() as session:
        return fleet.counts(session, tenant, ALIAS).pairs


def thumbs(room: Room) -> int:
    with room.database.reading() as session:
        return fleet.counts(session, TENANT, ALIAS).thumbs


def orphan(room: Room, older_than_s: float = -1.0) -> int:
    with room.database.transaction() as session:
        return repository.orphan(session, older_than_s)


def test_a_vote_before_its_answers_waits_until_all_are_there(room: Room) -> None:
    happen(room, CHOICE)
    assert statuses(room) == ["pending"]
    happen(room, R1)
    assert statuses(room) == ["pending"]
    happen(room, R2)
    assert statuses(room) == ["joined"]
    assert pairs(room) == 1


def test_a_vote_after_its_answers_is_joined_at_once(room: Room) -> None:
    happen(room, R1, R2)
    happen(room, CHOICE)
    assert statuses(room) == ["joined"]


def test_a_vote_that_waited_too_long_is_orphaned_and_still_joins(room: Room) -> None:
    happen(room, CHOICE)
    assert orphan(room, older_than_s=3600) == 0
    assert orphan(room) == 1
    assert statuses(room) == ["orphaned"]
    happen(room, R1, R2)
    assert statuses(room) == ["joined"]
    assert pairs(room) == 1


def test_a_joined_vote_never_waits_again(room: Room) -> None:
    happen(room, R1, R2, CHOICE)
    assert orphan(room) == 0
    happen(room, Event(make_comparison("r1", "r2", "b"), "changed", {"occurred_at": moment(60)}))
    assert statuses(room) == ["joined"]


def test_a_vote_and_its_answer_that_were_stored_past_each_other_are_joined_later(room: Room) -> None:
    happen(room, R1, R2, CHOICE)
    with room.database.transaction() as session:  # as if two processes had stored them at one time
        session.execute(update(VoteRow).values(status=VoteStatus.PENDING, alias=None, counted=0))
        fleet.set_counts(session, TENANT, ALIAS)
    with room.database.transaction() as session:
        matching.match_waiting(session, now() - timedelta(seconds=60))
    assert statuses(room) == ["joined"]
    assert pairs(room) == 1


def test_a_vote_on_a_conversation_joins_when_the_conversation_is_known(room: Room) -> None:
    happen(room, Event(make_feedback(None, session_id="s1"), "v", {"session_id": "s1"}))
    assert statuses(room) == ["pending"]
    happen(room, Event(make_inference("r1"), "i", {"session_id": "s1"}))
    assert statuses(room) == ["joined"]


def test_a_vote_does_not_join_another_tenants_answer(room: Room) -> None:
    happen(room, Event(make_inference("r1"), "i", {"tenant": "acme"}), Event(make_feedback("r1"), "v"))
    assert statuses(room) == ["pending"]


def test_changing_ones_mind_changes_the_count_and_not_more(room: Room) -> None:
    happen(room, R1, R2, CHOICE)
    for at, (choice, expected) in enumerate([("b", 1), ("tie", 0), ("a", 1), (None, 0)], start=1):
        happen(room, Event(make_comparison("r1", "r2", choice), f"again {at}", {"occurred_at": moment(at)}))
        assert pairs(room) == expected


def test_an_older_vote_that_comes_late_changes_nothing(room: Room) -> None:
    happen(room, R1, R2, CHOICE)
    happen(room, Event(make_comparison("r1", "r2", "tie"), "late", {"occurred_at": moment(-60)}))
    assert pairs(room) == 1


def test_a_ranking_counts_its_strict_choices(room: Room) -> None:
    ranking = Event(make_ranking(["r1"], ["r2", "r3"]), "ranking")
    happen(room, R1, R2, Event(make_inference("r3"), "i3"), ranking)
    assert pairs(room) == 2


@pytest.mark.parametrize(
    "answer",
    [
        make_inference("r1", stored=False),
        make_inference("r1", status="failed"),
        make_inference("r1", status="cancelled"),
    ],
)
def test_pairs_that_can_make_no_row_are_not_counted(room: Room, answer: Inference) -> None:
    happen(room, Event(answer, "i1"), R2, CHOICE)
    assert statuses(room) == ["joined"]
    assert pairs(room) == 0


def test_pairs_without_consent_are_not_counted(room: Room) -> None:
    silent = {"rater": "rater-2", "consent": Consent(train=False)}
    happen(room, R1, R2, Event(CHOICE.body, "choice", silent))
    assert pairs(room) == 0


def test_thumbs_are_no_pairs_by_themselves(room: Room) -> None:
    happen(room, R1, Event(make_feedback("r1"), "thumb"))
    assert statuses(room) == ["joined"]
    assert pairs(room) == 0


def test_the_count_is_the_same_in_whatever_order_and_batches_events_come(room: Room) -> None:
    events = a_days_events(15)
    happen(room, *random.Random(4).sample(events, len(events)))
    wanted = sum(_strict(event.body) for event in events)
    assert pairs(room) == wanted
    happen(room, *events)
    assert pairs(room) == wanted


def test_the_oldest_waiting_vote_is_known(room: Room) -> None:
    happen(room, R1)
    with room.database.reading() as session:
        assert repository.oldest_pending_s(session) == 0
    happen(room, CHOICE)
    with room.database.reading() as session:
        assert 0 < repository.oldest_pending_s(session) < 60
        assert repository.pending_since(session, TENANT, now() - timedelta(seconds=60)) == 1
        assert repository.pending_since(session, "acme", now() - timedelta(seconds=60)) == 0


def _strict(body: Inference | Feedback) -> int:
    if isinstance(body, Inference):
        return 0
    return int(body.kind == "correction" or body.value in ("a", "b"))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (make_feedback("r1", value=True), 1),
        (make_feedback("r1", value=False), 1),
        (make_feedback("r1", value=None), 0),
        (make_feedback("r1", kind="rating", name="rating", value=3), 0),
        (make_feedback("r1", kind="rating", name="rating", value=5), 1),
        (make_feedback("r1", kind="comment", name="comment", value="Well."), 0),
        (make_comparison("r1", "r2", "a"), 0),
        (make_comparison("r1", "r2", "both_bad"), 2),
        (make_feedback(None, session_id="s1"), 1),
    ],
)
def test_what_calls_answers_good_or_bad_counts_as_thumbs(room: Room, body: Feedback, expected: int) -> None:
    happen(room, Event(R1.body, R1.name, {"session_id": "s1"}), R2, Event(body, "vote", {"session_id": "s1"}))
    assert statuses(room) == ["joined"]
    assert thumbs(room) == expected


def test_thumbs_are_counted_once_however_often_a_mind_changes(room: Room) -> None:
    happen(room, R1, Event(make_feedback("r1"), "thumb"))
    for at, (value, expected) in enumerate([(False, 1), (None, 0), (True, 1)], start=1):
        happen(room, Event(make_feedback("r1", value=value), f"again {at}", {"occurred_at": moment(at)}))
        assert thumbs(room) == expected


def test_thumbs_without_consent_and_thumbs_of_models_are_not_counted(room: Room) -> None:
    silent = {"rater": "rater-2", "consent": Consent(train=False)}
    happen(room, R1, Event(make_feedback("r1"), "silent", silent), Event(make_feedback("r1"), "ai", {"source": "ai"}))
    assert thumbs(room) == 0
