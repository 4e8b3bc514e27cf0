"""What users never vote on but suffer from, and what those say who don't vote: each against a limit of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from infra.contracts.manifests import Interval, Verdict
from infra.contracts.rollouts import Finding
from serving.gates.subject import below, within
from serving.monitors.columns import Columns, Floats
from serving.monitors.limits import Limits
from serving.monitors.planning import guard_rho
from serving.monitors.scores import Scores, Sums, compare, worth
from serving.monitors.subject import Monitor, Subject, tell

MOST_RATIO = 1e6


@dataclass(frozen=True, slots=True)
class Guard:
    """Compares a mean per rater: `sum_of` over `count_of`. A ratio compares logarithms, of means no less than `floor`.

    `spread` is what that mean's standard deviation among raters was thought to be. Mirrored answers yield to those of
    users: their time says nothing about the challenger.
    """

    name: str
    sum_of: Callable[[Columns], Floats]
    count_of: Callable[[Columns], Floats]
    limit_of: Callable[[Limits], float]
    spread: float
    floor: float | None = None
    both_ways: bool = False
    in_shadow: bool = True

    @property
    def is_ratio(self) -> bool:
        return self.floor is not None

    @property
    def most(self) -> float:
        """The greatest difference that is told."""
        return math.log(MOST_RATIO) if self.is_ratio else 1.0

    def values(self, rows: Columns) -> Floats:
        mean_R: Floats = self.sum_of(rows) / np.maximum(self.count_of(rows), 1)
        if self.floor is not None:
            mean_R = np.log(np.maximum(mean_R, self.floor))
        return mean_R


def _answers(rows: Columns) -> Floats:
    return rows.answers_R


GUARDS = (
    Guard("errors", lambda rows: rows.failed_R, _answers, lambda limits: limits.error_rise, 0.1),
    Guard(
        "latency", lambda rows: rows.seconds_R, _answers, lambda limits: limits.latency_ratio, 0.5, floor=1e-3,
        in_shadow=False,
    ),
    Guard(
        "length", lambda rows: rows.tokens_R, _answers, lambda limits: limits.length_ratio, 0.5, floor=1.0,
        both_ways=True,
    ),
    Guard("refusals", lambda rows: rows.refusals_R, _answers, lambda limits: limits.refusal_rise, 0.2),
    Guard(
        "thumbs_down", lambda rows: rows.votes_R - rows.ups_R, lambda rows: rows.rateable_R,
        lambda limits: limits.thumbs_down_rise, 0.2, in_shadow=False,
    ),
)  # fmt: skip


def check(guard: Guard, subject: Subject) -> Finding:
    """Aborts where the whole interval is beyond the limit, passes where it is inside."""
    sums, limit = guard_sums(guard, subject), guard.limit_of(subject.limits)
    alpha = subject.limits.alpha_of(guard.name) / (2 if guard.both_ways else 1)
    interval = _shown(guard, sums.interval(guard_rho(subject.steps, alpha, guard.spread), alpha, guard.most))
    return Finding(
        name=guard.name,
        verdict=_verdict(guard, interval, limit) if subject.suffices(sums) else Verdict.INCONCLUSIVE,
        interval=interval,
        threshold=limit,
        reason=tell(interval, _wish(guard, limit)),
    )


MONITORS: tuple[Monitor, ...] = tuple(partial(check, guard) for guard in GUARDS)


def guard_sums(guard: Guard, subject: Subject) -> Sums:
    rows = subject.canary
    found = compare(rows, guard.values(rows), _weights(guard, rows, subject.limits))
    return Sums.of(found.joined(_mirrored(guard, subject)) if guard.in_shadow else found)


def _mirrored(guard: Guard, subject: Subject) -> Scores:
    """In shadow steps each rater is compared with itself.

    Twice as uncertain as a mean and none is drawn, so that the size is a half where one drawn evenly has a quarter.
    """
    own, mirrored = subject.mirrored
    size_N = np.minimum(*(_weights(guard, side, subject.limits) for side in subject.mirrored)) / 2
    gap_N = guard.values(mirrored) - guard.values(own)
    both_N = np.ones(len(gap_N), np.bool_)
    return Scores(own.unit_R, size_N * gap_N, size_N, both_N, both_N)


def _weights(guard: Guard, rows: Columns, limits: Limits) -> Floats:
    return worth(guard.count_of(rows), limits.rater_votes)


def _shown(guard: Guard, interval: Interval | None) -> Interval | None:
    if interval is None or not guard.is_ratio:
        return interval
    return interval.model_copy(update={name: math.exp(getattr(interval, name)) for name in ("value", "lo", "hi")})


def _verdict(guard: Guard, interval: Interval | None, limit: float) -> Verdict:
    return within(interval, 1 / limit, limit) if guard.both_ways else below(interval, limit)


def _wish(guard: Guard, limit: float) -> str:
    if guard.both_ways:
        return f"allowed are {1 / limit:.2g} to {limit:g} times the champion's"
    return f"allowed is {limit:g} times the champion's" if guard.is_ratio else f"allowed is a rise of {limit:g}"
