"""What an exported file says of itself, so that a lone ``.onnx`` still works in the predictor."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from toolkit import __version__
from toolkit.conversion.compatibility import has_static_layers, lowest_runtime
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from toolkit.conversion.contract import FileInput

__all__ = ["ExportedFile", "OutputContract", "copy_metadata", "finish", "write_metadata"]

# The first IR version whose models may hold an opset: the table in onnx/helper.py, VERSION_TABLE.
_IR_BY_OPSET = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8}


@dataclass(frozen=True)
class ExportedFile:
    """An ONNX file as it stands on disk.

    Attributes:
        path: where it is.
        kind: "float32", "int8", "int4" or "float16".
        opset: version of the standard ONNX operators that it needs.
        ir_version: version of the file format.
        operators: how often each operator occurs, by name.
        onnxruntime: the first release that loads it and answers as later ones do (see `lowest_runtime`).
    """

    path: Path
    kind: str
    opset: int
    ir_version: int
    operators: dict[str, int]
    onnxruntime: str


@dataclass(frozen=True)
class OutputContract:
    """One output of an exported file: name, dtype, task (see `toolkit.conversion.tasks`), range of values if bounded.

    The range of classes is [0, 1] for probabilities and None for logits.
    """

    name: str
    dtype: str
    task: str
    range: list[float] | None


def write_metadata(
    model: onnx.ModelProto,
    *,
    inputs: Sequence[FileInput],
    outputs: Sequence[OutputContract],
    class_names: Sequence[str] | None,
    source_sha256: str,
    quantization: str | None,
) -> None:
    """Put class names, contract, toolkit version and source hash into ``metadata_props``."""
    contract = {
        "inputs": [{"name": given.name, "dtype": given.dtype, "range": given.range} for given in inputs],
        "outputs": [dataclasses.asdict(output) for output in outputs],
    }
    facts = {
        "toolkit.version": __version__,
        "toolkit.contract": json.dumps(contract),
        "toolkit.source_sha256": source_sha256,
    }
    if class_names is not None:
        facts["toolkit.class_names"] = json.dumps(list(class_names))
    if quantization is not None:
        facts["toolkit.quantization"] = quantization
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, facts)


def copy_metadata(source: onnx.ModelProto, model: onnx.ModelProto, quantization: str) -> None:
    """The float32 file's facts for the file that was quantized from it."""
    facts = {entry.key: entry.value for entry in source.metadata_props if entry.key.startswith("toolkit.")}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**facts, "toolkit.quantization": quantization})


def finish(model: onnx.ModelProto, path: Path, kind: str) -> ExportedFile:
    """Set the lowest versions that the graph needs, check it in full and write it.

    Raises:
        ModelError: the graph uses operators outside the ONNX standard (but for int4's MatMulNBits), or fails
            ``onnx.checker``.
    """
    model.producer_name, model.producer_version = "toolkit", __version__
    runtime_only = any(node.op_type == "MatMulNBits" for node in model.graph.node)
    foreign = sorted({n.domain for n in model.graph.node if n.op_type != "MatMulNBits"} - {"", "ai.onnx"})
    if foreign:
        raise ModelError(
            f"the graph uses operators outside the ONNX standard ({', '.join(foreign)}); simplify the model"
        )
    model.graph.doc_string = ""  # the converter counts its functions there
    # Converters declare every domain they know; only the standard one is used.
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    if runtime_only:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    model.ir_version = _IR_BY_OPSET[opset]
    # Shapes noted before an edit are stale after it; the checker infers them anew.
    del model.graph.value_info[:]
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the exported {kind} graph is not valid ONNX ({reason}); please report this model") from error
    own_operators = ["MatMulNBits"] if runtime_only else []
    floor, because = lowest_runtime(
        {"": opset}, model.ir_version, own_operators, static_layers=has_static_layers(model)
    )
    if floor is None:
        raise ModelError(f"which onnxruntime loads the {kind} file is not known: {because}; please report this model")
    path.write_bytes(model.SerializeToString(deterministic=True))
    operators = dict(sorted(Counter(node.op_type for node in model.graph.node).items()))
    return ExportedFile(path, kind, opset, model.ir_version, operators, floor)
