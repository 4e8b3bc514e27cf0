"""Is the challenger voted down? P(up | voted), challenger minus champion, over raters of the same step and segment."""

import numpy as np

from infra.contracts.manifests import Interval, Verdict
from infra.contracts.rollouts import Finding
from serving.monitors.columns import Columns
from serving.monitors.limits import Limits
from serving.monitors.planning import vote_rho
from serving.monitors.scores import Sums, compare, worth
from serving.monitors.subject import Subject, tell

NAME = "vote_rate"


def check(subject: Subject) -> Finding:
    """Aborts where the whole interval is below zero; passes where a drop by the step's margin is ruled out."""
    sums, alpha = vote_sums(subject.canary, subject.limits), subject.limits.alpha_of(NAME)
    margin = subject.steps[subject.step].margin
    interval = sums.interval(vote_rho(subject.steps, alpha), alpha)
    return Finding(
        name=NAME,
        verdict=_verdict(interval, margin, enough=subject.suffices(sums)),
        interval=interval,
        threshold=-margin,
        reason=tell(interval, f"a drop of {margin:g} must be ruled out" if margin < 1 else "no drop may be certain"),
    )


def vote_sums(rows: Columns, limits: Limits) -> Sums:
    value_R = np.divide(rows.ups_R, rows.votes_R, out=np.zeros_like(rows.ups_R), where=rows.votes_R > 0)
    return Sums.of(compare(rows, value_R, rows.weight_R * worth(rows.votes_R, limits.rater_votes)))


def _verdict(interval: Interval | None, margin: float, *, enough: bool) -> Verdict:
    if interval is not None and enough and interval.hi < 0:
        return Verdict.FAIL
    if margin >= 1 or (interval is not None and enough and interval.lo > -margin):
        return Verdict.PASS
    return Verdict.INCONCLUSIVE
