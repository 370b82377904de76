"""Ways to break an artifact, so that tests can see each gate go red."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolkit.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable


def copy_of(artifact: Path, folder: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(artifact, folder / "broken"))


def repin(artifact: Path) -> None:
    """Make the manifest describe the files as they are, so that a gate must find what a hash no longer does."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = sha256_of(artifact / name)
    path.write_text(json.dumps(manifest))


def edit(artifact: Path, name: str, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change one exported model and let the manifest agree."""
    model = onnx.load(artifact / name)
    change(model)
    onnx.checker.check_model(model)
    onnx.save(model, artifact / name)
    repin(artifact)


def _tensor(model: onnx.ModelProto, ending: str) -> onnx.TensorProto:
    (found,) = (t for t in model.graph.initializer if t.name.endswith(ending))
    assert isinstance(found, onnx.TensorProto)
    return found


def _replace(tensor: onnx.TensorProto, array: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def perturb_one_weight(model: onnx.ModelProto) -> None:
    tensor = _tensor(model, "hidden_2/kernel")
    array = numpy_helper.to_array(tensor).copy()
    array[7, 3] += 0.05
    _replace(tensor, array)


def put_nan(model: onnx.ModelProto) -> None:
    tensor = _tensor(model, "output/bias")
    array = numpy_helper.to_array(tensor).copy()
    array[0] = np.nan
    _replace(tensor, array)


def swap_two_labels(model: onnx.ModelProto) -> None:
    """Exchange two similar classes (pullover and coat) in the output layer, as a wrong label order would."""
    for ending in ("output/kernel", "output/bias", "output/kernel_quantized", "output/bias_quantized"):
        for tensor in model.graph.initializer:
            if tensor.name.endswith(ending):
                array = numpy_helper.to_array(tensor).copy()
                array[..., [2, 4]] = array[..., [4, 2]]
                _replace(tensor, array)


def depend_on_batch(model: onnx.ModelProto) -> None:
    """Let the other images of a batch leak into an image's answer."""
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    logits = softmax.input[0]
    at = list(model.graph.node).index(softmax)
    model.graph.node.insert(at, helper.make_node("ReduceMean", [logits], ["leak"], axes=[0], keepdims=1))
    model.graph.node.insert(at + 1, helper.make_node("Sub", [logits, "leak"], ["leaked"]))
    softmax.input[0] = "leaked"


def scramble_int8(model: onnx.ModelProto) -> None:
    """Turn the signs of a part of the first layer's weights, as a damaged conversion might."""
    tensor = _tensor(model, "hidden_1/kernel_quantized")
    array = numpy_helper.to_array(tensor).copy()
    chosen = np.random.default_rng(0).random(array.shape) < 0.2
    array[chosen] = -array[chosen]
    _replace(tensor, array)
