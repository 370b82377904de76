"""The charts: courses over epochs, distributions, calibration. All of them are SVG, coloured by the page's style."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.inspection.svg import text_width
from toolkit.report.axes import HEIGHT, WIDTH, Axes, chart, decades, label, ticks
from toolkit.report.markup import Html, tag
from toolkit.report.words import figure, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.report.bench import TimedFile
    from toolkit.report.measures import Calibration

__all__ = ["Line", "calibration_chart", "course_chart", "latency_chart"]

_EMPTY = 0.05  # of the span, left free above and below what is drawn
_DOT = 2.6


@dataclass(frozen=True)
class Line:
    """One course: what it is, and a value for each step; None where there is none."""

    title: str
    values: Sequence[float | None]


def course_chart(
    title: str,
    lines: Sequence[Line],
    *,
    text: Callable[[float], str] = figure,
    mark: tuple[int, str] | None = None,
    from_zero: bool = False,
) -> Html:
    """Courses over the epochs.

    Args:
        title: of the picture.
        lines: two at most; each as long as the others.
        text: how values are written.
        mark: an epoch, from 1, at which a line stands, and what is said there.
        from_zero: the axis of values begins at 0.
    """
    known = [value for line in lines for value in line.values if value is not None]
    low, high = (0.0 if from_zero else min(known)), max(known)
    gap = (high - low) * _EMPTY or abs(high) * _EMPTY or 1.0
    last = max(len(line.values) for line in lines)
    axes = Axes((1, max(last, 2)), (low if from_zero else low - gap, high + gap), top=48.0)
    y_marks = ticks(*axes.y)
    x_marks = [mark for mark in ticks(1, last) if mark == int(mark)]
    x_marks = [1.0, *(each for each in x_marks if axes.at_x(each) - axes.at_x(1) > 24)]
    parts = axes.frame(x_marks, y_marks, "epoch", lambda value: f"{value:.0f}", text)
    if mark is not None:
        parts += _mark(axes, *mark)
    for at, line in enumerate(lines, 1):
        points = [(axes.at_x(step), axes.at_y(v), v) for step, v in enumerate(line.values, 1) if v is not None]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points)
        parts.append(tag("path", d=path, class_=f"line line-{at}"))
        steps = [step for step, value in enumerate(line.values, 1) if value is not None]
        parts.append(
            tag(
                "g",
                [
                    tag("circle", tag("title", f"{line.title}, epoch {step}: {text(value)}"), cx=x, cy=y, r=_DOT)
                    for step, (x, y, value) in zip(steps, points, strict=True)
                ],
                class_=f"dots dots-{at}",
            )
        )
    return chart(title, [*parts, *_legend([line.title for line in lines])])


def _mark(axes: Axes, epoch: int, said: str) -> list[Html]:
    """A line from top to bottom; its words stand on the side where there is room."""
    x = axes.at_x(epoch)
    fits = x + 6 + text_width(said, 12) < axes.width - axes.right
    return [
        tag("path", d=f"M{x:.1f} {axes.top - 2:.1f}V{axes.height - axes.bottom:.1f}", class_="mark"),
        label(x + 5 if fits else x - 5, axes.top + 9, said, "mark-text", "start" if fits else "end"),
    ]


def _legend(titles: Sequence[str]) -> list[Html]:
    """A short line in its colour and what it stands for, for each; nothing for a single one."""
    parts, x = [], 52.0
    for at, title in enumerate(titles, 1):
        parts += [
            tag("path", d=f"M{x:.1f} 16h18", class_=f"line line-{at}"),
            label(x + 24, 20, title, "legend", "start"),
        ]
        x += 24 + text_width(title, 12) + 22
    return parts if len(titles) > 1 else []


def latency_chart(file: TimedFile) -> Html:
    """How often which time occurred, on a logarithmic axis, with the median and p99."""
    edges = [max(edge, 1e-3) for edge in file.edges_us]
    # The last bin reaches to the slowest call of all, which would take most of the picture.
    slow = len(file.counts) > 1 and edges[-1] > 1.5 * edges[-2]
    shown = len(file.counts) - slow
    top = max(file.counts[:shown], default=1)
    axes = Axes((edges[0], edges[shown]), (0, top * (1 + _EMPTY)), log=True, left=60.0, right=22.0, top=44.0)
    x_marks = decades(*axes.x) if edges[shown] > 2.5 * edges[0] else ticks(*axes.x)
    parts = axes.frame(
        x_marks, ticks(*axes.y, most=5), "time of one row, \N{MICRO SIGN}s", lambda v: f"{v:g}", lambda v: f"{v:,.0f}"
    )
    floor = axes.at_y(0)
    for at, count in enumerate(file.counts[:shown]):
        x, right, y = axes.at_x(edges[at]), axes.at_x(edges[at + 1]), axes.at_y(count)
        said = f"{edges[at]:,.1f} to {edges[at + 1]:,.1f} \N{MICRO SIGN}s: {count:,} calls"
        parts.append(
            tag(
                "rect",
                tag("title", said),
                x=x,
                y=y,
                width=max(right - x - 1, 0.5),
                height=floor - y,
                class_="column",
            )
        )
    marks = [(value, name) for value, name in ((file.p50_us, "p50"), (file.p99_us, "p99")) if value is not None]
    for line, (value, name) in enumerate(marks):
        if axes.x[0] <= value <= axes.x[1]:
            x, y = axes.at_x(value), 30 - 15 * line  # at two heights, as they may be close together
            inside = min(max(x, axes.left + 34), axes.width - 44)
            parts.append(tag("path", d=f"M{x:.1f} {y + 4:.1f}V{floor:.1f}", class_="mark"))
            parts.append(label(inside, y, f"{name} {value:,.1f}", "mark-text"))
    title = f"Latency of {file.title}: one row, {sum(file.counts):,} calls"
    return chart(title, parts)


def calibration_chart(curves: Sequence[Calibration]) -> Html:
    """Share of right answers by confidence, and how many rows each bin of the first curve has."""
    axes = Axes((0, 1), (0, 1), top=40.0, bottom=112.0, height=HEIGHT + 60)
    marks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    parts = axes.frame(marks, marks, "confidence", lambda v: percent(v, 0), lambda v: percent(v, 0))
    parts[-1:] = []  # the axis' title stands below the bars
    ideal = f"M{axes.at_x(0):.1f} {axes.at_y(0):.1f}L{axes.at_x(1):.1f} {axes.at_y(1):.1f}"
    parts.append(tag("path", tag("title", "as often right as it is sure"), d=ideal, class_="ideal"))
    for at, curve in enumerate(curves[:2], 1):
        points = [
            (axes.at_x(each.confidence), axes.at_y(each.accuracy), each)
            for each in curve.bins
            if each.confidence is not None and each.accuracy is not None
        ]
        if not points:
            continue
        parts.append(tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in points), class_=f"line line-{at}"))
        dots = [
            tag(
                "circle",
                tag(
                    "title",
                    f"{curve.file}: {each.rows:,} rows with a confidence of {percent(each.confidence, 1)} on average, "
                    f"{percent(each.accuracy, 1)} of them right",
                ),
                cx=x,
                cy=y,
                r=3.4,
            )
            for x, y, each in points
        ]
        parts.append(tag("g", dots, class_=f"dots dots-{at}"))
    parts += _rows_by_bin(curves[0], axes)
    return chart("Calibration", [*parts, *_legend([curve.file for curve in curves[:2]])], WIDTH, axes.height)


def _rows_by_bin(curve: Calibration, axes: Axes) -> list[Html]:
    """Bars below: how many rows are that sure."""
    most = max(each.rows for each in curve.bins) or 1
    low = Axes(axes.x, (0, most), top=axes.height - 82, bottom=32.0, height=axes.height)
    floor = low.at_y(0)
    parts = []
    for each in curve.bins:
        x, right, y = low.at_x(each.low), low.at_x(each.high), low.at_y(each.rows)
        said = f"confidence {percent(each.low, 0)} to {percent(each.high, 0)}: {each.rows:,} rows"
        parts.append(tag("rect", tag("title", said), x=x, y=y, width=right - x - 1, height=floor - y, class_="column"))
    parts.append(tag("path", d=f"M{axes.left:.1f} {floor:.1f}H{axes.width - axes.right:.1f}", class_="axis"))
    parts.append(label(axes.left - 7, low.top + 8, f"{most:,}", anchor="end"))
    parts.append(label(axes.left - 7, floor, "0 rows", anchor="end"))
    parts.append(label((axes.left + axes.width - axes.right) / 2, axes.height - 10, "confidence of the answer"))
    return parts
