"""A cycle's report as one page that needs nothing else: no script, light and dark, as wide as its reader's window."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from infra.contracts.manifests import Sample
from trainer.report_charts import Curve, curves, svg
from trainer.report_costs import STAGES

TEMPLATE = "report.html.template"
TILES = {  # what is measured -> what a tile says of it
    "judge's win rate over the champion": "wins over the champion",
    "KL to the anchor, nats per answer": "nats per answer from the anchor",
    "reward accuracy on held-out raters": "reward accuracy",
    "length over the champion's": "length over the champion's",
}
ORDER = (  # JSON is stored by name: what is told first is told here
    *STAGES, "judge", "pairs", "accuracy", "parent", "anchor", "reward_model", "base_revision", "dataset_ids",
    "start", "load", "snapshot", "publish", "validate",
)  # fmt: skip
VERDICTS = ("pass", "fail", "inconclusive")
FIGURE = re.compile(r"(-?[\d.,]+(e[-+]?\d+)?%?( to -?[\d.]+)?( \(.+\))?)?")
Found = Mapping[str, Any]
Row = Sequence[object]


def page(found: Found, metrics: Mapping[str, Sequence[Found]], samples: Sequence[Sample] = ()) -> str:
    """`found` is report.json, `metrics` the lines of each metrics.jsonl by name."""
    sections = {
        "": _tiles(found),
        "Warnings": "".join(f'<p class="warning">{escape(told["message"])}</p>' for told in found["warnings"]),
        "Gates": _gates(found),
        "Measured against the champion": _measured(found["measured"]) + _regressions(found["regressions"]),
        "Behaviour": _probes(found["probes"]),
        "Reward model": _reward_models(found["reward_models"]),
        "Training": "".join(_training(name, curves(lines)) for name, lines in _ordered(metrics))
        + _late(found["metrics"]),
        "Data": _data(found["data"]),
        "Answers before and after": _samples(found, samples),
        "Cost": _cost(found["cost"]),
        "Where it comes from": _table(("", ""), _flat(found["lineage"])),
    }
    body = "".join(f"<h2>{title}</h2>{text}" if title else text for title, text in sections.items() if text)
    template = Template((files("trainer") / TEMPLATE).read_text())
    return template.substitute(title=escape(found["about"]["version"]), lead=_lead(found), body=body)


def _lead(found: Found) -> str:
    about, state = found["about"], found["state"] or "at its gates"
    ended = f'<span class="state {escape(state)}">{escape(state.replace("_", " "))}</span>'
    reason = f" ({escape(found['reason'])})" if found["reason"] else ""
    return (
        f"<p>Cycle {escape(about['cycle_id'])} of {escape(about['alias'])}, by {escape(about['method'])} from the "
        f"{escape(about['init'])}, against {escape(found['champion'])}: {ended}{reason}</p>"
        f'<p class="quiet">Published {escape(about["created_at"][:16].replace("T", " "))} UTC</p>'
    )


def _tiles(found: Found) -> str:
    shown = {
        said: f"{found['measured'][name]['value']:.2f}" for name, said in TILES.items() if name in found["measured"]
    }
    shown["minutes so far" if found["cost"]["missing"] else "minutes"] = f"{found['cost']['wall_s'] / 60:.1f}"
    cards = (f'<div class="card"><b>{value}</b><span>{escape(said)}</span></div>' for said, value in shown.items())
    return f'<div class="tiles">{"".join(cards)}</div>'


def _gates(found: Found) -> str:
    """Decided after the version is published: there are none in what is written before."""
    if not found["gates"]:
        return '<p class="quiet">Not decided when this page was written.</p>'
    rows = [
        (gate["name"], gate["verdict"], "yes" if gate["blocking"] else "no", gate["reason"])
        for gate in found["gates"]["gates"]
    ]
    return _table(("gate", "verdict", "blocks", "why"), rows)


def _measured(measured: Found) -> str:
    rows = [(name, f"{each['value']:.3f}", _interval(each), each["n"]) for name, each in measured.items()]
    return _table(("measured", "value", "95%", "n"), rows)


def _regressions(found: Found) -> str:
    if not found["cases"]:
        return ""
    failed = f"; failed: {', '.join(found['failed'])}" if found["failed"] else ""
    return f"<p>{found['passed']} of {found['cases']} exact checks passed{escape(failed)}</p>"


def _probes(probes: Found) -> str:
    rows = [(name, f"{rates['candidate']:.1%}", f"{rates['champion']:.1%}") for name, rates in sorted(probes.items())]
    return _table(("share of answers with", "this version", "champion"), rows)


def _reward_models(models: Found) -> str:
    """One column for each model; a figure that only some have leaves the others' cells empty."""
    columns = {role: dict(_flat(figures)) for role, figures in _ordered(models)}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [(name, *(column.get(name, "") for column in columns.values())) for name in names]
    return _table(("", *(role.replace("_", " ") for role in columns)), rows)


def _training(name: str, found: Sequence[Curve]) -> str:
    if not found:
        return ""
    return f'<h3>{escape(name)}</h3><div class="curves">{"".join(map(_figure, found))}</div>'


def _late(metrics: Found) -> str:
    table = _table(("figure", "value"), _flat(metrics))
    return f"<h3>Means over the policy's last steps, and of its evaluation</h3>{table}" if table else ""


