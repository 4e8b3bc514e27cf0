"""Who teaches whom: the judge of a policy learns from raters that its reward model never saw."""

import hashlib
from collections.abc import Callable

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
