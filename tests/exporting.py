"""Keras models as float32 ONNX files without the pipeline around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.conversion.contract import FileInput, Scaling, file_inputs
from toolkit.conversion.keras_to_onnx import Exported, Wishes, export_float32
from toolkit.data import CLASS_NAMES
from toolkit.keras_model.source import SourceModel, from_keras

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PIXELS", "PIXEL_CLASSES", "answers_to", "export_model", "inputs_of"]

PIXELS = Scaling("uint8", 1 / 255, 0.0)
"""Pixels as Fashion-MNIST has them, for a model that was trained on them divided by 255."""

PIXEL_CLASSES = Wishes(class_names=CLASS_NAMES, usual_names=True)
"""What the pipeline asks of a model of Fashion-MNIST."""


def inputs_of(model: Any, scaling: Scaling | None = None) -> tuple[SourceModel, list[FileInput]]:
    """A Keras model as a source, and what its file takes."""
    source = from_keras(model)
    return source, file_inputs(source, scaling)


def export_model(model: Any, path: Path, scaling: Scaling | None = None, wishes: Wishes | None = None) -> Exported:
    """A Keras model as a float32 file."""
    source, inputs = inputs_of(model, scaling)
    return export_float32(source, path, inputs, wishes or Wishes(), source_sha256="0" * 64)


def answers_to(model: Any, rows: dict[str, NDArray[Any]], scaling: Scaling | None = None) -> dict[str, NDArray[Any]]:
    """What Keras itself says to rows as the file takes them, by output name."""
    source, inputs = inputs_of(model, scaling)
    return source.answers({given.name: given.to_keras(rows[given.name]) for given in inputs})
