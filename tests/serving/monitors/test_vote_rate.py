"""Votes are compared within steps and segments, and a step passes only where its margin is ruled out."""

import numpy as np
import pytest

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Step, StepKind
from infra.registry.tallies import Tally, TallyArm
from serving.monitors.vote_rate import check
from tests.support.raters import alternating, make_subject, make_tally, voters

CHAMPION, CHALLENGER = TallyArm.CHAMPION, TallyArm.CHALLENGER
GOOD, MIXED, BAD = (1, 1, 1, 1, 0), (1, 0), (0, 0, 0, 0, 1)


def both(raters: int, champion: tuple[int, ...], challenger: tuple[int, ...], **overrides: object) -> list[Tally]:
    return alternating(
        voters(CHAMPION, raters, champion, **overrides), voters(CHALLENGER, raters, challenger, **overrides)
    )


@pytest.mark.parametrize(
    ("champion", "challenger", "raters", "verdict"),
    [
        (GOOD, BAD, 60, Verdict.FAIL),
        (GOOD, GOOD, 600, Verdict.PASS),
        (BAD, GOOD, 60, Verdict.PASS),
        (GOOD, GOOD, 30, Verdict.INCONCLUSIVE),
        (GOOD, BAD, 8, Verdict.INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    champion: tuple[int, ...], challenger: tuple[int, ...], raters: int, verdict: Verdict
) -> None:
    assert check(make_subject(both(raters, champion, challenger))).verdict is verdict


def test_the_difference_is_that_of_the_arms_in_an_interval_of_twice_its_alpha() -> None:
    found = check(make_subject(both(3_000, GOOD, MIXED)))
    assert found.interval is not None
    assert found.interval.value == pytest.approx(-0.3, abs=0.01)
    assert (found.interval.n, found.interval.level) == (5_999, 0.95)


def test_a_challenger_who_answers_more_in_hard_times_is_not_blamed_for_them() -> None:
    """Simpson's trap: pooled, the challenger has 50% thumbs up and the champion 70%; in each step they are alike."""
    easy = [*voters(CHALLENGER, 20, GOOD, share=0.1), *voters(CHAMPION, 180, GOOD, share=0.1)]
    hard = both(200, BAD, BAD, step=1)
    rng = np.random.default_rng(0)
    tallies = [*(easy[place] for place in rng.permutation(len(easy))), *hard]
    found = check(make_subject(tallies, Step(share=0.1), Step(share=0.5, margin=0.5), step=1))
    assert found.verdict is Verdict.PASS
    assert found.interval is not None
    assert abs(found.interval.value) < 0.02


def test_segments_that_like_nothing_do_not_count_against_the_arm_that_met_them_more() -> None:
    kind = [*voters(CHALLENGER, 40, GOOD, segment="kind"), *voters(CHAMPION, 80, GOOD, segment="kind")]
    harsh = [*voters(CHALLENGER, 80, BAD, segment="harsh"), *voters(CHAMPION, 40, BAD, segment="harsh")]
    everyone = [*kind, *harsh]
    rng = np.random.default_rng(0)
    found = check(make_subject([everyone[place] for place in rng.permutation(len(everyone))]))
    assert found.interval is not None
    assert abs(found.interval.value) < 0.05
    assert found.verdict is not Verdict.FAIL


def test_reliability_decides_how_far_a_rater_counts() -> None:
    trusted = alternating(voters(CHAMPION, 200, GOOD, weight=1.0), voters(CHALLENGER, 200, GOOD, weight=1.0))
    careless = alternating(voters(CHAMPION, 200, GOOD, weight=0.01), voters(CHALLENGER, 200, (0,), weight=0.01))
    found = check(make_subject([*trusted, *careless]))
    assert found.interval is not None
    assert found.interval.value == pytest.approx(0, abs=0.02)


def test_a_step_without_a_margin_passes_before_there_are_votes() -> None:
    assert check(make_subject([make_tally()], Step(share=0.5))).verdict is Verdict.PASS
    assert check(make_subject([make_tally()])).verdict is Verdict.INCONCLUSIVE


def test_nothing_at_all_is_no_evidence() -> None:
    found = check(make_subject([]))
    assert (found.verdict, found.interval) == (Verdict.INCONCLUSIVE, None)
    assert found.reason.startswith("nothing to compare yet")


def test_a_shadow_step_shows_nobody_the_challenger_and_counts_no_votes() -> None:
    shadow = Step(kind=StepKind.SHADOW, share=0.5)
    assert check(make_subject(list(voters(CHAMPION, 50, GOOD)), shadow)).interval is None
