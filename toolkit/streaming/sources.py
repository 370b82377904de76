"""What ``--batch`` takes, as blocks of rows in order: a folder of pictures, or arrays in one file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from toolkit.datasets.files import WANTED, check_path, read_start, what_it_is
from toolkit.datasets.fitting import check_shape, fit
from toolkit.datasets.idx_files import is_idx
from toolkit.datasets.naming import assign, only_input
from toolkit.datasets.rows import Found
from toolkit.errors import DataError, InputError, MissingError, ToolkitError, UsageError
from toolkit.feeding import check_takes_pictures, is_one_row, read_picture_file, specs, takes_raw_images
from toolkit.images import check_raw_images, is_picture
from toolkit.streaming.stored import Stored, prove, stored_idx, stored_npy, stored_npz

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from toolkit.predictor import Predictor
    from toolkit.progress import Step

__all__ = ["Block", "Failure", "Source", "open_source"]

_ROWS, _PICTURES, _BYTES = 2048, 256, 8_000_000  # in a block: several of the predictor's runs, and a few MB
_NPY, _ZIP = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")
# What predict reads, and what people keep among it: that is told of as a picture that cannot be read.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Failure:
    """Why a row has no answer: one line, and the exit code that goes with it."""

    message: str
    exit_code: int

    @classmethod
    def of(cls, error: ToolkitError, name: str = "") -> Failure:
        """Of an error; name: whose row it is, where the error does not tell."""
        return cls(f"{name}: {error}" if name else str(error), error.exit_code)


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows in order.

    Attributes:
        files: the file that each row is from.
        first: the index in its file of the first row; None: each is the only one of its file.
        rows: by input name, of those rows that could be read.
        failed: the other rows, by their place in the block.
        notes: what was done to pictures, a line each.
    """

    files: Sequence[str]
    first: int | None
    rows: dict[str, NDArray[Any]]
    failed: dict[int, Failure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def indices(self) -> Sequence[int]:
        """The index of each row in its file."""
        return [0] * len(self.files) if self.first is None else range(self.first, self.first + len(self.files))


class Source(Protocol):
    """Rows of a known number, in a certain order."""

    name: str
    count: int
    notes: tuple[str, ...]

    def blocks(self) -> Iterator[Block]:
        """Them all, a block at a time."""

    def fitted(self, rows: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
        """The rows of a block as the model takes them.

        Args:
            rows: all of a block's, or some.
            name: what errors call them.

        Raises:
            DataError: values that the model's dtypes cannot hold.
        """


def open_source(path: str, predictor: Predictor, step: Step) -> Source:
    """The rows behind a path.

    Args:
        path: a folder of pictures, whose sub-folders are taken too, all sorted by name; or a picture; or an ``.npz``
            with an array for each input, or a ``.npy`` or idx file for a model of one, each of any size.
        predictor: the model.
        step: told of the check of packed files.

    Raises:
        MissingError: nothing is there, or Pillow is needed and not installed.
        DataError, InputError, UsageError: no rows, damaged, or not what the model takes.
    """
    place = Path(path)
    check_path(place, path, WANTED)
    if place.is_dir():
        return _Pictures(path, *_list(path), predictor)
    start = read_start(place, path)
    if is_picture(start):
        return _Pictures(path, [("", [path])], 0, predictor)
    inputs = specs(predictor.inputs)
    if start.startswith(_ZIP):
        # Which array is which input is told by the names alone, and arrays of right answers are none of ours.
        named = {name: array for name, array in stored_npz(place, path).items() if name != "class_names"}
        found: Any = assign(named, inputs, specs(predictor.outputs), path).inputs  # type: ignore[arg-type]  # see above
        source = _Arrays(path, found, predictor, raw=False)
        prove(list(source.arrays.values()), path, step)
        return source
    if start.startswith(_NPY):
        name = only_input(inputs, path, "a .npy file").name
        return _Arrays(path, {name: stored_npy(place, path)}, predictor, raw=takes_raw_images(predictor))
    if is_idx(place, start):
        name = only_input(inputs, path, "an idx file").name
        return _Arrays(path, {name: stored_idx(place, path, step)}, predictor, raw=False)
    raise DataError(what_it_is(start, place, path))


class _Arrays:
    """Rows in one file, an array for each input."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: str, arrays: dict[str, Stored], predictor: Predictor, *, raw: bool) -> None:
        self.name, self._predictor = path, predictor
        self.arrays = {}
        for info in predictor.inputs:
            array = arrays[info.name]
            if not array.shape:
                raise DataError(f"{array.shown} holds a single number, expected rows; save them as an array")
            one = is_one_row(array.shape, info)
            self.arrays[info.name] = replace(array, shape=(1, *array.shape)) if one else array
        counts = {name: array.shape[0] for name, array in self.arrays.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} rows of input '{name}'" for name, count in counts.items())
            raise DataError(f"{path} has {told}; expected the same number of each: save the arrays together again")
        self.count = next(iter(counts.values()))
        self._check_form(raw=raw)

    def _check_form(self, *, raw: bool) -> None:
        """Refuse dtypes and shapes that no values could mend, before anything is said of the first row."""
        if raw:
            (array,) = self.arrays.values()
            sample = np.empty(0, array.dtype)
            if array.shape[1:] == (28, 28):
                sample = next(array.blocks(_ROWS), sample)
            check_raw_images(self.name, array.shape, sample)
            return
        inputs = specs(self._predictor.inputs)
        # Zeros that take no room, for the dtypes and shapes of the whole, and of a row.
        whole = {name: np.broadcast_to(np.zeros((), a.dtype), a.shape) for name, a in self.arrays.items()}
        for spec in inputs:
            check_shape(whole[spec.name], spec, self.name)
        fitted = fit(Found({name: array[:1] for name, array in whole.items()}, source=self.name), inputs, []).inputs
        if any(fitted[info.name].dtype != info.dtype for info in self._predictor.inputs):
            try:
                self._predictor.predict_batch(fitted)  # it has the words for it
            except InputError as error:
                raise InputError(f"{self.name}: {error}") from error

    def blocks(self) -> Iterator[Block]:
        row_bytes = sum(a.dtype.itemsize * int(np.prod(a.shape[1:], dtype=np.int64)) for a in self.arrays.values())
        rows = max(1, min(_ROWS, _BYTES // max(row_bytes, 1)))
        first = 0
        for parts in zip(*(array.blocks(rows) for array in self.arrays.values()), strict=True):
            yield Block([self.name] * len(parts[0]), first, dict(zip(self.arrays, parts, strict=True)))
            first += len(parts[0])

    def fitted(self, rows: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
        infos = self._predictor.inputs
        if all(rows[info.name].dtype == info.dtype and rows[info.name].ndim == len(info.shape) + 1 for info in infos):
            return rows  # the predictor looks at the values
        return fit(Found(rows, source=name), specs(infos), []).inputs


class _Pictures:
    """A row from each picture; those that cannot be read are told of, and the others go on."""

    def __init__(self, path: str, listed: list[tuple[str, list[str]]], others: int, predictor: Predictor) -> None:
        self.name, self._listed, self._predictor = path, listed, predictor
        self.count = sum(len(names) for _, names in listed)
        if not self.count:
            found = f"{others} other files" if others else "nothing else"
            raise DataError(f"{path} holds no pictures (.png, .jpg or .jpeg), and {found}; give another folder")
        check_takes_pictures(os.path.join(listed[0][0], listed[0][1][0]), predictor)  # noqa: PTH118 - as below
        try:
            import PIL  # noqa: F401 - whether it is there
        except ImportError as error:
            raise MissingError(
                f"{path} needs Pillow to be read ({error}); install the extra 'images': pip install '.[images]' in the "
                "project, or give .npy"
            ) from error
        left_out = f"{path}: {others} files that are no pictures were left out"
        self.notes: tuple[str, ...] = (left_out,) if others else ()

    def blocks(self) -> Iterator[Block]:
        files: list[str] = []
        rows: list[NDArray[Any]] = []
        failed: dict[int, Failure] = {}
        notes: list[str] = []
        for file in (os.path.join(folder, name) for folder, names in self._listed for name in names):  # noqa: PTH118
            row = None
            try:
                given = read_picture_file(file, self._predictor)
            except (InputError, MissingError, UsageError) as error:
                failed[len(files)] = Failure.of(error)
            else:
                (row,) = given.rows.values()
                if rows and (rows[0].shape != row.shape or (len(rows) + 1) * row.nbytes > _BYTES):
                    yield self._block(files, rows, failed, notes)
                    files, rows, failed, notes = [], [], {}, []
                rows.append(row)
                notes += given.notes
            files.append(file)
            if len(files) == _PICTURES:
                yield self._block(files, rows, failed, notes)
                files, rows, failed, notes = [], [], {}, []
        if files:
            yield self._block(files, rows, failed, notes)

    def _block(self, files: list[str], rows: list[NDArray[Any]], failed: dict[int, Failure], notes: list[str]) -> Block:
        whole = {self._predictor.input_name: np.concatenate(rows)} if rows else {}
        return Block(files, None, whole, failed, tuple(notes))

    def fitted(self, rows: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        return rows


def _list(folder: str) -> tuple[list[tuple[str, list[str]]], int]:
    """The pictures below a folder in the order of their paths, part by part, and how many other files there are.

    Hidden files are left out, and links to folders, which may lead back. A million names take about 100 MB.

    Returns:
        Runs of files in one folder, in order: (folder, names).
    """
    runs: list[tuple[str, list[str]]] = []
    names, inner, others = _scan(folder)
    waiting = [(folder, names, inner, 0)]
    while waiting:
        path, names, inner, start = waiting.pop()
        end = next((at for at in range(start, len(names)) if names[at] in inner), len(names))
        if end > start:
            runs.append((path, names[start:end]))
        if end < len(names):
            below = os.path.join(path, names[end])  # noqa: PTH118 - a million of them
            waiting.append((path, names, inner, end + 1))
            names, inner, more = _scan(below)
            waiting.append((below, names, inner, 0))
            others += more
    return runs, others


def _scan(folder: str) -> tuple[list[str], set[str], int]:
    """The names of a folder's pictures and sub-folders, sorted; which are folders; how many other files there are."""
    names: list[str] = []
    inner: set[str] = set()
    others = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if not entry.is_symlink():
                        inner.add(entry.name)
                        names.append(entry.name)
                # A link that leads nowhere is told of, but not a pipe, which would be waited for.
                elif entry.name.lower().endswith(_SUFFIXES) and (entry.is_file() or _leads_nowhere(entry)):
                    names.append(entry.name)
                else:
                    others += entry.name.lower() not in ("thumbs.db", "desktop.ini")
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}; check its permissions") from error
    return sorted(names), inner, others


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not Path(entry.path).exists()
