"""The rows that a report runs the files on and shows: Fashion-MNIST's, or a person's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import ONNX
from toolkit.data import CLASS_NAMES
from toolkit.datasets import read_rows
from toolkit.errors import UsageError
from toolkit.keras_model import open_model
from toolkit.keras_model.source import TensorSpec
from toolkit.pipeline.material import scales_pixels
from toolkit.pipeline.targets import targets_for
from toolkit.pipeline.verifying import source_path
from toolkit.report.parts import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.data import FashionMnist
    from toolkit.manifest_records import TensorContract
    from toolkit.progress import Step

__all__ = ["KnownRows", "find_rows", "picture_of"]

_LEAST, _MOST = 8, 1024
"""Height and width of what can be looked at as a picture."""

_LABELLED = ("classification", "binary")


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Test rows as the files take them.

    Attributes:
        inputs: by input name, each (n, ...).
        labels: their classes, int64 (n,); None where they are not known.
        class_names: or None.
        source: in a phrase.
        fashion: the whole data set, where it is Fashion-MNIST.
    """

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None
    source: str
    fashion: FashionMnist | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._first)

    @property
    def _first(self) -> NDArray[Any]:
        return next(iter(self.inputs.values()))

    @property
    def dtype(self) -> str:
        """Of the first input."""
        return str(self._first.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row of the first input."""
        return self._first.shape[1:]

    @cached_property
    def are_pictures(self) -> bool:
        """There is one input, and its rows can be looked at."""
        array = self._first
        if len(self.inputs) > 1 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
            return False
        if not all(_LEAST <= side <= _MOST for side in array.shape[1:3]):
            return False
        return array.dtype == np.uint8 or bool(array.min() >= 0 and array.max() <= 1)

    def picture(self, row: int) -> NDArray[np.uint8] | None:
        """One row to look at, uint8 (height, width) or (height, width, 3); None where rows are no pictures."""
        return picture_of(self._first[row]) if self.are_pictures else None

    def title(self, row: int) -> str:
        """What a row is called: its class where that is known."""
        if self.labels is None:
            return f"row {row:,}"
        label = int(self.labels[row])
        return self.class_names[label] if self.class_names else f"class {label}"


def picture_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of 0 to 255, or floats of 0 to 1, as uint8 (height, width) or (height, width, 3)."""
    pixels = array if array.dtype == np.uint8 else np.rint(array * 255.0).astype(np.uint8)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def find_rows(
    folder: Path,
    manifest: Manifest,
    place: str,
    test: Path | None,
    fashion: Callable[[], FashionMnist],
    step: Step,
) -> KnownRows | Missing:
    """The rows to show and to run.

    Args:
        folder: the artifact.
        manifest: of the artifact.
        place: how commands call it.
        test: a person's own; None for Fashion-MNIST's where the artifact was trained or verified on these.
        fashion: gives Fashion-MNIST.
        step: told how far the reading is.

    Raises:
        MissingError, DataError: the rows cannot be read, or do not fit the files.
        UsageError: rows of one's own for an artifact without exported files, which would do nothing.
    """
    if test is not None:
        if ONNX not in manifest.files:
            raise UsageError(
                f"--test does nothing for {folder}, which holds no exported file to run them on; drop it, or run: "
                f"toolkit export {place} --test {test}"
            )
        return _own(manifest, test, step)
    if manifest.data is None or manifest.data.fashion_mnist:
        if manifest.data is not None or (manifest.training is not None and "Fashion-MNIST" in manifest.training.data):
            return _fashion(folder, manifest, fashion())
        return Missing(
            "The manifest does not say which rows the model was trained or tested on, and none were given.",
            f"toolkit report {place} --test FILE",
        )
    if manifest.data.test.endswith("random rows"):
        why = "The files were verified on random numbers, since no rows were given: these say nothing of the model."
    else:
        why = f"The files were verified on {manifest.data.test}, which an artifact does not hold."
    return Missing(why, f"toolkit report {place} --test FILE")


def _fashion(folder: Path, manifest: Manifest, data: FashionMnist) -> KnownRows:
    images: NDArray[Any] = data.test_images
    names = tuple(manifest.class_names or CLASS_NAMES)
    labels = data.test_labels.astype(np.int64)
    if not manifest.inputs:
        return KnownRows({"image": images}, labels, names, "Fashion-MNIST test set", data)
    given = manifest.inputs[0]
    images = images.reshape(len(images), *(int(size) for size in given.shape[1:]))
    if given.dtype == "float32":
        images = images.astype(np.float32)
        # Whether such a file takes pixels of 0 to 255 only the Keras model tells, which takes seconds to open.
        if not scales_pixels(open_model(source_path(folder, manifest))):
            images = images / np.float32(255)
    return KnownRows({given.name: images}, labels, names, "Fashion-MNIST test set", data)


def _own(manifest: Manifest, test: Path, step: Step) -> KnownRows:
    outputs = [TensorSpec(each.of or each.name, _sizes(each), each.dtype) for each in manifest.outputs]
    rows = read_rows(
        test,
        [TensorSpec(each.name, _sizes(each), each.dtype) for each in manifest.inputs],
        outputs,
        part="test",
        step=step,
    )
    labels = None
    for contract, spec in zip(manifest.outputs, outputs, strict=True):
        if contract.task in _LABELLED and spec.name in rows.targets:
            labels = targets_for(contract.task, rows.targets[spec.name], spec, rows.source).reshape(-1)
            break
    names = manifest.class_names or rows.class_names
    return KnownRows(rows.inputs, labels, tuple(names) if names else None, rows.source)


def _sizes(contract: TensorContract) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in contract.shape)
