"""report.json, report.html (one page that needs nothing else) and the table on the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs
from rich.table import Table

from infra.demo.charts import charts
from infra.demo.decision import RULE
from infra.demo.results import CycleResult, Example, Results

TEMPLATE = "report.html.template"
READING = (
    "Win rate: how often a hidden taste, which voted but never trained anything, prefers the served version's answer "
    "to the base's on questions nobody voted on, both sampled at temperature 0.7 and top_p 1, ties counting half. The "
    "intervals are bootstrapped by subject at 95%. Length is in words."
)


def write_report(results: Results, directory: Path) -> Path:
    """Writes both files and returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(results.model_dump_json(indent=2) + "\n")
    page = directory / "report.html"
    page.write_text(render(results))
    return page


def render(results: Results) -> str:
    template = Template((files("infra.demo") / TEMPLATE).read_text())
    return template.substitute(
        plotly=f"<script>{get_plotlyjs()}</script>",
        lead=escape(_lead(results)),
        facts=_facts(results),
        charts=_charts(results),
        cycles=_table(HEADINGS, [_row(cycle) for cycle in results.cycles]),
        reading=escape(READING),
        gates=_gates(results.cycles),
        trials=_table(("cycle", "version", "step", "votes on it", "s"), _trials(results.cycles)),
        rule=escape(f"The simulated operator's rule: {RULE}"),
        examples="".join(_example(example) for example in results.examples),
        lineage=_table(("version", "parent", "starts from", "method", "dataset", "reward model"), _lineage(results)),
    )


def summary(results: Results) -> Table:
    """What the terminal shows at the end."""
    table = Table(
        title=f"seed {results.seed}, votes by {results.votes}: {results.wall_s / 60:.1f} min", title_justify="left"
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "version" else "right")
    for cycle in results.cycles:
        table.add_row(*_row(cycle))
    return table


HEADINGS = (
    "cycle",
    "version",
    "wins",
    "95%",
    "right",
    "vs base",
    "pairs",
    "reward acc.",
    "KL",
    "words",
    "swap ms",
    "s",
)


def _row(cycle: CycleResult) -> list[str]:
    low, high = cycle.gold_win_rate_ci
    return [
        str(cycle.cycle),
        cycle.served if cycle.served == cycle.version else f"{cycle.served} ({cycle.state})",
        f"{cycle.gold_win_rate:.3f}",
        f"{low:.2f}–{high:.2f}",
        f"{cycle.correct_rate:.1%}",
        f"{-100 * cycle.correct_drop:+.1f}",
        str(cycle.pairs),
        _number(cycle.reward_accuracy, ".2f"),
        _number(cycle.kl, ".2f"),
        f"{cycle.mean_length:.1f}",
        _number(cycle.swap_ms, ".0f"),
        f"{cycle.seconds:.0f}",
    ]


def _lead(results: Results) -> str:
    who = "voted by taste" if results.votes == "taste" else "flipped a coin for every vote (the control)"
    return (
        f"A base model made from docstrings answered {results.requests:,} requests through the public API. "
        f"{sum(results.raters.values())} simulated raters, some careless and a few adverse, {who}; "
        f"{len(results.cycles)} cycles trained, checked and swapped in a new adapter while users kept asking."
    )


def _facts(results: Results) -> str:
    last = results.cycles[-1].gold_win_rate if results.cycles else 0.5
    shown = {
        "wins of the last version over the base": f"{last:.0%}",
        "wins of the base decoded greedily": f"{results.base.greedy_win_rate:.0%}",
        "wins of the last cycle over the first": f"{results.last_vs_first.win_rate:.0%}",
        "failed requests": f"{results.failed_requests} of {results.requests:,}",
        "answers of mixed versions": str(results.mixed_version_answers),
        "votes stored of acknowledged": f"{results.votes_stored:,} of {results.votes_acknowledged:,}",
        "rollback": f"{_number(results.rollback_ms, '.0f')} ms",
        "minutes": f"{results.wall_s / 60:.1f}",
    }
    return "".join(
        f'<div class="card fact"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in shown.items()
    )


def _charts(results: Results) -> str:
    return "".join(
        f'<div class="card"><h3>{escape(title)}</h3>'
        + figure.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
        + "</div>"
        for title, figure in charts(results).items()
    )


def _gates(cycles: Sequence[CycleResult]) -> str:
    names = list(dict.fromkeys(name for cycle in cycles for name in cycle.gates))
    rows = [[str(cycle.cycle), *[cycle.gates.get(name, "–") for name in names], cycle.decision] for cycle in cycles]
    return _table(("cycle", *names, "decision"), rows)


def _trials(cycles: Sequence[CycleResult]) -> Iterator[list[str]]:
    """Every step of every version that came so far."""
    for cycle in cycles:
        for step in cycle.steps:
            yield [str(cycle.cycle), str(cycle.version), step.title, str(step.votes), f"{step.seconds:.1f}"]


def _example(example: Example) -> str:
    return (
        f'<div class="card"><h3>{escape(example.question)}</h3><blockquote>{escape(example.before)}</blockquote>'
        f'<blockquote class="after">{escape(example.after)}</blockquote></div>'
    )


def _lineage(results: Results) -> list[list[str]]:
    return [
        [
            str(step["version"]),
            str(step.get("parent") or "–"),
            str(step.get("anchor") or "–"),
            str(step.get("method") or "–"),
            ", ".join(digest[:12] for digest in step.get("dataset_sha256") or []) or "–",
            str(step.get("reward_model") or "–"),
        ]
        for step in results.lineage
    ]


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: str) -> str:
    verdict = value if value in ("pass", "fail", "inconclusive") else "n"
    return f'<td class="{verdict}">{escape(value)}</td>'


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
