"""What tests of benchmarks share: a small model, an artifact of it, and the schema of bench.json."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

import toolkit.benchmarking
from toolkit.predictor import MANIFEST_FORMAT

SCHEMA = json.loads((Path(toolkit.benchmarking.__file__).with_name("bench.schema.json")).read_text())


def write_tiny_model(path: Path, dtype: str = "uint8") -> Path:
    """One dense layer of 784 to 10 with softmax, on raw pixels (or on floats)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    generator = np.random.default_rng(1)
    weights = numpy_helper.from_array(generator.normal(0, 1e-3, (784, 10)).astype(np.float32), "weights")
    bias = numpy_helper.from_array(np.zeros(10, np.float32), "bias")
    flat = numpy_helper.from_array(np.array([-1, 784], np.int64), "flat")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    given = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", given, ["batch", 28, 28])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [weights, bias, flat],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_artifact(folder: Path, model: Path) -> Path:
    """An artifact folder with two files; that both hold the same graph does not matter to a clock."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    files = {}
    for name, kind in (("model.onnx", "float32"), ("model.int8.onnx", "int8")):
        shutil.copy(model, folder / name)
        files[name] = {"kind": kind, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps({"format": MANIFEST_FORMAT, "versions": {}, "files": files}))
    return folder
