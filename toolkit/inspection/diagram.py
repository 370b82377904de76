"""The diagram of any model as one SVG file: neurons for a chain of dense layers, else boxes in graph order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from toolkit.errors import UsageError
from toolkit.inspection.graph import INPUT, Graph, Node
from toolkit.inspection.layout import COLUMN_GAP, Placement, place, ranks_of
from toolkit.inspection.neurons import as_columns, draw_neurons
from toolkit.inspection.svg import document, fitted, text, text_width, tooltip
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from toolkit.inspection.facts import Inspection, Shape

__all__ = ["check_target", "draw", "write_diagram"]

_MARGIN, _TOP, _PADDING, _HEIGHT = 28.0, 62.0, 12.0, 62.0
_NARROWEST, _WIDEST = 128.0, 250.0
_FRAME_ABOVE, _FRAME_BELOW = 24.0, 10.0
_MOST_BOXES = 3000


def check_target(path: Path) -> None:
    """Refuse what is no place for a picture, before any work is done.

    Raises:
        UsageError: its name does not end in .svg, it is a folder, or it is a file of another kind.
    """
    if path.suffix.lower() != ".svg":
        raise UsageError(f"--diagram is {path}, expected a name that ends in .svg; the picture is SVG")
    if path.is_dir():
        raise UsageError(f"{path} is a folder, expected a file to write; give a name in it")
    if path.exists():
        try:
            with path.open("rb") as file:
                start = file.read(4096)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}; give another name") from error
        if not _is_svg(start):
            raise UsageError(f"{path} is there already and is no SVG picture, so it is not replaced; give another name")


def _is_svg(start: bytes) -> bool:
    """Whether a file's first tag is svg, after declarations and comments."""
    rest = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    while rest.startswith((b"<?", b"<!")):
        _, end, rest = rest.partition(b"-->" if rest.startswith(b"<!--") else b">")
        rest = rest.lstrip() if end else b""
    return re.match(rb"<svg[\s>/]", rest) is not None


def write_diagram(inspection: Inspection, path: Path) -> str:
    """Draw a model and write the picture.

    Args:
        inspection: of a file, or of an artifact: there the Keras model is drawn if it is there, else the last file.
        path: to write; an SVG of before is replaced.

    Returns:
        The model that was drawn: its file.

    Raises:
        UsageError: see `check_target`; or there are too many boxes for a picture.
        StorageError: it cannot be written; an earlier file is untouched.
    """
    check_target(path)
    file = inspection.files[-1]
    write_atomic(path, draw(file.graph))
    return file.file


def draw(graph: Graph) -> str:
    """A model as SVG.

    Raises:
        UsageError: it has too many boxes for a picture.
    """
    if len(graph.nodes) > _MOST_BOXES:
        raise UsageError(
            f"{graph.title} has {len(graph.nodes):,} layers, more than the {_MOST_BOXES:,} that a picture can show; "
            "inspect it without --diagram"
        )
    columns = as_columns(graph)
    return _draw_boxes(graph) if columns is None else draw_neurons(graph, columns)


def _draw_boxes(graph: Graph) -> str:
    ranks = ranks_of(len(graph.nodes), graph.edges)
    spans = _frame_spans(graph, ranks)

    def room(rank: int) -> tuple[float, float]:
        above = sum(first == rank for first, _ in spans.values())
        below = sum(last == rank for _, last in spans.values())
        return above * _FRAME_ABOVE, below * _FRAME_BELOW

    placed = place([(_width(node), _HEIGHT) for node in graph.nodes], graph.edges, room)
    rows = _TOP
    left = _MARGIN
    parts = [text(left, 34, fitted(graph.title, 15, max(placed.width, 240.0), bold=True), "title", "start")]
    framed, frames = _frames(graph, placed)
    body = [*frames]
    body += [f'<path class="line"{_arrow(points)} d="{_curve(points)}"/>' for points in placed.lines]
    body += [f'<path class="line" marker-end="url(#arrow)" d="{_corners(points)}"/>' for points in placed.jumps]
    giving = {start for start, _ in graph.edges}
    for index, (node, (x, y)) in enumerate(zip(graph.nodes, placed.boxes, strict=True)):
        kind = "input" if node.role == INPUT else "weights" if node.parameters else "box"
        if node.role != INPUT and index not in giving:
            kind = "output"
        body += _box(node, x, y, kind, prefixed=node.frame not in framed)
    parts.append(f'<g transform="translate({left} {rows})">')
    parts += [*body, "</g>"]
    width = max(placed.width, 240.0) + 2 * _MARGIN
    return document(width, placed.height + rows + _MARGIN, f"{graph.title}: {len(graph.nodes)} boxes", parts)


def _lines(node: Node) -> tuple[str, str]:
    activation = "" if node.activation == node.type.lower() else node.activation
    kind = " \u00b7 ".join(part for part in (node.type, activation, node.remark) if part)
    numbers = _shape(node.output)
    if node.parameters:
        numbers += f" \u00b7 {node.parameters:,} params"
    return kind, numbers


def _shape(shape: Shape | None) -> str:
    if shape is None:
        return "shape unknown"
    return " \u00d7 ".join("?" if size is None else str(size) for size in shape) or "one number"


