"""A model of 28x28 pixels in one layer, so that numpy can say what to expect of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"kind {letter}" for letter in "abcdefghij"]
IMAGES = np.random.default_rng(1).integers(0, 256, (50, 28, 28), np.uint8)
WEIGHTS = (np.random.default_rng(2).normal(size=(784, 10)) / 2000).astype(np.float32)


def tiny_model(path: Path, dtype: str = "uint8", names: list[str] | None = NAMES, weights: Any = WEIGHTS) -> Path:
    """784 to 10 in one layer, written as a file."""
    from onnx import TensorProto, helper, numpy_helper, save

    given = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", given, ["batch", 28, 28])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if names:
        helper.set_model_props(model, {"toolkit.class_names": json.dumps(names)})
    save(model, path)
    return path


def expected(images: Any) -> Any:
    """The probabilities, of shape (n, 10)."""
    logits = images.reshape(-1, 784).astype(np.float64) @ WEIGHTS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
