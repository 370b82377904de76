"""The reference model as LiteRT's experts would convert it, in a process of its own (TensorFlow stays in it).

    python -m benchmarks.device.convert FOLDER

writes FORM.tflite for each form, and ``keras.npy``: Keras' labels of the test images.

Each file takes one image, the batch fixed at 1 (a free one adds operators that work out shapes), as raw uint8 pixels
where the form allows: the division by 255 is in the graph, as in our files. The models are exported as SavedModel
first, since the converter gives wrong ones from a concrete function over a Keras 3 model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.device.common import REFERENCE
from toolkit.data import load

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMS = {
    "float32": "float32",
    "dynamic range": "int8 weights, float32 activations",
    "int8, uint8 in and out": "full integer, calibrated on 1,000 training images",
    "int8, int8 in and out": "the same; the pixel minus 128 is the caller's to take",
}
CALIBRATION = 1000


def main() -> None:
    """Convert all forms."""
    from toolkit.keras_model import import_keras

    folder = Path(sys.argv[1])
    keras = import_keras()
    import tensorflow as tf

    data = load()
    model = keras.models.load_model(REFERENCE / "model.keras")
    labels = model.predict(data.test_images.astype(np.float32) / 255, batch_size=1000, verbose=0).argmax(axis=1)
    np.save(folder / "keras.npy", labels)
    raw = keras.Input((28, 28), batch_size=1, dtype="uint8", name="image")
    with_scaling = keras.Model(raw, model(keras.layers.Rescaling(1 / 255)(raw)))
    _export(with_scaling, folder / "raw", tf.TensorSpec((1, 28, 28), tf.uint8, name="image"))
    _export(model, folder / "scaled", tf.TensorSpec((1, 28, 28), tf.float32, name="image"))

    def representative() -> Iterator[list[Any]]:
        for image in data.train_images[:CALIBRATION]:
            yield [image[None].astype(np.float32) / 255]

    for form in FORMS:
        integer = form.startswith("int8")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / ("scaled" if integer else "raw")))
        if form != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if integer:
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            kind = tf.uint8 if "uint8" in form else tf.int8
            converter.inference_input_type = converter.inference_output_type = kind
        (folder / f"{form}.tflite").write_bytes(converter.convert())


def _export(model: Any, folder: Path, signature: Any) -> None:
    model.export(str(folder), format="tf_saved_model", verbose=False, input_signature=[signature])


if __name__ == "__main__":
    main()
