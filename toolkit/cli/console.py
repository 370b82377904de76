"""What people see: notes and progress on stderr, results on stdout; rich in a terminal, plain lines in a pipe."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from toolkit.progress import Note, Step

__all__ = ["Counter", "counted", "knows", "note", "print_json", "print_table", "steps"]


def note(text: str) -> None:
    """One line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the command line's own output


def knows(text: str) -> bool:
    """Whether the encoding of stdout has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def print_json(value: Any) -> None:
    """Machine output: one JSON document on stdout. NaN is an error, not a word that JSON lacks."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to_stderr: bool = False,
    fold_first: bool = False,
    left: int = 1,
) -> None:
    """A table; the first column (or the first few: `left`) is left-aligned, the others right-aligned.

    Where it is too wide for the terminal the first column stays whole and the others are folded, or the other way.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=(index == 0) != fold_first)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as it is: a file name may look like rich's markup
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal:
        console.width = 200  # in a pipe nothing should be folded to an imagined terminal
    console.print(Text(title, style="bold"))  # not the table's own title, which is folded to the table's width
    console.print(table)


@contextmanager
def steps(title: str) -> Iterator[Step]:
    """A progress bar with time left on stderr; in a pipe, a line at the start of each new step only."""
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def plain(done: int, total: int, what: str) -> None:  # noqa: ARG001 - the form of a Step
            if what not in seen:
                seen.add(what)
                note(f"{title}: {what}")

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Drawn only when told of progress: a drawing thread would disturb what a benchmark measures.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task(title)

        def advance(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=f"{title}: {what}", refresh=True)

        yield advance


@dataclass(frozen=True)
class Counter:
    """Tells of a long work: how much of it is done, and lines in between."""

    advance: Callable[[int], None]
    note: Note


@contextmanager
def counted(title: str, total: int, what: str, *, quiet: bool = False) -> Iterator[Counter]:
    """A progress bar on stderr with what is done, how much a second, and the time left; nothing in a pipe.

    Args:
        title: in front of the bar.
        total: how much there is to do.
        what: it is, such as "rows".
        quiet: no bar in a terminal either, as another stream is shown in it.
    """
    if quiet or not sys.stderr.isatty():
        yield Counter(lambda _: None, note)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{what}, {task.speed or 0:,.0f}/s")

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    # stdout is another stream, which a bar on stderr has no business with.
    bar = Progress(
        *columns, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    with bar:
        task, shown = bar.add_task(title, total=total), 0.0

        def advance(count: int) -> None:
            nonlocal shown
            bar.advance(task, count)
            if (now := time.monotonic()) - shown >= 0.1:
                bar.refresh()
                shown = now

        yield Counter(advance, lambda text: console.print(Text(text), soft_wrap=True))
