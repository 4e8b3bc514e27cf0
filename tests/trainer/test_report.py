"""The cycle's page shows figures with their intervals, and nothing that could be taken for markup."""

from pathlib import Path
from typing import Any

from infra.artifacts import ArtifactStore
from infra.contracts.manifests import AdapterManifest, Evidence, Interval, RegressionResult
from tests.support.manifests import make_adapter_manifest
from trainer.report import page, report, report_path, write_report


def make_manifest(**overrides: Any) -> AdapterManifest:
    fields = {"cycle_id": "7", "metrics": {"reward": 0.123456}, **overrides}
    return make_adapter_manifest(**fields)


def make_interval(value: float = 0.5) -> Interval:
    return Interval(value=value, lo=value - 0.1, hi=value + 0.1, n=40)


def make_evidence(**overrides: Any) -> Evidence:
    fields = {
        "version": "assistant-7-0badcafe",
        "champion": "base",
        "kl_anchor": make_interval(1.5),
        "probes": {"hedge": make_interval(0.02)},
        "regressions": [
            RegressionResult(name="cos", passed=True, champion_passed=True),
            RegressionResult(name="sin", passed=False, champion_passed=True),
        ],
    }
    return Evidence.model_validate({**fields, **overrides})


def test_only_what_was_measured_is_reported() -> None:
    found = report(make_manifest(), make_evidence())
    assert found["measured"].keys() == {"KL to the anchor, nats per answer", "change of hedge rate"}
    assert found["regressions"] == {"cases": 2, "passed": 1}
    assert found["about"]["method"] == "grpo"


def test_the_page_shows_each_figure_with_its_interval_and_size() -> None:
    text = page(report(make_manifest(), make_evidence()))
    assert "KL to the anchor, nats per answer" in text
    assert "1.400 to 1.600 (n = 40)" in text
    assert "0.1235" in text


def test_what_is_not_known_has_no_line() -> None:
    assert "parent" not in page(report(make_manifest(), make_evidence()))
    assert "assistant-6-00000000" in page(report(make_manifest(parent="assistant-6-00000000"), make_evidence()))


def test_nothing_in_a_manifest_becomes_markup() -> None:
    text = page(report(make_manifest(anchor="<script>alert(1)</script>"), make_evidence()))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_both_forms_are_stored_under_the_cycle(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    assert write_report(store, make_manifest(), make_evidence()) == report_path("7") == "reports/7"
    assert store.read_json("reports/7/report.json") == report(make_manifest(), make_evidence())
    assert store.read("reports/7/report.html").startswith(b"<!doctype html>")


def test_missing_evidence_is_left_out_and_not_taken_for_zero() -> None:
    assert "KL to the anchor, nats per answer" not in report(make_manifest(), make_evidence(kl_anchor=None))["measured"]
