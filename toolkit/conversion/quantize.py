"""Float32 ONNX to int8, int4 or float16, by the runtime's own quantizers and small edits around them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from toolkit.conversion.bias import InputMeans, correct_biases
from toolkit.conversion.calibration import METHOD_OF, calibrate
from toolkit.conversion.edits import part_activations, raw_form, take_raw_input
from toolkit.conversion.layers import float_nodes, float_weights, quantized_nodes, weighted_layers
from toolkit.conversion.metadata import ExportedFile, copy_metadata, finish
from toolkit.conversion.routes import quiet_converters
from toolkit.conversion.saturation import layer_loads, portable_overrides
from toolkit.errors import InputError, ModelError, ToolkitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.recipe import QuantizationRecipe

__all__ = ["QuantizationResult", "quantize"]

INT4_BLOCK = 32
"""Weights that share a scale in an int4 file. On the reference model 32 costs 4 % more bytes than 128 and keeps 98.9 %
of Keras' labels instead of 98.0 %."""


PER_CHANNEL_GAIN = 4
"""A dense layer gets one scale an output, asked for or not, where that makes the steps of its middle output this much
finer: two bits of eight. A batch normalization folded into weights does that: in the autoencoder of MLPerf Tiny (ad01)
four layers gain 2.6 to 3.3 bits, and a quarter of their weights became 0. 65 layers of 33 kinds of models without
such a fold gain 1.4 at most; for these one scale is as good, and faster (0.56 against 0.66 of float32's time)."""


@dataclass(frozen=True)
class QuantizationResult:
    """A quantized file.

    Attributes:
        file: as it stands on disk.
        tensors: dtype, scale and zero point of each quantized tensor by name.
        kept_float: Keras layers whose weights stayed in float.
        warnings: what calibration found doubtful, each with what follows.
    """

    file: ExportedFile
    tensors: dict[str, dict[str, Any]]
    kept_float: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def quantize(
    source: Path,
    target: Path,
    recipe: QuantizationRecipe,
    calibration: Iterable[dict[str, NDArray[Any]]],
    *,
    layers: Sequence[str] = (),
) -> QuantizationResult:
    """Quantize an exported float32 file.

    int8 files are in QDQ form, standard operators only. Weights are int8, symmetric, with portable scales unless the
    recipe says otherwise; those of convolutions have one scale a channel, whose ranges differ by orders of magnitude
    once a batch normalization is folded in, and which cost the runtime nothing there. Static: activations are uint8,
    their ranges from calibration; what no layer in 8 bits takes stays float, so answers are not rounded to 256 steps.
    A raw uint8 input is the quantized form of what the graph makes of it where that is its scale and a whole zero
    point: then the first activation gets exactly these parameters and the graph takes the raw values as they are, with
    no cast, no multiplication and no QuantizeLinear at the input. int4 files use the runtime's own operator
    MatMulNBits.

    Args:
        source: float32 file made by `export_float32`.
        target: the file to write.
        recipe: method and calibration.
        calibration: training data as the file's own inputs by name, in batches; read once, and only by "static".
        layers: the Keras model's layers.

    Raises:
        InputError: calibration data of the wrong shape or dtype, or none.
        UsageError: a layer to keep in float that is not there, or that leaves nothing to quantize.
        ModelError: the quantizer fails, or nothing in the model can be quantized.
    """
    graph = onnx.load(source)
    if not weighted_layers(graph):
        raise _nothing(source, graph, layers)
    model, constant = _quantized(source, graph, recipe, calibration, target.parent)
    if recipe.method == "static":
        take_raw_input(model)
        part_activations(model)
    tensors = _halves(model) if recipe.method == "float16" else _quantized_tensors(model)
    if not tensors:
        raise _nothing(source, model, layers)
    risky = [layer.layer for layer in layer_loads(model) if layer.can_saturate]
    if recipe.portable and risky:
        raise ModelError(
            f"sums of {', '.join(risky)} can saturate on some CPUs in spite of portable scales; this is a bug, please "
            "report this model (--no-portable exports it all the same)"
        )
    copy_metadata(graph, model, recipe.method)
    warnings = [
        f"{name} never changed in calibration, so its layer's answer will be a constant; check the calibration data "
        "and the training"
        for name in constant
    ]
    kept = [] if recipe.method == "float16" else float_weights(model, layers)
    return QuantizationResult(finish(model, target, recipe.kind), tensors, kept, warnings)


