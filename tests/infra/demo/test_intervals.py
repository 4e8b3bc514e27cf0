import numpy as np
import pytest

from infra.demo.intervals import by_subject


def test_the_value_is_the_mean_of_all_answers() -> None:
    estimate = by_subject({"a": [1, 0], "b": [1, 1]}, bootstraps=50)
    assert estimate.value == 0.75
    assert (estimate.subjects, estimate.answers) == (2, 4)


def test_the_interval_holds_the_value_and_narrows_with_more_subjects() -> None:
    rng = np.random.default_rng(0)
    few = by_subject({str(at): list(rng.integers(0, 2, 4)) for at in range(20)}, bootstraps=400)
    many = by_subject({str(at): list(rng.integers(0, 2, 4)) for at in range(500)}, bootstraps=400)
    assert few.lo <= few.value <= few.hi
    assert many.hi - many.lo < few.hi - few.lo


def test_answers_about_one_subject_do_not_count_as_independent() -> None:
    alike = {str(at): [float(at % 2)] * 50 for at in range(20)}
    spread = {str(at): [0.0, 1.0] * 25 for at in range(20)}
    assert by_subject(alike, bootstraps=400).hi - by_subject(alike, bootstraps=400).lo > 0.2
    assert by_subject(spread, bootstraps=400).ci == [0.5, 0.5]


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        rates = rng.beta(2, 2, 60)
        estimate = by_subject({str(at): list(rng.random(5) < rate) for at, rate in enumerate(rates)}, bootstraps=200)
        hits += estimate.lo <= 0.5 <= estimate.hi
    assert hits >= 180


def test_subjects_without_answers_do_not_count_towards_the_mean() -> None:
    assert by_subject({"a": [1, 1], "b": []}, bootstraps=50).value == 1


def test_nothing_to_average_is_an_error() -> None:
    with pytest.raises(ValueError, match="no answers"):
        by_subject({"a": []}, bootstraps=10)
