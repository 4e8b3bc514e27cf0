"""A boundary holds at all looks together, and is no wider than its mixture needs."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from serving.monitors.boundary import one_sided, tuned

ALPHA = 0.05


def two_sided(variance: float, rho: float, alpha: float) -> float:
    """Where the mixture over a whole normal is 1 / alpha: what the tuning is derived for."""
    grown = variance * rho**2 + 1
    return math.sqrt(2 * grown / rho**2 * math.log(math.sqrt(grown) / alpha))


def mixture(score: float, variance: float, rho: float, *, half: bool) -> float:
    """Robbins' martingale: the likelihood ratio of a drift, averaged over a normal, or its upper half."""

    def at(drift: float) -> float:
        return math.exp(drift * score - drift**2 * variance / 2) * norm.pdf(drift, scale=rho)

    peak = score * rho**2 / (variance * rho**2 + 1)
    width = 12 * rho / math.sqrt(variance * rho**2 + 1)
    lowest = max(0.0, peak - width) if half else peak - width
    return float(quad(at, lowest, peak + width, epsrel=1e-10)[0]) * (2 if half else 1)


@pytest.mark.parametrize("variance", [0.0, 1.0, 30.0, 2_000.0])
@pytest.mark.parametrize("rho", [0.05, 0.4, 2.0])
def test_on_the_two_sided_boundary_the_mixture_is_one_over_alpha(variance: float, rho: float) -> None:
    assert mixture(two_sided(variance, rho, ALPHA), variance, rho, half=False) == pytest.approx(1 / ALPHA, rel=1e-6)


@pytest.mark.parametrize("variance", [0.0, 1.0, 30.0, 2_000.0])
@pytest.mark.parametrize("rho", [0.05, 0.4, 2.0])
@pytest.mark.parametrize("alpha", [0.1, 0.025, 0.001])
def test_on_the_one_sided_boundary_it_is_at_least_that_and_little_more(
    variance: float, rho: float, alpha: float
) -> None:
    reached = mixture(one_sided(variance, rho, alpha), variance, rho, half=True) * alpha
    assert 1 - 1e-9 <= reached < 1.2


@pytest.mark.parametrize("alpha", [0.1, 0.025, 0.001])
@pytest.mark.parametrize("variance", [3.0, 500.0])
def test_it_is_narrowest_at_the_variance_it_was_tuned_for(variance: float, alpha: float) -> None:
    best = minimize_scalar(
        lambda log_rho: two_sided(variance, math.exp(log_rho), 2 * alpha), bounds=(-10, 5), method="bounded"
    )
    rho = tuned(variance, alpha)
    assert rho == pytest.approx(math.exp(best.x), rel=1e-2)
    assert one_sided(variance, rho, alpha) < 1.01 * min(
        one_sided(variance, math.exp(place), alpha) for place in np.linspace(-8, 4, 400)
    )


def crossings(boundary_N: np.ndarray, paths: int, seed: int) -> int:
    """How many sums of standard normals are above the boundary at any of N looks."""
    rng, found = np.random.default_rng(seed), 0
    for _ in range(paths):
        found += bool((np.cumsum(rng.normal(size=len(boundary_N))) > boundary_N).any())
    return found


def test_long_gaussian_sums_cross_it_no_more_often_than_alpha_says_where_a_fixed_one_is_crossed_often() -> None:
    looks_N, paths = np.arange(1, 20_001), 1_000
    always = np.array([one_sided(float(look), tuned(500, ALPHA), ALPHA) for look in looks_N])
    once = norm.ppf(1 - ALPHA) * np.sqrt(looks_N)
    crossed = crossings(always, paths, seed=1)
    assert crossed <= binom.ppf(0.99, paths, ALPHA)
    assert crossed >= paths * ALPHA / 5, "so wide that it would never abort"
    assert crossings(once, paths, seed=1) > 5 * paths * ALPHA
