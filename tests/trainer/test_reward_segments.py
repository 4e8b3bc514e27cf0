"""A reward model's accuracy by segment: below the champion's model, or below its own whole."""

import random
from collections.abc import Mapping

import pytest

from trainer.reward_metrics import Judged
from trainer.reward_segments import falls, gaps


def make_rows(right: Mapping[str, float], *, raters: int = 30, each: int = 8, seed: int = 0) -> list[Judged]:
    """Every rater judges in every segment; `right` is how often the model agrees."""
    rng = random.Random(seed)
    return [
        Judged(1.0 if rng.random() < share else -1.0, 0.0, f"rater-{rater}", segment=segment)
        for segment, share in right.items()
        for rater in range(raters)
        for _ in range(each)
    ]


def test_a_segment_that_the_new_model_forgot_is_shown_to_have_fallen() -> None:
    earlier, rows = make_rows({"de": 0.8, "en": 0.8}), make_rows({"de": 0.5, "en": 0.8}, seed=1)
    found = falls(rows, earlier, least=20)
    assert found["de"].interval is not None and found["en"].interval is not None
    assert found["de"].interval.lo > 0.1
    assert found["de"].interval.value == pytest.approx(0.3, abs=0.1)
    assert found["en"].interval.lo < 0 < found["en"].interval.hi
    assert found["de"].enough and found["de"].interval.n == 30


def test_without_an_earlier_model_a_segment_is_held_against_the_whole() -> None:
    found = gaps(make_rows({"de": 0.5, "en": 0.85, "fr": 0.85}), least=20)
    assert found["de"].interval is not None and found["en"].interval is not None
    assert found["de"].interval.lo > 0.1
    assert found["en"].interval.hi < 0.2


def test_the_interval_is_over_raters_however_often_each_judged() -> None:
    """A rater who judged a hundred times alike adds one opinion."""
    once, often = make_rows({"de": 0.7}, each=1), [row for row in make_rows({"de": 0.7}, each=1) for _ in range(100)]
    worse = make_rows({"de": 0.5}, each=1, seed=2)
    single = falls(worse, once, least=2)["de"].interval
    many = falls([row for row in worse for _ in range(100)], often, least=2)["de"].interval
    assert single is not None and many is not None
    assert many.hi - many.lo > 0.5 * (single.hi - single.lo)


def test_few_raters_are_not_enough() -> None:
    assert not falls(make_rows({"de": 0.5}, raters=5), make_rows({"de": 0.5}, raters=5), least=20)["de"].enough


@pytest.mark.parametrize("raters", [0, 1])
def test_one_rater_alone_has_no_interval(raters: int) -> None:
    rows = [*make_rows({"de": 1.0}, raters=raters), *make_rows({"en": 1.0})]
    assert all(found.interval is None for name, found in gaps(rows, least=2).items() if name == "de")


def test_votes_that_name_no_segment_have_none() -> None:
    rows = make_rows({"": 0.8})
    assert falls(rows, rows, least=2) == gaps(rows, least=2) == {}
