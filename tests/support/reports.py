"""What a cycle leaves for its report, with figures that are easy to recognise."""

import json
from typing import Any

from infra.clock import now
from infra.contracts.manifests import Evidence, GateReport, Interval, RegressionResult
from tests.support.manifests import make_adapter_manifest, make_dataset_manifest
from trainer.report import Findings


def make_interval(value: float = 0.5) -> Interval:
    return Interval(value=value, lo=value - 0.1, hi=value + 0.1, n=40)


def make_evidence(**overrides: Any) -> Evidence:
    fields = {
        "version": "assistant-7-0badcafe",
        "champion": "base",
        "kl_anchor": make_interval(1.5),
        "probes": {"hedge": make_interval(0.02)},
        "probe_rates": {"hedge": {"candidate": 0.25, "champion": 0.125}},
        "regressions": [
            RegressionResult(name="cos", passed=True, champion_passed=True),
            RegressionResult(name="sin", passed=False, champion_passed=True),
        ],
    }
    return Evidence.model_validate({**fields, **overrides})


def make_gate_report(**overrides: Any) -> GateReport:
    """One gate that said no."""
    gate = {"name": "kl_anchor", "blocking": True, "verdict": "fail", "reason": "1.5 is above 1"}
    fields = {"version": "v", "champion": "base", "verdict": "fail", "gates": [gate], "decided_at": now()}
    return GateReport.model_validate({**fields, **overrides})


def make_cost(start: float = 1.0, load: float = 2.0, work: float = 7.0, tokens: int = 100) -> dict[str, Any]:
    return {
        "cost": {
            "seconds": {"start": start, "load": load, "work": work},
            "tokens": {"learning": tokens, "reading": 2 * tokens},
        }
    }


def make_results(**overrides: Any) -> dict[str, Any]:
    """Of stages that took ten seconds each, three of them fixed."""
    described = {"pairs": 40, "accuracy": make_interval(0.8).model_dump(), "length_correlation": 0.25}
    return {
        "sft": make_cost(),
        "reward": {**make_cost(), "metrics": {"reward": described, "judge": {**described, "pairs": 20}}},
        "policy": make_cost(tokens=1000),
        "evaluating": make_cost(),
        **overrides,
    }


def make_lines(count: int = 5, **figures: float) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, each figure growing by itself with every step."""
    return [{"step": step, **{name: value * step for name, value in figures.items()}} for step in range(1, count + 1)]


def make_findings(**overrides: Any) -> Findings:
    seconds = {"queued": 1.0, "snapshotting": 4.0, **dict.fromkeys(("sft", "reward", "policy", "evaluating"), 10.0)}
    fields = {
        "manifest": make_adapter_manifest(cycle_id="7", metrics={"reward": 0.123456}),
        "evidence": make_evidence(),
        "dataset": make_dataset_manifest(filtered={"too_fast": 3}, redacted={"email": 2}),
        "results": make_results(),
        "seconds": seconds,
        "metrics": {"policy": "".join(json.dumps(line) + "\n" for line in make_lines(reward=0.5))},
    }
    return Findings(**{**fields, **overrides})
