"""The next dataset is made from what changed, and is the one that would have been made from everything."""

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feedback.datasets.snapshot import Order
from feedback.errors import NoRows
from infra.contracts.events import Consent
from infra.contracts.manifests import DatasetManifest
from tests.support.events import TENANT, make_comparison, make_feedback, make_inference, moment
from tests.support.feedback import ALIAS, AS_OF, Event, Room, a_days_events, a_messy_days_events, make_room

DAY = 86400.0
SHARED = {"test_share": 0.3, "gate_share": 0.2, "report_share": 0.1}


def days_later(events: Sequence[Event], days: float) -> list[Event]:
    """The same people with other votes on other days."""
    return [
        Event(e.body, e.name, {**e.header, "occurred_at": e.header["occurred_at"] + timedelta(days=days)})
        for e in events
    ]


def many_days(days: int = 4) -> list[Event]:
    found = list[Event]()
    for day in range(days):
        for at in range(6):
            header = {"rater": f"rater-{at % 4}", "occurred_at": moment(DAY * day + 60 * at)}
            a, b = f"d{day}r{at}a", f"d{day}r{at}b"
            for response in (a, b):
                chat = make_inference(response, prompt=f"Question {day} {at}?", texts=[f"Answer {response}."])
                found.append(Event(chat, f"inference {response}", header))
            found.append(Event(make_comparison(a, b, "ab"[at % 2]), f"comparison {day} {at}", header))
    return found


def put(room: Room, events: Sequence[Event]) -> None:
    room.append(events)
    room.consume()


def rebuilt(
    room: Room, tmp_path: Path, events: Sequence[Event], *, as_of: object = AS_OF, **shaping: object
) -> DatasetManifest:
    """The same events in a room without any dataset before."""
    fresh = make_room(tmp_path / "fresh")
    put(fresh, events)
    manifest = fresh.build(as_of=as_of, **shaping)  # type: ignore[arg-type]
    fresh.close()
    return manifest


def new_files(room: Room, manifest: DatasetManifest) -> set[str]:
    """Files of rows that the parent does not have under the same name and hash."""
    parent = room.artifacts.hashes(f"datasets/{TENANT}/{manifest.parent}")
    mine = room.artifacts.hashes(f"datasets/{TENANT}/{manifest.dataset_id}")
    rows = {name: sha for name, sha in mine.items() if name.split("/")[0] not in ("index", "weights", "manifest.json")}
    return {name for name, sha in rows.items() if parent.get(name) != sha}


