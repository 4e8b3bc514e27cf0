"""A score is fair whatever is expected of a rater, and raters who come back count once."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from infra.registry.tallies import TallyArm
from serving.monitors.columns import CHALLENGER, CHAMPION, Columns
from serving.monitors.scores import PRIOR, Scores, Sums, compare, earlier_means, worth
from tests.support.raters import make_tally


def make_rows(count: int, rng: np.random.Generator) -> Columns:
    """Of four strata, drawn with different chances."""
    tallies = [
        make_tally(step=int(rng.integers(2)), segment="ab"[rng.integers(2)], share=float(rng.uniform(0.05, 0.9)))
        for _ in range(count)
    ]
    return Columns.of(tallies)


def test_expectations_are_means_of_earlier_rows_of_the_stratum_with_a_little_of_all() -> None:
    rng = np.random.default_rng(0)
    value_R, weight_R, stratum_R = rng.normal(size=30), rng.uniform(0.5, 2, 30), rng.integers(3, size=30)
    expected_R, is_first_R = earlier_means(value_R, weight_R, stratum_R)
    for row in range(1, 30):
        overall = np.average(value_R[:row], weights=weight_R[:row])
        own = stratum_R[:row] == stratum_R[row]
        total = (value_R[:row] * weight_R[:row])[own].sum() + PRIOR * overall
        assert expected_R[row] == pytest.approx(total / (weight_R[:row][own].sum() + PRIOR))
    assert is_first_R.tolist() == [True] + [False] * 29


def test_of_all_draws_the_mean_score_is_the_effect_times_the_size() -> None:
    """Every assignment of nine raters with its probability: an oracle without any formula for the expectations."""
    rng = np.random.default_rng(1)
    rows, weight_R = make_rows(9, rng), rng.uniform(0.5, 3, 9)
    plain_R, treated_R = rng.uniform(size=9), rng.uniform(size=9)
    mean, size, effect = 0.0, 0.0, 0.0
    for drawn in product((False, True), repeat=9):
        drawn_R = np.array(drawn)
        arms = replace(rows, arm_R=np.where(drawn_R, CHALLENGER, CHAMPION))
        scores = compare(arms, np.where(drawn_R, treated_R, plain_R), weight_R)
        mean += scores.score_N.sum() * np.where(drawn_R, rows.share_R, 1 - rows.share_R).prod()
        size, effect = scores.size_N.sum(), (scores.size_N * (treated_R - plain_R)).sum()
    assert mean == pytest.approx(effect)
    assert size == pytest.approx((rows.share_R * (1 - rows.share_R) * weight_R)[1:].sum())


def test_of_the_first_rater_nothing_is_concluded() -> None:
    scores = compare(Columns.of([make_tally(TallyArm.CHALLENGER)]), np.array([0.0]), np.array([1.0]))
    assert scores.score_N.tolist() == scores.size_N.tolist() == [0.0]
    assert Sums.of(scores).interval(0.1, 0.05) is None


def test_rows_without_weight_change_nothing() -> None:
    rng = np.random.default_rng(2)
    rows, value_R = make_rows(20, rng), rng.normal(size=20)
    weight_R = np.where(np.arange(20) % 3 == 0, 0.0, 1.0)
    kept = weight_R > 0
    without = compare(rows.where(kept), value_R[kept], weight_R[kept])
    assert compare(rows, value_R, weight_R).score_N.tolist() == pytest.approx(without.score_N.tolist())


def test_what_one_rater_said_in_two_steps_is_added_before_it_is_squared() -> None:
    challenger_N = np.array([True, False, True])
    scores = Scores(np.array([0, 1, 0]), np.array([1.0, 5.0, 2.0]), np.ones(3), ~challenger_N, challenger_N)
    sums = Sums.of(scores)
    assert (sums.variance, sums.score, sums.size) == (9 + 25, 8, 3)
    assert (sums.raters, sums.challengers, sums.champions) == (2, 1, 1)


def test_a_rater_who_went_over_to_the_challenger_counts_as_one() -> None:
    challenger_N = np.array([False, True])
    sums = Sums.of(Scores(np.array([4, 4]), np.ones(2), np.ones(2), ~challenger_N, challenger_N))
    assert (sums.raters, sums.challengers, sums.champions) == (1, 1, 1)


@pytest.mark.parametrize("votes", [0.5, 8.0, 50.0])
def test_weighed_means_of_raters_who_go_on_voting_have_independent_increments(votes: float) -> None:
    """With taste of variance 1 and single votes of variance `votes` around it, cov(now, later) = var(now)."""
    counts = np.arange(1.0, 40.0)
    weights, variances = worth(counts, votes), 1 + votes / counts
    for now in range(len(counts) - 1):
        covariance = weights[now] * weights[now + 1 :] * variances[now + 1 :]
        assert covariance == pytest.approx(weights[now] ** 2 * variances[now])


def test_a_lone_vote_is_worth_one_and_no_number_of_votes_more_than_one_and_the_prior() -> None:
    assert worth(np.array([0.0, 1.0, 8.0, 1e9]), 8.0) == pytest.approx([0.0, 1.0, 4.5, 9.0])


def test_an_interval_is_never_wider_than_what_is_possible() -> None:
    interval = Sums(score=0.0, variance=4.0, size=0.5, raters=2, champions=1, challengers=1).interval(
        0.3, 0.05, most=0.5
    )
    assert interval is not None
    assert (interval.lo, interval.value, interval.hi, interval.n, interval.level) == (-0.5, 0.0, 0.5, 2, 0.9)


def test_the_variance_that_is_counted_by_rater_is_that_of_all_draws_though_raters_come_back() -> None:
    """The same people in two steps, those of the smaller share kept: counted by row it would be a third too small."""
    rng, raters, shares = np.random.default_rng(4), 400, (0.05, 0.25)
    unit_N, value_N = np.tile(np.arange(raters), 2), np.tile(rng.normal(size=raters), 2)
    share_N, found, by_rater, by_row = np.repeat(shares, raters), [], [], []
    for _ in range(2_000):
        challenger_N = np.tile(rng.random(raters), 2) < share_N
        score_N = (challenger_N - share_N) * value_N
        sums = Sums.of(Scores(unit_N, score_N, share_N * (1 - share_N), ~challenger_N, challenger_N))
        found.append(sums.score)
        by_rater.append(sums.variance)
        by_row.append((score_N**2).sum())
    assert np.mean(by_rater) == pytest.approx(np.var(found), rel=0.1)
    assert np.mean(by_row) < 0.8 * np.var(found)