def _nothing(source: Path, graph: onnx.ModelProto, layers: Sequence[str]) -> ModelError:
    kept = float_weights(graph, layers)
    why = f" ({', '.join(kept)} run in float alone)" if kept else ""
    return ModelError(f"nothing in {source.name} could be quantized{why}; export it without --quantize")


def _quantized(
    source: Path,
    graph: onnx.ModelProto,
    recipe: QuantizationRecipe,
    calibration: Iterable[dict[str, NDArray[Any]]],
    folder: Path,
) -> tuple[onnx.ModelProto, list[str]]:
    """What the runtime's quantizer makes of a graph, and the activations that calibration saw never change."""
    constant: list[str] = []
    # Beside the target: a full disk is then the one that the person was told of.
    with tempfile.TemporaryDirectory(dir=folder) as scratch, quiet_converters():
        raw = Path(scratch) / "raw.onnx"
        try:
            match recipe.method:
                case "static":
                    constant = _static(source, raw, recipe, _checked(calibration, graph))
                case "dynamic":
                    _dynamic(graph, raw, recipe)
                case "int4":
                    _int4(graph, raw, recipe)
                case "float16":
                    _float16(graph, raw, recipe)
        except (ToolkitError, OSError):  # a full disk is not the model's fault
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"the quantizer failed on {source.name}: {reason}") from error
        return onnx.load(raw), constant


def _checked(batches: Iterable[dict[str, NDArray[Any]]], model: onnx.ModelProto) -> Iterable[dict[str, NDArray[Any]]]:
    """The batches, each held against the model's inputs."""
    inputs = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = tuple(d.dim_value or None for d in kind.shape.dim)
        inputs[value.name] = (np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape)
    for batch in batches:
        for name, (dtype, shape) in inputs.items():
            if name not in batch:
                raise InputError(f"calibration data lacks the input {name!r}, it has {', '.join(batch)}; add it")
            found = batch[name]
            fits = found.ndim == len(shape) and all(w in (None, g) for w, g in zip(shape, found.shape, strict=True))
            if not fits or found.dtype != dtype or len(found) == 0:
                wanted = ", ".join("n" if size is None else str(size) for size in shape)
                raise InputError(
                    f"calibration data for {name!r} is {found.dtype} of shape {found.shape}, expected {dtype} of shape "
                    f"({wanted}) with n of 1 or more; calibrate with what the model was trained on"
                )
        yield batch


def _static(
    source: Path, target: Path, recipe: QuantizationRecipe, batches: Iterable[dict[str, NDArray[Any]]]
) -> list[str]:
    prepared, cache = target.with_name("prepared.onnx"), target.with_name("ranges.json")
    # Turns MatMul + Add into Gemm, which the runtime then fuses to QGemm (onnxruntime#10278).
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node {number}"
    onnx.save(model, prepared)
    chosen = quantized_nodes(model, recipe.keep_float)
    operators = sorted({node.op_type for node in model.graph.node if node.name in chosen})
    means = InputMeans(model)
    constant = calibrate(prepared, cache, recipe, _watched(batches, means), operators)
    weighted = {name for names in weighted_layers(model).values() for name in names}
    taken = {node.input[0]: raw_form(model, node.input[0]) for node in model.graph.node if node.name in weighted}
    raw = {name: [found.parameters] for name, found in taken.items() if found is not None and found.parameters}
    quantize_static(
        prepared,
        target,
        None,
        quant_format=QuantFormat.QDQ,
        # Activations uint8, weights int8: the pairing that every CPU of the runtime has a fast kernel for.
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=recipe.reduce_range,
        calibrate_method=METHOD_OF[recipe.calibration],
        calibration_cache_path=cache,
        op_types_to_quantize=operators,
        nodes_to_quantize=chosen,
        extra_options={
            # The runtime drops a Relu before a QuantizeLinear with zero point 0, and the last Gemm's logits stay float.
            "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            "TensorQuantOverrides": raw | _weight_scales(model, recipe, depthwise=True),
        },
    )
    if recipe.bias_correction:
        quantized = onnx.load(target)
        correct_biases(quantized, model, means)
        onnx.save(quantized, target)
    return [name for name in constant if name in taken]


def _watched(batches: Iterable[dict[str, NDArray[Any]]], means: InputMeans) -> Iterator[dict[str, NDArray[Any]]]:
    for batch in batches:
        means.add(batch)
        yield batch


