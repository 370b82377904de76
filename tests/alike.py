"""The reference model with channels that are alike: the same answers, bit for bit, and one weight scale a layer.

Training decides whether a layer of the reference differs enough between its channels to get a scale for each. What is
about the one form or the other takes this model, whichever artifact is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from tests.conftest import REFERENCE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LAYERS", "alike", "alike_onnx"]

LAYERS = ("hidden_1", "hidden_2", "output")


def alike(weights: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Kernels and biases, layer by layer, with each hidden unit's largest weight within a factor of two of the layer's.

    What a ReLU unit answers grows with its weights, and who listens to it listens as much less. By powers of two, so
    nothing is rounded. The last layer's channels, the classes, stay as they are: nobody is left to listen less.
    """
    changed = [array.copy() for array in weights]
    for at in range(0, len(changed) - 2, 2):
        largest = np.abs(changed[at]).max(axis=0)
        dead = largest == 0
        times = np.exp2(np.floor(np.log2(largest.max() / np.where(dead, largest.max(), largest))))
        times = times.astype(np.float32)
        changed[at] *= times
        changed[at + 1] *= times
        changed[at + 2] /= times[:, None]
    return changed


def alike_onnx(path: Path) -> Path:
    """As the float32 file."""
    model = onnx.load(REFERENCE / "model.onnx")
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = [f"{layer}/{part}" for layer in LAYERS for part in ("kernel", "bias")]
    for name, array in zip(names, alike([numpy_helper.to_array(stored[name]) for name in names]), strict=True):
        stored[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path
