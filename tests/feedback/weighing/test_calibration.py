"""A model weighs what its agreement with people shows at the least, and never changes what people weigh."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import binomtest

from feedback.weighing.calibration import AiPolicy, calibrate, share_factor, wilson
from feedback.weighing.weights import weigh
from tests.support.crowds import make_crowd, make_opinions
from tests.support.weighing import make_mass, make_policy

POLICY = AiPolicy(shared_min=50, weight_max=1.0, share=1.0)
YES = np.ones(400)


def one_model(agreed: int, shared: int, policy: AiPolicy = POLICY):
    """A model at place 1 that says yes to questions of which people said yes to the first `agreed`."""
    said = make_opinions(np.ones(shared), np.arange(shared), np.ones(shared), raters=2, items=shared)
    decided_I = np.where(np.arange(shared) < agreed, 0.9, 0.1)
    return calibrate(said, np.array([False, True]), decided_I, 0.75, policy)


@settings(deadline=None)
@given(shared=st.integers(1, 500), data=st.data())
def test_the_interval_is_wilsons(shared: int, data: st.DataObject) -> None:
    agreed = data.draw(st.integers(0, shared))
    expected = binomtest(agreed, shared).proportion_ci(0.95, method="wilson")
    lo, hi = wilson(np.array([agreed]), np.array([shared]))
    assert lo[0] == pytest.approx(expected.low, rel=1e-9, abs=1e-12)
    assert hi[0] == pytest.approx(expected.high, rel=1e-9, abs=1e-12)


def test_a_vote_weighs_the_log_odds_of_the_lower_end_over_those_of_an_unknown_person() -> None:
    found = one_model(140, 200)
    low = binomtest(140, 200).proportion_ci(0.95, method="wilson").low
    assert found.weight_R.tolist() == pytest.approx([0.0, math.log(low / (1 - low)) / math.log(3)])
    assert (found.shared_R[1], found.agreed_R[1]) == (200, 140)


def test_it_weighs_no_more_than_the_most_that_is_set() -> None:
    assert one_model(200, 200).weight_R[1] == 1.0
    assert one_model(200, 200, AiPolicy(50, 0.25, 1.0)).weight_R[1] == 0.25


def test_fewer_shared_questions_than_are_needed_weigh_nothing_and_it_is_said() -> None:
    found = one_model(49, 49)
    assert found.weight_R[1] == 0
    assert "only 49" in found.told(1, POLICY)["reason"]


def test_agreement_that_may_be_chance_weighs_nothing_and_it_is_said() -> None:
    found = one_model(105, 200)
    assert found.weight_R[1] == 0
    assert "may be chance" in found.told(1, POLICY)["reason"]
    assert one_model(20, 200).weight_R[1] == 0  # nor is one that is wrong turned around


def test_questions_that_people_did_not_decide_tell_nothing() -> None:
    said = make_opinions(np.zeros(100), np.arange(100), np.ones(100), raters=1, items=100)
    found = calibrate(said, np.array([True]), np.full(100, 0.5), 0.75, POLICY)
    assert found.told(0, POLICY) == {
        "shared": 0, "agreement": None, "lo": 0.0, "hi": 1.0, "weight": 0.0,
        "reason": "people decided only 0 of the questions it answered: 50 are needed",
    }  # fmt: skip


def with_model(people: object, right: float, seed: int = 0):
    """A crowd with a model of this accuracy at the last place, on all questions."""
    crowd = people if people is not None else make_crowd(raters=40, items=400, each=5, seed=seed)
    rng, said, items = np.random.default_rng(seed), crowd.opinions, crowd.opinions.items
    answers = np.where(rng.random(items) < right, crowd.truth_I, ~crowd.truth_I)
    model = said.raters
    both = make_opinions(
        np.r_[said.rater_N, np.full(items, model)], np.r_[said.item_N, np.arange(items)], np.r_[said.yes_N, answers],
        raters=model + 1, items=items,
    )  # fmt: skip
    return crowd, both, np.arange(model + 1) == model


def test_what_people_weigh_does_not_depend_on_what_a_model_said() -> None:
    crowd, both, ai_R = with_model(None, 0.9)
    mass = make_mass(crowd.opinions.rater_N)
    alone = weigh(crowd.opinions, mass, [None], make_policy())
    beside = weigh(both, mass, [None], make_policy(), ai_R)
    assert beside.of(mass).tolist() == alone.of(mass).tolist()
    assert beside.report == alone.report


def test_a_better_model_weighs_more_and_one_that_guesses_nothing() -> None:
    weights = []
    for right in (0.5, 0.7, 0.8):
        _, both, ai_R = with_model(None, right, seed=4)
        weights.append(float(weigh(both, make_mass([0]), [None], make_policy(), ai_R).rater_RS[-1, 0]))
    assert weights[0] == 0
    assert 0 < weights[1] < weights[2] <= 1


def test_agreement_is_below_the_accuracy_where_people_err_too() -> None:
    crowd, both, ai_R = with_model(None, 0.85, seed=2)
    found = weigh(both, make_mass([0]), [None], make_policy(), ai_R).calibration
    agreement = found.agreed_R[-1] / found.shared_R[-1]
    truth = float(np.mean(both.yes_N[-both.items :] == crowd.truth_I))
    assert truth - 0.1 < agreement < truth


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_all_models_weigh_no_more_together_than_their_share_of_people(share: float) -> None:
    _, both, ai_R = with_model(None, 0.9)
    mass = make_mass(np.r_[np.arange(40), np.full(900, 40)])
    weight_N = weigh(both, mass, [None], make_policy(ai_share=share), ai_R).of(mass)
    assert weight_N[40:].sum() <= share * weight_N[:40].sum() + 1e-9
    assert share == 0 or weight_N[40:].sum() > 0


def test_nothing_is_scaled_where_models_are_few() -> None:
    assert share_factor(100.0, 7.0, 1.0) == 1.0
    assert share_factor(0.0, 0.0, 1.0) == 1.0
    assert share_factor(0.0, 5.0, 1.0) == 0.0


def test_an_unknown_persons_odds_are_the_measure() -> None:
    """A model whose lower end is just an unknown person's accuracy weighs as much as one."""
    assert logit(0.75) == pytest.approx(math.log(3))
    found = one_model(319, 400)
    assert found.lo_R[1] == pytest.approx(0.75, abs=0.01)
    assert found.weight_R[1] == pytest.approx(1.0, abs=0.05)
