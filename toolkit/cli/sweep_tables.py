"""A sweep for people: its progress, and the ranked table."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toolkit.cli.console import note, print_table, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from toolkit.sweeping.report import SweepReport
    from toolkit.sweeping.sweep import Listener, SweepSettings
    from toolkit.sweeping.trials import Row
    from toolkit.training.history import Epoch

__all__ = ["print_sweep", "sweep_listener"]

_ROWS = 15


@contextmanager
def sweep_listener(settings: SweepSettings, keep: Callable[[SweepReport], None]) -> Iterator[Listener]:
    """A line for each trial that ended on stderr, and in a terminal a bar with what is being trained.

    Args:
        settings: of the sweep.
        keep: takes the report after each trial.
    """
    from toolkit.sweeping.sweep import Listener

    searched = [f"{field}={space.text}" for field, space in settings.spaces.items()]
    note(f"Sweep {settings.name!r}, up to {settings.trials} trials: {' '.join(searched)}")
    if not sys.stderr.isatty():
        yield Listener(lambda *_: None, lambda number, report: _told(number, report, keep), note)
        return
    with steps("Sweep") as step:
        done = 0

        def on_epoch(number: int, epoch: Epoch) -> None:
            what = f"{epoch.network}, " if epoch.network else ""
            accuracy = f"{epoch.validation_accuracy:.2%}"
            step(done, settings.trials, f"trial {number}, {what}epoch {epoch.number}/{epoch.epochs}, {accuracy}")

        def on_trial(number: int, report: SweepReport) -> None:
            nonlocal done
            done = min(report.counted, settings.trials)
            step(done, settings.trials, _best(report))
            _told(number, report, keep)

        def on_step(part: int, parts: int, what: str) -> None:
            step(done, settings.trials, f"{what} {part}/{parts}")

        yield Listener(on_epoch, on_trial, note, on_step)


def _told(number: int, report: SweepReport, keep: Callable[[SweepReport], None]) -> None:
    keep(report)
    row = next((row for row in report.trials if row.number == number), None)
    if row is not None:
        settings = " ".join(f"{field}={text}" for field, text in row.settings.items() if field in report.searched)
        note(f"    trial {number} ({report.counted} of {report.wanted}): {_outcome(row)}; {settings}; {_best(report)}")


def _outcome(row: Row) -> str:
    took = f" in {row.seconds:.0f} s" if row.seconds is not None else ""
    if row.validation_accuracy is not None:
        return f"{row.validation_accuracy:.2%}{took}"
    if row.outcome == "pruned":
        return f"stopped after epoch {row.epochs_run} at {row.last_accuracy or 0:.2%}{took}"
    return row.outcome + (f" ({row.reason})" if row.reason else "")


def _best(report: SweepReport) -> str:
    if report.best is None:
        return "none finished yet"
    return f"best {report.best.validation_accuracy:.2%} by trial {report.best.number}"


def print_sweep(report: SweepReport) -> None:
    """The ranked table on stdout; what else there is to know on stderr."""
    from toolkit.sweeping.trials import counts

    shown = [row for row in report.trials if row.last_accuracy is not None or row.validation_accuracy is not None]
    sized = "hidden" in report.searched
    columns = ["trial", "validation", "epochs", "seconds", *(["parameters"] if sized else []), *report.searched, ""]
    rows = [
        [
            str(row.number),
            f"{_accuracy(row):.2%}",
            str(row.epochs_run),
            f"{row.seconds:.0f}" if row.seconds is not None else "",
            *([f"{row.parameters:,}" if row.parameters else ""] if sized else []),
            *(row.settings.get(field, "") for field in report.searched),
            "the recipe itself" if row.own else "" if row.outcome == "finished" else row.outcome,
        ]
        for row in shown[:_ROWS]
    ]
    ended = ", ".join(f"{count} {outcome}" for outcome, count in counts(report.trials).items())
    title = (
        f"Sweep {report.study!r}: {report.counted} trials ({ended}); accuracy on "
        f"{report.validation_images:,} validation images"
    )
    print_table(title, columns, rows)
    if len(report.trials) > len(rows):
        note(f"{len(report.trials) - len(rows)} more are in sweep.json")
    if report.importances:
        shares = ", ".join(f"{field} {share:.0%}" for field, share in report.importances.items())
        note(f"What set the better trials apart: {shares}")
    own = next((row for row in report.trials if row.own and row.validation_accuracy is not None), None)
    if own is not None and own is not report.best:
        note(f"The recipe itself: {_accuracy(own):.2%}")
    if report.best is not None:
        least = _accuracy(report.best) - report.standard_error
        close = sum(row.validation_accuracy is not None and _accuracy(row) >= least for row in report.trials) - 1
        note(
            f"Within {100 * report.standard_error:.2f} points of the best, one standard error of its accuracy: {close} "
            "more. The best of many looks better than it is: other seeds tell (toolkit train --seeds 5)"
        )


def _accuracy(row: Row) -> float:
    return (row.validation_accuracy if row.validation_accuracy is not None else row.last_accuracy) or 0.0
