"""What people hand to ``toolkit predict``, as rows that the model takes: pictures, and arrays by input name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data import CLASS_NAMES
from toolkit.datasets.arrays import read_npy, read_npz
from toolkit.datasets.files import check_path
from toolkit.datasets.fitting import fit
from toolkit.datasets.naming import assign, only_input
from toolkit.datasets.rows import Found
from toolkit.errors import InputError
from toolkit.images import MAX_BYTES, fitted, is_picture, read_bytes, read_images, read_picture
from toolkit.keras_model.source import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.predictor import Predictor, TensorInfo

__all__ = ["Given", "read_given"]

_NPY, _ZIP = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True, eq=False)
class Given:
    """What one file held.

    Attributes:
        name: the file as it was named, "-" for standard input.
        rows: by input name, each (n, ...).
        notes: what was done to make them so; a line each, for people.
    """

    name: str
    rows: dict[str, NDArray[Any]]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.rows.values())))

    @property
    def names(self) -> list[str]:
        """One name a row: the file's own, with an index where it holds several."""
        if self.count == 1:
            return [self.name]
        return [f"{self.name}[{index}]" for index in range(self.count)]


def read_given(path: str, predictor: Predictor, stdin: bytes | None = None) -> Given:
    """The rows in a file, or in standard input where the path is "-".

    Args:
        path: an ``.npz`` with an array for each input; for a model of one input also a ``.npy``; for one that takes
            images a PNG or JPEG; for one of 28x28 raw pixels idx too, and raw pixels from a pipe. One row may come
            without the axis of rows.
        predictor: the model.
        stdin: what standard input held, for "-".

    Raises:
        MissingError: no such file, or Pillow is needed and not installed.
        InputError, DataError, UsageError: damaged, or not what the model takes.
    """
    data = stdin or b"" if path == "-" else read_bytes(path, 16)
    only = predictor.inputs[0] if len(predictor.inputs) == 1 else None
    if only and (str(only.dtype), only.shape) == ("uint8", (28, 28)) and not data.startswith(_ZIP):
        rule = None if predictor.class_names == CLASS_NAMES else partial(_plain, height=28, width=28)
        file = read_images(path, stdin, rule)
        return Given(path, {only.name: file.images}, file.notes)
    shown = "standard input" if path == "-" else path
    if is_picture(data):
        if only is None:
            raise InputError(
                f"{shown} is a picture, which serves a model of one input; this one takes {_wanted(predictor)}: give "
                "an .npz with an array for each"
            )
        whole = data if path == "-" else read_bytes(path)
        if len(whole) > MAX_BYTES:
            raise InputError(f"{shown} has more than {MAX_BYTES} bytes; save a smaller copy of it")
        array, note = _picture(whole, shown, only, predictor)
        return Given(path, {only.name: array}, (note,) if note else ())
    if not data:
        raise InputError(f"{shown} is empty; give rows as .npz or .npy: {_wanted(predictor)}")
    if not data.startswith((_NPY, *_ZIP)):
        raise InputError(
            f"{shown} begins with {data[:8]!r}, expected an .npz or .npy file, or a PNG or JPEG for a model of images; "
            f"this one takes {_wanted(predictor)}"
        )
    if path != "-":
        return Given(path, _arrays(Path(path), shown, data, predictor))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "input"
        place.write_bytes(data)
        rows = _arrays(place, shown, data, predictor)
        return Given(path, {name: np.array(array) for name, array in rows.items()})


def _wanted(predictor: Predictor) -> str:
    return ", ".join(f"'{info.name}' ({info.wanted(batch=True)})" for info in predictor.inputs)


def _arrays(path: Path, shown: str, start: bytes, predictor: Predictor) -> dict[str, NDArray[Any]]:
    check_path(path, shown)
    inputs, outputs = _specs(predictor.inputs), _specs(predictor.outputs)
    if start.startswith(_NPY):
        found = {only_input(inputs, shown, "a .npy file").name: read_npy(path, shown)}
    else:
        found = dict(assign(read_npz(path, shown), inputs, outputs, shown).inputs)
    for info in predictor.inputs:
        array = found[info.name]
        alone = array.ndim == len(info.shape) and all(
            want in (None, size) for size, want in zip(array.shape, info.shape, strict=True)
        )
        if alone:
            found[info.name] = array[np.newaxis]
    return fit(Found(found, source=shown), inputs, []).inputs


def _specs(tensors: Sequence[TensorInfo]) -> list[TensorSpec]:
    return [TensorSpec(info.name, (None, *info.shape), str(info.dtype)) for info in tensors]


def _plain(image: Any, name: str, height: int, width: int) -> tuple[NDArray[np.uint8], str | None]:
    pixels, note = fitted(image, name, height, width, 1)
    return pixels[..., 0], note


def _picture(data: bytes, shown: str, info: TensorInfo, predictor: Predictor) -> tuple[NDArray[Any], str | None]:
    """One row of pixels, and what was done to the picture."""
    channels = 1 if len(info.shape) == 2 else info.shape[2] if len(info.shape) == 3 else None
    if channels not in (1, 3) or (info.dtype != np.uint8 and info.dtype.kind != "f"):
        raise InputError(
            f"{shown} is a picture, but '{info.name}' takes {info.wanted(batch=True)}, expected an input of one or "
            "three channels of pixels for that; give rows as .npy"
        )
    bounds = predictor.ranges.get(info.name)
    if info.dtype != np.uint8 and bounds is None:
        raise InputError(
            f"{shown} is a picture, but '{info.name}' takes {info.dtype} and the model does not say in which scale; "
            "give rows as .npy, or export with --input-scale, so that the model takes raw pixels"
        )
    height, width = info.shape[:2]
    rule = partial(fitted, height=height, width=width, channels=channels)
    pixels, note = read_picture(data, shown, rule)
    row = pixels.reshape(pixels.shape[: len(info.shape)])[np.newaxis]
    if bounds is None or info.dtype == np.uint8:
        return row, note
    low, high = bounds
    scaled = np.clip(low + row.astype(np.float64) / 255 * (high - low), low, high).astype(info.dtype)
    scale = f"pixels scaled from 0..255 to {low:g}..{high:g}"
    return scaled, f"{note}, {scale}" if note else f"{shown}: {scale}"
