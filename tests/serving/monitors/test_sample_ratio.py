"""The draw is checked exactly: an e-process has mean one however few raters there are."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Step
from infra.registry.tallies import TallyArm
from serving.monitors.columns import Columns
from serving.monitors.sample_ratio import CONCENTRATION, check_assignment, check_voting, draws_of, log_e
from tests.support.raters import LIMITS, make_arms, make_subject, make_tally

CHANCES = np.array([0.01, 0.05, 0.05, 0.05, 0.25, 0.25, 0.25, 0.25, 0.5, 0.5])
STEPS = (Step(share=0.05), Step(share=0.25), Step(share=0.5))


def mean_of_e(truth_R: np.ndarray, odds: float) -> float:
    """Over every way in which the draws may fall."""
    mean = 0.0
    for drawn in product((False, True), repeat=len(CHANCES)):
        drawn_R = np.array(drawn)
        chance = float(np.where(drawn_R, truth_R, 1 - truth_R).prod())
        mean += chance * math.exp(log_e(CHANCES, drawn_R, odds=odds))
    return mean


def with_odds(chance_R: np.ndarray, factor: float) -> np.ndarray:
    return chance_R * factor / (1 - chance_R + chance_R * factor)


def test_evidence_against_the_true_chances_has_mean_one_over_all_draws() -> None:
    assert mean_of_e(CHANCES, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.25])
def test_within_the_tolerated_odds_the_mean_is_no_more_than_one(factor: float) -> None:
    assert mean_of_e(with_odds(CHANCES, factor), 1.25) <= 1.0 + 1e-12


def test_evidence_of_one_share_is_the_beta_binomial_over_the_binomial() -> None:
    drawn_R = np.arange(300) % 3 == 0
    expected = betabinom.logpmf(100, 300, CONCENTRATION * 0.25, CONCENTRATION * 0.75) - binom.logpmf(100, 300, 0.25)
    assert log_e(np.full(300, 0.25), drawn_R) == pytest.approx(expected)


def test_looking_after_every_rater_raises_false_alarms_no_more_often_than_alpha_says() -> None:
    rng, alpha, sequences, alarms = np.random.default_rng(3), 0.1, 300, 0
    chance_R = np.repeat([0.01, 0.05, 0.25, 0.5], 100)
    for _ in range(sequences):
        drawn_R = rng.random(len(chance_R)) < chance_R
        looks = (log_e(chance_R[:seen], drawn_R[:seen]) for seen in range(1, len(chance_R), 4))
        alarms += max(looks) >= -math.log(alpha)
    assert alarms <= binom.ppf(0.99, sequences, alpha)


def test_later_steps_tell_only_what_earlier_ones_left_open() -> None:
    def row(step: int, arm: TallyArm, unit: str) -> object:
        return make_tally(arm, step=step, share=STEPS[step].share, unit=unit)

    champion, challenger = TallyArm.CHAMPION, TallyArm.CHALLENGER
    rows = [
        row(0, champion, "stays"), row(0, challenger, "in"), row(1, champion, "stays"), row(1, challenger, "in"),
        row(1, challenger, "new"), row(2, challenger, "stays"), row(2, challenger, "new"),
    ]  # fmt: skip
    draws = draws_of(Columns.of(rows))  # type: ignore[arg-type]  # all of them are tallies
    assert draws.chance_R == pytest.approx([0.05, 0.05, 0.2 / 0.95, 0.25, 0.25 / 0.75])
    assert draws.challenger_R.tolist() == [False, True, False, True, True]
    assert draws.moved == 0


def test_a_rater_who_left_the_challenger_is_counted_and_no_draw() -> None:
    rows = [make_tally(TallyArm.CHALLENGER, unit="one"), make_tally(TallyArm.CHAMPION, unit="one", step=1)]
    draws = draws_of(Columns.of(rows))
    assert (draws.moved, len(draws.chance_R)) == (1, 1)


def test_a_rater_in_both_arms_of_a_step_counts_where_it_came_first() -> None:
    rows = [make_tally(TallyArm.CHALLENGER, unit="one"), make_tally(TallyArm.CHAMPION, unit="one")]
    assert draws_of(Columns.of(rows)).challenger_R.tolist() == [True]


def test_as_many_raters_as_the_shares_say_pass() -> None:
    found = check_assignment(make_subject(make_arms(400, champion={}, challenger={})))
    assert found.verdict is Verdict.PASS
    assert found.threshold == LIMITS.alpha_of("assignment")
    assert "200 of 400 draws were the challenger's, 200.0 were expected" in found.reason


def test_too_few_challengers_abort() -> None:
    tallies = [make_tally(TallyArm.CHALLENGER if place % 3 == 0 else TallyArm.CHAMPION) for place in range(400)]
    assert check_assignment(make_subject(tallies)).verdict is Verdict.FAIL


def test_a_handful_of_raters_says_nothing() -> None:
    assert check_assignment(make_subject(make_arms(4, champion={}, challenger={}))).verdict is Verdict.INCONCLUSIVE
    assert check_assignment(make_subject([])).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("silent", "verdict"), [(0, Verdict.PASS), (10, Verdict.PASS), (2, Verdict.FAIL)])
def test_voters_of_one_arm_may_be_a_few_fewer_but_not_half(silent: int, verdict: Verdict) -> None:
    """Each `silent`-th challenger's rater does not vote, while all are drawn rightly."""
    tallies = [
        make_tally(arm, votes=0 if silent and arm is TallyArm.CHALLENGER and place % silent == 0 else 1)
        for place in range(400)
        for arm in (TallyArm.CHAMPION, TallyArm.CHALLENGER)
    ]
    subject = make_subject(tallies)
    assert check_assignment(subject).verdict is Verdict.PASS
    assert check_voting(subject).verdict is verdict
