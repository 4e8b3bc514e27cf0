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


def left_out(units: Iterable[str], members: int, seed: int) -> list[frozenset[str]]:
    """Whose votes each member of an ensemble does not see: each unit's by one member, in groups of like size.

    As the delete-a-group jackknife does. A bootstrap would leave each member half of what the votes say (as many
    equally weighted ones, n^2 / sum of squares), this leaves it all but one part in `members`. Of one unit nobody is
    left out, since nothing would be left.
    """
    names = sorted(set(units))
    if len(names) < 2:
        return [frozenset()] * members
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    return [frozenset(names[place] for place in order[number::members]) for number in range(members)]