def _dynamic(model: onnx.ModelProto, target: Path, recipe: QuantizationRecipe) -> None:
    # The integer operator of a Conv knows one scale only, whatever the quantizer is told.
    scales = _weight_scales(model, recipe, depthwise=False)
    dense = [node.input[1] for node in model.graph.node if node.op_type == "MatMul"]
    if any("axis" in entry for name in dense for entry in scales.get(name, [])):
        # This quantizer knows one scale a channel for all dense layers or for none.
        recipe = replace(recipe, per_channel=True)
        scales = _weight_scales(model, recipe, depthwise=False)
    quantize_dynamic(
        model,
        target,
        # Of the runtime's own operators (LSTM, attention) the standard knows nothing.
        op_types_to_quantize=["Conv", "MatMul"],
        per_channel=recipe.per_channel,
        reduce_range=recipe.reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[*float_nodes(model, recipe.keep_float), *_of_other_floats(model)],
        extra_options={"TensorQuantOverrides": scales},
    )


def _of_other_floats(model: onnx.ModelProto) -> list[str]:
    """Nodes that compute in float16 or float64, whose ranges the runtime does not take as they run."""
    others = {t.name for t in model.graph.initializer if t.data_type in (TensorProto.FLOAT16, TensorProto.DOUBLE)}
    return [node.name for node in model.graph.node if others & {*node.input}]


def _int4(model: onnx.ModelProto, target: Path, recipe: QuantizationRecipe) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    # The runtime's own operator: as DequantizeLinear + MatMul, the standard form, the reference model takes 25 times
    # as long, since the runtime unpacks the weights anew in each run. Level 4 computes in int8, twice as fast as float.
    config = DefaultWeightOnlyQuantConfig(block_size=INT4_BLOCK, is_symmetric=True, accuracy_level=4)
    quantizer = MatMulNBitsQuantizer(model, nodes_to_exclude=float_nodes(model, recipe.keep_float), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(target))


def _float16(model: onnx.ModelProto, target: Path, recipe: QuantizationRecipe) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = float_nodes(model, recipe.keep_float)
    halved = OnnxModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked))
    halved.topological_sort()  # casts around what stays in float are added at the end
    onnx.save(halved.model, target)


def _weight_scales(
    model: onnx.ModelProto, recipe: QuantizationRecipe, *, depthwise: bool
) -> dict[str, list[dict[str, Any]]]:
    """What the quantizer is told of each weight: its scales where they are portable, else the axis of its channels.

    Args:
        model: with the nodes as the quantizer will see them.
        recipe: see there.
        depthwise: convolutions have one scale a channel, whatever the recipe says; else they have one in any case.
    """
    whole, fine = (portable_overrides(model, per_channel=each, integer=not depthwise) for each in (False, True))
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if name not in whole:
            continue
        if node.op_type == "Conv":
            overrides[name] = (fine if depthwise else whole)[name]
        else:
            gained = whole[name][0]["scale"] / np.median([entry["scale"] for entry in fine[name]])
            overrides[name] = (fine if recipe.per_channel or gained >= PER_CHANNEL_GAIN else whole)[name]
    if recipe.portable:
        return overrides
    return {
        name: [{"axis": entries[0]["axis"]}] for name, entries in overrides.items() if "axis" in entries[0]
    }  # fmt: skip


def _quantized_tensors(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """dtype, scale and zero point of each tensor behind a DequantizeLinear, or of each dynamic weight.

    Blocks of an int4 weight have too many scales to list, so there it is their size.
    """
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found: dict[str, dict[str, Any]] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            zero = arrays[node.input[2]]
            name = node.output[0].removesuffix("_DequantizeLinear_Output")
            found[name] = _tensor(arrays[node.input[1]], zero)
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            name = node.input[1].removesuffix("_quantized")
            zero = arrays[node.input[3]] if len(node.input) > 3 else np.zeros((), np.int8)
            found[name] = _tensor(arrays[f"{name}_scale"], zero)
        elif node.op_type == "MatMulNBits":
            found[node.input[1].removesuffix("_Q4")] = {"dtype": "int4", "block_size": INT4_BLOCK}
    return dict(sorted(found.items()))


def _halves(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    names = sorted(t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16)
    return {name: {"dtype": "float16"} for name in names}


def _tensor(scale: NDArray[Any], zero_point: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": zero_point.dtype.name, "scale": scale.tolist(), "zero_point": zero_point.tolist()}
