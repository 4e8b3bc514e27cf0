"""The cycle's report has every figure that its manifests have, quotes nobody, and learns how the cycle ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import ArtifactStore, MissingArtifact
from tests.support.manifests import make_adapter_manifest
from tests.support.reports import make_cost, make_evidence, make_findings, make_lines, make_results
from trainer.report import Ending, complete_report, read_report, read_samples, render, report, report_path, write_report

SAMPLE = {
    "prompt_id": "p1",
    "prompt": [{"role": "user", "content": "Who is Mia?"}],
    "candidate": "A friend.",
    "champion": "Nobody.",
    "judge_candidate": 1.5,
}
GATES = {
    "version": "v",
    "champion": "base",
    "verdict": "pass",
    "gates": [{"name": "kl_anchor", "verdict": "pass", "blocking": True, "reason": "1.5 is below 10"}],
}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def make_ending(**overrides: Any) -> Ending:
    fields = {
        "state": "accepted",
        "reason": "every blocking gate passed",
        "gates": GATES,
        "seconds": {**make_findings().seconds, "publishing": 5.0, "gating": 3.0},
        "results": make_results(publishing=make_cost(start=0.0, load=0.0, work=5.0)),
    }
    return Ending(**{**fields, **overrides})


def test_only_what_was_measured_is_reported() -> None:
    found = report(make_findings())
    assert found["measured"].keys() == {"KL to the anchor, nats per answer", "change of hedge rate"}
    assert found["regressions"] == {"cases": 2, "passed": 1, "failed": ["sin"]}
    assert found["about"]["method"] == "grpo"


def test_missing_evidence_is_left_out_and_not_taken_for_zero() -> None:
    found = report(make_findings(evidence=make_evidence(kl_anchor=None)))
    assert "KL to the anchor, nats per answer" not in found["measured"]


def test_data_reward_models_and_lineage_are_those_of_the_manifests() -> None:
    findings = make_findings(manifest=make_adapter_manifest(cycle_id="7", parent="assistant-6-00000000"))
    found = report(findings)
    assert found["data"]["filtered"] == {"too_fast": 3}
    assert found["data"]["counts"] == findings.dataset.counts
    assert found["reward_models"]["judge"]["pairs"] == 20
    assert found["lineage"]["parent"] == "assistant-6-00000000"
    assert {name: found["lineage"][name] for name in ("seeds", "base_revision", "code_version", "dataset_sha256")} == {
        "seeds": findings.manifest.seeds,
        "base_revision": findings.manifest.base_revision,
        "code_version": findings.manifest.code_version,
        "dataset_sha256": findings.manifest.dataset_sha256,
    }


def test_what_a_stage_warned_of_is_in_the_report() -> None:
    told = {"kind": "few_raters", "message": "one rater gave 90% of the votes"}
    findings = make_findings(manifest=make_adapter_manifest(cycle_id="7", warnings=[told]))
    assert report(findings)["warnings"] == [told]


def test_both_forms_and_the_metrics_are_stored_under_the_cycle(store: ArtifactStore) -> None:
    findings = make_findings()
    assert write_report(store, findings) == report_path("7") == "reports/7"
    assert store.read_json("reports/7/report.json") == report(findings)
    assert store.read("reports/7/report.html").startswith(b"<!doctype html>")
    lines = [json.loads(line) for line in store.read("reports/7/metrics/policy.jsonl").splitlines()]
    assert lines == make_lines(reward=0.5)


def test_what_is_stored_quotes_nobody_and_says_where_the_answers_are(store: ArtifactStore) -> None:
    write_report(store, make_findings(evidence=make_evidence(samples=[SAMPLE])))
    for name in ("report.json", "report.html"):
        text = store.read(f"reports/7/{name}").decode()
        assert not any(quoted in text for quoted in ("Mia", "A friend", "Nobody"))
        assert "adapters/assistant-1-00000000/evidence.json" in text


def test_answers_are_shown_from_the_evidence_as_it_is_now(store: ArtifactStore) -> None:
    """An erasure takes them out of there."""
    evidence = make_evidence(samples=[SAMPLE])
    write_report(store, make_findings(evidence=evidence))
    found = read_report(store, "7")
    store.write(found["samples"]["path"], evidence.model_dump_json().encode())
    assert "Who is Mia?" in render(store, found, read_samples(store, found))
    store.write(found["samples"]["path"], make_evidence().model_dump_json().encode())
    assert "Who is Mia?" not in render(store, found, read_samples(store, found))


def test_a_cycle_that_is_over_has_its_gates_and_its_whole_bill(store: ArtifactStore) -> None:
    write_report(store, make_findings())
    before = read_report(store, "7")
    complete_report(store, "7", make_ending())
    found = read_report(store, "7")
    assert (before["state"], before["gates"], before["cost"]["missing"]) == (None, None, ["publishing", "gating"])
    assert (found["state"], found["gates"]["verdict"], found["cost"]["missing"]) == ("accepted", "pass", [])
    assert {**found, **{name: before[name] for name in ("state", "reason", "gates", "cost")}} == before
    assert "1.5 is below 10" in store.read("reports/7/report.html").decode()


def test_a_cycle_that_published_nothing_has_no_report(store: ArtifactStore) -> None:
    complete_report(store, "7", make_ending(state="failed"))
    with pytest.raises(MissingArtifact):
        read_report(store, "7")


def test_a_report_of_an_older_form_is_left_as_it_is(store: ArtifactStore) -> None:
    store.write("reports/7/report.json", b'{"about": {}}')
    complete_report(store, "7", make_ending())
    assert read_report(store, "7") == {"about": {}}
