"""Nobody, and no prompt, steers the policy by volume: each may weigh so much in one dataset and no more.

Scaling down keeps every judgement, whatever the order they came in; dropping some would have to choose.
"""

import numpy as np

from feedback.weighing.opinions import Floats, Ints


def cap_factors(owner_N: Ints, mass_N: Floats, owners: int, most: float) -> Floats:
    """For each owner at most 1, so that its rows weigh no more than `most` together. Negative owners are nobody."""
    owned = owner_N >= 0
    total = np.bincount(owner_N[owned], weights=mass_N[owned], minlength=owners)
    return np.minimum(1.0, most / np.maximum(total, most))


def spread(factors: Floats, owner_N: Ints) -> Floats:
    """Each row's factor; 1 for rows of nobody."""
    return np.where(owner_N >= 0, factors[np.maximum(owner_N, 0)], 1.0) if len(factors) else np.ones(len(owner_N))
