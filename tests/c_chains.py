"""Chains of dense layers as int8 files, by the real quantizer in a moment, and their C code as a library."""

from __future__ import annotations

import ctypes
import itertools
import json
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolkit.c_code.example import main_c, makefile
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.conversion.logits import with_logits
from toolkit.conversion.quantize import quantize
from toolkit.conversion.recipe import QuantizationRecipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.c_code.chain import Chain
    from toolkit.c_code.source import CSource

__all__ = ["WARNINGS", "Library", "int8_chain", "runtime_answers", "write_files"]

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
ROWS = 400


def rows_of(dtype: str, width: int, seed: int = 5) -> NDArray[Any]:
    """Rows that a chain of `int8_chain` takes, (n, width)."""
    random = np.random.default_rng(seed)
    if dtype == "float32":
        return random.normal(0.3, 1.0, (ROWS, width)).astype(np.float32)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max + 1, (ROWS, width)).astype(dtype)


def int8_chain(
    folder: Path,
    sizes: Sequence[int],
    *,
    dtype: str = "uint8",
    activation: str = "Relu",
    end: str | None = "Softmax",
    task: str = "classification",
    per_channel: bool = False,
    change: Mapping[str, NDArray[Any]] | None = None,
) -> tuple[bytes, NDArray[Any]]:
    """A static int8 file of random dense layers, and rows for it.

    Args:
        folder: an empty folder to work in.
        sizes: of the input and each layer.
        dtype: of the input; raw integers are divided by 255.
        activation: ONNX operator between layers, "" for none.
        end: operator behind the last.
        task: what metadata says the output is.
        per_channel: one weight scale an output.
        change: other weights, by initializer name, before quantizing.
    """
    random = np.random.default_rng(3)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {}
    tensor = "x"
    if dtype != "float32":
        constants["step"] = np.float32(1 / 255)
        nodes += [helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.FLOAT)]
        nodes += [helper.make_node("Mul", ["whole", "step"], ["scaled"])]
        tensor = "scaled"
    for at, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
        last = at == len(sizes) - 1
        constants[f"layer_{at}/kernel"] = random.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        constants[f"layer_{at}/bias"] = random.normal(0, 0.2, outputs).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [tensor, f"layer_{at}/kernel"], [f"layer_{at}/MatMul"]))
        tensor = "y" if last and end is None else f"layer_{at}/BiasAdd"
        nodes.append(helper.make_node("Add", [f"layer_{at}/MatMul", f"layer_{at}/bias"], [tensor]))
        if activation and not last:
            nodes.append(_activation(activation, tensor, f"layer_{at}/{activation}", constants))
            tensor = f"layer_{at}/{activation}"
    if end is not None:
        nodes.append(helper.make_node(end, [tensor], ["y"]))
    constants.update(change or {})
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["n", sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", sizes[-1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {
        "toolkit.contract": json.dumps(
            {
                "inputs": [{"name": "x", "dtype": dtype, "range": None}],
                "outputs": [{"name": "y", "task": task, "range": None}],
            }
        ),
    }
    if task == "classification":
        facts["toolkit.class_names"] = json.dumps([f"class {number}" for number in range(sizes[-1])])
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, folder / "float32.onnx")
    rows = rows_of(dtype, sizes[0])
    recipe = QuantizationRecipe(per_channel=per_channel)
    quantize(folder / "float32.onnx", folder / "model.int8.onnx", recipe, [{"x": rows}])
    return (folder / "model.int8.onnx").read_bytes(), rows


def _activation(operator: str, tensor: str, output: str, constants: dict[str, Any]) -> onnx.NodeProto:
    if operator == "Clip":
        constants.update(low=np.float32(0), high=np.float32(0.25))
        return helper.make_node("Clip", [tensor, "low", "high"], [output])
    return helper.make_node(operator, [tensor], [output])


def runtime_answers(data: bytes, rows: NDArray[Any]) -> NDArray[np.float32]:
    """What onnxruntime gives before a softmax or sigmoid, (n, outputs)."""
    import onnxruntime

    copy = with_logits(data, "model.int8.onnx")
    session = onnxruntime.InferenceSession(copy.data, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([copy.output], {session.get_inputs()[0].name: rows})[0]
    return found.reshape(len(found), -1)


def write_files(data: bytes, folder: Path, name: str = "test-model") -> tuple[Chain, CSource]:
    """All four C files of an int8 file."""
    chain = read_chain(data)
    source = write_source(chain, name)
    texts = {
        "model.c": source.code,
        "model.h": source.header,
        "main.c": main_c(chain, source),
        "model.mk": makefile(source),
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="ascii")
    return chain, source


class Library:
    """model.c of a folder, compiled and loaded."""

    def __init__(self, folder: Path, source: CSource, *flags: str) -> None:
        target = folder / "model.so"
        command = ["gcc", "-std=c99", "-shared", "-fPIC", *WARNINGS, *(flags or ("-O2",)), "-o", str(target)]
        subprocess.run([*command, str(folder / "model.c"), "-lm"], check=True)
        library = ctypes.CDLL(str(target))
        self.source = source
        self.answer = library[f"{source.name}_{source.answer}"]
        self.classify = library[f"{source.name}_classify"] if source.decides else None
        self.classify_in = library[f"{source.name}_classify_in"] if source.decides else None

    def answers(self, rows: NDArray[Any], outputs: int, *, offset: int = 0) -> NDArray[np.float32]:
        """Each row's floats; rows and floats lie `offset` bytes off any alignment."""
        found = np.empty((len(rows), outputs), np.float32)
        taken = ctypes.create_string_buffer(rows[0].nbytes + 64)
        given = ctypes.create_string_buffer(4 * outputs + 64)
        for at, row in enumerate(rows):
            ctypes.memmove(ctypes.addressof(taken) + offset, row.tobytes(), row.nbytes)
            self.answer(
                ctypes.c_void_p(ctypes.addressof(taken) + offset), ctypes.c_void_p(ctypes.addressof(given) + offset)
            )
            found[at] = (
                np.frombuffer(given.raw, np.float32, outputs)
                if not offset
                else np.frombuffer(given.raw[offset : offset + 4 * outputs], np.float32)
            )
        return found

    def labels(self, rows: NDArray[Any]) -> NDArray[np.int64]:
        """What NAME_classify says."""
        assert self.classify is not None
        return np.array([self.classify(row.tobytes()) for row in rows])
