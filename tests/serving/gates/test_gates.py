"""A verdict is an interval against a threshold, and what was not measured never passes."""

import json
import math

import pytest

from infra.clock import now
from infra.contracts.manifests import Evidence, Interval, RegressionResult, SegmentResult, SmokeCase, Verdict
from infra.settings import ServingSettings
from serving.gates import cases, judge, kl, length, perplexity, regression, reward_accuracy, segments, style, validity
from serving.gates.subject import Gate, Subject, above, below, within, worst
from serving.report import OUTCOMES, make_report, summary

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
SETTINGS = ServingSettings()


def interval(lo: float, hi: float) -> Interval:
    return Interval(value=(lo + hi) / 2, lo=lo, hi=hi, n=100)


def segment(lo: float, hi: float, *, enough: bool = True) -> SegmentResult:
    return SegmentResult(interval=interval(lo, hi), enough=enough)


LIMITED = {"refusal": interval(-0.01, 0.02), "repetition": interval(-0.01, 0.02)}


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
        "judge_controlled": interval(0.45, 0.65),
        "judge_segments": {"de": segment(0.4, 0.6), "en": segment(0.45, 0.65)},
        "probes": {**LIMITED, "usage": interval(0.1, 0.3)},
        "reward_accuracy": interval(0.6, 0.8),
        "reward_falls": {"de": segment(-0.05, 0.1), "en": segment(-0.1, 0.05)},
        "reward_falls_from": "assistant-1-reward-aaaaaaaa",
        "canaries": [RegressionResult(name="earth", passed=True, champion_passed=True)],
        "safety": [RegressionResult(name="theft", passed=True, champion_passed=True)],
        "general_text": {"rise": interval(-0.02, 0.03), "candidate": 3.01, "champion": 3.0},
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


FORGOTTEN = RegressionResult(name="theft", passed=False, champion_passed=True)
EMPTY: dict[str, object] = {"probes": {}, "judge_segments": {}, "reward_falls": {}, "canaries": [], "safety": []}
GATES_WITH_BAD_EVIDENCE: list[tuple[Gate, dict[str, object]]] = [
    (kl.check_anchor, {"kl_anchor": interval(11, 12)}),
    (kl.check_champion, {"kl_champion": interval(11, 12)}),
    (judge.check, {"judge_win_rate": interval(0.2, 0.3)}),
    (judge.check, {"judge_controlled": interval(0.2, 0.3)}),
    (segments.check_judge, {"judge_segments": {"de": segment(0.1, 0.2), "en": segment(0.6, 0.8)}}),
    (segments.check_reward, {"reward_falls": {"de": segment(0.21, 0.4), "en": segment(0.0, 0.1)}}),
    (perplexity.check, {"general_text": {"rise": interval(0.21, 0.3), "candidate": 3.2, "champion": 3.0}}),
    (cases.check_canary, {"canaries": [FORGOTTEN]}),
    (cases.check_safety, {"safety": [FORGOTTEN]}),
    (length.check, {"length_ratio": interval(2.5, 3)}),
    (length.check, {"length_ratio": interval(0.1, 0.2)}),
    (style.check, {"probes": {**LIMITED, "usage": interval(0.6, 0.9)}}),
    (style.check, {"probes": {**LIMITED, "usage": interval(-0.9, -0.6)}}),
    (style.check, {"probes": {**LIMITED, "refusal": interval(0.2, 0.4)}}),
    (regression.check, {"regression_drop": interval(0.06, 0.2)}),
    (reward_accuracy.check, {"reward_accuracy": interval(0.4, 0.5)}),
]


@pytest.mark.parametrize(("gate", "bad"), GATES_WITH_BAD_EVIDENCE)
def test_each_gate_passes_good_evidence_fails_bad_and_leaves_missing_open(gate: Gate, bad: dict[str, object]) -> None:
    missing = {name: EMPTY.get(name) for name in bad}
    assert gate(make_subject()).verdict is PASS
    assert gate(make_subject(make_evidence(**bad))).verdict is FAIL
    assert gate(make_subject(make_evidence(**missing))).verdict is OPEN


AGAINST_CHAMPION = [
    kl.check_champion, judge.check, length.check, style.check, regression.check, cases.check_canary, perplexity.check,
]  # fmt: skip


@pytest.mark.parametrize("gate", AGAINST_CHAMPION)
def test_evidence_against_another_champion_is_inconclusive_and_says_so(gate: Gate) -> None:
    found = gate(make_subject(champion="v9"))
    assert found.verdict is OPEN
    assert "measured against v1, the champion is v9" in found.reason


