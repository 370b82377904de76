"""Pictures of values one by one: neurons as squares, answers as bars, pixels with their numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.inspection.svg import fitted
from toolkit.report.axes import chart, label
from toolkit.report.images import png_uri
from toolkit.report.markup import Html, tag
from toolkit.report.words import figure, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MOST_CELLS", "answer_bars", "cell_columns", "neuron_cells", "pixel_values"]

MOST_CELLS = 2_000
"""Squares of one layer; of a larger one the first are drawn."""

_PITCH, _SIDE = 14.0, 12.0
_BARS = 12
_PIXEL = 23.0
_MIDDLE = 116  # the grey on which black and white text are equally well read


def neuron_cells(title: str, values: NDArray[Any], what: str = "neuron") -> Html:
    """One square a value, the stronger the larger it is beside the layer's largest; negative ones in another colour."""
    shown = values[:MOST_CELLS]
    columns = cell_columns(len(shown))
    rows = math.ceil(len(shown) / columns)
    largest = float(np.abs(shown.astype(np.float64)).max()) or 1.0
    parts = []
    for at, value in enumerate(shown.tolist()):
        strength = abs(value) / largest
        parts.append(
            tag(
                "rect",
                tag("title", f"{what} {at}: {figure(value)}"),
                x=at % columns * _PITCH + 1,
                y=at // columns * _PITCH + 1,
                width=_SIDE,
                height=_SIDE,
                # What is 0 keeps the faint colour of an empty square.
                fill_opacity=round(0.12 + 0.88 * strength, 2) if strength > 0 else None,
                class_=None if value > 0 else "negative" if value < 0 else "off",
            )
        )
    return chart(title, parts, columns * _PITCH + 1, rows * _PITCH + 1, "cells")


def cell_columns(count: int) -> int:
    """How many squares side by side: full lines if that goes, of a picture that is a little wider than tall."""
    wished = max(1, math.ceil(math.sqrt(count * 4 / 3)))
    full = [
        each for each in range(math.ceil(math.sqrt(count)), math.ceil(math.sqrt(2 * count)) + 1) if count % each == 0
    ]
    return min(full, key=lambda each: abs(each - wished), default=wished)


def answer_bars(
    title: str, names: Sequence[str], values: NDArray[np.float32], *, shares: bool, right: int | None
) -> Html:
    """The answers, largest first where they are many, as bars with their names and values.

    Args:
        title: of the picture.
        names: one a value.
        values: of the last layer.
        shares: they are probabilities.
        right: the one that is so, where that is known.
    """
    order = range(len(values)) if len(values) <= _BARS else np.argsort(-values, kind="stable")[:_BARS].tolist()
    low, high = (0.0, 1.0) if shares else (min(0.0, float(values.min())), max(0.0, float(values.max())) or 1.0)
    said = int(values.argmax())
    parts = []
    for line, at in enumerate(order):
        value, y = float(values[at]), 4 + line * 20.0
        start, end = (112 + 130 * (each - low) / (high - low) for each in (min(value, 0.0), max(value, 0.0)))
        kind = "said" if at == said else "other"
        text = percent(value, 1) if shares else figure(value)
        told = f"{names[at]}: {text}" + (", which would be right" if at == right != said else "")
        named = "true-name" if at == right else f"{kind}-name"
        parts += [
            label(104, y + 11, fitted(names[at], 12, 100), named, "end"),
            tag("rect", x=112, y=y, width=130, height=14, class_="track"),
            tag("rect", tag("title", told), x=start, y=y, width=max(end - start, 0.5), height=14, class_=kind),
            label(248, y + 11, text, f"{kind}-name", "start"),
        ]
    return chart(title, parts, 318, 8 + 20.0 * len(order), "answers")


def pixel_values(title: str, picture: NDArray[np.uint8]) -> Html:
    """A grey picture with the value of each pixel written into it."""
    rows, columns = picture.shape
    width, height = columns * _PIXEL, rows * _PIXEL
    texts: dict[str, list[Html]] = {"zero": [], "on-dark": [], "on-bright": []}
    for row, values in enumerate(picture.tolist()):
        for column, value in enumerate(values):
            x, y = (column + 0.5) * _PIXEL, (row + 0.5) * _PIXEL + 3.5
            texts["zero" if value == 0 else "on-bright" if value > _MIDDLE else "on-dark"].append(
                tag("text", str(value), x=x, y=y)
            )
    image = tag(
        "image", href=png_uri(picture), width=width, height=height, preserveAspectRatio="none", class_="pixelated"
    )
    return chart(
        title, [image, *(tag("g", each, class_=kind) for kind, each in texts.items())], width, height, "pixels"
    )
