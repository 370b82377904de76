"""Where boxes stand and how lines run: by rank from top to bottom, in several columns where one would be too tall."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COLUMN_GAP", "Placement", "Size", "place", "ranks_of"]

Size = tuple[float, float]
Point = tuple[float, float]

_GAP, _RANK_GAP, COLUMN_GAP, _LANE = 28.0, 30.0, 64.0, 14.0
_SWEEPS = 12
_TALL = 1500.0


@dataclass(frozen=True)
class Placement:
    """A layout.

    Attributes:
        boxes: left and top of each box.
        columns: which column each box is in.
        lines: points of each line, from the bottom of one box to the top of another: straight down between the points
            of a pair, curved from pair to pair.
        jumps: lines from the bottom of one column to the top of the next, as corners.
        width, height: of all together.
    """

    boxes: tuple[Point, ...]
    columns: tuple[int, ...]
    lines: tuple[tuple[Point, ...], ...]
    jumps: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def place(
    sizes: Sequence[Size], edges: Sequence[tuple[int, int]], room: Callable[[int], Size] = lambda _: (0.0, 0.0)
) -> Placement:
    """Place boxes.

    Args:
        sizes: width and height of each box, in an order in which none comes before what it follows.
        edges: from (index) to (index).
        room: what to leave free above and below a rank, for frames.
    """
    if not sizes:
        return Placement((), (), (), (), 0, 0)
    ranks = ranks_of(len(sizes), edges)
    grid = _Grid(sizes, edges, ranks)
    centers = grid.centers()
    tops, heights = _heights(grid, sizes, room)
    starts = _column_starts(grid, tops, heights, centers)
    above = [room(start)[0] for start in starts]
    return _assemble(grid, centers, tops, heights, starts, above, sizes)


def ranks_of(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """How many boxes stand above each at least; what only gives, such as a late input, stands right above its use."""
    ranks = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[0]):
        ranks[end] = max(ranks[end], ranks[start] + 1)
    fed = {end for _, end in edges}
    for index in range(count):
        below = [ranks[end] for start, end in edges if start == index] if index not in fed else []
        if below:
            ranks[index] = min(below) - 1
    return ranks


class _Grid:
    """Boxes and the lanes in which long lines pass other boxes, by rank and from left to right."""

    def __init__(self, sizes: Sequence[Size], edges: Sequence[tuple[int, int]], ranks: list[int]) -> None:
        self.ranks = list(ranks)
        self.widths = [width for width, _ in sizes]
        self.boxes = len(sizes)
        self.down: list[list[int]] = [[] for _ in sizes]
        self.up: list[list[int]] = [[] for _ in sizes]
        lanes: dict[tuple[int, int], int] = {}  # (from, rank): all long lines from one box share theirs
        for start, end in edges:
            above = start
            for rank in range(ranks[start] + 1, ranks[end]):
                lane = lanes.get((start, rank))
                if lane is None:
                    lane = lanes[start, rank] = self._lane(rank)
                    self._join(above, lane)
                above = lane
            self._join(above, end)
        self.rows: list[list[int]] = [[] for _ in range(max(self.ranks) + 1)]
        for item, rank in enumerate(self.ranks):
            self.rows[rank].append(item)
        self._order()

    def _lane(self, rank: int) -> int:
        self.ranks.append(rank)
        self.widths.append(_LANE)
        self.down.append([])
        self.up.append([])
        return len(self.ranks) - 1

    def _join(self, above: int, below: int) -> None:
        self.down[above].append(below)
        self.up[below].append(above)

    def _order(self) -> None:
        """Each row in the order of what it is joined to, down and up again, until little crosses."""
        place = {item: index for row in self.rows for index, item in enumerate(row)}
        for sweep in range(_SWEEPS):
            rows = self.rows if sweep % 2 == 0 else self.rows[::-1]
            beside = self.up if sweep % 2 == 0 else self.down
            for row in rows:
                key = {i: _mean([place[n] for n in beside[i]], place[i]) for i in row}
                row.sort(key=lambda item: (key[item], place[item]))
                place.update({item: index for index, item in enumerate(row)})

    def centers(self) -> list[float]:
        """The middle of each item: as near to what it is joined to as the others of its row allow."""
        centers = [0.0] * len(self.ranks)
        for row in self.rows:
            at = 0.0
            for item in row:
                centers[item] = at + self.widths[item] / 2
                at += self.widths[item] + _GAP
            shift = (at - _GAP) / 2
            for item in row:
                centers[item] -= shift
        for sweep in range(_SWEEPS):
            rows, beside = (self.rows, self.up) if sweep % 2 == 0 else (self.rows[::-1], self.down)
            for row in rows:
                wished = [_mean([centers[n] for n in beside[item]], centers[item]) for item in row]
                for item, center in zip(row, self._apart(row, wished), strict=True):
                    centers[item] = center
        left = min(center - self.widths[item] / 2 for item, center in enumerate(centers))
        return [center - left for center in centers]

    def _apart(self, row: list[int], wished: list[float]) -> list[float]:
        """The nearest places to those wished (by squares) that keep the order and the distances."""
        offsets = [0.0]
        for one, two in itertools.pairwise(row):
            offsets.append(offsets[-1] + (self.widths[one] + self.widths[two]) / 2 + _GAP)
        # Without the distances it is the nearest rising sequence: neighbours that fall are pooled.
        pools: list[tuple[float, float, int]] = []  # mean, weight, length
        for item, wish, offset in zip(row, wished, offsets, strict=True):
            mean, weight, length = wish - offset, (4.0 if item >= self.boxes else 1.0), 1
            while pools and pools[-1][0] >= mean:
                before, heavy, long = pools.pop()
                mean = (mean * weight + before * heavy) / (weight + heavy)
                weight, length = weight + heavy, length + long
            pools.append((mean, weight, length))
        flat = [mean for mean, _, length in pools for _ in range(length)]
        return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]


def _mean(values: list[float] | list[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _heights(grid: _Grid, sizes: Sequence[Size], room: Callable[[int], Size]) -> tuple[list[float], list[float]]:
    """Top of each rank from the first on, and its height."""
    heights = [max((sizes[item][1] for item in row if item < grid.boxes), default=0.0) for row in grid.rows]
    tops, at = [], 0.0
    for rank, height in enumerate(heights):
        above, below = room(rank)
        tops.append(at + above)
        at += above + height + below + _RANK_GAP
    return tops, heights


def _column_starts(grid: _Grid, tops: list[float], heights: list[float], centers: list[float]) -> list[int]:
    """The first rank of each column. A column ends only where what goes on comes from a single box or lane."""
    total = tops[-1] + heights[-1]
    width = max(centers[item] + grid.widths[item] / 2 for item in range(len(centers)))
    # Columns of about this height make the whole a little wider than tall.
    limit = max(_TALL, math.sqrt(total * (width + COLUMN_GAP)) * 0.85)
    columns = math.ceil(total / limit - 0.4)  # a little more than fits is no reason for another
    if columns <= 1:
        return [0]
    cuts = [rank for rank in range(1, len(tops)) if sum(bool(grid.down[item]) for item in grid.rows[rank - 1]) == 1]
    starts = [0]
    for number in range(1, columns):
        wished = total * number / columns
        near = min(cuts, key=lambda rank: abs(tops[rank] - wished), default=0)
        # Far from where it should be a cut would leave one column short and another long.
        if near > starts[-1] and abs(tops[near] - wished) < total / columns / 3:
            starts.append(near)
    return starts


def _assemble(
    grid: _Grid,
    centers: list[float],
    tops: list[float],
    heights: list[float],
    starts: list[int],
    above: list[float],
    sizes: Sequence[Size],
) -> Placement:
    column_of = [sum(start <= rank for start in starts) - 1 for rank in range(len(tops))]
    shift, at = [], 0.0
    for column in range(len(starts)):
        items = [i for i in range(len(centers)) if column_of[grid.ranks[i]] == column]
        left = min(centers[i] - grid.widths[i] / 2 for i in items)
        right = max(centers[i] + grid.widths[i] / 2 for i in items)
        shift.append(at - left)
        at += right - left + COLUMN_GAP
    xs = [centers[i] + shift[column_of[grid.ranks[i]]] for i in range(len(centers))]
    base = [tops[start] - free for start, free in zip(starts, above, strict=True)]

    def top(item: int) -> float:
        return tops[grid.ranks[item]] - base[column_of[grid.ranks[item]]]

    def bottom(item: int) -> float:
        return top(item) + (sizes[item][1] if item < grid.boxes else heights[grid.ranks[item]])

    lines, jumps = [], []
    for item in range(len(centers)):
        for below in grid.down[item]:
            start, end = (xs[item], bottom(item)), (xs[below], top(below))
            if column_of[grid.ranks[item]] == column_of[grid.ranks[below]]:
                lines.append((start, end, (xs[below], bottom(below))) if below >= grid.boxes else (start, end))
                continue
            column = column_of[grid.ranks[below]]
            between = min(xs[i] - grid.widths[i] / 2 for i in range(len(xs)) if column_of[grid.ranks[i]] == column)
            gutter = between - COLUMN_GAP / 2
            low, high = start[1] + 16, end[1] - above[column] - 18
            jumps.append((start, (start[0], low), (gutter, low), (gutter, high), (end[0], high), end))
    boxes = tuple((xs[i] - sizes[i][0] / 2, top(i)) for i in range(grid.boxes))
    columns = tuple(column_of[grid.ranks[i]] for i in range(grid.boxes))
    height = max(bottom(item) for item in range(len(centers)))
    return Placement(boxes, columns, tuple(lines), tuple(jumps), at - COLUMN_GAP, height)
