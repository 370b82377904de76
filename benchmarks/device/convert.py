"""The reference model as LiteRT's experts would convert it, in a process of its own (TensorFlow stays in it).

    python -m benchmarks.device.convert FOLDER

writes FORM.tflite for each form, ``keras.npy`` (Keras' labels of the test images), and the int8 graph of both runtimes
with next to no arithmetic in it, ``cut.onnx`` and ``cut.tflite``.

Each file takes one image, the batch fixed at 1, as raw uint8 pixels where the form allows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.shared.common import REFERENCE
from benchmarks.shared.tflite import CALIBRATION, convert, save, saved_for
from toolkit.data import load

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
    images = data.train_images[:CALIBRATION]
    for form, source in saved_for(model, folder, 1).items():
        (folder / f"{form}.tflite").write_bytes(convert(source, form, images))
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    few = [keras.layers.Dense(NEURONS, activation="relu") for _ in dense[:-1]]
    last = keras.layers.Dense(dense[-1].units, activation="softmax")
    small = keras.Sequential([keras.Input((28, 28), name="image"), keras.layers.Flatten(), *few, last])
    save(small, folder / CUT, tf.TensorSpec((1, 28, 28), tf.float32, name="image"))
    (folder / f"{CUT}.tflite").write_bytes(convert(folder / CUT, "int8, uint8 in and out", images))
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


if __name__ == "__main__":
    main()
