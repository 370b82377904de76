"""Ranges of activations from calibration images, by the runtime's own calibrators, a batch at a time."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data

from toolkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.recipe import QuantizationRecipe

__all__ = ["METHOD_OF", "calibrate", "suspicions"]

METHOD_OF = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
FEW_IMAGES = 32
"""Fewer are worth a warning."""


def calibrate(
    model: Path,
    cache: Path,
    recipe: QuantizationRecipe,
    batches: Iterable[dict[str, NDArray[Any]]],
    operators: Sequence[str],
) -> list[str]:
    """Run every batch through the float model and write the ranges as the quantizer's calibration cache.

    The runtime's calibrators keep all activations of one call until its end, so each call is given one batch: memory
    does not grow with the number of images (onnxruntime#10503).

    Args:
        model: the float32 file, pre-processed.
        cache: the file to write.
        recipe: calibration method and percentile.
        batches: inputs by name, first axis the batch.
        operators: types whose inputs and outputs are wanted.

    Returns:
        Names of activations that never changed, in graph order.

    Raises:
        InputError: there was no batch.
    """
    # The entropy and percentile calibrators print what they do.
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch, contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            model,
            list(operators),
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=METHOD_OF[recipe.calibration],
            # Both tails are cut where they are; a Relu has only one.
            extra_options={"percentile": recipe.percentile, "symmetric": False},
        )
        reader = _OneBatch()
        for batch in batches:
            reader.batch = batch
            calibrator.collect_data(reader)
        if reader.batch is not None or not reader.given:
            raise InputError("calibration was given no images, expected 1 or more; give some, or quantize dynamically")
        ranges = calibrator.compute_data()
    save_tensors_data(ranges, cache)
    return [name for name, found in ranges.items() if np.min(found.lowest) == np.max(found.highest)]


class _OneBatch(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Gives the batch that was put into it, once."""

    def __init__(self) -> None:
        self.batch: dict[str, NDArray[Any]] | None = None
        self.given = 0

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch, self.batch = self.batch, None
        self.given += batch is not None
        return batch


def suspicions(images: NDArray[Any], labels: NDArray[Any] | None) -> list[str]:
    """What about a calibration set makes its ranges doubtful, each with what follows.

    Args:
        images: shape (n, ...), n of 1 or more.
        labels: of the images, shape (n,), if known.
    """
    found = []
    clipped = "values that real inputs reach beyond the ranges seen will be clipped"
    if len(images) < FEW_IMAGES:
        found.append(f"calibration sees {len(images)} images, expected {FEW_IMAGES} or more: {clipped}")
    first = images[:1]
    if len(images) > 1 and all(np.array_equal(images[i : i + 1], first) for i in range(1, len(images))):
        found.append(f"all {len(images)} calibration images are the same one: {clipped}")
    elif all(float(np.min(image)) == float(np.max(image)) for image in images):
        found.append(f"every calibration image is of one single value: {clipped}")
    if labels is not None and len(labels) > 1 and len(np.unique(labels)) == 1:
        found.append(f"all calibration images are of one class: what other classes excite, {clipped}")
    return found