def _figure(curve: Curve) -> str:
    return (
        f"<figure><header><span>{escape(curve.name)}</span><b>{curve.known[-1]:.4g}</b></header>{svg(curve)}"
        f"<figcaption><span>{min(curve.known):.3g} to {max(curve.known):.3g}</span>"
        f"<span>steps {curve.steps[0]} to {curve.steps[-1]}</span></figcaption></figure>"
    )


def _data(found: Found) -> str:
    counts = [(table, split, rows) for table, splits in found["counts"].items() for split, rows in splits.items()]
    rest = {name: found[name] for name in ("dataset_id", "as_of", "window_start", "weights")}
    left_out = sorted({**found["filtered"]}.items(), key=lambda item: -item[1])
    return (
        _table(("rows of", "split", "number"), counts)
        + (f"<h3>Left out</h3>{_table(('because', 'number'), left_out)}" if left_out else "")
        + (
            f"<h3>Taken out of texts</h3>{_table(('kind', 'times'), found['redacted'].items())}"
            if found["redacted"]
            else ""
        )
        + f"<h3>Where and whose</h3>{_table(('', ''), _flat(rest))}"
    )


def _samples(found: Found, samples: Sequence[Sample]) -> str:
    """The page that is stored quotes nobody: there `samples` is empty."""
    kept = found["samples"]
    if samples:
        return f'<div class="samples">{"".join(map(_sample, samples))}</div>'
    return (
        f"<p>{kept['count']} prompts with both versions' answers lie in <code>{escape(kept['path'])}</code>, where an "
        f"erasure finds them; <code>thumbwheel cycle report {escape(found['about']['cycle_id'])}</code> shows them.</p>"
    )


def _sample(sample: Sample) -> str:
    asked = str(sample.prompt[-1].get("content") or "") if sample.prompt else ""
    return (
        f'<div class="card"><h3>{escape(asked)}</h3>'
        f'<span class="quiet">champion{_judged(sample.judge_champion)}</span>'
        f"<blockquote>{escape(sample.champion)}</blockquote>"
        f'<span class="quiet">this version{_judged(sample.judge_candidate)}</span>'
        f'<blockquote class="after">{escape(sample.candidate)}</blockquote></div>'
    )


def _judged(score: float | None) -> str:
    return "" if score is None else f", judged {score:.2f}"


def _cost(found: Found) -> str:
    columns = ("seconds", "start", "load", "learning_tokens", "reading_tokens")
    stages = [(name, *(_number(stage.get(column)) for column in columns)) for name, stage in _ordered(found["stages"])]
    wall_s = found["wall_s"] or 1.0
    fixed = [(name, _number(value), f"{value / wall_s:.1%}") for name, value in _ordered(found["fixed_s"])]
    open_ = f" Not over yet: {', '.join(found['missing'])}." if found["missing"] else ""
    held = f"{found['device_hours']:.3f} {escape(found['device'].upper())} hours held by the trainer"
    return (
        _bar(found["stages"])
        + _table(("stage", "seconds", "until it began", "loading", "tokens learnt from", "tokens read"), stages)
        + f"<p>{found['wall_s']:.1f} s in all, {held}.{open_}</p><h3>Fixed costs: {found['fixed_share'] or 0:.1%}</h3>"
        + _table(("what for", "seconds", "share"), fixed)
    )


def _bar(stages: Found) -> str:
    """Each stage as wide as its time; one too narrow for its name tells it to who points there."""
    parts = [
        f'<span style="flex-grow: {stage["seconds"]:.3f}" title="{name}: {stage["seconds"]:.1f} s">{name}</span>'
        for name, stage in _ordered(stages)
    ]
    return f'<div class="bar">{"".join(parts)}</div>' if parts else ""


def _flat(value: Found, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested figures as one list; an interval is one of them, and nothing is said of what isn't known."""
    for name, each in _ordered(value):
        if isinstance(each, Mapping) and {"value", "lo", "hi"} <= each.keys():
            yield f"{prefix}{name}", f"{each['value']:.3f} ({_interval(each)})"
        elif isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name} · ")
        elif each not in (None, [], ""):
            yield f"{prefix}{name}", ", ".join(map(str, each)) if isinstance(each, list) else _number(each)


def _ordered(value: Found) -> list[tuple[str, Any]]:
    """As ORDER has it, the rest as it comes; `reward-judge` comes with `reward`."""
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(value.items(), key=lambda item: places.get(item[0].partition("-")[0], len(places)))


def _interval(value: Found) -> str:
    return f"{value['lo']:.3f} to {value['hi']:.3f}"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "" if value is None else str(value)
    )


def _table(heads: Sequence[str], rows: Iterable[Row]) -> str:
    """A column of nothing but figures stands right; nothing where there are no rows."""
    texts = [[_number(cell) for cell in row] for row in rows]
    kinds = ["n" if all(FIGURE.fullmatch(text) for text in column) else "" for column in zip(*texts, strict=True)]
    body = "".join(f"<tr>{''.join(map(_cell, row, kinds))}</tr>" for row in texts)
    top = "".join(f'<th class="{kind}">{escape(head)}</th>' for head, kind in zip(heads, kinds, strict=False))
    head = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>' if body else ""


def _cell(text: str, kind: str) -> str:
    return f'<td class="{text if text in VERDICTS else kind}">{escape(text)}</td>'
