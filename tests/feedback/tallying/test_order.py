"""Whatever order events come in, and whenever anybody counts in between: the tallies are the same in the end."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.contracts.events import Source
from infra.registry.tallies import Tally
from tests.support.events import make_comparison, make_feedback, moment
from tests.support.feedback import Event, Room, make_room
from tests.support.trials import HALF, Key, answered, counted, happen, make_tallier, put_rollout, thumb

ARMS = ("champion", "challenger", ("champion", "challenger"), ("challenger", "champion"), "pinned")


def some_events(seed: int, answers: int = 12) -> list[Event]:
    """A few people's answers in two steps; they change their minds, take votes back, vote on each other's."""
    rng, events = random.Random(seed), list[Event]()
    for at in range(answers):
        response_id, rater = f"r{at}", f"rater-{rng.randrange(4)}"
        session = {"session_id": rng.choice([None, "s1"])}
        who = {"rater": rater if rng.random() < 0.8 else None, "segment": rng.choice([None, "de"]), **session}
        events.append(answered(response_id, rng.choice(ARMS), step=rng.choice([1, HALF]), at=10 * at, **who))
        for turn in range(rng.randrange(1, 4)):
            voter = {
                "rater": rng.choice([rater, "rater-9", None]),
                "source": rng.choice([Source.HUMAN, Source.HUMAN, Source.AI]),
            }
            moments = {"occurred_at": moment(10 * at + turn + 1), **voter}
            stars = make_feedback(response_id, kind="rating", name="rating", value=rng.choice([1, 3, 5, 5, None]))
            choice = make_comparison(
                f"{response_id}#1", f"{response_id}#0", rng.choice(["a", "b", "tie", "both_bad", None])
            )
            events.append(thumb(response_id, rng.choice([True, True, False, None]), at=10 * at + turn + 1, **voter))
            events.append(Event(stars, f"stars {at} {turn}", moments))
            events.append(Event(choice, f"choice {at} {turn}", moments))
    return events


def at_once(room: Room, events: list[Event]) -> dict[Key, Tally]:
    happen(room, *events)
    make_tallier(room).turn()
    return counted(room)


def bit_by_bit(room: Room, events: list[Event], rng: random.Random) -> dict[Key, Tally]:
    """In another order, some of it twice; the process that counts is sometimes a new one."""
    left, counting = [*events, *rng.sample(events, len(events) // 4)], make_tallier(room, holder="it")
    rng.shuffle(left)
    while left:
        size = rng.randrange(1, 40)
        happen(room, *left[:size])
        del left[:size]
        counting = make_tallier(room, holder="it") if rng.random() < 0.2 else counting
        counting.turn()
    return counted(room)


def fresh(home: Path) -> Room:
    home.mkdir()
    room = make_room(home)
    put_rollout(room)
    return room


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_neither_order_nor_repetition_nor_a_restart_matters(seed: int) -> None:
    with TemporaryDirectory() as directory:
        one, other = (fresh(Path(directory) / name) for name in ("one", "other"))
        events = some_events(seed)
        expected = at_once(one, events)
        assert bit_by_bit(other, events, random.Random(seed)) == expected
        for room in (one, other):
            room.close()


@pytest.mark.parametrize("seed", range(2))
def test_both_databases_come_to_the_same_in_any_order(room: Room, tmp_path: Path, seed: int) -> None:
    events = some_events(seed, answers=30)
    embedded = fresh(tmp_path / "embedded")
    expected = at_once(embedded, events)
    embedded.close()
    assert {arm for _, _, arm in expected} == {"champion", "challenger", "pair"}
    assert sum(tally.votes for tally in expected.values()) > 5
    assert sum(tally.choices for tally in expected.values()) > 2
    assert bit_by_bit(room, events, random.Random(seed)) == expected
