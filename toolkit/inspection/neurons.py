"""Chains of dense layers, drawn as neurons: circles in columns, and lines from each to each of the next."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.inspection.graph import DENSE, FUNCTION, INPUT, OTHER, Graph, Node, chain
from toolkit.inspection.svg import document, fitted, text, text_width, tooltip

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_columns", "draw_neurons"]

_RADIUS, _STEP, _MARGIN, _MOST = 9.0, 27.0, 28.0, 12
_SHOWN = 5
_WIDEST = 190.0
_REMARKS = {"BatchNormalization": "batch normalization", "Dropout": "dropout", "Normalization": "normalization"}


@dataclass
class Column:
    """A layer of neurons.

    Attributes:
        name: of the layer.
        count: how many neurons.
        lines: what is said below.
    """

    name: str
    count: int
    lines: list[str] = field(default_factory=list)


def as_columns(graph: Graph) -> list[Column] | None:
    """The layers of neurons, inputs first, or None if the model is anything but a chain of dense layers."""
    nodes = chain(graph)
    if nodes is None or nodes[0].role != INPUT or not any(node.role == DENSE for node in nodes):
        return None
    first = _first(nodes[0])
    if first is None or any(node.role in (OTHER, INPUT) for node in nodes[1:]):
        return None
    columns, parameters = [first], [0]
    for node in nodes[1:]:
        if node.role == DENSE:
            columns.append(_dense(node))
            parameters.append(node.parameters)
            continue
        parameters[-1] += node.parameters
        said = node.activation if node.role == FUNCTION else _REMARKS.get(node.type)
        columns[-1].lines += [said] if said else []
    for column, count in zip(columns, parameters, strict=True):
        column.lines += [f"{count:,} parameters"] if count else []
    return columns if all(column.count for column in columns) else None


def _first(node: Node) -> Column | None:
    """The inputs, if their number is known."""
    sizes = [size for size in node.output or () if isinstance(size, int)]
    if node.output is None or len(sizes) != len(node.output):
        return None
    shape = [" \u00d7 ".join(map(str, sizes))] if len(sizes) > 1 else []
    return Column(node.name, math.prod(sizes), [f"{math.prod(sizes):,} inputs", *shape])


def _dense(node: Node) -> Column:
    units = node.output[-1] if node.output else None
    count = units if isinstance(units, int) else 0
    lines = [f"{count:,} neuron{'s' if count != 1 else ''}", *([node.activation] if node.activation else [])]
    return Column(node.name, count, lines + ([node.remark] if node.remark else []))


def draw_neurons(graph: Graph, columns: Sequence[Column]) -> str:
    """The picture, as SVG.

    Args:
        graph: for its title and the names of the last neurons.
        columns: from `as_columns`.
    """
    pitches = [min(_WIDEST, max(96.0, *(_widths(column)))) + 34 for column in columns]
    tall = max(_height(column.count) for column in columns)
    top, middle = 92.0, 92.0 + tall / 2
    xs, at = [], _MARGIN
    for pitch in pitches:
        xs.append(at + pitch / 2)
        at += pitch
    names = graph.class_names if graph.class_names and len(graph.class_names) == columns[-1].count else ()
    labels = {place: fitted(names[place], 11, _WIDEST) for place in _shown(columns[-1].count)} if names else {}
    right = max((text_width(label, 11) for label in labels.values()), default=0.0)
    # Names stand to the right of the last circles, and may need more than half of that column.
    width = max(at + _MARGIN, xs[-1] + _RADIUS + 10 + right + _MARGIN)
    height = top + tall + 26 + 16 * max(len(column.lines) for column in columns) + 12
    title = fitted(graph.title, 15, width - 2 * _MARGIN, bold=True)
    parts = [text(_MARGIN, 34, title, "title", "start")]
    circles = [_places(column.count, middle) for column in columns]
    for left, (x1, x2) in enumerate(itertools.pairwise(xs)):
        lines = (
            f"M{x1 + _RADIUS:.1f} {y1:.1f} {x2 - _RADIUS:.1f} {y2:.1f}"
            for y1 in circles[left].values()
            for y2 in circles[left + 1].values()
        )
        parts.append(f'<path class="web" d="{"".join(lines)}"/>')
    for index, (column, x) in enumerate(zip(columns, xs, strict=True)):
        kind = "input" if index == 0 else "output" if index == len(columns) - 1 else "weights"
        wide = pitches[index] - 20
        parts.append(f"<g>{tooltip(': '.join((column.name, ', '.join(column.lines))))}")
        parts.append(text(x, 68, fitted(column.name, 12, wide, bold=True), "name"))
        parts += [f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"/>' for y in circles[index].values()]
        if len(circles[index]) < column.count:
            parts += [f'<circle class="dots" cx="{x:.1f}" cy="{middle + d}" r="2"/>' for d in (-9, 0, 9)]
        said = [fitted(line, 11, wide) for line in column.lines]
        parts += [text(x, top + tall + 26 + 16 * row, line, "small") for row, line in enumerate(said)]
        parts.append("</g>")
    parts += [
        text(xs[-1] + _RADIUS + 10, y + 4, labels[place], "small", "start")
        for place, y in circles[-1].items()
        if place in labels
    ]
    return document(width, height, f"{graph.title}: a chain of {len(columns) - 1} dense layers", parts)


def _widths(column: Column) -> list[float]:
    return [text_width(column.name, 12, bold=True), *(text_width(line, 11) for line in column.lines)]


def _shown(count: int) -> list[int]:
    """Which neurons of a layer are drawn: all, or the first and the last few."""
    if count <= _MOST:
        return list(range(count))
    return [*range(_SHOWN), *range(count - _SHOWN, count)]


def _height(count: int) -> float:
    rows = count if count <= _MOST else 2 * _SHOWN + 2
    return (rows - 1) * _STEP + 2 * _RADIUS


def _places(count: int, middle: float) -> dict[int, float]:
    """The height of each circle that is drawn, by its number."""
    shown = _shown(count)
    rows = count if count <= _MOST else 2 * _SHOWN + 2
    start = middle - (rows - 1) * _STEP / 2
    gap = 0 if count <= _MOST else 2
    return {number: start + (row + (gap if row >= _SHOWN and gap else 0)) * _STEP for row, number in enumerate(shown)}
