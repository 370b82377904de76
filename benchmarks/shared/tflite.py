"""The reference model in LiteRT's forms, as its experts would convert it (by TensorFlow: in processes that end)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CALIBRATION", "FORMS", "convert", "save", "saved_for"]

FORMS = {
    "float32": "float32",
    "dynamic range": "int8 weights, float32 activations",
    "int8, uint8 in and out": "full integer, calibrated on 1,000 training images",
    "int8, int8 in and out": "the same; the pixel minus 128 is the caller's to take",
}
CALIBRATION = 1000
"""How many training images `FORMS` speaks of."""


def saved_for(model: Any, folder: Path, batch: int) -> dict[str, Path]:
    """SavedModels of the model with a fixed batch, which adds no operators that work out shapes.

    They go through a SavedModel since the converter gives wrong files from a concrete function over a Keras 3 model.

    Args:
        model: of Keras; it takes float32 of shape (n, 28, 28), 0 to 1.
        folder: where they go.
        batch: rows of each run.

    Returns:
        The folder for each form: the division by 255 is in the graph where the form allows raw pixels.
    """
    import tensorflow as tf

    from toolkit.keras_model import import_keras

    keras = import_keras()
    raw = keras.Input((28, 28), batch_size=batch, dtype="uint8", name="image")
    with_scaling = keras.Model(raw, model(keras.layers.Rescaling(1 / 255)(raw)))
    places = folder / f"raw-{batch}", folder / f"scaled-{batch}"
    save(with_scaling, places[0], tf.TensorSpec((batch, 28, 28), tf.uint8, name="image"))
    save(model, places[1], tf.TensorSpec((batch, 28, 28), tf.float32, name="image"))
    return {form: places[form.startswith("int8")] for form in FORMS}


def save(model: Any, folder: Path, signature: Any) -> None:
    """A model of Keras as SavedModel with one signature."""
    model.export(str(folder), format="tf_saved_model", verbose=False, input_signature=[signature])


def convert(source: Path, form: str, images: NDArray[np.uint8], batch: int = 1) -> bytes:
    """One .tflite file.

    Args:
        source: a SavedModel from `saved_for`.
        form: one of `FORMS`.
        images: training images that show the full integer forms the ranges of activations: whole batches.
        batch: as the SavedModel has it.
    """
    import tensorflow as tf

    def representative() -> Iterator[list[Any]]:
        for at in range(0, len(images), batch):
            yield [images[at : at + batch].astype(np.float32) / 255]

    converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.startswith("int8"):
        converter.representative_dataset = representative
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        kind = tf.uint8 if "uint8" in form else tf.int8
        converter.inference_input_type = converter.inference_output_type = kind
    return bytes(converter.convert())
