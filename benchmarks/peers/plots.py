"""Plots of the comparison: small SVG files with plain text, the same bytes for the same results."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Mark", "dots"]

LEFT, RIGHT, TOP, LINE, WIDTH = 200, 44, 54, 20, 740
COLORS = ("#1f6feb", "#d1741f")
STYLE = "font-family:sans-serif;font-size:12px"


class Mark:
    """One row of a plot.

    Attributes:
        name: at the left.
        values: of each series, None where there is none; each a value, or a range from one value to another.
        ours: written in bold.
    """

    def __init__(self, name: str, values: Sequence[tuple[float, float] | None], *, ours: bool = False) -> None:
        self.name, self.values, self.ours = name, values, ours


def dots(title: str, unit: str, series: Sequence[str], marks: Sequence[Mark]) -> str:
    """A plot of dots on a logarithmic axis: each row has one dot a series, with a line to the end of its range.

    Args:
        title: over it.
        unit: of the axis.
        series: their names.
        marks: the rows, from the top; those without any value stand there with none.
    """
    shown = [value for mark in marks for found in mark.values if found for value in found]
    low, high = math.floor(math.log10(min(shown))), math.ceil(math.log10(max(shown)))
    high = max(high, low + 1)
    bottom = TOP + LINE * len(marks)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" style="{STYLE}">',
        f'<rect width="{WIDTH}" height="{bottom + 40}" fill="#ffffff"/>',
        f'<text x="12" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    at = LEFT
    for name, color in zip(series, COLORS, strict=False):
        parts.append(f'<circle cx="{at}" cy="37" r="4" fill="{color}"/><text x="{at + 9}" y="41">{escape(name)}</text>')
        at += 30 + 7 * len(name)

    def x(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    for power in range(low, high + 1):
        place = x(10.0**power)
        parts.append(f'<path d="M{place:.1f} {TOP}V{bottom}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{_plain(10.0**power)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 33}" text-anchor="middle">{escape(unit)}</text>')
    for row, mark in enumerate(marks):
        y = TOP + LINE * row + LINE / 2
        weight = ' font-weight="bold"' if mark.ours else ""
        name = mark.name.replace("`", "")
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end"{weight}>{escape(name)}</text>')
        for at_series, found in enumerate(mark.values):
            if found is None:
                continue
            color, level = COLORS[at_series], y + (at_series - (len(series) - 1) / 2) * 6
            if found[1] != found[0]:
                parts.append(f'<path d="M{x(found[0]):.1f} {level}H{x(found[1]):.1f}" stroke="{color}"/>')
            parts.append(f'<circle cx="{x(found[0]):.1f}" cy="{level}" r="4" fill="{color}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
