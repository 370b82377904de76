"""Writes keras.npz: what Keras says of some test images, for tests that run without TensorFlow.

    python -m tests.golden.make          (part of `make reference`)

Two images a class, taken where Keras is sure of itself by some margin: the labels are then a fair demand on an int8
file as well, on any CPU.
"""

from pathlib import Path

import numpy as np

from toolkit.data import load
from toolkit.keras_model import open_model
from toolkit.verification.parity import margins

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Write the file beside this one."""
    data = load()
    model = open_model(ROOT / "exported" / "fashion-mnist" / "model.keras")
    (probabilities,) = model.answers({"image": data.test_images.astype("float32") / 255}).values()
    sure = margins("classification", probabilities)[:, 0] > 0.2
    chosen = np.concatenate([np.flatnonzero(sure & (probabilities.argmax(axis=1) == c))[:2] for c in range(10)])
    np.savez_compressed(
        Path(__file__).with_name("keras.npz"),
        indices=chosen,
        images=data.test_images[chosen],
        probabilities=probabilities[chosen],
    )


if __name__ == "__main__":
    main()
