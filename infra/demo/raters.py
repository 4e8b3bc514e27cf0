"""Simulated raters: mostly people who mean well and err, some who don't care, a few who want it worse."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

WORDS_PER_SECOND = 4.0  # an adult reading silently: Brysbaert 2019, 10.1016/j.jml.2019.104047
Verdict = Literal["a", "b", "tie", "both_bad"]
Votes = Literal["taste", "coin"]


class Habit(StrEnum):
    """How a rater decides."""

    HONEST = "honest"
    CARELESS = "careless"  # a coin
    FIRST = "first"  # whatever was shown first
    HASTY = "hasty"  # a coin, and faster than anyone reads
    ADVERSE = "adverse"  # the opposite of what the taste says


SHARES = {Habit.CARELESS: 0.06, Habit.FIRST: 0.04, Habit.HASTY: 0.04, Habit.ADVERSE: 0.06}  # the rest is honest


@dataclass(frozen=True, slots=True)
class Rater:
    name: str
    habit: Habit
    noise: float  # the share of an honest rater's choices that come out the wrong way round


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one question, with the hidden taste's points for each."""

    score_a: float
    score_b: float
    right_a: bool
    right_b: bool
    words: int


@dataclass(frozen=True, slots=True)
class Vote:
    choice: Verdict
    shown_first: Literal["a", "b"]
    latency_ms: float


def recruit(count: int, seed: int) -> list[Rater]:
    """The same people for the same seed. At least one of each habit once there are 25."""
    rng = random.Random(f"raters:{seed}")
    flawed = [habit for habit, share in SHARES.items() for _ in range(round(share * count))]
    habits = [*flawed, *[Habit.HONEST] * (count - len(flawed))]
    rng.shuffle(habits)
    return [Rater(f"rater-{seed}-{index:03d}", habit, rng.uniform(0.02, 0.12)) for index, habit in enumerate(habits)]


def vote(rater: Rater, pair: Pair, rng: random.Random, *, tie_below: float, votes: Votes = "taste") -> Vote:
    """One side-by-side choice. With `votes="coin"` nobody looks at the answers: the control of the demo."""
    shown_first: Literal["a", "b"] = rng.choice(("a", "b"))
    coin: Verdict = rng.choice(("a", "b"))
    if votes == "coin":
        return Vote(coin, shown_first, _reading_time(pair, rng))
    match rater.habit:
        case Habit.CARELESS:
            choice = coin
        case Habit.HASTY:
            return Vote(coin, shown_first, rng.uniform(80, 250))
        case Habit.FIRST:
            choice = shown_first
        case Habit.ADVERSE:
            choice = _other(_liked(pair, tie_below))
        case Habit.HONEST:
            liked = _liked(pair, tie_below)
            choice = _other(liked) if rng.random() < rater.noise else liked
    return Vote(choice, shown_first, _reading_time(pair, rng))


def rating(score: float) -> int:
    """Stars for an answer: 5 for the best there is, 1 for one that is wrong and says so at length."""
    return max(1, min(5, round(1 + 4 * score / 5)))


def deal(raters: Sequence[Rater], count: int, rng: random.Random) -> list[Rater]:
    """Who votes next: everyone about equally often, in no order."""
    rounds = [rng.sample(list(raters), len(raters)) for _ in range(-(-count // len(raters)))]
    return [rater for each in rounds for rater in each][:count]


def _liked(pair: Pair, tie_below: float) -> Verdict:
    if abs(pair.score_a - pair.score_b) < tie_below:
        return "tie" if pair.right_a or pair.right_b else "both_bad"
    return "a" if pair.score_a > pair.score_b else "b"


def _other(choice: Verdict) -> Verdict:
    swapped: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie", "both_bad": "tie"}
    return swapped[choice]


def _reading_time(pair: Pair, rng: random.Random) -> float:
    """Milliseconds: both answers read at about that rate, and a moment to decide."""
    return 1000 * (pair.words / WORDS_PER_SECOND * rng.uniform(0.7, 1.6) + rng.uniform(0.3, 2.0))
