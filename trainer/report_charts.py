"""A line for each figure of a training as inline SVG: no script, tens of kilobytes, in the colours of the page."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from statistics import fmean
from typing import Any

from trainer.metrics_file import STEP

WIDTH, HEIGHT, MARGIN = 300.0, 90.0, 4.0
MOST_POINTS = 300  # more would share pixels
UNSEEN = "time/"  # where a step's seconds go is the bill's


@dataclass(frozen=True, slots=True)
class Curve:
    """Of one figure; a step at which it was no number has None."""

    name: str
    steps: list[int]
    values: list[float | None]

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


def curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """One for each figure of a metrics.jsonl that was ever a number but zero, in the order in which they came."""
    names = dict.fromkeys(name for line in lines for name in line if name != STEP and not name.startswith(UNSEEN))
    found = [_thinned(name, [line for line in lines if name in line]) for name in names]
    return [curve for curve in found if any(curve.known)]


def svg(curve: Curve) -> str:
    """Its aspect follows the page's; the text beside it is the page's as well."""
    low, high = min(curve.known), max(curve.known)
    told = f"{curve.name}: {curve.known[0]:.4g} to {curve.known[-1]:.4g}, between {low:.4g} and {high:.4g}"
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">'
        f'<path d="{_path(curve, low, high)}"/></svg>'
    )


def _path(curve: Curve, low: float, high: float) -> str:
    """A gap where there is no number; a lone point is a line of no length, which a round cap makes visible."""
    first, span = curve.steps[0], max(1, curve.steps[-1] - curve.steps[0])
    places = [
        None if value is None else (_across((step - first) / span), _down((value - low) / (high - low or 1.0)))
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    runs = [list(run) for known, run in groupby(places, lambda place: place is not None) if known]
    return " ".join(f"M{' L'.join(f'{x:.1f} {y:.1f}' for x, y in [*run, run[-1]])}" for run in map(_known, runs))


def _known(run: Iterable[tuple[float, float] | None]) -> list[tuple[float, float]]:
    return [place for place in run if place is not None]


def _across(share: float) -> float:
    return MARGIN + share * (WIDTH - 2 * MARGIN)


def _down(share: float) -> float:
    """SVG's y grows downwards."""
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)


def _thinned(name: str, lines: Sequence[Mapping[str, Any]]) -> Curve:
    """Means over equal numbers of steps where there are too many; of what was a number among them."""
    size = math.ceil(len(lines) / MOST_POINTS)
    groups = [lines[start : start + size] for start in range(0, len(lines), size)]
    known = [[line[name] for line in group if line[name] is not None] for group in groups]
    return Curve(name, [group[0][STEP] for group in groups], [fmean(values) if values else None for values in known])
