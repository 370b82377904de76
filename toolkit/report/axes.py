"""Axes: where a value stands on a picture, and the marks that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.report.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["HEIGHT", "WIDTH", "Axes", "chart", "decades", "label", "ticks"]

WIDTH, HEIGHT = 440.0, 280.0
"""Of a chart. It scales with the page; at 330 pixels, on a phone, its text is still 9 pixels high."""


@dataclass(frozen=True)
class Axes:
    """A plot's area and what its edges stand for.

    Attributes:
        x, y: (lowest, highest) value.
        log: x is logarithmic.
        left, right, top, bottom: room around the area, for titles and marks.
        width, height: of the whole picture.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    left: float = 52.0
    right: float = 22.0
    top: float = 30.0
    bottom: float = 46.0
    width: float = WIDTH
    height: float = HEIGHT

    def at_x(self, value: float) -> float:
        """Where a value stands from the left."""
        low, high = (math.log(end) if self.log else end for end in self.x)
        share = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.left + share * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Where a value stands from the top."""
        low, high = self.y
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def frame(
        self,
        x_marks: Sequence[float],
        y_marks: Sequence[float],
        x_title: str,
        x_text: Callable[[float], str],
        y_text: Callable[[float], str],
    ) -> list[Html]:
        """Lines across at each mark of y, the marks' texts, and the title of x."""
        right, bottom = self.width - self.right, self.height - self.bottom
        parts = [
            tag("path", d=f"M{self.left:.1f} {self.at_y(mark):.1f}H{right:.1f}", class_="across") for mark in y_marks
        ]
        parts.append(tag("path", d=f"M{self.left:.1f} {bottom:.1f}H{right:.1f}", class_="axis"))
        parts += [label(self.left - 7, self.at_y(mark) + 4, y_text(mark), anchor="end") for mark in y_marks]
        parts += [label(self.at_x(mark), bottom + 17, x_text(mark)) for mark in x_marks]
        parts.append(label((self.left + right) / 2, self.height - 8, x_title))
        return parts


def label(x: float, y: float, said: str, kind: str = "", anchor: str = "middle") -> Html:
    """One line of text."""
    return tag("text", said, x=x, y=y, text_anchor=anchor, class_=kind or None)


def chart(title: str, parts: Sequence[Html], width: float = WIDTH, height: float = HEIGHT, kind: str = "chart") -> Html:
    """A picture with a title for those who cannot see it, and for the pointer."""
    return tag(
        "svg",
        tag("title", title),
        list(parts),
        class_=kind,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: 1, 2 and 5 times powers of ten, or the powers alone where these are many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1.0, 2.0, 5.0) if len(exponents) <= 4 else (1.0,)
    return [value for power in exponents for factor in factors if low <= (value := factor * 10.0**power) <= high]
