"""The idx format of the MNIST family of data sets: a few big-endian numbers, then the bytes as they are.

00 00 08 03  n  28  28  pixels ...      images
00 00 08 01  n  labels ...              labels
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GZIP_MAGIC", "IMAGES_MAGIC", "LABELS_MAGIC", "gunzip", "pack", "unpack_images"]

IMAGES_MAGIC = b"\x00\x00\x08\x03"
LABELS_MAGIC = b"\x00\x00\x08\x01"
GZIP_MAGIC = b"\x1f\x8b"


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