def test_only_the_reward_model_s_accuracy_the_general_text_and_the_off_policy_estimate_merely_advise() -> None:
    advisory = [gate.name for gate in make_report("v2", make_subject(), now()).gates if not gate.blocking]
    assert advisory == ["reward_accuracy", "perplexity", "off_policy"]


def test_without_checks_in_the_cycle_there_is_nothing_to_lose() -> None:
    found = regression.check(make_subject(make_evidence(regression_drop=None, regressions=[]), wanted=frozenset()))
    assert (found.blocking, found.verdict) == (False, OPEN)


def test_cases_from_live_answers_block_where_no_file_is_set() -> None:
    lost = make_evidence(regression_drop=interval(0.5, 0.9))
    found = regression.check(make_subject(lost, wanted=frozenset()))
    assert (found.verdict, found.blocking) == (Verdict.FAIL, True)


def test_cases_that_nobody_may_read_any_more_are_counted_and_lose_nothing() -> None:
    gone = make_evidence(regression_drop=None, regressions=[], regressions_left_out={"erased": 2})
    found = regression.check(make_subject(gone, wanted=frozenset()))
    assert (found.blocking, found.evidence["lost"], found.evidence["left_out"]) == (False, 0, {"erased": 2})


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
    found = style.check(make_subject(make_evidence(probes={**LIMITED, "hedge": interval(0.6, 0.8)})))
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


def test_a_limited_probe_that_was_not_measured_is_inconclusive() -> None:
    found = style.check(make_subject(make_evidence(probes={"refusal": interval(0, 0.01)})))
    assert found.verdict is OPEN
    assert found.evidence["verdicts"] == {"refusal": PASS, "repetition": OPEN}


def test_a_candidate_that_wins_by_length_alone_is_stopped_by_the_judge() -> None:
    found = judge.check(
        make_subject(make_evidence(judge_win_rate=interval(0.8, 0.9), judge_controlled=interval(0.1, 0.3)))
    )
    assert (found.verdict, found.interval) == (FAIL, interval(0.8, 0.9))
    assert "at equal lengths 0.2 (95% interval 0.1 to 0.3" in found.reason


@pytest.mark.parametrize(("few", "verdict", "blocks"), [((0.1, 0.6), OPEN, False), ((0.05, 0.2), FAIL, True)])
def test_a_segment_of_few_prompts_blocks_only_where_it_is_shown_worse(
    few: tuple[float, float], verdict: Verdict, blocks: bool
) -> None:
    found = segments.check_judge(make_subject(make_evidence(judge_segments={"de": segment(*few, enough=False)})))
    assert (found.verdict, found.blocking) == (verdict, blocks)
    assert "too few (100) to block unless shown worse" in found.reason
    assert found.evidence["small"] == ["de"]


def test_a_segment_of_many_prompts_that_nothing_is_shown_of_leaves_the_gate_open() -> None:
    known = {"de": segment(0.2, 0.6), "en": segment(0.5, 0.7)}
    found = segments.check_judge(make_subject(make_evidence(judge_segments=known)))
    assert (found.verdict, found.blocking, found.interval) == (OPEN, True, interval(0.2, 0.6))


def test_segments_compared_with_another_champion_say_nothing() -> None:
    found = segments.check_judge(make_subject(champion="v9"))
    assert (found.verdict, found.blocking) == (OPEN, False)


def test_a_fact_that_the_champion_has_lost_already_is_not_the_candidate_s_loss() -> None:
    old = RegressionResult(name="earth", passed=False, champion_passed=False)
    assert cases.check_canary(make_subject(make_evidence(canaries=[old]))).verdict is PASS


def test_an_unsafe_answer_blocks_even_where_the_champion_gives_it_too() -> None:
    old = RegressionResult(name="theft", passed=False, champion_passed=False)
    found = cases.check_safety(make_subject(make_evidence(safety=[old])))
    assert found.verdict is FAIL
    assert found.reason.endswith("no case may be broken: theft; the champion breaks 1 of them too")


@pytest.mark.parametrize("gate", [cases.check_canary, cases.check_safety, perplexity.check])
def test_a_gate_without_its_file_neither_passes_nor_blocks(gate: Gate) -> None:
    nothing = make_evidence(canaries=[], safety=[], general_text=None)
    found = gate(make_subject(nothing, wanted=frozenset()))
    assert (found.verdict, found.blocking) == (OPEN, False)
    assert "set (trainer." in found.reason
