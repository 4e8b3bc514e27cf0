"""Nobody weighs more than the caps allow, and segments weigh what is asked for."""

import krippendorff
import numpy as np
import pytest

from feedback.weighing.agreement import alpha, effective_size, top_share
from feedback.weighing.networks import ALONE, find_networks
from feedback.weighing.segments import segment_factors
from feedback.weighing.weights import weigh
from tests.support.crowds import make_crowd, make_opinions
from tests.support.weighing import make_mass, make_policy


def silent(raters: int, segments: int = 1):
    """Raters of whom nothing is known."""
    return make_opinions([], [], [], raters=raters, items=0, segments=segments)


def test_raters_of_whom_nothing_is_known_weigh_what_they_said() -> None:
    mass = make_mass([0, 0, 1, 2])
    weights = weigh(silent(3), mass, [None], make_policy())
    assert weights.of(mass) == pytest.approx(np.ones(4), abs=0.03)


def test_one_rater_weighs_no_more_than_the_cap() -> None:
    mass = make_mass([0] * 50 + [1] * 3)
    weights = weigh(silent(2), mass, [None], make_policy(rater_cap=10))
    assert weights.of(mass)[:50].sum() == pytest.approx(10)
    assert weights.of(mass)[50:].sum() == pytest.approx(3, abs=0.1)


def test_one_prompt_weighs_no_more_than_the_cap() -> None:
    mass = make_mass(range(30), prompt_N=[0] * 20 + list(range(1, 11)))
    weights = weigh(silent(30), mass, [None], make_policy(prompt_cap=5))
    assert weights.of(mass)[:20].sum() == pytest.approx(5)
    assert (weights.prompt_P[1:] == 1).all()


def test_caps_hold_whatever_a_segment_is_multiplied_by() -> None:
    mass = make_mass([0] * 100 + [1] * 5, segment_N=[0] * 100 + [1] * 5)
    policy = make_policy(rater_cap=20, segment_mix={"de": 0.5, "en": 0.5}, segment_weight_max=100)
    weights = weigh(silent(2, 2), mass, ["de", "en"], policy)
    total_R = np.bincount(mass.rater_N, weights=weights.of(mass))
    assert (total_R <= 20 + 1e-9).all()


def test_accounts_of_one_hand_are_capped_as_one() -> None:
    """Five that always say the same among 40 who err by themselves."""
    honest = make_crowd(raters=40, items=400, each=8, seed=3).opinions
    same = np.random.default_rng(0).random(400) < 0.5
    copies = make_opinions(
        np.r_[honest.rater_N, np.repeat(np.arange(40, 45), 400)], np.r_[honest.item_N, np.tile(np.arange(400), 5)],
        np.r_[honest.yes_N, np.tile(same, 5)],
    )  # fmt: skip
    network_R = find_networks(copies, overlap=20)
    assert (network_R[:40] == ALONE).all()
    assert len(set(network_R[40:].tolist())) == 1
    assert network_R[40] != ALONE
    mass = make_mass(np.repeat(np.arange(45), 30))
    weights = weigh(copies, mass, [None], make_policy(network_cap=10, rater_weight_max=2))
    assert weights.of(mass)[40 * 30 :].sum() <= 10 + 1e-9


def test_two_who_share_few_questions_are_no_network() -> None:
    said = make_opinions(np.repeat([0, 1], 10), np.tile(np.arange(10), 2), np.ones(20))
    assert (find_networks(said, overlap=20) == ALONE).all()


def test_honest_and_able_raters_are_no_network() -> None:
    found = [find_networks(make_crowd(raters=30, items=600, each=10, seed=s).opinions, overlap=20) for s in range(5)]
    assert all((network_R == ALONE).all() for network_R in found)


def test_segments_get_their_shares() -> None:
    segment_N, mass_N = np.array([0] * 90 + [1] * 10), np.ones(100)
    factor_S = segment_factors(["en", "de"], segment_N, mass_N, {"en": 0.6, "de": 0.4}, most=10)
    weight_N = factor_S[segment_N] * mass_N
    assert weight_N[90:].sum() / weight_N.sum() == pytest.approx(0.4)
    assert weight_N.sum() == pytest.approx(100)


def test_a_rare_segment_is_multiplied_no_further_than_the_limit() -> None:
    factor_S = segment_factors(["en", "de"], np.array([0] * 99 + [1]), np.ones(100), {"de": 0.5, "en": 0.5}, most=5)
    assert factor_S.tolist() == pytest.approx([0.5 / 0.99, 5])


def test_segments_that_are_not_named_share_what_is_left_as_they_are() -> None:
    segment_N = np.array([0] * 50 + [1] * 30 + [2] * 20)
    factor_S = segment_factors(["en", "de", None], segment_N, np.ones(100), {"en": 0.75}, most=10)
    assert factor_S.tolist() == pytest.approx([1.5, 0.5, 0.5])


def test_without_a_mix_segments_weigh_as_they_come() -> None:
    assert segment_factors(["en", "de"], np.array([0, 1]), np.ones(2), {}, most=5).tolist() == [1, 1]


def test_agreement_is_krippendorffs_alpha() -> None:
    said = make_crowd(raters=20, items=100, each=4).opinions
    table_RI = np.full((20, 100), np.nan)
    table_RI[said.rater_N, said.item_N] = said.yes_N
    assert alpha(said) == pytest.approx(krippendorff.alpha(table_RI, level_of_measurement="nominal"))


def test_there_is_no_agreement_to_measure_where_nobody_overlaps_or_all_say_yes() -> None:
    assert alpha(make_opinions([0, 1], [0, 1], [1, 0])) is None
    assert alpha(make_opinions([0, 1], [0, 0], [1, 1])) is None


def test_equal_weights_are_worth_their_number_and_one_heavy_row_is_worth_one() -> None:
    assert effective_size(np.ones(7)) == pytest.approx(7)
    assert effective_size(np.array([1000.0, 1e-6, 1e-6])) == pytest.approx(1, abs=0.01)
    assert effective_size(np.zeros(0)) == 0


def test_the_top_share_is_that_of_the_heaviest_raters() -> None:
    assert top_share(np.r_[np.ones(99), 99.0]) == pytest.approx(0.5)


def test_the_report_says_who_is_in_and_who_is_out() -> None:
    crowd = make_crowd(raters=20, items=800, adversarial=0.1, seed=1)
    report = weigh(crowd.opinions, make_mass(range(20)), [None], make_policy()).report
    assert report["raters"] == 20
    assert report["raters_in"] == 18
    assert report["raters_out"] == {"unreliable": 2}
    assert 0 < report["krippendorff_alpha"] < 1
    assert report["effective_size"] <= 18
