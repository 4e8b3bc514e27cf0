"""Reweights segments to a stated mix, so that loud groups don't decide for all (post-stratification)."""

from collections.abc import Mapping, Sequence

import numpy as np

from feedback.weighing.opinions import Floats, Ints


def segment_factors(
    names: Sequence[str | None], segment_N: Ints, mass_N: Floats, mix: Mapping[str, float], most: float
) -> Floats:
    """One factor for each name, at most `most` times the average row's.

    `mix` are shares by segment. Segments it does not name keep their proportions among each other and get what it
    leaves over. No mix: all ones.
    """
    if not mix:
        return np.ones(len(names))
    mass_S = np.bincount(segment_N, weights=mass_N, minlength=len(names))
    share_S = mass_S / max(mass_S.sum(), 1e-12)
    named_S = np.array([name in mix for name in names], dtype=bool)
    rest = max(0.0, 1 - sum(mix.values())) / max(share_S[~named_S].sum(), 1e-12)
    wanted_S = np.array([mix.get(name or "", 0.0) for name in names])
    factor_S = np.where(named_S, wanted_S / np.maximum(share_S, 1e-12), rest)
    return np.asarray(np.minimum(factor_S, most))
