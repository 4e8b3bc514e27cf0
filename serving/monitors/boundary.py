"""How far a sum of scores may stray by chance, at any of all the times that somebody looks.

Robbins' normal mixture in intrinsic time, as in Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central
limit theory and asymptotic confidence sequences, Annals of Statistics 2024 (arXiv 2103.06476): Theorem 2.2, on one side
as in their Proposition B.1.
"""

import math

from scipy.special import lambertw


def one_sided(variance: float, rho: float, alpha: float) -> float:
    """With probability 1 - alpha a sum of this intrinsic variance never exceeds the boundary."""
    grown = variance * rho**2 + 1
    return math.sqrt(2 * grown / rho**2 * math.log1p(math.sqrt(grown) / (2 * alpha)))


def tuned(variance: float, alpha: float) -> float:
    """The rho whose one-sided boundary is narrowest at this variance. It must be chosen before anything is seen.

    Their choice for the two-sided boundary, at twice alpha: the two differ by less than one in the logarithm.
    """
    return math.sqrt((-lambertw(-((2 * alpha) ** 2) / math.e, -1).real - 1) / variance)
