"""Rollouts of a made-up version among made-up raters, with the product's own draw, steps and looks.

Raters differ in taste, by segment and by themselves; a few do most of the chatting; they come back and vote again. All
grow harder to please while the challenger's share grows (pooled votes then speak against any challenger), and change
with the hour. Axes: U raters, A answers between two looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import numpy as np

from gateway.routing import draw
from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import DAY_S, STEPS, Inconclusive, Look, Step, StepKind
from infra.contracts.routing import Arm, WeightedVersion
from infra.identity import Identity
from infra.settings import ServingSettings
from serving.monitors.columns import CHALLENGER, CHAMPION, PAIR, SHADOW, Columns, Floats, Mask
from serving.monitors.limits import Limits
from serving.monitors.look import examine
from serving.monitors.subject import Subject

AT = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits.of(ServingSettings())
COUNTED = (
    "answers", "failed", "rateable", "tokens", "seconds", "refusals", "votes", "ups", "choices", "wins",
    "judgeable", "judged", "judge_wins",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """`effect` is what the challenger adds to everybody's vote rate; rates are of beta distributions."""

    effect: float = 0.0
    raters: int = 2_500
    segment_rates: tuple[float, ...] = (0.6, 0.72, 0.8)
    rater_votes: float = 8.0  # raters' rates vary as if each had a prior of so many votes
    voting: float = 0.35
    voting_effect: float = 0.0
    two_answers: float = 0.1  # of requests
    activity_tail: float = 1.2  # of Pareto
    decline: float = 0.03  # of everybody's rate, a day
    daily: float = 0.05
    failing: float = 0.005
    failing_effect: float = 0.0
    length_ratio: float = 1.0
    answers_per_day: int = 6_000
    looks_per_day: int = 6


@dataclass(frozen=True, slots=True)
class Crowd:
    """`place_U` is where the product's own keyed hash puts them."""

    segment_U: np.ndarray
    rate_U: Floats
    voting_U: Floats
    reach_U: Floats  # cumulative share of all answers
    place_U: Floats

    @classmethod
    def of(cls, world: World, rng: np.random.Generator, name: str) -> Self:
        segment_U = rng.integers(len(world.segment_rates), size=world.raters)
        mean_U = np.array(world.segment_rates)[segment_U]
        activity_U = np.minimum(rng.pareto(world.activity_tail, world.raters) + 1, 200)
        identity = Identity(name.encode())
        return cls(
            segment_U=segment_U,
            rate_U=rng.beta(world.rater_votes * mean_U, world.rater_votes * (1 - mean_U)),
            voting_U=rng.beta(2 * world.voting, 2 * (1 - world.voting), world.raters),
            reach_U=np.cumsum(activity_U) / activity_U.sum(),
            place_U=np.array([identity.fraction(name, f"rater-{unit}") for unit in range(world.raters)]),
        )


class Tallying:
    """Counts of one step and kind of row, by rater."""

    def __init__(self, step: int, raters: int) -> None:
        self._step, self._seen = step, 0
        self._sums = {name: np.zeros(raters) for name in COUNTED}
        self._first_U = np.full(raters, np.iinfo(np.int64).max)

    def add(self, unit_A: np.ndarray, **counted: Floats) -> None:
        for name, amount_A in counted.items():
            self._sums[name] += np.bincount(unit_A, amount_A, minlength=len(self._first_U))
        np.minimum.at(self._first_U, unit_A, self._seen + np.arange(len(unit_A)))
        self._seen += len(unit_A)

    def columns(self, crowd: Crowd, arm_U: np.ndarray, share: float) -> Columns:
        unit_R = np.argsort(self._first_U, kind="stable")[: np.count_nonzero(self._sums["answers"])]
        ones_R = np.ones(len(unit_R))
        return Columns(
            step_R=np.full(len(unit_R), self._step),
            arm_R=arm_U[unit_R],
            unit_R=unit_R,
            segment_R=crowd.segment_U[unit_R],
            share_R=share * ones_R,
            weight_R=ones_R,
            **{f"{name}_R": self._sums[name][unit_R] for name in COUNTED},
        )


