"""Estimates of a candidate's vote rate: exact where everything can be summed, and right by other people's code."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.bench.off_policy_bandit import Bandit
from trainer.off_policy import (
    Floats,
    Votes,
    doubly_robust,
    ips,
    kish,
    mean_weight,
    plain,
    ratio,
    snips,
)

SEEDS = st.integers(0, 10**6)


def make_votes(seed: int = 0, count: int = 60, raters: int = 12, shift: float = 0.5) -> Votes:
    """Random ones; without a shift the candidate is the behaviour."""
    rng = np.random.default_rng(seed)
    behaviour_N = rng.normal(-8, 2, count)
    return Votes(
        up_N=(rng.random(count) < 0.6).astype(np.float64),
        behaviour_N=behaviour_N,
        candidate_N=behaviour_N + shift * rng.normal(size=count),
        rater_N=np.concatenate([np.arange(raters), rng.integers(raters, size=count - raters)]),
        mass_N=rng.uniform(0.5, 1.5, count),
    )


@settings(deadline=None)
@given(seed=SEEDS)
def test_on_the_policys_own_answers_every_estimate_is_the_plain_mean(seed: int) -> None:
    votes = make_votes(seed, shift=0.0)
    mean = float(np.average(votes.up_N, weights=votes.mass_N))
    guess_N = np.random.default_rng(seed).random(len(votes.up_N))
    for found in (ips(votes), snips(votes), doubly_robust(votes, guess_N, guess_N)):
        assert found.value == pytest.approx(mean)
    assert mean_weight(votes) == pytest.approx(1)
    assert votes.effective_size == pytest.approx(kish(votes.mass_N))


def test_over_all_answers_of_a_tiny_vocabulary_weights_turn_one_policy_into_the_other() -> None:
    """Every answer of three symbols of four, as often as the behaviour says it: no chance is left."""
    rng = np.random.default_rng(0)
    behaviour_K, candidate_K, liked_K = (rng.dirichlet(np.full(4, 20)) for _ in range(3))
    answers = np.array(list(product(range(4), repeat=3)))
    behaviour_N, candidate_N = (np.log(chance_K)[answers].sum(1) for chance_K in (behaviour_K, candidate_K))
    up_N = liked_K[answers].mean(1)
    votes = Votes(up_N, behaviour_N, candidate_N, np.arange(len(answers)), np.exp(behaviour_N))
    truth = float((np.exp(candidate_N) * up_N).sum())
    assert votes.clipped == 0
    assert ips(votes).value == pytest.approx(truth)
    assert snips(votes).value == pytest.approx(truth)
    assert mean_weight(votes) == pytest.approx(1)


def test_arms_that_are_put_together_need_no_propensities_and_one_alone_is_divided_by_its() -> None:
    """Prompts of two kinds, of which the arms have unlike parts; both arms' answers are summed over in full."""
    arm_A, arm_B, candidate = (np.array(chance) for chance in ((0.7, 0.3), (0.4, 0.6), (0.2, 0.8)))
    liked = {"easy": np.array([0.9, 0.5]), "hard": np.array([0.4, 0.1])}
    share_of_A = {"easy": 0.9, "hard": 0.3}
    rows = [
        (liked[kind][y], arm[y], candidate[y], chance, name)
        for kind in liked
        for name, arm, chance in (("A", arm_A, share_of_A[kind]), ("B", arm_B, 1 - share_of_A[kind]))
        for y in (0, 1)
    ]
    up_N, behaviour_N, candidate_N, chance_N = (np.array([row[at] for row in rows]) for at in range(4))
    is_A = np.array([row[4] == "A" for row in rows])
    truth = float(np.mean([candidate @ liked[kind] for kind in liked]))

    def estimate(among_N: Floats, mass_N: Floats) -> float:
        rater_N = np.arange(len(rows))
        return snips(Votes(up_N, np.log(behaviour_N), np.log(candidate_N), rater_N, mass_N * among_N)).value

    drawn_N = chance_N * behaviour_N  # how often each row is logged
    assert estimate(np.ones(len(rows)), drawn_N) == pytest.approx(truth)
    assert estimate(is_A.astype(float), drawn_N) != pytest.approx(truth, abs=0.02)
    assert estimate(is_A.astype(float), drawn_N / chance_N) == pytest.approx(truth)


