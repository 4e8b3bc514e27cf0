"""How far raters agree, and how many judgements a weighted dataset is worth."""

import krippendorff
import numpy as np

from feedback.weighing.opinions import Floats, Opinions


def alpha(opinions: Opinions) -> float | None:
    """Krippendorff's alpha of yes and no: 1 is full agreement, 0 what chance brings. None where nobody overlaps."""
    once = opinions.once()
    counts_IV = np.zeros((opinions.items, 2), dtype=np.int64)
    np.add.at(counts_IV, (once.item_N, once.yes_N.astype(np.int64)), 1)
    shared_IV = counts_IV[counts_IV.sum(axis=1) > 1]
    if not (shared_IV.sum(axis=0) > 0).all():  # one value only: agreement by chance is not defined
        return None
    return float(krippendorff.alpha(value_counts=shared_IV, level_of_measurement="nominal"))


def effective_size(weight_N: Floats) -> float:
    """Kish: as many equally weighted rows would say as much."""
    squares = float((weight_N**2).sum())
    return float(weight_N.sum()) ** 2 / squares if squares else 0.0


def top_share(mass_R: Floats, share: float = 0.01) -> float:
    """Share of all weight held by the heaviest raters, at least one of them."""
    total = float(mass_R.sum())
    count = max(1, round(share * len(mass_R)))
    return float(np.sort(mass_R)[-count:].sum()) / total if total else 0.0
