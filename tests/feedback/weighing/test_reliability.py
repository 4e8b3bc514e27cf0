"""Who is right how often is told from the opinions alone."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import OneCoinDawidSkene
from scipy.stats import spearmanr

from feedback.weighing.opinions import Opinions
from feedback.weighing.reliability import Prior, count_repeats, estimate
from feedback.weighing.weights import rater_weight
from tests.support.crowds import Crowd, majority, make_crowd, make_opinions
from tests.support.weighing import make_policy

FLAT = Prior(mean=0.5, strength=2.0)  # a uniform prior: nothing is believed beforehand


def accuracy(crowd: Crowd, share_I: np.ndarray) -> float:
    """Of the aggregated label; an even question counts half."""
    return float(np.where(share_I == 0.5, 0.5, (share_I > 0.5) == crowd.truth_I).mean())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # crowd-kit 1.4 with pandas 3.1
@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_those_of_crowd_kit(seed: int) -> None:
    crowd = make_crowd(raters=30, items=2000, each=5, seed=seed)
    said = crowd.opinions
    frame = pd.DataFrame({"task": said.item_N, "worker": said.rater_N, "label": said.yes_N.astype(int)})
    oracle = OneCoinDawidSkene(n_iter=200, tol=1e-8).fit(frame)
    found = estimate(said, dataclasses.replace(FLAT, mean=0.5001), rounds=300, tolerance=1e-7)
    assert np.allclose(found.p_R, oracle.skills_.sort_index().to_numpy(), atol=0.01)
    agrees = (found.truth_I > 0.5) == (oracle.labels_.sort_index().to_numpy() == 1)
    assert agrees.mean() > 0.995


@pytest.mark.parametrize("seed", range(3))
def test_careless_and_adversarial_raters_are_found_and_weights_make_labels_better(seed: int) -> None:
    crowd = make_crowd(raters=100, items=3000, careless=0.2, adversarial=0.1, seed=seed)
    found = estimate(crowd.opinions, Prior())
    weight_R = rater_weight(found.p_R, make_policy())
    plain, weighted = (accuracy(crowd, majority(crowd.opinions, w)) for w in (np.ones(100), weight_R))
    assert spearmanr(found.p_R, crowd.p_R).statistic > 0.85
    assert weighted > plain + 0.03


def test_an_unknown_rater_is_what_the_prior_says_and_weighs_one() -> None:
    found = estimate(make_opinions([0], [0], [True]), Prior())
    assert found.p_R[0] == pytest.approx(0.75, abs=0.005)
    assert rater_weight(found.p_R, make_policy())[0] == pytest.approx(1.0, abs=0.03)
    assert found.answers_R[0] == 0


def test_who_agrees_with_nobody_weighs_nothing() -> None:
    crowd = make_crowd(raters=20, items=500, adversarial=0.1)
    assert (rater_weight(estimate(crowd.opinions, Prior()).p_R, make_policy())[:2] == 0).all()


def test_check_questions_overrule_a_majority_that_is_wrong_together() -> None:
    """Three liars against one: without known answers the liars look right."""
    items, truth = np.arange(40), np.ones(40, dtype=bool)
    said = make_opinions(np.repeat(np.arange(4), 40), np.tile(items, 4), np.r_[~truth, ~truth, ~truth, truth])
    checked = dataclasses.replace(said, truth_I=np.where(items < 20, 1.0, np.nan))
    assert estimate(said, Prior()).p_R[3] < 0.3
    found = estimate(checked, Prior())
    assert found.p_R[3] > 0.9
    assert (found.p_R[:3] < 0.2).all()
    assert (found.truth_I[20:] > 0.5).all()


def test_who_contradicts_himself_is_trusted_less_without_anybody_else() -> None:
    steady = make_opinions(np.zeros(20), np.repeat(np.arange(10), 2), np.ones(20))
    fickle = make_opinions(np.zeros(20), np.repeat(np.arange(10), 2), np.tile([1, 0], 10))
    assert estimate(fickle, Prior()).p_R[0] < 0.65 < 0.75 < estimate(steady, Prior()).p_R[0]


def test_repeats_are_counted_against_what_was_said_more_often() -> None:
    repeats = count_repeats(make_opinions([0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [1, 1, 0, 1, 1]))
    assert repeats.same_R.tolist() == [1, 0]
    assert repeats.other_R.tolist() == [1, 0]


def test_a_segment_with_enough_answers_has_a_reliability_of_its_own() -> None:
    """Right in the first segment, wrong in the second; nobody else is."""
    items = np.arange(80)
    segment_I, truth_I = items // 40, np.ones(80, dtype=bool)
    odd = np.where(segment_I == 0, truth_I, ~truth_I)
    said = make_opinions(
        np.repeat(np.arange(4), 80), np.tile(items, 4), np.r_[odd, truth_I, truth_I, truth_I],
        segment_N=np.tile(segment_I, 4), segments=2,
    )  # fmt: skip
    found = estimate(said, Prior(), segment_min=10)
    assert found.p_RS[0, 0] > 0.8
    assert found.p_RS[0, 1] < 0.35
    assert np.isnan(estimate(said, Prior(), segment_min=50).p_RS).all()


def test_the_order_of_opinions_does_not_matter() -> None:
    said = make_crowd(raters=20, items=200).opinions
    order = np.random.default_rng(1).permutation(len(said.rater_N))
    shuffled = Opinions(
        said.rater_N[order], said.item_N[order], said.yes_N[order], said.segment_N[order], said.truth_I, said.raters
    )
    assert np.allclose(estimate(said, Prior()).p_R, estimate(shuffled, Prior()).p_R, atol=1e-9)


def test_nobody_and_nothing_is_no_error() -> None:
    found = estimate(make_opinions([], [], []), Prior())
    assert len(found.p_R) == len(found.truth_I) == 0