def stacked(parts: Sequence[Columns]) -> Columns:
    names = Columns.__slots__
    return Columns(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def weighted(share: float) -> list[WeightedVersion]:
    """As a routing table has them."""
    versions = {"v1": (Arm.CHAMPION, 1 - share), "v2": (Arm.CHALLENGER, share)}
    return [WeightedVersion(version=name, arm=arm, weight=weight) for name, (arm, weight) in versions.items()]


def draws(place_U: Floats, share: float) -> Mask:
    """Who meets the challenger, as the gateway draws."""
    versions = weighted(share)
    return np.array([draw(versions, place).arm is Arm.CHALLENGER for place in place_U.tolist()])


@dataclass(frozen=True, slots=True)
class Course:
    """How one rollout went. `votes` and `choices` are on the challenger, in all steps; by `naive` look a test of pooled
    votes that is made anew at each look would have aborted."""

    outcome: str
    step: int
    votes: int
    choices: int
    looks: int
    days: float
    failed: tuple[str, ...]
    naive: int | None
    sticky: bool
    shares: tuple[tuple[float, int, int], ...]  # wanted, raters met, of those the challenger's
    covered: bool  # the effect was inside the interval of the vote rate at every look


@dataclass
class Rollout:
    """One of them, from look to look."""

    world: World
    rng: np.random.Generator
    name: str
    steps: tuple[Step, ...] = STEPS
    limits: Limits = LIMITS
    finished: list[Columns] = field(default_factory=list)
    looks: int = 0
    naive: int | None = None
    covered: bool = True

    def run(self) -> Course:
        self.crowd = Crowd.of(self.world, self.rng, self.name)
        self.is_challenger_SU = [draws(self.crowd.place_U, step.share) for step in self.steps]
        for number in range(len(self.steps)):
            outcome, look = self._step(number)
            if outcome != "passed":
                break
        return self._course(outcome, number, look)

    def _step(self, number: int) -> tuple[str, Look]:
        step, began = self.steps[number], self.looks
        own, beside = Tallying(number, self.world.raters), Tallying(number, self.world.raters)
        while True:
            self._answer(number, own, beside)
            self.looks += 1
            parts = [*self.finished, *self._parts(number, own, beside)]
            look = examine(Subject(self.steps, number, stacked(parts), self.limits), AT)
            self._remember(look, parts)
            outcome = _outcome(step, look, (self.looks - began) / self.world.looks_per_day * DAY_S)
            if outcome:
                self.finished = parts
                return outcome, look

    def _parts(self, number: int, own: Tallying, beside: Tallying) -> list[Columns]:
        step, everyone = self.steps[number], np.ones(self.world.raters, np.int64)
        is_shadow = step.kind is StepKind.SHADOW
        arm_U = CHAMPION * everyone if is_shadow else np.where(self.is_challenger_SU[number], CHALLENGER, CHAMPION)
        other = SHADOW if is_shadow else PAIR
        return [
            own.columns(self.crowd, arm_U, step.share),
            beside.columns(self.crowd, other * everyone, step.share),
        ]

    def _answer(self, number: int, own: Tallying, beside: Tallying) -> None:
        """Everything that happens until the next look."""
        world, crowd, rng, step = self.world, self.crowd, self.rng, self.steps[number]
        count = world.answers_per_day // world.looks_per_day
        unit_A = np.searchsorted(crowd.reach_U, rng.random(count), side="right")
        if step.kind is StepKind.SHADOW:
            own.add(unit_A, **self._thumbs(unit_A, np.zeros(count)))
            mirrored_A = unit_A[rng.random(count) < step.share]
            said = self._answered(mirrored_A, np.ones(len(mirrored_A)))
            beside.add(mirrored_A, **said)
            return
        is_pair_A = rng.random(count) < world.two_answers * step.pairs
        single_A, pair_A = unit_A[~is_pair_A], unit_A[is_pair_A]
        own.add(single_A, **self._thumbs(single_A, self.is_challenger_SU[number][single_A].astype(np.float64)))
        if len(pair_A):
            beside.add(pair_A, **self._chosen(pair_A))

    def _answered(self, unit_A: np.ndarray, treated_A: Floats) -> dict[str, Floats]:
        world, rng, count = self.world, self.rng, len(unit_A)
        return {
            "answers": np.ones(count),
            "failed": 1.0 * (rng.random(count) < world.failing + world.failing_effect * treated_A),
            "tokens": rng.lognormal(4 + np.log(world.length_ratio) * treated_A, 0.6),
            "seconds": rng.lognormal(0.5, 0.5, count),
            "refusals": 1.0 * (rng.random(count) < 0.03),
        }

    def _thumbs(self, unit_A: np.ndarray, treated_A: Floats) -> dict[str, Floats]:
        world, rng, count = self.world, self.rng, len(unit_A)
        votes_A = rng.random(count) < self.crowd.voting_U[unit_A] + world.voting_effect * treated_A
        ups_A = votes_A & (rng.random(count) < self._rates(unit_A) + world.effect * treated_A)
        counted = {"rateable": np.ones(count), "votes": 1.0 * votes_A, "ups": 1.0 * ups_A}
        return {**self._answered(unit_A, treated_A), **counted}

    def _chosen(self, unit_A: np.ndarray) -> dict[str, Floats]:
        """Better by its vote rate, and chosen as one with independent thumbs would be: ties count half."""
        count, voting_A = len(unit_A), self.crowd.voting_U[unit_A]
        choices_A = self.rng.random(count) < voting_A
        wins_A = choices_A & (self.rng.random(count) < 0.5 + self.world.effect / 2)
        counted = {"rateable": np.ones(count), "choices": 1.0 * choices_A, "wins": 1.0 * wins_A}
        return {**self._answered(unit_A, np.ones(count)), **counted}

    def _rates(self, unit_A: np.ndarray) -> Floats:
        """The champion's, now; kept where an effect has room."""
        day, room = self.looks / self.world.looks_per_day, abs(self.world.effect)
        moved = self.world.daily * np.sin(2 * np.pi * day) - self.world.decline * day
        return np.clip(self.crowd.rate_U[unit_A] + moved, room, 1 - room)

    def _remember(self, look: Look, parts: Sequence[Columns]) -> None:
        interval = look.findings[0].interval
        if interval is not None and not interval.lo <= self.world.effect <= interval.hi:
            self.covered = False
        if self.naive is None and pooled_z(parts, self.limits.min_raters) < -1.645:
            self.naive = self.looks

    def _course(self, outcome: str, number: int, look: Look) -> Course:
        rows = stacked(self.finished)
        own = Subject(self.steps, number, rows, self.limits).canary
        ours = own.where(own.challenger_R)
        return Course(
            outcome=outcome,
            step=number,
            votes=int(ours.votes_R.sum()),
            choices=int(rows.choices_R.sum()),
            looks=self.looks,
            days=self.looks / self.world.looks_per_day,
            failed=tuple(found.name for found in look.findings if found.verdict is Verdict.FAIL),
            naive=self.naive,
            sticky=self._is_sticky(own),
            shares=tuple(
                self._share(own, step) for step in range(number + 1) if self.steps[step].kind is not StepKind.SHADOW
            ),
            covered=self.covered,
        )

    def _is_sticky(self, own: Columns) -> bool:
        """One arm for a rater in each step, and nobody leaves the challenger as its share grows."""
        one_arm = len(np.unique(own.unit_R * len(self.steps) + own.step_R)) == len(own.unit_R)
        was = np.zeros(self.world.raters, np.bool_)
        for number in np.unique(own.step_R):
            here = own.where(own.step_R == number)
            if (was[here.unit_R] & ~here.challenger_R).any():
                return False
            was[here.unit_R[here.challenger_R]] = True
        return one_arm

    def _share(self, own: Columns, number: int) -> tuple[float, int, int]:
        here = own.where(own.step_R == number)
        return self.steps[number].share, len(here.unit_R), int(here.challenger_R.sum())


def _outcome(step: Step, look: Look, waited_s: float) -> str | None:
    """What the controller would do."""
    if look.verdict is Verdict.FAIL:
        return "aborted"
    enough = look.votes >= step.min_votes and look.answers >= step.min_answers and waited_s >= step.min_s
    if look.verdict is Verdict.PASS and enough:
        return "passed"
    if waited_s < step.max_s:
        return None
    return "passed" if step.on_inconclusive is Inconclusive.ADVANCE else "asked"


def pooled_z(parts: Sequence[Columns], least: int) -> float:
    """Challenger's less champion's share of thumbs up, every vote alike, in standard errors."""
    counts = [
        np.array([sum(getattr(part, name)[part.arm_R == arm].sum() for part in parts) for name in ("votes_R", "ups_R")])
        for arm in (CHALLENGER, CHAMPION)
    ]
    (votes, ups), (other_votes, other_ups) = counts
    if min(votes, other_votes) < least:
        return 0.0
    pooled = (ups + other_ups) / (votes + other_votes)
    error = np.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / votes + 1 / other_votes))
    return float((ups / votes - other_ups / other_votes) / error)


def simulate_one(world: World, seed: int, number: int, steps: tuple[Step, ...] = STEPS) -> Course:
    """Each number has people of its own."""
    return Rollout(world, np.random.default_rng((seed, number)), f"rollout-{seed}-{number}", steps).run()
