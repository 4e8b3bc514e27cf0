"""Votes on logged answers advise where they are worth enough, and say why where they are not."""

from typing import Any

import pytest

from infra.contracts.manifests import Interval, OffPolicy, Verdict
from serving.gates.off_policy import check
from tests.serving.gates.test_gates import interval, make_evidence, make_subject


def make_off_policy(difference: Interval | None = None, **overrides: Any) -> OffPolicy:
    fields = {
        "votes": 200, "raters": 40, "effective_size": 90.0, "snips": interval(0.6, 0.7),
        "champion": interval(0.55, 0.65), "difference": difference or interval(-0.02, 0.12),
    }  # fmt: skip
    return OffPolicy.model_validate({**fields, **overrides})


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (interval(-0.04, 0.1), Verdict.PASS),
        (interval(-0.1, 0.1), Verdict.INCONCLUSIVE),
        (interval(-0.3, -0.06), Verdict.FAIL),
    ],
)
def test_the_whole_difference_to_the_champion_is_held_against_the_margin(
    difference: Interval, verdict: Verdict
) -> None:
    found = check(make_subject(make_evidence(off_policy=make_off_policy(difference))))
    assert (found.verdict, found.blocking, found.threshold) == (verdict, False, -0.05)
    assert found.evidence["effective_size"] == 90.0


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        (make_off_policy(effective_size=12.0), "200 votes on logged answers are worth 12 on the candidate's own"),
        (OffPolicy(left_out={"greedy": 3}), "left out were 3 greedy"),
        (OffPolicy(), "there are no votes of theirs at all"),
        (make_off_policy(champion=None, difference=None), "too few of 200 votes are on answers of v1"),
        (None, "not measured"),
    ],
)
def test_what_is_worth_too_little_decides_nothing_and_says_so(measured: OffPolicy | None, why: str) -> None:
    found = check(make_subject(make_evidence(off_policy=measured)))
    assert (found.verdict, found.interval) == (Verdict.INCONCLUSIVE, None)
    assert why in found.reason


def test_a_difference_to_another_champion_decides_nothing() -> None:
    found = check(make_subject(make_evidence(off_policy=make_off_policy()), champion="v9"))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "measured against v1, the champion is v9" in found.reason


def test_how_many_votes_are_enough_is_a_setting() -> None:
    subject = make_subject(make_evidence(off_policy=make_off_policy(effective_size=12.0)))
    lenient = subject.settings.model_copy(update={"off_policy_ess_min": 10.0})
    assert check(make_subject(subject.evidence, settings=lenient)).verdict is Verdict.PASS
