from typing import Any

import pytest

from infra.demo.decision import decide, verdicts


def make_gate(**overrides: Any) -> dict[str, Any]:
    return {"name": "judge", "blocking": True, "verdict": "inconclusive", "interval": {"value": 0.55}, **overrides}


def test_what_waits_goes_live_when_nothing_failed_and_the_judge_does_not_object() -> None:
    decision = decide([make_gate(), make_gate(name="kl", verdict="pass")])
    assert decision.promote
    assert "judge" in decision.reason


def test_a_failed_blocking_gate_is_declined_by_name() -> None:
    decision = decide([make_gate(), make_gate(name="length", verdict="fail")])
    assert not decision.promote
    assert "length" in decision.reason


def test_a_failed_advisory_gate_is_advice() -> None:
    assert decide([make_gate(), make_gate(name="reward", verdict="fail", blocking=False)]).promote


@pytest.mark.parametrize("interval", [None, {"value": 0.49}])
def test_a_judge_that_prefers_the_champion_or_measured_nothing_declines(interval: dict[str, float] | None) -> None:
    assert not decide([make_gate(interval=interval)]).promote


@pytest.mark.parametrize(("value", "promote"), [(0.05, True), (0.065, False)])
def test_more_lost_checks_than_the_margin_allows_decline_even_where_the_gate_is_unsure(
    value: float, promote: bool
) -> None:
    checks = make_gate(name="regression", interval={"value": value}, threshold=0.05)
    assert decide([make_gate(), checks]).promote is promote


def test_without_any_gate_nothing_goes_live() -> None:
    assert not decide([]).promote


def test_verdicts_are_by_gate() -> None:
    assert verdicts([make_gate(), make_gate(name="kl", verdict="pass")]) == {"judge": "inconclusive", "kl": "pass"}
