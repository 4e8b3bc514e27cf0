"""Curves as SVG, small enough to be read as text: no plotting library draws a file without a browser here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, QUIET = "#22313f", "#a9b4bd"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 56, 16, 34, 46


@dataclass(frozen=True, slots=True)
class Curve:
    """One line; points are (x, y)."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line at x."""

    name: str
    colour: str
    x: float


@dataclass(frozen=True, slots=True)
class Frame:
    """The rectangle of the data on the page."""

    x0: float
    x1: float
    y0: float
    y1: float

    @classmethod
    def around(cls, curves: Sequence[Curve]) -> "Frame":
        xs, ys = zip(*(point for curve in curves for point in curve.points), strict=True)
        room = 0.06 * (max(ys) - min(ys) or 1.0)
        return cls(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, min(ys) - room, max(ys) + room)

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def draw(title: str, x_name: str, y_name: str, curves: Sequence[Curve], marks: Sequence[Mark] = ()) -> str:
    frame = Frame.around(curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        f' font-size="12" fill="{INK}"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(frame, x_name, y_name),
        *(_mark(frame, mark) for mark in marks),
        *(_line(frame, curve) for curve in curves),
        *_legend([(one.name, one.colour) for one in (*curves, *marks)]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _axes(frame: Frame, x_name: str, y_name: str) -> list[str]:
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    found = [
        f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>',
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name, "middle"),
        f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">{escape(y_name)}'
        "</text>",
    ]
    found += [_text(frame.x(at), bottom + 16, f"{at:g}", "middle") for at in ticks(frame.x0, frame.x1)]
    for at in ticks(frame.y0, frame.y1):
        found += [
            _text(LEFT - 6, frame.y(at) + 4, f"{at:g}", "end"),
            f'<path d="M{LEFT} {frame.y(at):.1f}H{WIDTH - RIGHT}" stroke="{QUIET}" stroke-width=".4"/>',
        ]
    return found


def ticks(low: float, high: float) -> list[float]:
    """Round numbers within, about five of them."""
    rough = (high - low) / 7
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough)
    return [round(number * step, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _line(frame: Frame, curve: Curve) -> str:
    points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in curve.points)
    return f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="2"/>'


def _mark(frame: Frame, mark: Mark) -> str:
    at = frame.x(mark.x)
    return f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{mark.colour}" stroke-dasharray="5 4"/>'


def _legend(named: Sequence[tuple[str, str]]) -> list[str]:
    found, x = [], float(LEFT)
    for name, colour in named:
        found.append(f'<path d="M{x:.0f} 18h18" stroke="{colour}" stroke-width="3"/>')
        found.append(_text(x + 23, 22, name, "start"))
        x += 40 + 6.4 * len(name)
    return found


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
