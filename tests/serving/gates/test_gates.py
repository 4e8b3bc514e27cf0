"""A verdict is an interval against a threshold, and what was not measured never passes."""

import json
import math

import pytest

from infra.clock import now
from infra.contracts.manifests import Evidence, Interval, RegressionResult, SmokeCase, Verdict
from infra.settings import ServingSettings
from serving.gates import judge, kl, length, regression, reward_accuracy, style, validity
from serving.gates.subject import Gate, Subject, above, below, within, worst
from serving.report import OUTCOMES, make_report, summary

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
SETTINGS = ServingSettings()


def interval(lo: float, hi: float) -> Interval:
    return Interval(value=(lo + hi) / 2, lo=lo, hi=hi, n=100)


def make_evidence(**overrides: object) -> Evidence:
    """Of a candidate that passes every gate."""
    fields = {
        "version": "v2",
        "champion": "v1",
        "smoke": [SmokeCase(token_ids=[1, 2], logprobs=[-1.0])],
        "kl_anchor": interval(1, 2),
        "kl_champion": interval(0.1, 0.5),
        "judge_win_rate": interval(0.5, 0.7),
        "length_ratio": interval(0.9, 1.2),
        "probes": {"refusal": interval(-0.01, 0.02), "usage": interval(0.1, 0.3)},
        "reward_accuracy": interval(0.6, 0.8),
        "regressions": [RegressionResult(name="cos", passed=True, champion_passed=True)],
        "regression_drop": interval(-0.02, 0.03),
    }
    return Evidence.model_validate({**fields, **overrides})


def make_subject(evidence: Evidence | None = None, **overrides: object) -> Subject:
    known = {"evidence": evidence or make_evidence(), "champion": "v1", "settings": SETTINGS, "difference": 1e-5}
    return Subject(**{**known, **overrides})  # type: ignore[arg-type]  # one dict for all fields


@pytest.mark.parametrize(
    ("found", "expected"),
    [((0.1, 0.5), PASS), ((0.1, 1.0), PASS), ((0.5, 1.1), OPEN), ((1.1, 2.0), FAIL), ((math.nan, math.nan), OPEN)],
)
def test_an_upper_limit_is_kept_by_the_whole_interval_or_not_at_all(
    found: tuple[float, float], expected: Verdict
) -> None:
    assert below(interval(*found), 1.0) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [((0.5, 0.6), PASS), ((0.45, 0.6), PASS), ((0.4, 0.5), OPEN), ((0.3, 0.44), FAIL), ((-math.inf, 1), OPEN)],
)
def test_a_lower_limit_is_kept_by_the_whole_interval_or_not_at_all(
    found: tuple[float, float], expected: Verdict
) -> None:
    assert above(interval(*found), 0.45) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [((0.6, 1.9), PASS), ((0.4, 1), OPEN), ((0.1, 3), OPEN), ((0.1, 0.4), FAIL), ((2.1, 3), FAIL)],
)
def test_a_band_is_left_on_either_side(found: tuple[float, float], expected: Verdict) -> None:
    assert within(interval(*found), 0.5, 2.0) is expected


@pytest.mark.parametrize("limit", [below, above])
def test_what_was_not_measured_is_inconclusive(limit: object) -> None:
    assert limit(None, 1.0) is OPEN  # type: ignore[operator]  # both are functions


def test_no_verdicts_at_all_are_inconclusive() -> None:
    assert worst([]) is OPEN
    assert worst([PASS, OPEN, FAIL]) is FAIL


GATES_WITH_BAD_EVIDENCE: list[tuple[Gate, dict[str, object]]] = [
    (kl.check_anchor, {"kl_anchor": interval(11, 12)}),
    (kl.check_champion, {"kl_champion": interval(11, 12)}),
    (judge.check, {"judge_win_rate": interval(0.2, 0.3)}),
    (length.check, {"length_ratio": interval(2.5, 3)}),
    (length.check, {"length_ratio": interval(0.1, 0.2)}),
    (style.check, {"probes": {"refusal": interval(0.6, 0.9), "usage": interval(0, 0.1)}}),
    (regression.check, {"regression_drop": interval(0.06, 0.2)}),
    (reward_accuracy.check, {"reward_accuracy": interval(0.4, 0.5)}),
]


@pytest.mark.parametrize(("gate", "bad"), GATES_WITH_BAD_EVIDENCE)
def test_each_gate_passes_good_evidence_fails_bad_and_leaves_missing_open(gate: Gate, bad: dict[str, object]) -> None:
    missing = {name: {} if name == "probes" else None for name in bad}
    assert gate(make_subject()).verdict is PASS
    assert gate(make_subject(make_evidence(**bad))).verdict is FAIL
    assert gate(make_subject(make_evidence(**missing))).verdict is OPEN


