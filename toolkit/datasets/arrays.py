"""Arrays in .npy and .npz files, read so that neither a pickle in them nor a false size can do harm.

A header says dtype and shape. It is held against the bytes that are there before any memory is taken, and an array of
Python objects, which would be a pickle, is refused by its header.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from toolkit.datasets.files import what_zip_it_is
from toolkit.datasets.rows import LIMIT
from toolkit.errors import DataError, UsageError
from toolkit.progress import silent_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.progress import Step

__all__ = ["Header", "read_header", "read_headers", "read_npy", "read_npz", "size_error", "unreadable_zip"]

_CHUNK = 16_000_000
_HEADER_LIMIT = 10_000  # numpy's own


@dataclass(frozen=True)
class Header:
    """What a .npy header says.

    Attributes:
        shape: of the array.
        fortran: the values of the first axis stand beside each other, not those of the last.
        dtype: numbers or text, in any byte order.
        start: where the values begin.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def bytes(self) -> int:
        """How many the values take."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path, shown: str) -> NDArray[Any]:
    """The array in a .npy file, mapped rather than read, and read-only.

    Raises:
        DataError: damaged, cut short, larger than `LIMIT`, or no array of numbers.
        UsageError: it may not be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = read_header(file, shown)
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error
    _check_size(header.bytes, shown)
    if size != header.start + header.bytes:
        raise size_error(shown, size, header)
    if header.bytes == 0:
        return np.empty(header.shape, header.dtype)
    order: Any = "F" if header.fortran else "C"
    return np.asarray(np.memmap(path, header.dtype, "r", header.start, header.shape, order))


def size_error(shown: str, size: int, header: Header) -> DataError:
    """That a .npy file has not the bytes that its header says."""
    return DataError(
        f"{shown} has {size} bytes, expected {header.start + header.bytes} for {header.dtype} of shape "
        f"{header.shape}; it is cut short or damaged: save or copy it again"
    )


def read_npz(path: Path, shown: str, step: Step = silent_step) -> dict[str, NDArray[Any]]:
    """The arrays in an .npz file by name. Nothing is unpacked to disk, so names of files in it cannot do harm.

    Raises:
        DataError: no .npz, damaged, cut short, encrypted, larger than `LIMIT`, or an array of Python objects.
        UsageError: it may not be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            headers = read_headers(archive, path, shown)
            _check_size(sum(header.bytes for header in headers.values()), shown)
            return _read_members(archive, headers, shown, step)
    except _ZIP_ERRORS as error:
        raise unreadable_zip(error, shown) from error


_ZIP_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def unreadable_zip(error: Exception, shown: str) -> DataError | UsageError:
    """What any error of `zipfile` means for a person."""
    if isinstance(error, OSError):
        return UsageError(f"cannot read {shown}: {error.strerror or error}; check the file and its permissions")
    if isinstance(error, (NotImplementedError, RuntimeError)):  # another way of packing, or a password
        return DataError(f"{shown} cannot be unpacked ({error}); save it again with numpy.savez")
    return DataError(f"{shown} is no whole zip archive ({error}); save or copy it again")


def _check_entries(path: Path, found: int) -> None:
    """Hold the entries that zipfile found against the count at the archive's end, which it does not look at.

    One flipped bit in the length of a comment swallows the entries that follow.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 22 - 65_535))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    (count,) = struct.unpack_from("<H", tail, place + 10)
    if count not in (found, 0xFFFF):  # the last stands for more than fit here
        raise zipfile.BadZipFile(f"{found} entries, and {count} by its own count")


