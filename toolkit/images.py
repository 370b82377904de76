"""Reading pictures for the command line: PNG, JPEG, ``.npy``, idx; from a pipe also raw pixels.

What a file is, its first bytes say, not its name. A picture that is what the model takes is taken as it is, bit for
bit. Any other is turned upright (EXIF), transparency laid on white, made grey (luma) or RGB, and resized to the model's
height and width (`fitted`). Models of Fashion-MNIST have a rule of their own (`as_fashion_mnist`): there it is made
grey, inverted if the median of its outermost pixels is brighter than 127 (Fashion-MNIST is bright on black), fitted
into 28x28 keeping its shape, and centred on black.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import InputError, MissingError
from toolkit.idx import GZIP_MAGIC, IMAGES_MAGIC, LABELS_MAGIC, unpack_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from PIL import Image

    # A picture and what to call it, to its pixels and a line that says what was done to it, if anything was.
    Rule = Callable[[Image.Image, str], tuple[NDArray[np.uint8], str | None]]

__all__ = [
    "MAX_BYTES",
    "ImageFile",
    "as_fashion_mnist",
    "check_raw_images",
    "fitted",
    "is_picture",
    "read_bytes",
    "read_images",
    "read_picture",
]

SIDE = 28
MAX_IMAGES = 200_000  # in one file: 157 MB unfolded
MAX_PIXELS = 64_000_000  # of one picture: more than phones take, and 256 MB unfolded
MAX_BYTES = 16 + MAX_IMAGES * SIDE * SIDE  # of one file or of standard input

_PNG, _JPEG, _NPY = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY"
_ORIENTATION = 0x0112  # the EXIF tag
_MAKE_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@dataclass(frozen=True, eq=False)
class ImageFile:
    """What one file held.

    Attributes:
        name: the file as it was named, "-" for standard input.
        images: uint8 of shape (n, 28, 28), ready for the predictor.
        notes: what was done to a picture to make it so; a line each, for people.
    """

    name: str
    images: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """One name an image: the file's own, with an index where it holds several."""
        if len(self.images) == 1:
            return [self.name]
        return [f"{self.name}[{index}]" for index in range(len(self.images))]


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so is a PNG or JPEG."""
    return start.startswith((_PNG, _JPEG))


def read_images(path: str | os.PathLike[str], stdin: bytes | None = None, rule: Rule | None = None) -> ImageFile:
    """The 28x28 images in a file, or in standard input where the path is "-".

    Args:
        path: a PNG, JPEG, ``.npy`` or idx (plain or gzip'd) file, or "-".
        stdin: what standard input held, for "-"; here raw pixels, 784 bytes an image, are taken too.
        rule: what to do with a picture; None: `as_fashion_mnist`.

    Raises:
        MissingError: no such file, or Pillow is needed and not installed.
        InputError: empty, cut short, damaged, too large, or nothing of the above.
    """
    name = os.fspath(path)
    data = read_bytes(name) if name != "-" else stdin or b""
    shown = "standard input" if name == "-" else name
    if not data:
        raise InputError(f"{shown} is empty; expected a PNG, JPEG, .npy or idx file")
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{shown} has more than {MAX_BYTES} bytes; split it into files of {MAX_IMAGES} images, or give it to "
            "--batch"
        )
    if is_picture(data):
        image, note = read_picture(data, shown, rule or as_fashion_mnist)
        return ImageFile(name, image[np.newaxis], (note,) if note else ())
    if data.startswith(_NPY):
        return ImageFile(name, _npy(data, shown))
    if data.startswith((IMAGES_MAGIC, LABELS_MAGIC, GZIP_MAGIC)):
        return ImageFile(name, unpack_images(data, shown, at_most=MAX_IMAGES))
    if name == "-" and len(data) % (SIDE * SIDE) == 0:
        return ImageFile(name, np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE))
    raw = f", or raw pixels ({len(data)} bytes are no multiple of 784)" if name == "-" else ""
    raise InputError(f"{shown} begins with {data[:8]!r}, expected a PNG, JPEG, .npy or idx file{raw}; convert it first")


def read_bytes(name: str, count: int = MAX_BYTES + 1) -> bytes:
    """The first bytes of a file.

    Raises:
        MissingError: no such file.
        InputError: a folder, or it may not be read.
    """
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - Path("") would be the current folder
            return file.read(count)
    except FileNotFoundError as error:
        raise MissingError(f"{name or 'a file named with nothing'} does not exist; check the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{name} is a folder, expected image files; try {name.rstrip('/')}/*.png") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read {name!r}: {reason}; check the path and its permissions") from error


def _npy(data: bytes, name: str) -> NDArray[np.uint8]:
    """The array of a .npy file; parsed here, as numpy reserves all that a header claims before it looks."""
    from numpy.lib import format as npy

    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = npy.read_magic(file)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read_header(file)
    except Exception as error:  # numpy parses the header as Python source, which fails in many ways
        raise InputError(f"{name} has a damaged .npy header; save it again with numpy.save") from error
    if dtype.kind not in "biuf":
        raise InputError(f"{name} holds dtype {dtype}, {_WANTED}; save the raw pixels as uint8")
    count, body = math.prod(shape), data[file.tell() :]
    if len(body) != count * dtype.itemsize:
        raise InputError(
            f"{name} has {len(body)} bytes of pixels, its header says {count * dtype.itemsize}; "
            "it is cut short or damaged: save or copy it again"
        )
    try:
        array = np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:  # no bytes, and a dimension beyond all numbers
        raise InputError(f"{name} claims the shape {shape}; save it again with numpy.save") from error
    check_raw_images(name, shape, array)
    if len(images := np.ascontiguousarray(array).reshape(-1, SIDE, SIDE)) > MAX_IMAGES:
        raise InputError(
            f"{name} holds {len(images)} images, expected {MAX_IMAGES} at most; split the file, or give it to --batch"
        )
    return images


_WANTED = "expected uint8 of shape (28, 28) or (n, 28, 28)"


def check_raw_images(name: str, shape: tuple[int, ...], array: NDArray[Any]) -> None:
    """Refuse an array that does not hold 28x28 raw pixels.

    Args:
        name: what to call it.
        shape: of the whole.
        array: the whole, or some of its values, by which errors say what may be meant.

    Raises:
        InputError: another dtype or shape.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds dtype {array.dtype}, {_WANTED}; save the raw pixels as uint8")
    if array.dtype != np.uint8:
        raise InputError(f"{name} holds {array.dtype} of shape {shape}, {_WANTED}; {_advice(array)}")
    if shape[-2:] != (SIDE, SIDE) or len(shape) not in (2, 3):
        raise InputError(f"{name} has shape {shape}, {_WANTED}; resize or reshape it first")


def _advice(array: NDArray[np.generic]) -> str:
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        return "it contains NaN or infinity: check where the pixels come from"
    low, high = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
    if low < 0 or high > 255:
        return f"values run from {low:g} to {high:g} but pixels run from 0 to 255: check the scaling"
    if array.dtype.kind == "f" and high <= 1:
        return "undo the division by 255: (array * 255).round().astype(numpy.uint8)"
    return "convert with array.astype(numpy.uint8)"


def read_picture(data: bytes, name: str, rule: Rule) -> tuple[NDArray[np.uint8], str | None]:
    """A PNG or JPEG as pixels, and a line that says what was done to it, if anything was.

    Raises:
        MissingError: Pillow is not installed.
        InputError: damaged or too large.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingError(
            f"{name} needs Pillow to be read ({error}); install the extra 'images': "
            "pip install '.[images]' in the project, or give .npy"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warning of large pictures; the limit below is ours
            image: Image.Image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
            if image.width * image.height <= MAX_PIXELS:
                image.load()
                return rule(image, name)
    except Image.DecompressionBombError:
        pass
    except UnidentifiedImageError as error:
        raise InputError(f"{name} has a damaged PNG or JPEG header; copy or save it again") from error
    except Exception as error:  # damaged pictures make Pillow raise errors of many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot be decoded: {reason}; copy or save it again") from error
    raise InputError(f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; save a smaller copy of it")


def fitted(
    image: Image.Image, name: str, height: int | None, width: int | None, channels: int
) -> tuple[NDArray[np.uint8], str | None]:
    """A picture in the size and colours that a model takes.

    Args:
        image: of any size and mode.
        name: what to call it.
        height: wanted; None: its own.
        width: wanted; None: its own.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 of shape (height, width, channels), and what was done to it.
    """
    from PIL import Image

    what, mode = f"{image.width}x{image.height} {image.mode}", "L" if channels == 1 else "RGB"
    image, done = _flat(image)
    if image.mode != mode:
        image = (image if image.mode in {"L", "RGB", "RGBA"} else image.convert("RGB")).convert(mode)
        done.append("made grey" if channels == 1 else "made RGB")
    size = (width or image.width, height or image.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
        done.append(f"resized to {size[0]}x{size[1]}")
    note = f"{name}: {what} picture {', '.join(done)}" if done else None
    return np.array(image, np.uint8).reshape(size[1], size[0], channels), note


def _flat(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A picture upright, of 8 bits a pixel and without transparency, and what was done for that."""
    from PIL import Image

    turned, transparent, done = _MAKE_UPRIGHT.get(_orientation(image)), image.has_transparency_data, []
    if turned:
        image = image.transpose(Image.Transpose[turned])
        done.append("turned upright")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would cut values off at 255
        image = Image.fromarray((np.asarray(image, np.uint32) / 257).round().astype(np.uint8))
        done.append("brought from 16 to 8 bits")
    if transparent:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        done.append("transparency laid on white")
    return image, done


def as_fashion_mnist(image: Image.Image, name: str) -> tuple[NDArray[np.uint8], str | None]:
    """The rule for models of Fashion-MNIST, to uint8 (28, 28); see the top of this file."""
    from PIL import Image, ImageOps

    plain = image.mode == "L" and image.size == (SIDE, SIDE) and not image.has_transparency_data
    if plain and not _MAKE_UPRIGHT.get(_orientation(image)):
        return np.array(image, np.uint8), None
    what = f"{image.width}x{image.height} {image.mode}"
    image, done = _flat(image)
    if image.mode != "L":
        image = (image if image.mode in {"RGB", "RGBA"} else image.convert("RGB")).convert("L")
        done.append("made grey")
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    if np.median(border) > 127:
        image = ImageOps.invert(image)
        done.append("inverted, as its border is bright")
    if image.size != (SIDE, SIDE):
        scale = SIDE / max(image.size)
        width, height = (max(1, round(length * scale)) for length in image.size)
        fitted = image.resize((width, height), Image.Resampling.LANCZOS)
        image = Image.new("L", (SIDE, SIDE))
        image.paste(fitted, ((SIDE - width) // 2, (SIDE - height) // 2))
        done.append("fitted into 28x28")
    return np.array(image, np.uint8), f"{name}: {what} picture {', '.join(done)}"


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - cameras write broken EXIF in many ways, and the picture is good without it
        return 1
