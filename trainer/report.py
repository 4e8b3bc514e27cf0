"""A cycle's report: the same figures as JSON and as a page. No prompts or answers, so nothing to erase.

Samples stay in the evidence beside the adapter, where an erasure finds them; `thumbwheel cycle report` shows them from
there. Written as the version is published, and once more when the cycle is over, with the gates and the whole bill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.artifacts import ArtifactStore, dump_json
from infra.contracts.manifests import AdapterManifest, DatasetManifest, Evidence, Sample
from trainer.metrics_file import parse_metrics
from trainer.publish import EVIDENCE, adapter_path
from trainer.report_costs import bill
from trainer.report_page import page

JSON, HTML, METRICS = "report.json", "report.html", "metrics"
ABOUT = ("version", "alias", "cycle_id", "method", "method_reason", "init", "created_at")
LINEAGE = (
    "parent", "anchor", "reward_model", "base_revision", "dataset_ids", "dataset_sha256", "sha256", "rank", "seeds",
    "code_version",
)  # fmt: skip
DATA = ("dataset_id", "sha256", "as_of", "window_start", "counts", "filtered", "redacted", "weights")
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a cycle leaves: `results` by stage, `seconds` by state, `metrics` the text of each metrics.jsonl by name."""

    manifest: AdapterManifest
    evidence: Evidence
    dataset: DatasetManifest
    results: Results
    seconds: Mapping[str, float]
    metrics: Mapping[str, str]
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a cycle once it is over; `gates` is a GateReport's JSON."""

    state: str
    reason: str | None
    gates: Mapping[str, Any] | None
    seconds: Mapping[str, float]
    results: Results


def report_path(cycle_id: str) -> str:
    return f"reports/{cycle_id}"


def write_report(store: ArtifactStore, findings: Findings) -> str:
    """Returns the directory in the store."""
    path = report_path(str(findings.manifest.cycle_id))
    for name, text in findings.metrics.items():
        store.write(f"{path}/{METRICS}/{name}.jsonl", text.encode())
    _store(store, path, report(findings))
    return path


def complete_report(store: ArtifactStore, cycle_id: str, ending: Ending) -> None:
    """Adds what is known once the cycle has ended. One that published nothing has no report; an older one no bill."""
    path = report_path(cycle_id)
    found = store.read_json(f"{path}/{JSON}") if store.exists(f"{path}/{JSON}") else {}
    if "cost" in found:
        cost = bill(ending.seconds, ending.results, found["cost"]["device"])
        known = {"state": ending.state, "reason": ending.reason, "gates": ending.gates, "cost": cost}
        _store(store, path, {**found, **known})


def read_report(store: ArtifactStore, cycle_id: str) -> dict[str, Any]:
    """Raises MissingArtifact."""
    return store.read_json(f"{report_path(cycle_id)}/{JSON}")


def read_samples(store: ArtifactStore, found: Mapping[str, Any]) -> list[Sample]:
    """As they are now: without those that an erasure took. Raises MissingArtifact."""
    return Evidence.model_validate_json(store.read(found["samples"]["path"])).samples


def render(store: ArtifactStore, found: Mapping[str, Any], samples: Sequence[Sample] = ()) -> str:
    """The page; raises MissingArtifact where a training's metrics are gone."""
    path = report_path(found["about"]["cycle_id"])
    lines = {name: parse_metrics(store.read(f"{path}/{METRICS}/{name}.jsonl").decode()) for name in found["curves"]}
    return page(found, lines, samples)


def report(findings: Findings) -> dict[str, Any]:
    manifest, evidence = findings.manifest.model_dump(mode="json"), findings.evidence
    reward = findings.results.get("reward", {}).get("metrics", {})
    return {
        "about": {name: manifest[name] for name in ABOUT},
        "champion": evidence.champion,
        "state": None,
        "reason": None,
        "warnings": manifest["warnings"],
        "data": {name: value for name, value in findings.dataset.model_dump(mode="json").items() if name in DATA},
        "reward_models": reward,
        "measured": _measured(evidence),
        "probes": evidence.probe_rates,
        "metrics": findings.manifest.metrics,
        "regressions": {
            "cases": len(evidence.regressions),
            "passed": sum(case.passed for case in evidence.regressions),
            "failed": [case.name for case in evidence.regressions if not case.passed],
        },
        "samples": {
            "count": len(evidence.samples),
            "path": f"{adapter_path(findings.manifest.version)}/{EVIDENCE}",
        },
        "curves": sorted(findings.metrics),
        "gates": None,
        "lineage": {name: manifest[name] for name in LINEAGE},
        "cost": bill(findings.seconds, findings.results, findings.device),
    }


def _measured(evidence: Evidence) -> dict[str, Any]:
    intervals = {
        "KL to the anchor, nats per answer": evidence.kl_anchor,
        "KL to the champion, nats per answer": evidence.kl_champion,
        "judge's win rate over the champion": evidence.judge_win_rate,
        "judge's win rate at equal lengths": evidence.judge_controlled,
        **{f"judge's win rate, {name}": found.interval for name, found in evidence.judge_segments.items()},
        "length over the champion's": evidence.length_ratio,
        "reward accuracy on held-out raters": evidence.reward_accuracy,
        "vote rate by logged answers": evidence.off_policy and evidence.off_policy.snips,
        "drop of exact checks": evidence.regression_drop,
        **{f"fall of reward accuracy, {name}": found.interval for name, found in evidence.reward_falls.items()},
        "rise of the general text, nats per token": evidence.general_text.rise if evidence.general_text else None,
        **{f"change of {name} rate": interval for name, interval in evidence.probes.items()},
    }
    return {name: interval.model_dump() for name, interval in intervals.items() if interval}


def _store(store: ArtifactStore, path: str, found: dict[str, Any]) -> None:
    store.write(f"{path}/{JSON}", dump_json(found))
    store.write(f"{path}/{HTML}", render(store, found).encode())