@settings(deadline=None)
@given(seed=SEEDS)
def test_one_estimate_is_right_where_guesses_are_whatever_the_weights(seed: int) -> None:
    votes = make_votes(seed, shift=2.0)
    own_N = np.random.default_rng(seed).random(len(votes.up_N))
    found = doubly_robust(votes, votes.up_N, own_N)
    assert found.value == pytest.approx(float(np.average(own_N, weights=votes.mass_N)))


@settings(deadline=None)
@given(seed=SEEDS, by=st.floats(-5, 5))
def test_self_normalised_estimates_do_not_mind_a_constant_in_the_log_probabilities(seed: int, by: float) -> None:
    votes = make_votes(seed)
    moved = Votes(votes.up_N, votes.behaviour_N, votes.candidate_N - abs(by), votes.rater_N, votes.mass_N)
    if not votes.clipped:
        assert snips(moved).value == pytest.approx(snips(votes).value)
        assert ips(moved).value == pytest.approx(ips(votes).value * np.exp(-abs(by)))


def test_the_interval_is_that_of_a_cluster_sandwich_with_one_more_rater_at_each_extreme() -> None:
    """By another road: weighted least squares on a constant, with numpy's solver and the CR1 sandwich."""
    votes = make_votes(3, raters=15)
    mass_N = votes.mass_N * votes.weight_N
    by_rater = np.bincount(votes.rater_N, mass_N)
    unit = by_rater.sum() / kish(by_rater)
    up_M, mass_M = np.append(votes.up_N, [0, 1]), np.append(mass_N, [unit, unit])
    group_M = np.append(votes.rater_N, [100, 101])
    root_M = np.sqrt(mass_M)
    ((centre,), *_) = np.linalg.lstsq(root_M[:, None], root_M * up_M, rcond=None)
    scores = [float((mass_M * (up_M - centre))[group_M == group].sum()) for group in np.unique(group_M)]
    raters = kish(by_rater)
    error = np.sqrt(raters / (raters - 1) * np.sum(np.square(scores))) / mass_M.sum()
    half = stats.t.ppf(0.975, raters - 1) * error
    found = snips(votes).interval(0, 1)
    assert found is not None
    assert (found.lo, found.hi, found.n) == (pytest.approx(centre - half), pytest.approx(centre + half), 15)


def test_with_one_vote_each_and_equal_weights_it_is_agresti_and_caffos() -> None:
    up_N = np.array([1.0] * 7 + [0.0] * 3)
    votes = Votes(up_N, np.zeros(10), np.zeros(10), np.arange(10), np.ones(10))
    found = snips(votes).interval(0, 1)
    half = stats.t.ppf(0.975, 9) * np.sqrt(8 / 12 * 4 / 12 / 12 * 10 / 9)
    assert found is not None
    assert (found.value, found.lo, found.hi) == (0.7, pytest.approx(8 / 12 - half), pytest.approx(8 / 12 + half))


def test_the_same_votes_by_fewer_raters_are_less_certain() -> None:
    many, few = make_votes(count=80, raters=80), make_votes(count=80, raters=4)
    wide, narrow = snips(few).interval(0, 1), snips(many).interval(0, 1)
    assert wide is not None
    assert narrow is not None
    assert wide.hi - wide.lo > narrow.hi - narrow.lo


def test_unanimity_is_no_certainty() -> None:
    votes = Votes(np.ones(9), np.zeros(9), np.zeros(9), np.arange(9), np.ones(9))
    found = snips(votes).interval(0, 1)
    assert found is not None
    assert found.value == 1
    assert found.lo < 0.85


