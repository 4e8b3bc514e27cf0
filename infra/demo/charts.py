"""The report's charts, as plotly figures from a run's results."""

from collections.abc import Sequence

import plotly.graph_objects as go

from infra.demo.phrasing import Style
from infra.demo.results import CycleResult, Results

INK, ACCENT, QUIET, WARN = "#22313f", "#2a7f62", "#a9b4bd", "#c8553d"
STYLE_COLOURS = dict(zip(Style, (QUIET, "#d9a441", WARN, "#8e6c8a", ACCENT), strict=True))


def charts(results: Results) -> dict[str, go.Figure]:
    """By the title that stands above each."""
    return {
        "Win rate against the base": win_rate(results),
        "Right answers": correct_rate(results),
        "Style of the answers": styles(results),
        "Reward accuracy on held-out raters": per_cycle(
            results.cycles, [c.reward_accuracy for c in results.cycles], "share"
        ),
        "KL to the anchor": per_cycle(results.cycles, [c.kl for c in results.cycles], "nats per answer"),
        "Length": lengths(results),
        "Swap under load": swaps(results),
    }


def win_rate(results: Results) -> go.Figure:
    """The base decoded greedily is the floor: it wins without having learned anything."""
    rates = [cycle.gold_win_rate for cycle in results.cycles]
    figure = _figure("share of answers preferred")
    figure.add_scatter(
        x=_names(results.cycles), y=rates, mode="lines+markers", name="served version",
        line={"color": ACCENT}, error_y=_whiskers(rates, [cycle.gold_win_rate_ci for cycle in results.cycles]),
    )  # fmt: skip
    _mark(figure, 0.5, QUIET, "no better")
    _mark(figure, results.base.greedy_win_rate, WARN, "base, greedy")
    return figure.update_yaxes(range=[0.3, 1])


def correct_rate(results: Results) -> go.Figure:
    drops = [cycle.correct_drop_ci for cycle in results.cycles]
    base, rates = results.base.correct_rate, [cycle.correct_rate for cycle in results.cycles]
    figure = _figure("share that is right")
    figure.add_scatter(
        x=_names(results.cycles), y=rates, mode="lines+markers", name="served version", line={"color": ACCENT},
        error_y=_whiskers(rates, [[base - high, base - low] for low, high in drops]),
    )  # fmt: skip
    _mark(figure, base, QUIET, "base")
    return figure.update_yaxes(range=[0.6, 1])


def styles(results: Results) -> go.Figure:
    figure = _figure("share of answers")
    names = ["base", *_names(results.cycles)]
    shares = [results.base.styles, *[cycle.styles for cycle in results.cycles]]
    for style, colour in STYLE_COLOURS.items():
        figure.add_bar(x=names, y=[each[style] for each in shares], name=style.value, marker={"color": colour})
    return figure.update_layout(barmode="stack", showlegend=True)


def lengths(results: Results) -> go.Figure:
    figure = _figure("words")
    values = [results.base.mean_length, *[cycle.mean_length for cycle in results.cycles]]
    return figure.add_bar(x=["base", *_names(results.cycles)], y=values, marker={"color": ACCENT})


def swaps(results: Results) -> go.Figure:
    figure = _figure("milliseconds")
    timed = {f"cycle {cycle.cycle}": cycle.swap_ms for cycle in results.cycles}
    timed |= {"rollback": results.rollback_ms, "forward": results.rollforward_ms}
    figure.add_bar(x=list(timed), y=list(timed.values()), marker={"color": ACCENT})
    return figure


def per_cycle(cycles: Sequence[CycleResult], values: Sequence[float | None], unit: str) -> go.Figure:
    return _figure(unit).add_scatter(x=_names(cycles), y=list(values), mode="lines+markers", line={"color": ACCENT})


def _names(cycles: Sequence[CycleResult]) -> list[str]:
    return [f"cycle {cycle.cycle}" for cycle in cycles]


def _whiskers(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> dict[str, object]:
    above = [interval[1] - value for value, interval in zip(values, intervals, strict=True)]
    below = [value - interval[0] for value, interval in zip(values, intervals, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below}


def _mark(figure: go.Figure, at: float, colour: str, text: str) -> None:
    """A level to compare with. The template draws shapes without an outline unless it is given its width."""
    line = {"color": colour, "dash": "dash", "width": 1.5}
    figure.add_hline(y=at, line=line, opacity=1, annotation_text=text, annotation_position="bottom right")


def _figure(unit: str) -> go.Figure:
    figure = go.Figure(
        layout={"template": "simple_white", "height": 270, "showlegend": False, "font": {"color": INK, "size": 12}}
    )
    return figure.update_layout(
        margin={"l": 52, "r": 12, "t": 8, "b": 32}, yaxis_title=unit, legend={"orientation": "h", "y": -0.15}
    )
