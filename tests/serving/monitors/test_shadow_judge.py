"""A judge reads what nobody was shown: what it says for certain ends a rollout, what it has not said is awaited."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Step, StepKind
from infra.registry.tallies import Tally, TallyArm
from infra.settings import ServingSettings
from serving.monitors.columns import Columns
from serving.monitors.limits import Limits
from serving.monitors.look import examine
from serving.monitors.pairs import pair_sums
from serving.monitors.shadow_judge import NAME, NOBODY, awaited, check, judge_sums
from serving.monitors.subject import Subject
from tests.support.raters import BEGAN, LIMITS, make_tally

SHADOW = Step(kind=StepKind.SHADOW, share=0.1, min_answers=100)
CANARY = Step(share=0.5)
JUDGE = "assistant-2-judge-cccccccc"


def read(raters: int, wins: float, judged: int = 4, **overrides: object) -> list[Tally]:
    """Raters with so many mirrored answers each, all of them judged unless told otherwise."""
    known = {"judgeable": judged, "judged": judged, "judge_wins": wins, "answers": judged, "rateable": 0}
    return [make_tally(TallyArm.SHADOW, **{**known, **overrides}) for _ in range(raters)]


def subject(tallies: list[Tally], *steps: Step, step: int = 0, judge: str | None = JUDGE) -> Subject:
    return Subject(steps or (SHADOW, CANARY), step, Columns.of(tallies), LIMITS, judge)


@pytest.mark.parametrize(
    ("raters", "wins", "verdict"),
    [(60, 0, Verdict.FAIL), (60, 1.8, Verdict.INCONCLUSIVE), (60, 4, Verdict.PASS), (6, 0, Verdict.INCONCLUSIVE)],
)
def test_a_version_that_the_judge_dislikes_for_certain_aborts(raters: int, wins: float, verdict: Verdict) -> None:
    assert check(subject(read(raters, wins))).verdict is verdict


def test_the_limit_is_that_of_the_judges_gate() -> None:
    assert Limits.of(ServingSettings(judge_margin=0.4)).judge_margin == 0.4
    assert check(subject(read(60, 0))).threshold == LIMITS.judge_margin
    slightly_worse = read(4_000, 1.9)
    assert check(subject(slightly_worse)).verdict is Verdict.PASS, "0.475 is above 0.45"


def test_it_still_aborts_in_a_later_step() -> None:
    found = examine(subject([*read(60, 0), make_tally(step=1)], step=1), BEGAN)
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith(f"{NAME}: ")


def test_one_rater_with_a_thousand_answers_decides_nothing() -> None:
    found = check(subject([*read(1, 0, judged=1_000), *read(40, 2)]))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.interval is not None
    assert found.interval.value > 0.45


def test_a_rater_of_two_shadow_steps_is_one_rater() -> None:
    two = [*read(1, 0, unit="same"), *read(1, 0, unit="same", step=1)]
    sums = judge_sums(subject(two, SHADOW, SHADOW))
    assert sums.challengers == 1
    assert sums.variance == pytest.approx(sums.score**2)


def test_the_judges_opinions_are_nobodys_votes() -> None:
    found = examine(subject(read(60, 0)), BEGAN)
    assert found.votes == 0
    assert pair_sums(subject(read(60, 0))).size == 0


def test_the_finding_says_who_judged_how_much() -> None:
    told = check(subject([*read(10, 2), *read(10, 0, judged=0, answers=4)])).reason
    assert f"40 of 80 mirrored answers judged by {JUDGE}" in told


def test_without_a_judge_nothing_is_concluded_and_the_finding_says_why() -> None:
    found = check(subject(read(60, 0, judged=0), judge=None))
    assert (found.verdict, found.interval, found.reason) == (Verdict.INCONCLUSIVE, None, NOBODY)


@pytest.mark.parametrize(
    ("judgeable", "judged", "told"),
    [
        (5, 5, None),
        (5, 4, "80 of 100 mirrored answers are judged"),
        (2, 1, "20 of 40 mirrored answers are judged"),
        (0, 0, None),
    ],
    ids=["enough", "not yet", "fewer may be read than the step needs", "no consent at all"],
)
def test_a_shadow_step_waits_until_as_many_are_judged_as_it_needs_and_may_have(
    judgeable: int, judged: int, told: str | None
) -> None:
    seen = subject(read(20, judged / 2, judged, judgeable=judgeable, answers=5))
    assert awaited(seen) == told
    found = examine(seen, BEGAN)
    assert found.verdict is (Verdict.INCONCLUSIVE if told else Verdict.PASS)
    assert found.reason.startswith(f"{NAME}: {told}" if told else "vote_rate: ")


def test_only_a_shadow_step_with_a_judge_waits() -> None:
    left = read(20, 0, judged=0, judgeable=5)
    assert awaited(subject(left, judge=None)) is None
    assert awaited(subject(left, step=1)) is None


def aborted(win_rate: float, rollouts: int) -> int:
    """Of rollouts that were looked at after every twentieth of 400 raters, with one answer each."""
    rng, aborts = np.random.default_rng(0), 0
    limits, rows = replace(LIMITS, alpha=0.49), Columns.of(read(400, 0, judged=1))
    for _ in range(rollouts):
        told = replace(rows, judge_wins_R=1.0 * (rng.random(400) < win_rate))
        seen = (Subject((SHADOW,), 0, told.where(np.arange(met)), limits, JUDGE) for met in range(20, 401, 20))
        aborts += any(check(one).verdict is Verdict.FAIL for one in seen)
    return aborts


def test_a_version_at_the_limit_aborts_no_more_often_than_its_part_of_alpha() -> None:
    assert aborted(LIMITS.judge_margin, 200) <= binom.ppf(0.999, 200, 0.49 / 32)


def test_a_version_that_loses_three_times_in_four_is_always_stopped() -> None:
    assert aborted(0.25, 20) == 20
