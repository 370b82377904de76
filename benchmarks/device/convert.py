"""The reference model as LiteRT's experts would convert it, in a process of its own (TensorFlow stays in it).

    python -m benchmarks.device.convert FOLDER

writes FORM.tflite for each form, ``keras.npy`` (Keras' labels of the test images), and the int8 graph of both runtimes
with next to no arithmetic in it, ``cut.onnx`` and ``cut.tflite``.

Each file takes one image, the batch fixed at 1 (a free one adds operators that work out shapes), as raw uint8 pixels
where the form allows: the division by 255 is in the graph, as in our files. The models are exported as SavedModel
first, since the converter gives wrong ones from a concrete function over a Keras 3 model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.shared.common import REFERENCE
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

CUT, NEURONS = "cut", 4
"""Name of the files of the same graph with so few neurons a layer that the arithmetic in it takes no time."""


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

    def convert(source: str, form: str) -> bytes:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / source))
        if form != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form.startswith("int8"):
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            kind = tf.uint8 if "uint8" in form else tf.int8
            converter.inference_input_type = converter.inference_output_type = kind
        return bytes(converter.convert())

    for form in FORMS:
        (folder / f"{form}.tflite").write_bytes(convert("scaled" if form.startswith("int8") else "raw", form))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    few = [keras.layers.Dense(NEURONS, activation="relu") for _ in dense[:-1]]
    last = keras.layers.Dense(dense[-1].units, activation="softmax")
    small = keras.Sequential([keras.Input((28, 28), name="image"), keras.layers.Flatten(), *few, last])
    _export(small, folder / CUT, tf.TensorSpec((1, 28, 28), tf.float32, name="image"))
    (folder / f"{CUT}.tflite").write_bytes(convert(CUT, "int8, uint8 in and out"))
    _cut({layer.units for layer in dense[:-1]}, folder / f"{CUT}.onnx")


def _cut(sizes: set[int], target: Path) -> None:
    """Our int8 file with a few neurons left in each hidden layer."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(REFERENCE / "model.int8.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        for axis, size in enumerate(array.shape):
            if size in sizes:
                array = np.take(array, range(NEURONS), axis=axis)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    del model.graph.value_info[:]  # shapes of what is between
    onnx.save(model, target)


def _export(model: Any, folder: Path, signature: Any) -> None:
    model.export(str(folder), format="tf_saved_model", verbose=False, input_signature=[signature])


if __name__ == "__main__":
    main()
