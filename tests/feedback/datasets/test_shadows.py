"""Answers that nobody was shown are in no dataset, whatever they have in common with those that were."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from infra.contracts.events import Inference
from infra.contracts.manifests import DatasetManifest
from tests.support.conversations import turns, verdict
from tests.support.events import make_choice, make_feedback, make_inference
from tests.support.feedback import Event, a_days_events, make_room

SHARED = {"test_share": 0.3, "gate_share": 0.2, "report_share": 0.1}


def shadow_of(event: Event) -> Event:
    """What another version said to the same, a moment later."""
    assert isinstance(event.body, Inference)
    body, later = event.body, event.header["occurred_at"] + timedelta(seconds=1)
    said = make_choice(f"Unseen {body.response_id}.", version="v2", arm="shadow", arm_propensity=0.1)
    unseen = {"response_id": f"{body.response_id}-shadow", "shadow_of": body.response_id, "choices": [said]}
    copy = body.model_copy(update={**unseen, "rateable": False})
    return Event(copy, f"shadow of {event.name}", {**event.header, "occurred_at": later})


def with_shadows(events: Iterable[Event]) -> list[Event]:
    return [one for event in events for one in (event, shadow_of(event))]


def built(home: Path, events: Iterable[Event]) -> DatasetManifest:
    room = make_room(home)
    room.append(events)
    room.consume()
    manifest = room.build(**SHARED)
    room.close()
    return manifest


def test_a_dataset_is_the_same_with_and_without_shadow_answers(tmp_path: Path) -> None:
    events = a_days_events()
    chats = [event for event in events if isinstance(event.body, Inference)]
    prompt_of_its_own = Event(make_inference("alone", prompt="Never shown?"), "alone", chats[-1].header)
    shadows = [shadow_of(chat) for chat in [*chats, prompt_of_its_own]]
    plain, beside = built(tmp_path / "plain", events), built(tmp_path / "beside", [*events, *shadows])
    assert (plain.sha256, plain.filtered) == (beside.sha256, beside.filtered)


def test_a_shadow_is_no_turn_of_a_conversation_and_makes_it_no_longer(tmp_path: Path) -> None:
    said = turns(count=60)  # with as many shadows it would have more turns than a conversation may have
    plain = built(tmp_path / "plain", [*said, verdict(at_s=7200)])
    beside = built(tmp_path / "beside", [*with_shadows(said), verdict(at_s=7200)])
    assert (plain.sha256, plain.filtered) == (beside.sha256, beside.filtered)


def test_a_vote_on_a_shadow_is_counted_and_makes_no_row(tmp_path: Path) -> None:
    events = a_days_events()
    unseen = shadow_of(events[0])
    assert isinstance(unseen.body, Inference)
    vote = Event(make_feedback(unseen.body.response_id, value=True), "vote", unseen.header)
    plain, voted = built(tmp_path / "plain", events), built(tmp_path / "voted", [*events, unseen, vote])
    assert (voted.sha256, voted.filtered) == (plain.sha256, {**plain.filtered, "shadow": 1})
