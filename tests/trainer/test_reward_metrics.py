"""Reward metrics against closed forms and against data whose truth is known."""

import math

import numpy as np
import pytest
from scipy.special import expit

from trainer.reward_metrics import Judged, accuracy, calibration_slope, describe, length_correlation


def make_judged(margin: float, **overrides: object) -> Judged:
    fields: dict[str, object] = {"margin": margin, "longer": 0.0, "rater": "r1", "source": "human"}
    return Judged(**{**fields, **overrides})  # type: ignore[arg-type]


def simulated(slope: float, seed: int = 1, raters: int = 40, each: int = 10) -> list[Judged]:
    """Choices that follow sigmoid(slope * difference); a margin is negative where the lower score was chosen."""
    rng = np.random.default_rng(seed)
    rows = []
    for rater in range(raters):
        for difference in rng.normal(0, 2, each):
            preferred = rng.random() < expit(slope * difference)
            rows.append(make_judged(float(difference if preferred else -difference), rater=f"r{rater}"))
    return rows


def test_accuracy_is_the_share_of_positive_margins_and_ties_are_half() -> None:
    rows = [make_judged(1.0), make_judged(-1.0), make_judged(0.0, rater="r2"), make_judged(2.0, rater="r3")]
    found = accuracy(rows)
    assert found is not None
    assert found.value == pytest.approx(2.5 / 4)
    assert found.n == 3


def test_a_rater_who_repeats_itself_adds_no_certainty() -> None:
    few = [make_judged(1.0 if r % 4 else -1.0, rater=f"r{r}") for r in range(20)]
    many = [row for row in few for _ in range(10)]
    one, other = accuracy(few), accuracy(many)
    assert one is not None
    assert other is not None
    assert other.hi - other.lo > 0.8 * (one.hi - one.lo)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_the_slope_finds_how_over_or_underconfident_the_scores_are(slope: float) -> None:
    found = [calibration_slope(simulated(slope, seed)) for seed in range(100)]
    covered = [interval is not None and interval.lo < slope < interval.hi for interval in found]
    assert 0.88 <= sum(covered) / len(covered) <= 1.0


def test_separable_pairs_have_no_slope() -> None:
    assert calibration_slope([make_judged(1.0, rater=f"r{n}") for n in range(9)]) is None


def test_log_loss_and_brier_of_an_undecided_model_are_a_coins() -> None:
    found = describe([make_judged(0.0, rater=f"r{n}") for n in range(10)])
    assert found["log_loss"]["value"] == pytest.approx(math.log(2))
    assert found["brier"]["value"] == pytest.approx(0.25)


def test_a_model_that_likes_length_shows_it() -> None:
    rows = [make_judged(0.1 * longer, longer=longer) for longer in (-5.0, 3.0, 8.0)]
    assert length_correlation(rows) == pytest.approx(1.0)
    assert length_correlation([make_judged(1.0), make_judged(2.0)]) is None


def test_accuracy_is_told_by_source() -> None:
    rows = [make_judged(1.0, rater="a"), make_judged(1.0, rater="b"), make_judged(-1.0, rater="a", source="correction")]
    by_source = describe(rows)["accuracy_by_source"]
    assert by_source["human"]["value"] == 1.0
    assert by_source["correction"]["value"] == 0.0


def test_no_held_out_pairs_leave_everything_unmeasured() -> None:
    found = describe([])
    assert found == {"pairs": 0, "accuracy_by_source": {}, "accuracy_by_segment": {}, "length_correlation": None}


def test_accuracy_is_told_by_segment_where_rows_name_one() -> None:
    rows = [make_judged(1.0, rater=f"r{n}", segment="de" if n % 2 else "en") for n in range(6)]
    rows += [make_judged(-1.0, rater=f"r{n}", segment="en") for n in range(6)]
    by_segment = describe([*rows, make_judged(-1.0)])["accuracy_by_segment"]
    assert by_segment.keys() == {"de", "en"}
    assert by_segment["de"]["value"] == 1.0
    assert by_segment["en"]["value"] == pytest.approx(3 / 9)
