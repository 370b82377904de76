"""Pictures of many rows, and the confusion matrix, as files of their own; the page shows the same as HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from toolkit.inspection.svg import fitted
from toolkit.report.axes import chart, label
from toolkit.report.images import png_uri
from toolkit.report.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from toolkit.report.data import GridRow
    from toolkit.report.neurons import NeuronFacts, Sample

__all__ = ["confusion_picture", "gallery", "grid_picture", "sample_picture"]

_SIDE, _GAP, _NAME = 56.0, 4.0, 120.0
_CARD, _ACROSS = 128.0, 6
_CELL = 46.0


def grid_picture(title: str, rows: Sequence[GridRow]) -> Html:
    """A line of pictures for each class, its name in front."""
    parts = []
    for line, row in enumerate(rows):
        y = line * (_SIDE + _GAP)
        parts.append(label(_NAME - 8, y + _SIDE / 2 + 4, fitted(row.name, 12, _NAME - 12), "legend", "end"))
        parts += [_image(picture, _NAME + at * (_SIDE + _GAP), y, _SIDE) for at, picture in enumerate(row.pictures)]
    most = max(len(row.pictures) for row in rows)
    return chart(title, parts, _NAME + most * (_SIDE + _GAP), len(rows) * (_SIDE + _GAP))


def _image(picture: NDArray[np.uint8], x: float, y: float, side: float) -> Html:
    return tag("image", href=png_uri(picture), x=x, y=y, width=side, height=side, class_="pixelated")


def gallery(title: str, cards: Sequence[tuple[NDArray[np.uint8], Sequence[str]]]) -> Html:
    """Pictures with some lines below each."""
    lines = max(len(said) for _, said in cards)
    tall = _CARD - 24 + 17 * lines + 14
    parts = []
    for at, (picture, said) in enumerate(cards):
        x, y = at % _ACROSS * (_CARD + 16), at // _ACROSS * tall
        parts.append(_image(picture, x + 12, y, _CARD - 24))
        parts += [
            label(x + _CARD / 2, y + _CARD - 24 + 15 + 17 * line, fitted(text, 12, _CARD + 12), "legend")
            for line, text in enumerate(said)
        ]
    across = min(_ACROSS, len(cards))
    return chart(title, parts, across * (_CARD + 16), math.ceil(len(cards) / _ACROSS) * tall)


def confusion_picture(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Html:
    """Counts in squares, the darker the larger their share of the row; rows are true classes."""
    left, top = _NAME, 96.0
    parts = []
    for row, line in enumerate(counts):
        y, total = top + row * _CELL, max(sum(line), 1)
        parts.append(label(left - 8, y + _CELL / 2 + 4, fitted(names[row], 12, left - 12), "legend", "end"))
        turned = f"rotate(-45 {left + row * _CELL + _CELL / 2:.1f} {top - 8:.1f})"
        parts.append(
            tag("text", fitted(names[row], 12, 110), x=left + row * _CELL + _CELL / 2, y=top - 8, transform=turned)
        )
        for column, count in enumerate(line):
            x, share = left + column * _CELL, count / total
            said = f"{names[row]} said to be {names[column]}: {count:,}"
            kind = "right" if row == column else "wrong"
            opacity = round(0.75 * (share if row == column else min(1.0, 4 * share)), 2)
            parts.append(
                tag(
                    "rect",
                    tag("title", said),
                    x=x,
                    y=y,
                    width=_CELL - 2,
                    height=_CELL - 2,
                    class_=kind,
                    fill_opacity=opacity,
                )
            )
            parts += [label(x + _CELL / 2 - 1, y + _CELL / 2 + 3, f"{count:,}", "legend")] if count else []
    size = len(names) * _CELL
    return chart(title, parts, left + size + 70, top + size, "chart confusion")


def sample_picture(facts: NeuronFacts, sample: Sample, parts: Sequence[tuple[str, Html]]) -> Html:
    """One row with its neurons, from left to right: the pictures that the page shows, each with its title above."""
    placed, x, tall = [], 0.0, 0.0
    for title, picture in parts:
        width, height = _size(picture)
        placed.append(label(x + width / 2, 16, title, "legend"))
        placed.append(tag("svg", picture, x=x, y=28, width=width, height=height))
        x, tall = x + max(width, 120) + 28, max(tall, height)
    said = "" if sample.answer is None else f", {facts.file} says {sample.answer}"
    return chart(f"{sample.title}{said}", placed, x, tall + 32)


def _size(picture: Html) -> tuple[float, float]:
    """Width and height, as `chart` wrote them."""
    width, height = (float(picture.split(f' {name}="', 1)[1].split('"', 1)[0]) for name in ("width", "height"))
    return width, height