@pytest.mark.parametrize("gate", [kl.check_champion, judge.check, length.check, style.check, regression.check])
def test_evidence_against_another_champion_is_inconclusive_and_says_so(gate: Gate) -> None:
    found = gate(make_subject(champion="v9"))
    assert found.verdict is OPEN
    assert "measured against v1, the champion is v9" in found.reason


def test_only_the_reward_models_accuracy_and_the_off_policy_estimate_merely_advise() -> None:
    advisory = [gate.name for gate in make_report("v2", make_subject(), now()).gates if not gate.blocking]
    assert advisory == ["reward_accuracy", "off_policy"]


def test_without_checks_in_the_cycle_there_is_nothing_to_lose() -> None:
    found = regression.check(make_subject(make_evidence(regression_drop=None, regressions=[]), checks_wanted=False))
    assert (found.blocking, found.verdict) == (False, OPEN)


def test_checks_that_were_wanted_but_are_missing_block() -> None:
    found = regression.check(make_subject(make_evidence(regression_drop=None, regressions=[])))
    assert (found.blocking, found.verdict) == (True, OPEN)


def test_lost_checks_are_named() -> None:
    lost = [
        RegressionResult(name="cos", passed=False, champion_passed=True),
        RegressionResult(name="sin", passed=False, champion_passed=False),
    ]
    assert regression.check(make_subject(make_evidence(regressions=lost))).evidence["lost_names"] == ["cos"]


def test_the_probe_that_moved_most_is_shown_and_one_that_moved_too_far_is_named() -> None:
    found = style.check(make_subject(make_evidence(probes={"hedge": interval(0.6, 0.8), "usage": interval(0, 0.1)})))
    assert found.interval == interval(0.6, 0.8)
    assert found.reason.startswith("hedge moved too far")


@pytest.mark.parametrize(
    ("overrides", "verdict"),
    [
        ({}, PASS),
        ({"difference": 0.5}, FAIL),
        ({"difference": math.nan}, FAIL),
        ({"difference": None}, OPEN),
        ({"evidence": make_evidence(smoke=[])}, OPEN),
        ({"refusal": "a pickle"}, FAIL),
    ],
)
def test_validity_is_the_files_and_the_smoke(overrides: dict[str, object], verdict: Verdict) -> None:
    assert validity.check(make_subject(**overrides)).verdict is verdict  # type: ignore[arg-type]  # one dict for all


def test_a_report_passes_only_when_every_blocking_gate_does() -> None:
    assert make_report("v2", make_subject(), now()).verdict is PASS
    assert make_report("v2", make_subject(make_evidence(kl_anchor=None)), now()).verdict is OPEN
    assert (
        make_report("v2", make_subject(make_evidence(kl_anchor=interval(20, 30), judge_win_rate=None)), now()).verdict
        is FAIL
    )


def test_bad_advice_does_not_block() -> None:
    assert make_report("v2", make_subject(make_evidence(reward_accuracy=interval(0.1, 0.2))), now()).verdict is PASS


def test_empty_evidence_waits_for_a_person() -> None:
    report = make_report("v2", make_subject(Evidence(version="v2", champion="")), now())
    assert report.verdict is OPEN
    assert OUTCOMES[report.verdict][1] == "awaiting_person"


def test_a_summary_says_which_gates_did_not_pass_and_why() -> None:
    report = make_report("v2", make_subject(make_evidence(kl_anchor=interval(20, 30))), now())
    assert summary(report).startswith("kl_anchor fail: 25 (95% interval 20 to 30, n = 100), the budget is 10 nats")
    assert summary(make_report("v2", make_subject(), now())) == "every blocking gate passed"


@pytest.mark.parametrize("strange", [math.nan, math.inf])
def test_a_report_can_be_told_as_json_whatever_was_measured(strange: float) -> None:
    evidence = make_evidence(kl_anchor=Interval(value=strange, lo=strange, hi=strange, n=3))
    report = make_report("v2", make_subject(evidence, difference=strange), now())
    told = json.loads(json.dumps(report.model_dump(mode="json"), allow_nan=False))
    validity_told, anchor_told = (
        next(gate for gate in told["gates"] if gate["name"] == name) for name in ("validity", "kl_anchor")
    )
    assert (validity_told["verdict"], validity_told["evidence"]["smoke_difference"]) == ("fail", None)
    assert str(strange) in validity_told["reason"]
    assert (anchor_told["verdict"], anchor_told["interval"]) == ("inconclusive", None)
    assert str(strange) in anchor_told["reason"]
