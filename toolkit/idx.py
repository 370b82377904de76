"""The idx format of the MNIST family of data sets: a few big-endian numbers, then the values as they are.

00 00 08 03  n  28  28  pixels ...      images
00 00 08 01  n  labels ...              labels

The third byte is the type of the values (08: bytes), the fourth counts the dimensions.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from toolkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "GZIP_MAGIC",
    "IMAGES_MAGIC",
    "LABELS_MAGIC",
    "READ_ERRORS",
    "gunzip",
    "is_idx",
    "pack",
    "read_error",
    "read_header",
    "size_error",
    "unpack",
    "unpack_images",
]

IMAGES_MAGIC = b"\x00\x00\x08\x03"
LABELS_MAGIC = b"\x00\x00\x08\x01"
GZIP_MAGIC = b"\x1f\x8b"

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def pack(array: NDArray[np.uint8]) -> bytes:
    """The idx bytes of a uint8 array of any shape.

    Raises:
        InputError: another dtype.
    """
    if array.dtype != np.uint8:
        raise InputError(f"idx: got dtype {array.dtype}, expected uint8; convert with array.astype(numpy.uint8)")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def unpack_images(data: bytes, name: str, *, at_most: int) -> NDArray[np.uint8]:
    """The images in idx bytes, plain or gzip'd.

    Args:
        data: the file's bytes.
        name: what to call it in errors.
        at_most: the largest count of images to take; the bound on what a small gzip'd file may unfold to.

    Returns:
        uint8 of shape (n, 28, 28), read-only.

    Raises:
        InputError: not idx, labels, other sizes than 28x28, cut short, too long or damaged.
    """
    if data.startswith(GZIP_MAGIC):
        try:
            data = gunzip(data, 16 + at_most * 784)
        except ValueError as error:
            raise InputError(f"{name}: {error}; copy or download it again") from error
    if data.startswith(LABELS_MAGIC):
        raise InputError(f"{name} holds idx labels, expected idx images; give the file with 'images' in its name")
    if not data.startswith(IMAGES_MAGIC) or len(data) < 16:
        raise InputError(
            f"{name} begins with {data[:4].hex(' ') or 'nothing'} and has {len(data)} bytes, "
            "expected idx images (00 00 08 03 and three sizes); give a whole idx3-ubyte file"
        )
    count, height, width = struct.unpack_from(">3I", data, 4)
    if (height, width) != (28, 28):
        raise InputError(f"{name} holds images of {height}x{width}, expected 28x28; resize them first")
    if count > at_most:
        raise InputError(f"{name} holds {count} images, expected {at_most} at most; split the file")
    if len(data) != 16 + count * 784:
        raise InputError(
            f"{name} has {len(data)} bytes, expected {16 + count * 784} for its {count} images; "
            "it is cut short or damaged: copy or download it again"
        )
    pixels: NDArray[Any] = np.frombuffer(data, np.uint8, offset=16)
    return pixels.reshape(count, 28, 28)


def is_idx(start: bytes) -> bool:
    """Whether a file that begins so is idx: two zeros, a known type, and from one to eight dimensions."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _TYPES and 1 <= start[3] <= 8


def unpack(file: BinaryIO | gzip.GzipFile, name: str, *, at_most: int) -> NDArray[Any]:
    """The array in an idx file of any type and rank.

    Args:
        file: at its beginning; for a gzip'd file, a `gzip.GzipFile`. Never is more read than its header says.
        name: what to call it in errors.
        at_most: bytes of values, at most.

    Returns:
        Of the shape that the file says, in native byte order.

    Raises:
        InputError: not idx, too large, cut short, too long or damaged.
    """
    try:
        dtype, shape = read_header(file, name)
        size = math.prod(shape) * dtype.itemsize
        if size > at_most:
            raise InputError(f"{name} declares {size} bytes of values, expected {at_most} at most; split the file")
        data = file.read(size)
        more = file.read(1)  # there is none; for gzip, the checksum is proved here
    except READ_ERRORS as error:
        raise read_error(error, name) from error
    if len(data) != size or more:
        raise size_error(name, dtype, shape, more=bool(more))
    array: NDArray[Any] = np.frombuffer(data, dtype)
    try:
        return array.astype(dtype.newbyteorder("="), copy=False).reshape(shape)
    except ValueError as error:  # no values, and a dimension beyond all numbers
        raise InputError(f"{name} claims the shape {shape}; save it again") from error


def read_header(file: BinaryIO | gzip.GzipFile, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype (big-endian) and shape in an idx file that is at its beginning; nothing behind them is read.

    Raises:
        InputError: not idx, or cut short. `READ_ERRORS` go through.
    """
    start = file.read(4)
    if not is_idx(start):
        raise InputError(f"{name} begins with {start.hex(' ') or 'nothing'}, expected idx (00 00, type, dimensions)")
    dtype, rank = np.dtype(_TYPES[start[2]]), start[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise InputError(f"{name} ends within its header; it is cut short: copy or download it again")
    return dtype, struct.unpack(f">{rank}I", sizes)


READ_ERRORS = (EOFError, OSError, zlib.error)
"""What reading a file, plain or gzip'd, may raise."""


def read_error(error: Exception, name: str) -> InputError:
    """What one of `READ_ERRORS` means for a person."""
    if isinstance(error, EOFError):
        return InputError(f"{name}: the gzip data is cut short; copy or download it again")
    return InputError(f"{name} cannot be read ({error}); copy or download it again")


def size_error(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *, more: bool) -> InputError:
    """That an idx file has more or fewer bytes than its header says."""
    size = math.prod(shape) * dtype.itemsize
    return InputError(
        f"{name} has {'more' if more else 'fewer'} bytes than the {size} for {dtype.newbyteorder('=')} of shape "
        f"{shape}; it is cut short or damaged: copy or download it again"
    )


def gunzip(data: bytes, at_most: int) -> bytes:
    """Unfold gzip'd bytes, checksum included, but never into more than `at_most` bytes.

    Raises:
        ValueError: damaged, cut short, or too long; the message says which.
    """
    try:
        # One byte more than allowed shows what is too long, and takes the reader to the checksum at the end.
        payload = gzip.GzipFile(fileobj=io.BytesIO(data)).read(at_most + 1)
    except EOFError as error:
        raise ValueError("the gzip data is cut short") from error
    except (OSError, zlib.error) as error:
        raise ValueError(f"the gzip data is damaged ({error})") from error
    if len(payload) > at_most:
        raise ValueError(f"the gzip data unfolds to more than {at_most} bytes")
    return payload
