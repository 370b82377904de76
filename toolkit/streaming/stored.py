"""Arrays in .npy, .npz and idx files, read some rows at a time: never is more of them in memory than one block.

Files are read, not mapped: pages of a mapped file count as the process's own memory once they are touched. What a
header declares is held against the file before the first row is read, and where a file is packed (gzip, zip) all of it
is unpacked once before, so that damage at its end is known before anything is said of its beginning.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from toolkit import idx
from toolkit.datasets.arrays import read_header, read_headers, size_error, unreadable_zip
from toolkit.errors import DataError, InputError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.datasets.arrays import Header
    from toolkit.progress import Step

__all__ = ["Stored", "prove", "stored_idx", "stored_npy", "stored_npz"]

_PIECE = 1_000_000  # bytes that are unpacked at once when a file is only checked
_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Stored:
    """An array in a file.

    Attributes:
        shown: what to call it, such as "rows.npz: array 'x'".
        dtype: of its values, in the file's byte order.
        shape: of the whole.
        fortran: the values of its first axis stand beside each other.
        start: where its values begin in what `open` gives.
        open: the file, at the first value.
    """

    shown: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int
    open: Callable[[], AbstractContextManager[IO[bytes]]]

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array in order, in blocks of (rows, ...), the last perhaps of fewer.

        Raises:
            DataError: it cannot be read any more.
        """
        count, row = self.shape[0], self.shape[1:]
        try:
            with self.open() as file:
                for first in range(0, count, rows):
                    size = min(rows, count - first)
                    yield self._gathered(file, first, size) if self.fortran else self._next(file, (size, *row))
        except ToolkitError:
            raise
        except _ERRORS as error:
            raise DataError(f"{self.shown} cannot be read any more ({error}); was it changed meanwhile?") from error

    def _next(self, file: IO[bytes], shape: tuple[int, ...]) -> NDArray[Any]:
        raw = np.empty(math.prod(shape) * self.dtype.itemsize, np.uint8)
        place = 0
        while place < len(raw):
            count = file.readinto(raw[place:])  # type: ignore[attr-defined]  # IO does not tell of it; all files have it
            if not count:
                raise DataError(f"{self.shown} ends too early; was it changed meanwhile?")
            place += count
        return raw.view(self.dtype).reshape(shape)

    def _gathered(self, file: IO[bytes], first: int, size: int) -> NDArray[Any]:
        """Some rows of an array in Fortran's order, where each value of a row stands elsewhere."""
        count, row = self.shape[0], self.shape[1:]
        if count == 1:
            return np.ascontiguousarray(self._next(file, (math.prod(row),)).reshape(self.shape, order="F"))
        columns = np.empty((math.prod(row), size), self.dtype)
        for number, column in enumerate(columns):
            file.seek(self.start + (number * count + first) * self.dtype.itemsize)
            column[...] = self._next(file, (size,))
        return np.ascontiguousarray(columns.reshape(-1).reshape((size, *row), order="F"))


def stored_npy(path: Path, shown: str) -> Stored:
    """The array in a .npy file.

    Raises:
        DataError: damaged, cut short, or no array of numbers.
        UsageError: it may not be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = read_header(file, shown)
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error
    if size != header.start + header.bytes:
        raise size_error(shown, size, header)

    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with path.open("rb") as file:
            file.seek(header.start)
            yield file

    return Stored(shown, header.dtype, header.shape, _scattered(header), header.start, opened)


def stored_idx(path: Path, shown: str, step: Step) -> Stored:
    """The array in an idx file, plain or gzip'd.

    Raises:
        DataError: damaged, cut short or too long.
        UsageError: it may not be read.
    """

    @contextmanager
    def opened(skip: int = 0) -> Iterator[Any]:
        with path.open("rb") as file:
            zipped = file.read(2) == idx.GZIP_MAGIC
            file.seek(0)
            whole = gzip.GzipFile(fileobj=file) if zipped else file
            whole.read(skip)
            yield whole

    try:
        with opened() as file:
            dtype, shape = idx.read_header(file, shown)
            start, size = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
            if isinstance(file, gzip.GzipFile):
                found = _skip(file, size, shown, step)
                more = bool(file.read(1))  # there is none; here the checksum is proved
            else:
                found = path.stat().st_size - start
                more = found > size
        if found != size or more:
            raise idx.size_error(shown, dtype, shape, more=more)
    except InputError as error:
        raise DataError(str(error)) from error
    except PermissionError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error
    except idx.READ_ERRORS as error:
        raise DataError(str(idx.read_error(error, shown))) from error
    return Stored(shown, dtype, shape, False, start, lambda: opened(start))


def stored_npz(path: Path, shown: str) -> dict[str, Stored]:
    """The arrays in an .npz file by name; `prove` them before they are read.

    Raises:
        DataError: no .npz, damaged, encrypted, or an array of Python objects.
        UsageError: it may not be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            headers = read_headers(archive, path, shown)
            members = [info.filename for info in archive.infolist()]
    except _ERRORS as error:
        raise unreadable_zip(error, shown) from error
    arrays = zip(headers.items(), members, strict=True)
    return {name: _member(path, member, header, f"{shown}: array '{name}'") for (name, header), member in arrays}


def _member(path: Path, member: str, header: Header, what: str) -> Stored:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            file.read(header.start)
            yield file

    return Stored(what, header.dtype, header.shape, _scattered(header), header.start, opened)


def _scattered(header: Header) -> bool:
    """In Fortran's order, and that is another than C's."""
    return header.fortran and sum(size != 1 for size in header.shape) > 1


def prove(arrays: list[Stored], shown: str, step: Step) -> None:
    """Unpack some arrays of an .npz once, and hold them against the archive's checksums.

    Raises:
        DataError: damaged; or in Fortran's order, which cannot be read by rows here.
        UsageError: it may not be read.
    """
    total = sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
    done = 0
    for array in arrays:
        if array.fortran and array.shape[0] > 1:
            raise DataError(
                f"{array.shown} is stored in Fortran's order, which has no rows to read one by one; save it as "
                "numpy.ascontiguousarray(array), or as .npy"
            )
        size = math.prod(array.shape) * array.dtype.itemsize
        try:
            with array.open() as file:
                found = _skip(file, size, shown, partial(_later, step, done, total))
                if found < size or file.read(1):
                    raise DataError(f"{array.shown} is damaged; save it again")
        except ToolkitError:
            raise
        except _ERRORS as error:
            raise unreadable_zip(error, shown) from error
        done += size


def _later(step: Step, before: int, whole: int, done: int, total: int, what: str) -> None:  # noqa: ARG001 - a Step
    step(before + done, whole, what)


def _skip(file: IO[bytes] | gzip.GzipFile, size: int, shown: str, step: Step) -> int:
    """Read over some bytes; how many there were."""
    done = 0
    while done < size:
        piece = file.read(min(_PIECE, size - done))
        if not piece:
            break
        done += len(piece)
        step(done, size, f"checking {shown}")
    return done