def read_headers(archive: zipfile.ZipFile, path: Path, shown: str) -> dict[str, Header]:
    """What the arrays of an .npz are, by name, each held against the bytes that the archive has for it.

    Args:
        archive: open.
        path: of the archive.
        shown: how errors call it.

    Raises:
        DataError: no .npz, damaged, encrypted, or an array of Python objects. Errors of `zipfile` go through.
    """
    if other := what_zip_it_is(archive, shown):
        raise DataError(other)
    _check_entries(path, len(archive.infolist()))
    headers: dict[str, Header] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        what = f"{shown}: array '{name}'"
        if info.flag_bits & 1:
            raise DataError(f"{what} is encrypted; save it again without a password")
        if name in headers:
            raise DataError(f"{shown} holds the array '{name}' twice; save it again")
        with archive.open(info) as file:
            headers[name] = header = read_header(file, what)
        if info.file_size != header.start + header.bytes:
            raise DataError(
                f"{what} has {info.file_size} bytes, expected {header.start + header.bytes} for {header.dtype} of "
                f"shape {header.shape}; it is damaged: save it again"
            )
    return headers


def _read_members(
    archive: zipfile.ZipFile, headers: dict[str, Header], shown: str, step: Step
) -> dict[str, NDArray[Any]]:
    total = sum(header.bytes for header in headers.values())
    arrays: dict[str, NDArray[Any]] = {}
    read = 0
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as file:
            file.read(headers[name].start)
            arrays[name] = array = np.empty(headers[name].bytes, np.uint8)
            for count in _read_values(file, array, f"{shown}: array '{name}'"):
                step(read + count, total, f"reading {shown}")
        read += len(array)
    return {name: _shaped(array, headers[name]) for name, array in arrays.items()}


def read_header(file: IO[bytes], what: str) -> Header:
    """The header of a .npy file that is at its beginning; nothing behind it is looked at.

    Raises:
        DataError: damaged, or no array of numbers or text.
    """
    from numpy.lib import format as npy

    try:
        start = file.read(12)
        version = npy.read_magic(io.BytesIO(start))
        if version == (3, 0):  # what numpy writes only for fields with names beyond Latin-1
            raise DataError(f"{what} holds records with named fields, expected numbers; save each field by itself")
        read, code = {(1, 0): (npy.read_array_header_1_0, "<H"), (2, 0): (npy.read_array_header_2_0, "<I")}[version]
        (length,) = struct.unpack_from(code, start, 8)
        end = 8 + struct.calcsize(code) + length
        if length > _HEADER_LIMIT:  # numpy would read it all before it looks
            raise ValueError(f"a header of {length} bytes")
        whole = io.BytesIO(start[:end] + file.read(max(0, end - len(start))))
        whole.seek(8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(whole)
    except (DataError, OSError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise DataError(f"{what} has a damaged .npy header; save it again with numpy.save") from error
    if dtype.hasobject:
        raise DataError(
            f"{what} holds Python objects, which are a pickle, a program, and are never opened; save it as an array of "
            "numbers (rows of one length)"
        )
    if dtype.names or dtype.subdtype or dtype.kind not in "biufUS":
        named = "records with named fields" if dtype.names else f"dtype {dtype}"
        raise DataError(f"{what} holds {named}, expected integers, floats or bools; convert it with astype")
    if not all(0 <= size <= LIMIT for size in shape):
        raise DataError(f"{what} claims the shape {shape}; save it again with numpy.save")
    return Header(shape, fortran, dtype, end)


def _check_size(count: int, shown: str) -> None:
    if count > LIMIT:
        raise DataError(
            f"{shown} declares {count / 1e9:.1f} GB of values, expected {LIMIT / 1e9:.0f} GB at most; give fewer rows"
        )


def _read_values(file: IO[bytes], flat: NDArray[np.uint8], what: str) -> Iterator[int]:
    """Fill an array with the bytes behind a header, and yield how many are read; at the end zipfile proves the sum."""
    place = 0
    while place < len(flat):
        piece = file.read(min(_CHUNK, len(flat) - place))
        if not piece:
            raise DataError(f"{what} is cut short; save it again")
        flat[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
        yield place
    if file.read(1):
        raise DataError(f"{what} is longer than its header says; save it again")


def _shaped(flat: NDArray[np.uint8], header: Header) -> NDArray[Any]:
    return flat.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
