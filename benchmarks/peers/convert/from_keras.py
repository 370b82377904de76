"""What the other steps begin with, by Keras and its own exporters (in the project's environment).

    python -m benchmarks.peers.convert.from_keras FOLDER

writes ``keras.npy`` (Keras' labels), ``test.npy`` (raw test images), ``calibration.npy`` (raw training images),
``weights.npz`` (each layer's), ``float.onnx`` (Keras' own ONNX export: float32 in, any batch) and .tflite files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.shared.common import REFERENCE
from benchmarks.shared.tflite import FORMS, convert, saved_for
from toolkit.data import load

BATCH = 256
CALIBRATION = 4 * BATCH
"""Training images that every quantizer but ours is shown; ours has its own recipe."""


def main() -> None:
    """Write them all."""
    from toolkit.keras_model import import_keras

    folder = Path(sys.argv[1])
    model = import_keras().models.load_model(REFERENCE / "model.keras")
    data = load()
    shown = data.train_images[:CALIBRATION]
    np.save(folder / "test.npy", data.test_images)
    np.save(folder / "calibration.npy", shown)
    answers = model.predict(data.test_images.astype(np.float32) / 255, batch_size=1000, verbose=0)
    np.save(folder / "keras.npy", answers.argmax(axis=1))
    np.savez(folder / "weights.npz", *[weight.numpy() for weight in model.weights])
    model.export(str(folder / "float.onnx"), format="onnx", verbose=False)
    for batch in (1, BATCH):
        for form, source in saved_for(model, folder, batch).items():
            if form in list(FORMS)[:3]:
                name = f"{form.split(',')[0]}.{batch}.tflite"
                (folder / name).write_bytes(convert(source, form, shown, batch))


if __name__ == "__main__":
    main()
