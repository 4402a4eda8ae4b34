"""A line chart as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 800, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 40, 50
_COLOURS = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e")

Line = Sequence[tuple[float, float]]
"""Points ``(x, y)``, in order of x."""


def line_chart(title: str, x_label: str, y_label: str, lines: Mapping[str, Line]) -> str:
    """The text of an SVG file.

    Args:
        lines: by name, which goes into the legend; at least one, with two points or more.
    """
    xs = [x for line in lines.values() for x, _ in line]
    ys = [y for line in lines.values() for _, y in line]
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(*ys, 0.0), max(ys))

    def at_x(x: float) -> float:
        share = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def at_y(y: float) -> float:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(WIDTH / 2, 18, title, 'text-anchor="middle" font-size="15"'),
        _text((_LEFT + right) / 2, HEIGHT - 12, x_label, 'text-anchor="middle"'),
        _text(14, HEIGHT / 2, y_label, f'text-anchor="middle" transform="{_upright(14)}"'),
    ]
    for x in x_ticks:
        parts.append(_stroke([(at_x(x), _TOP), (at_x(x), bottom)], "#e9ecef"))
        parts.append(_text(at_x(x), bottom + 16, f"{x:g}", 'text-anchor="middle"'))
    for y in y_ticks:
        parts.append(_stroke([(_LEFT, at_y(y)), (right, at_y(y))], "#e9ecef"))
        parts.append(_text(_LEFT - 6, at_y(y) + 4, f"{y:g}", 'text-anchor="end"'))
    for place, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(_stroke([(at_x(x), at_y(y)) for x, y in line], colour, 2))
        legend = f'text-anchor="end" fill="{colour}"'
        parts.append(_text(right - 10, _TOP + 16 * (place + 1), name, legend))
    return "\n".join([*parts, "</svg>\n"])


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, about five, from one below ``low`` to one above ``high``."""
    # Not closer than what can be told apart in what is written.
    raw = max(high - low, (abs(low) + abs(high)) * 1e-6, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _stroke(points: Sequence[tuple[float, float]], colour: str, width: int = 1) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{path}"/>'


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" {attributes}>{escape(text)}</text>'


def _upright(x: float) -> str:
    return f"rotate(-90 {x:g} {HEIGHT / 2:g})"
