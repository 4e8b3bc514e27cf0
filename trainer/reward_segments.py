"""Where a reward model tells held-out raters' choices apart worse than before, or worse than elsewhere."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from infra.contracts.manifests import Interval, SegmentResult
from trainer.intervals import LEVEL
from trainer.reward_metrics import Judged, clustered, hits, sums_by
from trainer.segments import Measure, by_segment


def falls(rows: Sequence[Judged], earlier: Sequence[Judged], *, least: int) -> dict[str, SegmentResult]:
    """By segment: accuracy of `earlier` minus that of `rows`, which are of the same pairs in the same order."""
    lost = [old - new for old, new in zip(hits(earlier), hits(rows), strict=True)]
    return _by_segment(rows, lambda picked: _mean([lost[at] for at in picked], [rows[at] for at in picked]), least)


def gaps(rows: Sequence[Judged], *, least: int) -> dict[str, SegmentResult]:
    """By segment: accuracy on all pairs minus that on the segment's."""
    return _by_segment(rows, lambda picked: _gap(rows, picked), least)


def _by_segment(rows: Sequence[Judged], measure: Measure, least: int) -> dict[str, SegmentResult]:
    return by_segment([row.segment for row in rows], [row.rater for row in rows], measure, least=least)


def _mean(lost: Sequence[float], rows: Sequence[Judged]) -> Interval | None:
    """Over raters; one pair that was lost and one that was won are added, as in `difference_interval`."""
    found = clustered([*lost, 1.0, -1.0], [*(row.rater for row in rows), "a loss", "a gain"])
    if found is None or len({row.rater for row in rows}) < 2:
        return None
    centre, half, raters = found
    value = sum(lost) / len(lost)
    return Interval(value=value, lo=max(-1.0, centre - half), hi=min(1.0, centre + half), n=raters - 2, level=LEVEL)


def _gap(rows: Sequence[Judged], picked: Sequence[int]) -> Interval | None:
    """Both means are of the same raters: their difference's error is over what each rater adds to it.

    One hit and one miss are added to the segment, as in `accuracy`.
    """
    inside = [*(hits(rows)[at] for at in picked), 1.0, 0.0]
    raters = [*(rows[at].rater for at in picked), "a hit", "a miss"]
    if len(set(raters)) < 4:
        return None
    all_N, inside_N = np.array(hits(rows)), np.array(inside)
    parts = [(all_N - all_N.mean()) / len(all_N), -(inside_N - inside_N.mean()) / len(inside_N)]
    sums_R = sums_by(np.concatenate(parts), [*(row.rater for row in rows), *raters])
    error = math.sqrt(len(sums_R) / (len(sums_R) - 1) * float((sums_R**2).sum()))
    half = float(stdtrit(len(set(raters)) - 1, 0.5 + LEVEL / 2)) * error
    centre, value = float(all_N.mean() - inside_N.mean()), float(all_N.mean() - np.mean(inside[:-2]))
    return Interval(value=value, lo=centre - half, hi=centre + half, n=len(set(raters)) - 2, level=LEVEL)