@settings(max_examples=8, deadline=None)
@example(seed=1296, pieces=4)  # an event that comes again from an earlier day
@example(seed=2147, pieces=3)  # and one from earlier on the same day, with another value
@given(seed=st.integers(0, 10**6), pieces=st.integers(2, 4))
def test_in_whatever_pieces_the_events_come_the_last_dataset_is_that_of_all_of_them(
    seed: int, pieces: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home, rng = tmp_path_factory.mktemp("room"), random.Random(seed)
    events = [*a_messy_days_events(seed=seed % 7), *days_later(many_days(2), -3)]
    rng.shuffle(events)
    room = make_room(home)
    ends = sorted(rng.sample(range(20, len(events)), pieces - 1))
    for at, (start, end) in enumerate(zip([0, *ends], [*ends, len(events)], strict=True)):
        put(room, events[start:end])
        with suppress(NoRows):  # there may be nothing to train on yet
            last = room.build(as_of=AS_OF + timedelta(minutes=at), **SHARED)
    whole = rebuilt(room, home, events, as_of=last.as_of, **SHARED)
    assert (last.sha256, last.voting) == (whole.sha256, whole.voting)
    room.close()


def test_a_late_vote_makes_one_file_of_rows_anew(room: Room) -> None:
    events = many_days()
    late = next(event for event in events if event.name == "comparison 1 2")
    put(room, [event for event in events if event is not late])
    room.build(as_of=moment(5 * DAY))
    put(room, [late])
    second = room.build(as_of=moment(5 * DAY + 60))
    assert len(new_files(room, second)) == 1
    assert next(iter(new_files(room, second))).startswith("preference/train/2026-03-11-")


def test_bodies_of_days_without_news_are_not_opened_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    put(room, many_days(3))
    room.build(as_of=moment(3 * DAY))
    put(room, many_days(4)[len(many_days(3)) :])
    opened = 0
    real = room.sealer.open

    def counting(*arguments: object) -> object:
        nonlocal opened
        opened += 1
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(room.sealer, "open", counting)
    room.build(as_of=moment(4 * DAY))
    assert opened <= 4 * 18  # the fourth day's, for facts and for rows


def test_nothing_new_is_the_same_dataset(room: Room) -> None:
    put(room, many_days(2))
    first = room.build(as_of=moment(3 * DAY))
    second = room.build(as_of=moment(3 * DAY + 1))
    assert second.sha256 == first.sha256
    assert new_files(room, second) == set()


def test_an_answer_that_comes_late_joins_the_vote_that_waited(room: Room, tmp_path: Path) -> None:
    events = many_days(2)
    late = next(event for event in events if event.name == "inference d0r1a")
    put(room, [event for event in events if event is not late])
    assert room.build(as_of=moment(3 * DAY)).filtered["inference_missing"] == 1
    put(room, [late])
    second = room.build(as_of=moment(3 * DAY + 60))
    assert "inference_missing" not in second.filtered
    assert second.sha256 == rebuilt(room, tmp_path, events, as_of=second.as_of).sha256


def test_a_vote_that_was_changed_leaves_the_day_it_was_first_cast_on(room: Room, tmp_path: Path) -> None:
    events = many_days(2)
    changed = Event(
        make_comparison("d0r1a", "d0r1b", "a"), "changed", {"rater": "rater-1", "occurred_at": moment(1.5 * DAY)}
    )
    put(room, events)
    room.build(as_of=moment(3 * DAY))
    put(room, [changed])
    second = room.build(as_of=moment(3 * DAY + 60))
    assert second.sha256 == rebuilt(room, tmp_path, [*events, changed], as_of=second.as_of).sha256


@pytest.mark.parametrize("earlier_s", [30, 1.5 * DAY])
def test_an_event_that_comes_again_from_an_earlier_moment_leaves_the_later_one(
    earlier_s: float, room: Room, tmp_path: Path
) -> None:
    late, early = ({"rater": "rater-1", "occurred_at": moment(2 * DAY - s)} for s in (0, earlier_s))
    events = [
        *many_days(2),
        Event(make_inference("again", prompt="Again?", texts=["Later."]), "inference again", late),
        Event(make_comparison("d0r1a", "d0r1b", "a"), "first", {"rater": "rater-1", "occurred_at": moment(DAY / 9)}),
        Event(make_feedback("again", value=True), "sent twice", late),
    ]
    again = [
        Event(make_inference("again", prompt="Again?", texts=["Earlier."]), "inference again", early),
        Event(make_feedback("again", value=False), "sent twice", early),
        Event(make_comparison("d1r1a", "d1r1b", "tie"), "first", {"rater": "rater-1", "occurred_at": moment(DAY / 10)}),
    ]
    put(room, events)
    room.build(as_of=moment(3 * DAY))
    put(room, again)
    second = room.build(as_of=moment(3 * DAY + 60))
    assert second.counts["unpaired"] == {"train": 1}
    assert second.sha256 == rebuilt(room, tmp_path, [*events, *again], as_of=second.as_of).sha256


def test_days_that_leave_the_window_are_left_out_and_come_back_with_a_longer_one(room: Room, tmp_path: Path) -> None:
    put(room, many_days(4))
    whole = room.build(as_of=moment(4 * DAY), window_days=10)
    short = room.build(as_of=moment(4 * DAY + 1), window_days=2)
    again = room.build(as_of=moment(4 * DAY + 2), window_days=10)
    assert short.counts["preference"]["train"] < whole.counts["preference"]["train"]
    assert short.sha256 == rebuilt(room, tmp_path, many_days(4), as_of=moment(4 * DAY + 1), window_days=2).sha256
    assert again.sha256 == whole.sha256


def test_what_may_no_longer_be_kept_leaves_the_next_dataset(room: Room) -> None:
    brief = {"rater": "rater-brief", "consent": Consent(train=True, retain_until=moment(DAY)), "occurred_at": moment()}
    chats = [Event(make_inference(r, prompt="Brief?", texts=[r]), r, brief) for r in ("b1", "b2")]
    put(room, [*a_days_events(), *chats, Event(make_comparison("b1", "b2"), "brief", brief)])
    first, second = (room.build(as_of=moment(at * DAY)) for at in (0.9, 1.1))
    assert second.counts["preference"]["train"] == first.counts["preference"]["train"] - 1
    assert second.filtered["retention_ended"] == 1


def test_a_held_out_row_leaves_when_training_comes_to_read_its_text(room: Room, tmp_path: Path) -> None:
    events = a_days_events(30, raters=12)
    put(room, events[: len(events) // 2])
    room.build(**SHARED)
    put(room, events[len(events) // 2 :])
    second = room.build(as_of=AS_OF + timedelta(seconds=1), **SHARED)
    assert second.sha256 == rebuilt(room, tmp_path, events, as_of=second.as_of, **SHARED).sha256


def test_a_file_that_is_gone_from_the_parent_is_made_again(room: Room) -> None:
    put(room, many_days(2))
    first = room.build(as_of=moment(3 * DAY))
    directory = room.artifacts.local_path(f"datasets/{TENANT}/{first.dataset_id}")
    for name in ("index/votes", "preference/train"):
        next((directory / name).glob("*.parquet")).unlink()
    assert room.build(as_of=moment(3 * DAY + 1)).sha256 == first.sha256


def test_another_way_of_looking_at_votes_looks_at_all_of_them_again(room: Room, tmp_path: Path) -> None:
    put(room, a_days_events())
    room.build(too_fast_share=0.0)
    strict = room.build(as_of=AS_OF + timedelta(seconds=1), too_fast_share=50.0)
    assert strict.filtered["too_fast"] > 0


def test_weights_are_files_of_their_own_and_a_new_estimate_rewrites_no_row(room: Room) -> None:
    put(room, a_days_events())
    room.build(rater_cap=100)
    second = room.build(as_of=AS_OF + timedelta(seconds=1), rater_cap=2)
    assert new_files(room, second) == set()
    assert {file.path for file in second.files if file.path.startswith("weights/")} == {
        "weights/raters.parquet", "weights/prompts.parquet", "weights/segments.parquet",
    }  # fmt: skip


def test_an_older_cut_than_the_parents_is_made_from_scratch(room: Room) -> None:
    put(room, many_days(1))
    cut = room.eventlog.end_offsets(("thumbwheel.inference.v1", "thumbwheel.feedback.v1"))
    first = room.build(as_of=moment(3 * DAY))
    put(room, many_days(2)[18:])
    room.build(as_of=moment(3 * DAY + 1))
    assert room.snapshots().build(Order(TENANT, ALIAS, moment(3 * DAY + 2), cut)).sha256 == first.sha256


def test_one_raters_thumbs_on_one_prompt_are_paired_over_days(room: Room, tmp_path: Path) -> None:
    chats = [
        Event(
            make_inference(f"t{at}", prompt="Which?", texts=[f"Text {at}."]),
            f"t{at}",
            {"occurred_at": moment(at * DAY)},
        )
        for at in range(2)
    ]
    up = Event(make_feedback("t0"), "up", {"occurred_at": moment()})
    down = Event(make_feedback("t1", value=False), "down", {"occurred_at": moment(DAY)})
    put(room, [*chats, up])
    assert "preference" not in room.build(as_of=moment(2 * DAY)).counts
    put(room, [down])
    second = room.build(as_of=moment(2 * DAY + 1))
    assert second.counts["preference"] == {"train": 1}
    assert second.sha256 == rebuilt(room, tmp_path, [*chats, up, down], as_of=second.as_of).sha256
