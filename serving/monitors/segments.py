"""Is one segment voted down while the others gain? Each is compared by itself, and one that loses too much is enough.

How many segments clients will name is not known beforehand: the k-th to come gets 1 / (k (k + 1)) of the chance of a
false abort, which sums to all of it however many there are.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from infra.contracts.manifests import Interval, Verdict
from infra.contracts.rollouts import Finding
from serving.monitors.planning import vote_rho
from serving.monitors.subject import Subject, tell
from serving.monitors.vote_rate import vote_sums

NAME = "segments"


def check(subject: Subject) -> Finding:
    """Aborts where a segment's whole interval is beyond the limit; passes where a fall by the step's margin is ruled
    out in each that can be judged, so that small ones hold nothing up. Tells the worst."""
    limit, falls = subject.limits.segment_drop, list(_falls(subject))
    code, worst = max(falls, key=lambda fall: fall[1].lo, default=(None, None))
    margin = subject.steps[subject.step].segment_margin
    named = "" if code is None else f"fall in segment {subject.segment(code)}: "
    return Finding(
        name=NAME,
        verdict=_verdict([fall for _, fall in falls], limit, margin),
        interval=worst,
        threshold=limit,
        reason=named + tell(worst, _wish(limit, margin)),
    )


def _verdict(falls: Sequence[Interval], limit: float, margin: float) -> Verdict:
    if any(fall.lo > limit for fall in falls):
        return Verdict.FAIL
    return Verdict.PASS if margin >= 1 or all(fall.hi < margin for fall in falls) else Verdict.INCONCLUSIVE


def _wish(limit: float, margin: float) -> str:
    allowed = f"in no segment may the vote rate fall by more than {limit:g} for certain"
    return allowed if margin >= 1 else f"{allowed}, and a fall of {margin:g} must be ruled out"


def _falls(subject: Subject) -> Iterator[tuple[int, Interval]]:
    """Champion's less challenger's vote rate, of each segment where enough raters of both arms have voted."""
    rows, limits = subject.canary, subject.limits
    for code in np.unique(rows.segment_R).tolist():
        sums, alpha = vote_sums(rows.where(rows.segment_R == code), limits), alpha_of(subject, code)
        change = sums.interval(vote_rho(subject.steps, alpha), alpha)
        if change is not None and subject.suffices(sums):
            yield code, change.model_copy(update={"value": -change.value, "lo": -change.hi, "hi": -change.lo})


def alpha_of(subject: Subject, code: int) -> float:
    """Codes count up in the order in which segments came, which owes nothing to votes."""
    return subject.limits.alpha_of(NAME) / ((code + 1) * (code + 2))
