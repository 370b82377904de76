"""Answers as rows of a file: .jsonl (everything), .csv (what people look at), or .npy (the labels)."""

from __future__ import annotations

import csv
import io
import json
import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from toolkit.errors import UsageError
from toolkit.predictor import UNSURE
from toolkit.publishing import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from toolkit.predictor import PredictionBatch, Predictor
    from toolkit.streaming.answers import Answered

__all__ = ["FAILED", "answers_file", "check_answers_file", "json_lines"]

FAILED = -2
"""The label of a row that has no answer, in a .npy file; a row of which the model is unsure has `UNSURE`, -1."""

_MOST_COLUMNS = 4096  # of a .csv file; a picture's pixels are no table


class Writer(Protocol):
    """Takes answers in order."""

    def add(self, answered: Answered) -> None:
        """The next rows."""


def check_answers_file(path: Path, predictor: Predictor, source: str) -> None:
    """Refuse a file that cannot be written, before the work.

    Args:
        path: where the answers are to go.
        predictor: the model.
        source: the path that the rows come from.

    Raises:
        UsageError: another ending, the rows' own file, or a form that this model's answers do not have.
    """
    if path.suffix not in _WRITERS:
        raise UsageError(f"--output {path} has no form that is known by its ending; end it in .csv, .jsonl or .npy")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"--output {path} is what the rows are read from; choose another file")
    if path.suffix == ".npy" and predictor.class_names is None:
        raise UsageError(
            f"--output {path} would hold labels, but {predictor.file.path} names no classes; write .jsonl or .csv"
        )
    if path.suffix == ".csv" and predictor.class_names is None:
        free = [info.name for info in predictor.outputs if None in info.shape]
        total = sum(math.prod(size or 0 for size in info.shape) for info in predictor.outputs)
        if free or total > _MOST_COLUMNS:
            what = f"a free size in '{free[0]}'" if free else f"{total:,} numbers a row"
            raise UsageError(f"--output {path}: the model's answers have {what}, which is no table; write .jsonl")


@contextmanager
def answers_file(path: Path, predictor: Predictor, count: int) -> Iterator[Writer]:
    """A file of answers that is there as a whole when the block ends well, and not at all when it does not.

    Args:
        path: one that passed `check_answers_file`.
        predictor: the model.
        count: rows that there will be.

    Raises:
        UsageError, StorageError: it cannot be written; an earlier file is untouched.
    """
    with atomic_file(path) as file:
        yield _WRITERS[path.suffix](file, predictor, count)


def json_lines(answered: Answered) -> Iterator[str]:
    """One JSON object a row, ending in a line feed: the answer, or the error; numbers as the model gave them."""
    encode = json.JSONEncoder(allow_nan=False).encode
    batch = answered.batch
    answers = iter(()) if batch is None else _objects(batch)
    for place, (file, index) in enumerate(zip(answered.files, answered.indices, strict=True)):
        found = {"error": answered.failed[place].message} if place in answered.failed else next(answers)
        yield encode({"file": file, "index": index, **found}) + "\n"


def _objects(batch: PredictionBatch) -> Iterator[dict[str, Any]]:
    """All that the model says of each row. Whole arrays become lists at once, which is several times faster."""
    outputs = {name: array.tolist() for name, array in batch.outputs.items()}
    logits = None if batch.logits is None else batch.logits.tolist()
    columns: dict[str, Any] = dict.fromkeys(("label", "class_name", "confidence", "margin", "probabilities"))
    if batch.class_names is not None:
        columns["label"] = batch.labels.tolist()
        columns["class_name"] = class_names(batch)
        columns["confidence"] = batch.confidences.tolist()
        columns["margin"] = batch.margins.tolist()
        columns["probabilities"] = batch.probabilities.tolist()
    for row in range(len(batch)):
        found = {name: None if column is None else column[row] for name, column in columns.items()}
        if logits is not None:
            found["logits"] = logits[row]
        found["outputs"] = {name: values[row] for name, values in outputs.items()}
        yield found


def class_names(batch: PredictionBatch) -> list[str]:
    """The name of each row's class, or "unsure", for a model that names classes."""
    names = {UNSURE: "unsure", **dict(enumerate(batch.class_names or ()))}
    return [names[label] for label in batch.labels.tolist()]


class _JsonLines:
    def __init__(self, file: BinaryIO, predictor: Predictor, count: int) -> None:  # noqa: ARG002 - as the others
        self._file = file

    def add(self, answered: Answered) -> None:
        self._file.write("".join(json_lines(answered)).encode())


class _Table:
    """A .csv file: file, index, label, class, confidence, margin; or the outputs' numbers; and the error."""

    def __init__(self, file: BinaryIO, predictor: Predictor, count: int) -> None:  # noqa: ARG002 - as the others
        self._file = file
        self._columns = ["label", "class_name", "confidence", "margin"]
        if predictor.class_names is None:
            self._columns = [
                f"{info.name}[{','.join(map(str, at))}]" if info.shape not in ((), (1,)) else info.name
                for info in predictor.outputs
                for at in np.ndindex(*(size or 0 for size in info.shape))
            ]
        self._outputs = [info.name for info in predictor.outputs]
        self._write([["file", "index", *self._columns, "error"]])

    def add(self, answered: Answered) -> None:
        batch = answered.batch
        columns: list[Sequence[Any]] = []
        if batch is not None and batch.class_names is not None:
            numbers = (batch.confidences, batch.margins)
            columns = [batch.labels.tolist(), class_names(batch), *(_texts(array) for array in numbers)]
        elif batch is not None:
            for name in self._outputs:
                flat = batch.outputs[name].reshape(len(batch), -1)
                columns += [_texts(flat[:, at]) for at in range(flat.shape[1])]
        answers = zip(*columns, strict=True)
        empty = [""] * len(self._columns)
        rows: list[Sequence[Any]] = []
        for place, (file, index) in enumerate(zip(answered.files, answered.indices, strict=True)):
            if place in answered.failed:
                rows.append((file, index, *empty, answered.failed[place].message))
            else:
                rows.append((file, index, *next(answers), ""))
        self._write(rows)

    def _write(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))  # a file's name may be any bytes


def _texts(array: NDArray[Any]) -> list[Any]:
    """Numbers with as many digits as say exactly which they are (9 for float32, IEEE 754-2019, 5.12.2)."""
    if array.dtype.kind != "f":
        return list(array.tolist())
    digits = 17 if array.dtype.itemsize > 4 else 9
    return [f"{value:.{digits}g}" for value in array.tolist()]


class _Labels:
    """A .npy file with one int64 a row, in order."""

    def __init__(self, file: BinaryIO, predictor: Predictor, count: int) -> None:  # noqa: ARG002 - as the others
        self._file = file
        header = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)

    def add(self, answered: Answered) -> None:
        labels = np.full(len(answered), FAILED, "<i8")
        if answered.batch is not None:
            labels[answered.places] = answered.batch.labels
        self._file.write(labels.tobytes())


_WRITERS: dict[str, type[_JsonLines | _Table | _Labels]] = {".jsonl": _JsonLines, ".csv": _Table, ".npy": _Labels}