def _width(node: Node) -> float:
    kind, numbers = _lines(node)
    wished = max(text_width(node.name, 12, bold=True), text_width(kind, 11), text_width(numbers, 11))
    return min(_WIDEST, max(_NARROWEST, wished + 2 * _PADDING))


def _box(node: Node, x: float, y: float, kind: str, *, prefixed: bool) -> list[str]:
    name = "/".join((*node.frame, node.name)) if prefixed else node.name
    wide, inside = _width(node), _width(node) - 2 * _PADDING
    middle = x + wide / 2
    said = _lines(node)
    return [
        f"<g>{tooltip(', '.join(('/'.join((*node.frame, node.name)), *said)))}",
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_HEIGHT}" rx="6"/>',
        text(middle, y + 21, _short(name, inside), "name"),
        text(middle, y + 37, fitted(said[0], 11, inside), "small"),
        text(middle, y + 52, fitted(said[1], 11, inside), "small"),
        "</g>",
    ]


def _short(name: str, width: float) -> str:
    """A name that fits: of a path the last parts, which tell boxes apart."""
    parts = name.split("/")
    for skipped in range(1, len(parts)):
        if text_width(name, 12, bold=True) <= width:
            return name
        name = "/".join(("\u2026", *parts[skipped:]))
    return fitted(name, 12, width, bold=True)


def _arrow(points: tuple[tuple[float, float], ...]) -> str:
    """A line that goes on in a lane has no head there."""
    return ' marker-end="url(#arrow)"' if len(points) == 2 else ""


def _curve(points: tuple[tuple[float, float], ...]) -> str:
    (x1, y1), (x2, y2) = points[:2]
    half = (y1 + y2) / 2
    curve = f"M{x1:.1f} {y1:.1f}C{x1:.1f} {half:.1f} {x2:.1f} {half:.1f} {x2:.1f} {y2:.1f}"
    return curve + "".join(f"L{x:.1f} {y:.1f}" for x, y in points[2:])


def _corners(points: tuple[tuple[float, float], ...]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _prefixes(frame: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    return (frame[:depth] for depth in range(1, len(frame) + 1))


def _frame_spans(graph: Graph, ranks: list[int]) -> dict[tuple[str, ...], tuple[int, int]]:
    """The first and last rank of each nested model."""
    found: dict[tuple[str, ...], list[int]] = {}
    for node, rank in zip(graph.nodes, ranks, strict=True):
        for prefix in _prefixes(node.frame):
            found.setdefault(prefix, []).append(rank)
    return {frame: (min(inside), max(inside)) for frame, inside in found.items()}


def _frames(graph: Graph, placed: Placement) -> tuple[set[tuple[str, ...]], list[str]]:
    """A rectangle around each nested model, in each column; none where it would also hold what is not its own.

    Returns:
        The frames that are drawn, with the empty one; and the parts of the picture.
    """
    inside: dict[tuple[str, ...], dict[int, list[int]]] = {}
    for index, node in enumerate(graph.nodes):
        for prefix in _prefixes(node.frame):
            inside.setdefault(prefix, {}).setdefault(placed.columns[index], []).append(index)
    drawn: set[tuple[str, ...]] = {()}
    parts = []
    for frame, by_column in sorted(inside.items(), key=lambda entry: len(entry[0])):
        deeper = max(len(graph.nodes[i].frame) for indices in by_column.values() for i in indices) - len(frame)
        sides = 8.0 + 8.0 * deeper
        areas = [_area(graph, placed, indices, sides, deeper) for indices in by_column.values()]
        own = {index for indices in by_column.values() for index in indices}
        if frame[:-1] not in drawn or any(_holds(area, graph, placed, own) for area in areas):
            continue
        drawn.add(frame)
        for x, y, wide, tall in areas:
            name = fitted(frame[-1], 11, wide - 16)
            parts.append(f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="8"/>')
            parts.append(text(x + 8, y + 14, name, "frame-name", "start"))
    return drawn, parts


def _area(
    graph: Graph, placed: Placement, indices: list[int], sides: float, deeper: int
) -> tuple[float, float, float, float]:
    sides = min(sides, COLUMN_GAP / 2 - 4)
    lefts, tops = zip(*(placed.boxes[i] for i in indices), strict=True)
    right = max(placed.boxes[i][0] + _width(graph.nodes[i]) for i in indices)
    above = _FRAME_ABOVE - 4 + (_FRAME_ABOVE if deeper else 0) * deeper
    top, bottom = min(tops) - above, max(tops) + _HEIGHT + 7 + 9 * deeper
    return min(lefts) - sides, top, right - min(lefts) + 2 * sides, bottom - top


def _holds(area: tuple[float, float, float, float], graph: Graph, placed: Placement, own: set[int]) -> bool:
    """Whether a rectangle touches a box that is not its own."""
    x, y, wide, tall = area
    return any(
        index not in own
        and left < x + wide
        and left + _width(graph.nodes[index]) > x
        and top < y + tall
        and top + _HEIGHT > y
        for index, (left, top) in enumerate(placed.boxes)
    )
