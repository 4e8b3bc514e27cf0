"""Mirrored answers beside the shown ones: does a judge of other raters prefer what users got? Nobody saw the others."""

import numpy as np

from infra.contracts.manifests import Interval, Verdict
from infra.contracts.rollouts import Finding
from serving.monitors.columns import SHADOW, Columns
from serving.monitors.planning import shadow_rho
from serving.monitors.scores import Scores, Sums, worth
from serving.monitors.subject import Subject, tell

NAME = "shadow_judge"
HALF = 0.5
NOBODY = "no judge learnt from other raters than both versions did: mirrored answers are not compared"


def check(subject: Subject) -> Finding:
    """Aborts where the judge's win rate is below the gate's margin for certain, passes where it is above."""
    sums, alpha, limit = judge_sums(subject), subject.limits.alpha_of(NAME), subject.limits.judge_margin
    gap = sums.interval(shadow_rho(subject.steps, alpha), alpha, HALF)
    interval = gap and gap.model_copy(update={name: HALF + getattr(gap, name) for name in ("value", "lo", "hi")})
    return Finding(
        name=NAME,
        verdict=_verdict(interval, limit, enough=subject.suffices(sums)),
        interval=interval,
        threshold=limit,
        reason=NOBODY if subject.judge is None else tell(interval, _wish(subject, limit)),
    )


def awaited(subject: Subject) -> str | None:
    """What a shadow step with a judge waits for: verdicts on as many answers as it needs, if so many may be read."""
    here = _mirrored(subject)
    here = here.where(here.step_R == subject.step)
    wanted = min(subject.steps[subject.step].min_answers, int(here.judgeable_R.sum()))
    judged = int(here.judged_R.sum())
    if subject.judge is None or not subject.is_shadow or judged >= wanted:
        return None
    return f"{judged} of {wanted} mirrored answers are judged"


def judge_sums(subject: Subject) -> Sums:
    """Each rater's mean of wins. Its own reliability is no matter: the judge decides, on what the rater asked."""
    rows = _mirrored(subject)
    rows = rows.where(rows.judged_R > 0)
    weight_R = worth(rows.judged_R, subject.limits.rater_votes)
    gap_R = rows.judge_wins_R / rows.judged_R - HALF
    both_R = np.ones(len(gap_R), np.bool_)
    return Sums.of(Scores(rows.unit_R, weight_R * gap_R, weight_R, both_R, both_R))


def _mirrored(subject: Subject) -> Columns:
    return subject.rows.where(subject.rows.arm_R == SHADOW)


def _wish(subject: Subject, limit: float) -> str:
    rows = _mirrored(subject)
    read = f"{int(rows.judged_R.sum())} of {int(rows.answers_R.sum())} mirrored answers judged by {subject.judge}"
    return f"a win rate below {limit:g} must not be certain; {read}"


def _verdict(interval: Interval | None, limit: float, *, enough: bool) -> Verdict:
    if interval is None or not enough or interval.lo < limit <= interval.hi:
        return Verdict.INCONCLUSIVE
    return Verdict.FAIL if interval.hi < limit else Verdict.PASS
