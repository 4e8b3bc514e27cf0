"""Two answers side by side, one of each arm: is the champion's chosen more often? The fastest evidence."""

import numpy as np

from infra.contracts.manifests import Interval, Verdict
from infra.contracts.rollouts import Finding
from serving.monitors.planning import vote_rho
from serving.monitors.scores import Scores, Sums, worth
from serving.monitors.subject import Subject, tell

NAME = "pairs"
HALF = 0.5


def check(subject: Subject) -> Finding:
    """Aborts where raters' mean share of wins is below a half for certain."""
    sums, alpha = pair_sums(subject), subject.limits.alpha_of(NAME)
    gap = sums.interval(vote_rho(subject.steps, alpha), alpha, HALF)
    interval = gap and gap.model_copy(update={name: HALF + getattr(gap, name) for name in ("value", "lo", "hi")})
    return Finding(
        name=NAME,
        verdict=_verdict(interval, enough=subject.suffices(sums)),
        interval=interval,
        threshold=HALF,
        reason=tell(interval, "the challenger must not be chosen less than half of the time"),
    )


def pair_sums(subject: Subject) -> Sums:
    """Of each rater with choices, in every step: the raters need no other arm to be compared with."""
    rows = subject.rows.where(subject.rows.choices_R > 0)
    weight_R = rows.weight_R * worth(rows.choices_R, subject.limits.rater_votes)
    gap_R = rows.wins_R / rows.choices_R - HALF
    both_R = np.ones(len(gap_R), np.bool_)
    return Sums.of(Scores(rows.unit_R, weight_R * gap_R, weight_R, both_R, both_R))


def _verdict(interval: Interval | None, *, enough: bool) -> Verdict:
    if interval is None or not enough or interval.lo < HALF <= interval.hi:
        return Verdict.INCONCLUSIVE
    return Verdict.FAIL if interval.hi < HALF else Verdict.PASS