def test_one_rater_or_one_answer_that_outweighs_all_others_has_no_interval() -> None:
    alone = make_votes(raters=1)
    assert snips(alone).interval(0, 1) is None
    heavy_N = np.zeros(60)
    heavy_N[0] = 9.0
    outweighed = make_votes(shift=0.0)
    outweighed = Votes(outweighed.up_N, np.zeros(60), heavy_N - 9, outweighed.rater_N, outweighed.mass_N)
    assert outweighed.effective_size < 2
    assert snips(outweighed).interval(0, 1) is None


@pytest.mark.parametrize("ratio_of_one", [1e3, np.inf])
def test_no_weight_is_above_the_root_of_their_number(ratio_of_one: float) -> None:
    candidate_N = np.zeros(100)
    candidate_N[5] = np.log(ratio_of_one)
    votes = Votes(np.ones(100), np.zeros(100), candidate_N, np.arange(100), np.ones(100))
    assert votes.weight_N.max() == votes.cap == 10
    assert votes.clipped == 0.01


def test_equal_weights_are_as_many_as_they_are_and_a_lone_one_is_one() -> None:
    assert kish(np.full(50, 0.2)) == pytest.approx(50)
    assert kish(np.array([0.0, 3.0, 0.0])) == pytest.approx(1)
    assert kish(np.zeros(3)) == 0
    assert kish(np.full(4, 1e-250)) == pytest.approx(4)


def test_a_difference_on_the_same_raters_is_surer_than_two_that_know_nothing_of_each_other() -> None:
    """People who like everything like both."""
    rng = np.random.default_rng(5)
    rater_N = np.repeat(np.arange(40), 6)
    lenient_N = np.repeat(rng.random(40) < 0.5, 6)
    up_N = (rng.random(240) < np.where(lenient_N, 0.9, 0.2)).astype(float)
    votes = Votes(up_N, np.zeros(240), rng.normal(0, 0.2, 240), rater_N, np.ones(240))
    mine, champions = snips(votes), plain(votes, np.arange(240) % 2 == 0)
    apart, alone, other = (mine - champions).interval(-1, 1), mine.interval(0, 1), champions.interval(0, 1)
    assert apart is not None
    assert alone is not None
    assert other is not None
    assert apart.value == pytest.approx(mine.value - champions.value)
    assert apart.hi - apart.lo < np.hypot(alone.hi - alone.lo, other.hi - other.lo)


def test_the_plain_rate_is_of_those_votes_alone() -> None:
    votes = make_votes(7)
    some_N = np.arange(60) < 20
    expected = float(np.average(votes.up_N[:20], weights=votes.mass_N[:20]))
    assert plain(votes, some_N).value == pytest.approx(expected)


def test_a_ratio_counts_the_raters_that_have_any_weight() -> None:
    found = ratio(np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0]), np.array([0, 1, 2]))
    assert found.count == 2


@pytest.mark.parametrize("length", [2, 5])
def test_the_bandits_truth_is_what_its_candidate_gets(length: int) -> None:
    bandit, rng = Bandit(length, 0.8, eager=0.5), np.random.default_rng(0)
    drawn_NK = rng.multinomial(length, bandit.candidate_K, size=200_000)
    voted_NK = drawn_NK[rng.random(len(drawn_NK)) < bandit.voting(drawn_NK)]
    leaning_N = np.where(np.arange(len(voted_NK)) % 2, 0.6, -0.6)
    assert bandit.truth == pytest.approx(float(bandit.up(voted_NK, leaning_N).mean()), abs=0.005)


def test_on_the_bandit_the_self_normalised_estimate_is_near_the_truth_and_covers_it() -> None:
    bandit, rng = Bandit(4, 0.4, eager=0.5), np.random.default_rng(0)
    found = [snips(bandit.draw(256, 64, rng).votes) for _ in range(200)]
    intervals = [one.interval(0, 1) for one in found]
    covered = [one is not None and one.lo <= bandit.truth <= one.hi for one in intervals]
    assert np.mean([one.value for one in found]) == pytest.approx(bandit.truth, abs=0.01)
    assert np.mean(covered) > 0.9
