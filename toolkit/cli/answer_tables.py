"""Predictions for people: a table of rows, and one of classes where rows are many."""

import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from toolkit.feeding import Given
    from toolkit.predictor import PredictionBatch, Predictor

__all__ = ["SHOWN", "Tally", "print_classes", "print_outputs", "shown_name"]

SHOWN = 20  # rows of the table, before a summary says the rest
NAME_WIDTH = 40  # of a file in the table: the end of a longer path, so that the other columns have room
FIRST_VALUES = 4  # of an output in the table
_MORE = "more rows (--all shows each, --json gives each as a line)"


class Tally:
    """What many answers come to, in constant memory: by class, or by output for a model that names no classes.

    Attributes:
        rows: how many there were.
    """

    def __init__(self, predictor: "Predictor") -> None:
        self.rows = 0
        self._names = predictor.class_names
        self._counts = [0] * (len(self._names or ()) + 1)  # the last is UNSURE's, which is -1
        self._confidences = [0.0] * len(self._counts)
        self._outputs: dict[str, list[float]] = {}  # numbers, their sum, lowest, highest

    def add(self, batch: "PredictionBatch") -> None:
        """Some more answers."""
        import numpy as np

        self.rows += len(batch)
        if batch.class_names is None:
            for name, array in batch.outputs.items():
                if array.size:
                    found = (array.size, float(array.sum(dtype=np.float64)), float(array.min()), float(array.max()))
                    count, total, low, high = self._outputs.get(name, (0, 0.0, found[2], found[3]))
                    self._outputs[name] = [count + found[0], total + found[1], min(low, found[2]), max(high, found[3])]
            return
        confidences = batch.confidences
        for label in np.unique(batch.labels):
            chosen = batch.labels == label
            self._counts[label] += int(chosen.sum())
            self._confidences[label] += float(confidences[chosen].sum(dtype=np.float64))

    def print(self, title: str) -> None:
        """The table: classes that were met, and last the rows of which the model was unsure; or each output."""
        from toolkit.cli.console import print_table

        title = _printable(title)
        if self._names is None:
            rows = [
                [name, f"{count:,}", f"{low:.6g}", f"{high:.6g}", f"{total / count:.6g}"]
                for name, (count, total, low, high) in self._outputs.items()
            ]
            print_table(title, ("output", "numbers", "lowest", "highest", "mean"), rows)
            return
        kinds = zip((*self._names, "unsure"), self._counts, self._confidences, strict=True)
        rows = [
            [_printable(name), f"{count:,}", f"{count / self.rows:.1%}", f"{total / count:.4f}"]
            for name, count, total in kinds
            if count
        ]
        print_table(title, ("class", "rows", "share", "mean confidence"), rows)


def shown_name(name: str) -> str:
    """A file's name for the table: its end if it is long, and nothing in it that stdout or rich would trip over."""
    name = _printable(name)
    return name if len(name) <= NAME_WIDTH else f"...{name[3 - NAME_WIDTH :]}"


def _printable(name: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return name.encode(encoding, "backslashreplace").decode(encoding)


def print_classes(
    predictor: "Predictor",
    names: "Sequence[str]",
    answers: "Iterable[tuple[Given, PredictionBatch]]",
    top: int,
    *,
    show_all: bool,
) -> None:
    """What a classifier says: a line for each row, and a table of classes where not all of them are shown."""
    import numpy as np

    from toolkit.cli.console import print_table

    rows: list[list[str]] = []
    tally = Tally(predictor)
    found = False
    for file, batch in answers:
        found = True
        tally.add(batch)
        wanted = len(batch) if show_all else max(0, SHOWN - len(rows))
        for name, answer in zip(file.names[:wanted], batch, strict=False):
            order = np.argsort(-answer.probabilities, kind="stable")[1:top]
            others = ", ".join(f"{names[label]} {answer.probabilities[label]:.4f}" for label in order)
            row = [shown_name(name), str(answer.label), str(answer.class_name), f"{answer.confidence:.4f}"]
            rows.append([*row, others] if top > 1 else row)
    if not found:
        return  # each file's error is said
    columns = ["file", "label", "class", "confidence", *(["then"] if top > 1 else [])]
    print_table(f"{predictor.file.path} ({predictor.file.kind})", columns, rows)
    if tally.rows > len(rows):
        typer.echo(f"... and {tally.rows - len(rows):,} {_MORE}\n")
        tally.print(f"All {tally.rows:,} rows")


def print_outputs(
    predictor: "Predictor", answers: "Iterable[tuple[Given, PredictionBatch]]", *, show_all: bool
) -> None:
    """What a model without classes says: each output of each row."""
    from toolkit.cli.console import print_table

    lines: list[list[str]] = []
    shown = total = 0
    for file, batch in answers:
        wanted = len(batch) if show_all else min(len(batch), max(0, SHOWN - shown))
        for name, answer in zip(file.names[:wanted], batch, strict=False):
            lines += [[shown_name(name), output, *_described(array)] for output, array in answer.outputs.items()]
        shown, total = shown + wanted, total + len(batch)
    if total:
        columns = ("file", "output", "shape", "first values", "lowest", "highest")
        print_table(f"{predictor.file.path} ({predictor.file.kind})", columns, lines)
    if total > shown:
        typer.echo(f"... and {total - shown:,} {_MORE}")


def _described(array: "NDArray[Any]") -> list[str]:
    shape = " x ".join(map(str, array.shape)) or "one number"
    if array.size == 0:
        return [shape, "none", "", ""]
    values = [f"{value:.6g}" for value in array.reshape(-1)[:FIRST_VALUES].astype(float)]
    more = ", ..." if array.size > FIRST_VALUES else ""
    return [shape, ", ".join(values) + more, f"{float(array.min()):.6g}", f"{float(array.max()):.6g}"]
