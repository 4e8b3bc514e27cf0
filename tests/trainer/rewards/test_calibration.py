"""Calibration: a known scale is found again, and errors are those computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from trainer.reward_metrics import Judged
from trainer.rewards.calibration import _half, calibration, calibration_error, expected_calibration_error, temperature


def simulated(scale: float, pairs: int = 1000, raters: int = 50, seed: int = 0) -> list[Judged]:
    """Scores that are `scale` times the log-odds by which raters choose."""
    rng = np.random.default_rng(seed)
    odds_N = rng.normal(0, 1.5, pairs)
    chosen_N = np.where(rng.random(pairs) < expit(odds_N), odds_N, -odds_N)
    return [Judged(scale * float(odds), 0.0, f"r{number % raters}") for number, odds in enumerate(chosen_N)]


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_temperature_is_the_scale_that_scores_were_multiplied_with(scale: float) -> None:
    assert temperature(simulated(scale, pairs=20_000)) == pytest.approx(scale, rel=0.05)


def test_the_temperature_is_where_the_likelihood_is_greatest() -> None:
    rows = simulated(3.0)
    found = temperature(rows)
    assert found is not None
    margins_N = np.array([row.margin for row in rows])
    losses = [np.logaddexp(0, -margins_N / (found * factor)).mean() for factor in (0.98, 1.0, 1.02)]
    assert losses[1] == min(losses)


@pytest.mark.parametrize(
    "rows", [simulated(1.0, pairs=99), [Judged(1.0, 0.0, "r")] * 200, simulated(-1.0, pairs=500)],
    ids=["too few", "all right", "more often wrong"],
)  # fmt: skip
def test_no_temperature_comes_of_pairs_that_have_none(rows: list[Judged]) -> None:
    assert temperature(rows) is None
    assert calibration(rows) == {}


def test_scaled_scores_of_other_raters_lose_less_and_their_error_shrinks() -> None:
    rows = simulated(4.0)
    found = calibration(rows)
    before = np.logaddexp(0, -np.array([row.margin for row in rows])).mean()
    assert found["calibrated"]["log_loss"]["value"] < before - 0.1
    assert found["calibrated"]["ece"] < 0.5 * calibration_error(rows)["ece"]


def test_each_half_of_the_raters_is_scaled_by_the_other_half_s_temperature() -> None:
    """Scores of one half have scale 1, of the other 4: the other's temperature does worse than one of all raters."""
    halves = [[f"r{n}" for n in range(200) if _half(f"r{n}") == half][:50] for half in (0, 1)]
    rows = [
        replace(row, rater=raters[number % 50])
        for scale, raters in zip((1.0, 4.0), halves, strict=True)
        for number, row in enumerate(simulated(scale))
    ]
    found = calibration(rows)
    margins_N = np.array([row.margin for row in rows]) / found["temperature"]
    assert 1 < found["temperature"] < 4
    assert found["calibrated"]["log_loss"]["value"] > np.logaddexp(0, -margins_N).mean() + 0.05


def test_the_error_is_told_above_500_pairs_only() -> None:
    assert calibration_error(simulated(1.0, pairs=500)) == {}
    assert calibration_error(simulated(1.0, pairs=501)).keys() == {"ece"}


def test_the_error_of_two_bins_is_the_one_by_hand() -> None:
    """Sure at .6 and right every time; sure at .9 and right every second time: (2 * .4 + 2 * .4) / 4."""
    low, high = math.log(0.6 / 0.4), math.log(0.9 / 0.1)
    found = expected_calibration_error(np.array([low, low, high, -high]), bins=2)
    assert found == pytest.approx((2 * abs(0.6 - 1.0) + 2 * abs(0.9 - 0.5)) / 4, rel=1e-9)


def test_bins_hold_as_many_pairs_each() -> None:
    """Three in the first, two in the second; an even score is half right."""
    margins = np.array([0.0, math.log(3), -math.log(3), math.log(9), math.log(9)])
    first = abs((0.5 + 0.75 + 0.75) / 3 - (0.5 + 1 + 0) / 3)
    assert expected_calibration_error(margins, bins=2) == pytest.approx((3 * first + 2 * 0.1) / 5, rel=1e-9)


def test_calibrated_scores_have_little_error() -> None:
    assert expected_calibration_error(np.array([row.margin for row in simulated(1.0, pairs=20_000)])) < 0.02
