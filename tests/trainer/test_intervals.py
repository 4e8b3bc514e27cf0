"""Intervals against closed forms."""

import math

import numpy as np
import pytest

from trainer.intervals import difference_interval, mean_interval, ratio_interval, share_interval

T_9 = 2.2621571627409915  # Student's 97.5% quantile with 9 degrees of freedom, from tables


def test_the_interval_of_a_mean_is_students() -> None:
    found = mean_interval([float(value) for value in range(10)])
    assert found is not None
    half = T_9 * math.sqrt(55 / 6) / math.sqrt(10)
    assert (found.value, found.n) == (4.5, 10)
    assert found.hi - found.value == pytest.approx(half)
    assert found.value - found.lo == pytest.approx(half)


@pytest.mark.parametrize("interval", [mean_interval, share_interval, difference_interval])
def test_one_unit_gives_no_interval(interval: object) -> None:
    assert interval([1.0]) is None  # type: ignore[operator]


def test_unanimity_is_not_certainty() -> None:
    found = share_interval([1.0] * 50)
    assert found is not None
    assert found.value == 1.0
    assert 0.9 < found.lo < 0.97
    assert found.hi == 1.0


def test_no_discordant_case_still_leaves_room_for_a_difference() -> None:
    found = difference_interval([0.0] * 200)
    assert found is not None
    expected = 1.97196 * math.sqrt(2 / 202) / math.sqrt(202)  # Bonett and Price with one case each way added
    assert found.hi == pytest.approx(expected, rel=1e-3)
    assert found.lo == pytest.approx(-expected, rel=1e-3)


def test_yes_no_differences_give_bonett_and_prices_interval() -> None:
    plus, minus, n = 12, 4, 100
    found = difference_interval([1.0] * plus + [-1.0] * minus + [0.0] * (n - plus - minus))
    assert found is not None
    p12, p21 = (plus + 1) / (n + 2), (minus + 1) / (n + 2)
    half = 1.98373 * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    assert found.value == pytest.approx(0.08)
    assert found.lo == pytest.approx(p12 - p21 - half, abs=1e-4)
    assert found.hi == pytest.approx(p12 - p21 + half, abs=1e-4)


def test_a_ratio_is_of_sums_and_symmetric_on_the_log_scale() -> None:
    tops, bottoms = [10.0, 22.0, 28.0, 41.0], [5.0, 10.0, 15.0, 20.0]
    found = ratio_interval(tops, bottoms)
    assert found is not None
    assert found.value == pytest.approx(sum(tops) / sum(bottoms))
    assert found.value / found.lo == pytest.approx(found.hi / found.value)


def test_swapping_top_and_bottom_of_equal_lengths_gives_the_inverse() -> None:
    tops, bottoms = [9.0, 11.0, 10.0, 10.5], [10.0, 9.5, 11.0, 10.0]
    one, other = ratio_interval(tops, bottoms), ratio_interval(bottoms, tops)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(1 / other.value)
    assert one.lo == pytest.approx(1 / other.hi, rel=1e-2)


def test_a_ratio_to_nothing_has_no_interval() -> None:
    assert ratio_interval([1.0, 2.0], [0.0, 0.0]) is None


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_intervals_of_shares_cover_the_truth_about_as_often_as_they_say(share: float) -> None:
    rng = np.random.default_rng(0)
    found = [share_interval((rng.random(60) < share).astype(float).tolist()) for _ in range(500)]
    covered = [interval is not None and interval.lo <= share <= interval.hi for interval in found]
    assert 0.92 <= sum(covered) / len(covered) <= 1.0
