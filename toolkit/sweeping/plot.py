"""The picture of a sweep: accuracy by trial, and over each searched field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.sweeping.report import SweepReport
    from toolkit.sweeping.trials import Row

__all__ = ["draw_sweep"]

_FINISHED, _STOPPED, _BEST = "#1f77b4", "0.6", "#d62728"
_COLUMNS = 3


def draw_sweep(report: SweepReport, form: str) -> bytes:
    """Validation accuracy by trial with the best so far, and over the values of each searched field.

    Trials that did not finish are drawn at the accuracy that they came to. The axis begins a little below the worst
    finished trial, so that one that learned nothing does not press the others together.

    Args:
        report: what was found; at least one trial reported an accuracy.
        form: "png" or "svg".
    """
    import io

    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 1 + len(report.searched)
    columns = min(panels, _COLUMNS)
    lines = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    finished = [row for row in report.trials if row.validation_accuracy is not None]
    stopped = [row for row in report.trials if row.validation_accuracy is None and row.last_accuracy is not None]
    _history(grid[0], finished, stopped)
    for axes, field in zip(grid[1:panels], report.searched, strict=True):
        _field(axes, report, field, finished, stopped)
    heights = [_height(row) for row in finished or stopped]
    room = max(0.002, 0.15 * (max(heights) - min(heights)))
    for at, axes in enumerate(grid[:panels]):
        axes.set_ylim(100 * (min(heights) - room), 100 * (max(heights) + room))
        axes.set_ylabel("" if at % columns else "validation accuracy, %")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[panels:]:
        axes.set_visible(False)
    picture = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "toolkit"}):  # the same figures make the same file
        figure.savefig(picture, format=form, metadata={"Date": None} if form == "svg" else None)
    return picture.getvalue()


def _height(row: Row) -> float:
    accuracy = row.validation_accuracy if row.validation_accuracy is not None else row.last_accuracy
    return accuracy or 0.0


def _dots(axes: Any, finished: tuple[list[Any], list[Row]], stopped: tuple[list[Any], list[Row]]) -> None:
    axes.scatter(
        stopped[0], [100 * _height(row) for row in stopped[1]], s=18, marker="x", color=_STOPPED, label="stopped early"
    )
    axes.scatter(finished[0], [100 * _height(row) for row in finished[1]], s=22, color=_FINISHED, label="finished")


def _history(axes: Any, finished: list[Row], stopped: list[Row]) -> None:
    _dots(axes, ([row.number for row in finished], finished), ([row.number for row in stopped], stopped))
    in_turn = sorted(finished, key=lambda row: row.number)
    best = [max(_height(earlier) for earlier in in_turn[: at + 1]) for at in range(len(in_turn))]
    if in_turn:
        axes.step(
            [row.number for row in in_turn], [100 * one for one in best], where="post", color=_BEST, label="best so far"
        )
    for row in finished:
        if row.own:
            axes.axhline(100 * _height(row), color=_STOPPED, linewidth=0.8, linestyle="--", label="the recipe itself")
    axes.set_xlabel("trial")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, loc="best", fontsize=8)


def _field(axes: Any, report: SweepReport, field: str, finished: list[Row], stopped: list[Row]) -> None:
    from matplotlib import ticker

    space = report.spaces[field]
    share = (report.importances or {}).get(field)
    axes.set_xlabel(f"{field}{f' (importance {share:.0%})' if share is not None else ''}")

    def places(rows: list[Row]) -> list[Any]:
        texts = [row.settings[field] for row in rows]
        return [space.choices.index(text) for text in texts] if space.choices else [space.value(text) for text in texts]

    _dots(axes, (places(finished), finished), (places(stopped), stopped))
    if space.choices:
        axes.set_xticks(range(len(space.choices)), space.choices, rotation=30 if len(space.choices) > 3 else 0)
        axes.set_xlim(-0.5, len(space.choices) - 0.5)
    elif space.log:
        axes.set_xscale("log")
        axes.set_xlim(space.low / 1.1, space.high * 1.1)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(ticker.NullLocator())
    else:
        room = 0.03 * (space.high - space.low)
        axes.set_xlim(space.low - room, space.high + room)
