"""Small ONNX files of many kinds, written in a moment: what the device side has to serve."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# In ONNX's own text form (onnx.parser): inputs, outputs, constants, nodes.
TWO = """(float[n,4,3] image, int32[n,2] rows) => (float[n,1] brightness, float[n,3] kind) <int64[1] one = {1}> {
    flat = Flatten <axis = 1> (image)
    brightness = ReduceMean <axes = [1], keepdims = 1> (flat)
    counts = Cast <to = 1> (rows)
    total = ReduceSum <keepdims = 1> (counts, one)
    columns = ReduceMean <axes = [1], keepdims = 0> (image)
    logits = Mul (columns, total)
    kind = Softmax <axis = 1> (logits)
}"""
FIXED = """(float[4,6] x) => (float[4,3] probabilities) <int64[3] shape = {4, 3, 2}, int64[1] two = {2}> {
    square = Reshape (x, shape)
    sums = ReduceSum <keepdims = 0> (square, two)
    probabilities = Softmax <axis = 1> (sums)
}"""
FREE = """(float[n,length,2] signal) => (float[n,2] probabilities) {
    peak = ReduceMax <axes = [1], keepdims = 0> (signal)
    probabilities = Softmax <axis = 1> (peak)
}"""
TOKENS = """(int32[n,3] tokens) => (float[n,2] answer)
    <float[5,2] table = {0, 1, 4, 0, 0, 3, 2, 0, 0, 9}> {
    found = Gather (table, tokens)
    sums = ReduceMean <axes = [1], keepdims = 0> (found)
    answer = Softmax <axis = 1> (sums)
}"""
BINARY = """(float[n,4] x) => (float[n,1] yes) {
    mean = ReduceMean <axes = [1], keepdims = 1> (x)
    yes = Sigmoid (mean)
}"""
MULTILABEL = "(float[n,4] x) => (float[n,4] answers) { answers = Sigmoid (x) }"
AUTOENCODER = "(float[n,4] x) => (float[n,4] again) { again = Tanh (x) }"
LOGITS = "(float[n,4] x) => (float[n,4] kind) { kind = Neg (x) }"
PICTURE = """(uint8[n,8,6,3] picture) => (float[n,3] colour) {
    pixels = Cast <to = 1> (picture)
    colour = ReduceMean <axes = [1, 2], keepdims = 0> (pixels)
}"""


def write(
    path: Path,
    text: str,
    *,
    inputs: Mapping[str, Sequence[float]] | None = None,
    outputs: Mapping[str, tuple[str, Sequence[float] | None]] | None = None,
    class_names: Sequence[str] | None = None,
    quantization: str | None = None,
) -> Path:
    """Write a graph as a file.

    Args:
        path: of the file.
        text: the graph.
        inputs: ranges for the contract, by name; other inputs have none.
        outputs: (task, range) for the contract, by name; None: no contract at all, as in someone else's file.
        class_names: as in the file's metadata.
        quantization: the same.
    """
    model = onnx.parser.parse_model(f'<ir_version: 7, opset_import: ["": 13]> small {text}')
    onnx.checker.check_model(model, full_check=True)
    facts: dict[str, Any] = {}
    if outputs is not None or inputs is not None:
        contract = {
            "inputs": [{"name": i.name, "range": (inputs or {}).get(i.name)} for i in model.graph.input],
            "outputs": [{"name": name, "task": task, "range": r} for name, (task, r) in (outputs or {}).items()],
        }
        facts["toolkit.contract"] = json.dumps(contract)
    if class_names is not None:
        facts["toolkit.class_names"] = json.dumps(list(class_names))
    if quantization is not None:
        facts["toolkit.quantization"] = quantization
    onnx.helper.set_model_props(model, facts)
    path.write_bytes(model.SerializeToString())
    return path
