"""A small report per cycle: the same figures as JSON and as a page. No prompts or answers, so nothing to erase."""

from html import escape
from typing import Any

from infra.artifacts import ArtifactStore, dump_json
from infra.contracts.manifests import AdapterManifest, Evidence, Interval

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ccc}}
td.n{{font-variant-numeric:tabular-nums}}</style></head>
<body><h1>{title}</h1>{tables}</body></html>
"""


def report_path(cycle_id: str) -> str:
    return f"reports/{cycle_id}"


def write_report(store: ArtifactStore, manifest: AdapterManifest, evidence: Evidence) -> str:
    """Returns the directory in the store."""
    path = report_path(str(manifest.cycle_id))
    found = report(manifest, evidence)
    store.write(f"{path}/report.json", dump_json(found))
    store.write(f"{path}/report.html", page(found).encode())
    return path


def report(manifest: AdapterManifest, evidence: Evidence) -> dict[str, Any]:
    intervals = {
        "KL to the anchor, nats per answer": evidence.kl_anchor,
        "KL to the champion, nats per answer": evidence.kl_champion,
        "judge's win rate over the champion": evidence.judge_win_rate,
        "length over the champion's": evidence.length_ratio,
        "reward accuracy on held-out raters": evidence.reward_accuracy,
        "drop of exact checks": evidence.regression_drop,
        **{f"change of {name} rate": interval for name, interval in evidence.probes.items()},
    }
    about = (
        "version",
        "alias",
        "cycle_id",
        "method",
        "method_reason",
        "init",
        "anchor",
        "parent",
        "reward_model",
        "base_revision",
        "code_version",
    )
    return {
        "about": {name: getattr(manifest, name) for name in about},
        "champion": evidence.champion,
        "measured": {name: interval.model_dump() for name, interval in intervals.items() if interval},
        "metrics": manifest.metrics,
        "warnings": [warning.model_dump(mode="json") for warning in manifest.warnings],
        "regressions": {"cases": len(evidence.regressions), "passed": sum(r.passed for r in evidence.regressions)},
    }


def page(found: dict[str, Any]) -> str:
    about = {**found["about"], "champion": found["champion"]}
    tables = [
        _table(("", ""), [(name, value) for name, value in about.items() if value is not None]),
        _table(("warning", ""), [(warning["kind"], warning["message"]) for warning in found["warnings"]]),
        _table(("measured", "value", "interval"), [_measured(*item) for item in found["measured"].items()]),
        _table(("metric", "value"), [(name, f"{value:.4g}") for name, value in found["metrics"].items()]),
    ]
    return PAGE.format(title=escape(str(about["version"])), tables="".join(tables))


def _measured(name: str, value: dict[str, Any]) -> tuple[str, str, str]:
    interval = Interval.model_validate(value)
    return name, f"{interval.value:.3f}", f"{interval.lo:.3f} to {interval.hi:.3f} (n = {interval.n})"


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        "<tr>" + "".join(f'<td class="n">{escape(str(cell))}</td>' for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"
