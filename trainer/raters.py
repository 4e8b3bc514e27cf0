"""Who teaches whom: the judge and the guard of a policy learn from raters that its reward model never saw."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

RaterFilter = Callable[[str | None], bool]

SALT = "judge"  # a constant: the same rater is the judge's in every cycle


def is_judges(rater: str | None, share: float) -> bool:
    """Whether this rater's votes train the judge; nobody's votes train the reward model."""
    if not rater:
        return False
    digest = hashlib.sha256(f"{SALT}\0{rater}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def judges(share: float) -> RaterFilter:
    return lambda rater: is_judges(rater, share)


def not_judges(share: float) -> RaterFilter:
    return lambda rater: not is_judges(rater, share)


def guards(judge_share: float, guard_share: float) -> RaterFilter:
    """Those beside the judge's; the reward model's are then `not_judges(judge_share + guard_share)`."""
    return lambda rater: is_judges(rater, judge_share + guard_share) and not is_judges(rater, judge_share)


def draw(raters: Iterable[str], seed: int) -> dict[str, int]:
    """How often each is drawn when as many as there are get drawn with replacement: the bootstrap over raters."""
    names = sorted(set(raters))
    picked = np.random.default_rng(seed).integers(0, len(names), len(names))
    return dict(zip(names, np.bincount(picked, minlength=len(names)).tolist(), strict=True))
