"""Choices side by side: each rater's mean, against a half."""

import pytest

from infra.contracts.manifests import Verdict
from infra.registry.tallies import Tally, TallyArm
from serving.monitors.pairs import check, pair_sums
from tests.support.raters import make_subject, make_tally


def choosers(raters: int, wins: float, choices: int = 4, **overrides: object) -> list[Tally]:
    return [make_tally(TallyArm.PAIR, choices=choices, wins=wins, **overrides) for _ in range(raters)]


@pytest.mark.parametrize(
    ("raters", "wins", "verdict"),
    [(60, 0, Verdict.FAIL), (60, 2, Verdict.INCONCLUSIVE), (60, 4, Verdict.PASS), (6, 0, Verdict.INCONCLUSIVE)],
)
def test_a_challenger_that_loses_for_certain_aborts(raters: int, wins: float, verdict: Verdict) -> None:
    assert check(make_subject(choosers(raters, wins))).verdict is verdict


def test_one_rater_with_a_thousand_choices_decides_nothing() -> None:
    tallies = [*choosers(1, 0, choices=1000), *choosers(40, 2)]
    found = check(make_subject(tallies))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.interval is not None
    assert found.interval.value == pytest.approx(0.5 - 0.5 * 8.93 / (8.93 + 40 * 3), abs=0.001)


def test_ties_are_halves_and_the_interval_is_of_the_share_of_wins() -> None:
    found = check(make_subject(choosers(50, 0.5, choices=1)))
    assert found.interval is not None
    assert found.interval.value == 0.5
    assert 0 <= found.interval.lo < 0.5 < found.interval.hi <= 1


def test_a_rater_of_two_steps_is_one_rater() -> None:
    sums = pair_sums(make_subject([*choosers(1, 0, unit="same"), *choosers(1, 0, unit="same", step=1)]))
    assert sums.challengers == 1
    assert sums.variance == pytest.approx(sums.score**2)


def test_without_choices_there_is_nothing_to_compare() -> None:
    assert check(make_subject([make_tally()])).interval is None
