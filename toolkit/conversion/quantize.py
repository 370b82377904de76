"""Float32 ONNX to int8, by the runtime's own quantizer and two small edits around it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from toolkit.conversion.keras_to_onnx import INPUT, quiet_converters
from toolkit.conversion.metadata import ExportedFile, finish, write_metadata
from toolkit.conversion.saturation import layer_loads, portable_overrides
from toolkit.errors import InputError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.recipe import QuantizationRecipe

__all__ = ["QuantizationResult", "quantize"]

_BATCH = 100
_CALIBRATIONS = {"minmax": CalibrationMethod.MinMax}


@dataclass(frozen=True)
class QuantizationResult:
    """The int8 file, and the dtype, scale and zero point of each quantized tensor by name."""

    file: ExportedFile
    tensors: dict[str, dict[str, Any]]


def quantize(
    source: Path,
    target: Path,
    recipe: QuantizationRecipe,
    calibration: NDArray[Any],
    *,
    class_names: Sequence[str],
    source_sha256: str,
) -> QuantizationResult:
    """Quantize an exported float32 file to int8 in QDQ form, standard operators only.

    Weights are int8, symmetric, with portable scales unless the recipe says otherwise. Static: activations are uint8
    by min-max over the calibration images; logits and softmax stay float, so probabilities are not rounded to steps of
    1/255. An 8-bit image is the quantized form of image/255 (scale 1/255, zero point 0), so the first activation gets
    exactly these parameters and the graph takes the raw pixels as they are: no cast, no multiplication and no
    QuantizeLinear at the input.

    Args:
        source: float32 file made by `export_float32`.
        target: the file to write.
        recipe: method and calibration.
        calibration: training images in the file's own input dtype, shape (n, 28, 28); not used by "dynamic".
        class_names: kept in the metadata.
        source_sha256: of the .keras file, kept in the metadata.

    Raises:
        InputError: calibration images of the wrong shape, or none.
        ModelError: the quantizer fails, or nothing in the model can be quantized.
    """
    # Beside the target: a full disk is then the one that the person was told of.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, quiet_converters():
        prepared, raw = Path(scratch) / "prepared.onnx", Path(scratch) / "raw.onnx"
        try:
            if recipe.method == "dynamic":
                quantize_dynamic(
                    source,
                    raw,
                    per_channel=recipe.per_channel,
                    weight_type=QuantType.QInt8,
                    extra_options={"TensorQuantOverrides": _weight_scales(onnx.load(source), recipe)},
                )
            else:
                # Turns MatMul + Add into Gemm, which the runtime then fuses to QGemm (onnxruntime#10278).
                quant_pre_process(source, prepared, skip_symbolic_shape=True)
                _quantize_static(prepared, raw, recipe, calibration)
        except (InputError, OSError):  # a full disk is not the model's fault
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"the quantizer failed on {source.name}: {reason}") from error
        model = onnx.load(raw)
    if recipe.method == "static":
        _take_raw_pixels(model)
    tensors = _quantized_tensors(model)
    if not tensors:
        raise ModelError(f"nothing in {source.name} could be quantized; export it without --quantize")
    risky = [layer.layer for layer in layer_loads(model) if layer.can_saturate]
    if recipe.portable and risky:
        raise ModelError(
            f"sums of {', '.join(risky)} can saturate on some CPUs in spite of portable scales; this is a bug, please "
            "report this model (--no-portable exports it all the same)"
        )
    write_metadata(model, class_names=class_names, source_sha256=source_sha256, quantization=recipe.method)
    return QuantizationResult(finish(model, target, "int8"), tensors)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Feeds calibration images to the quantizer in small batches."""

    def __init__(self, images: NDArray[Any]) -> None:
        self._batches: Iterator[NDArray[Any]] = (images[i : i + _BATCH] for i in range(0, len(images), _BATCH))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _quantize_static(source: Path, target: Path, recipe: QuantizationRecipe, images: NDArray[Any]) -> None:
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise InputError(f"calibration images have shape {images.shape}, expected (n, 28, 28) with n of 1 or more")
    prepared = onnx.load(source)
    first = next((n.input[0] for n in prepared.graph.node if n.op_type in ("Gemm", "MatMul")), None)
    if first is None:
        raise ModelError(f"nothing in {source.name} could be quantized; export it without --quantize")
    pixels = {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(0, np.uint8)}
    quantize_static(
        source,
        target,
        _Reader(images),
        quant_format=QuantFormat.QDQ,
        # Activations uint8, weights int8: the pairing that every CPU of the runtime has a fast kernel for.
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=recipe.per_channel,
        calibrate_method=_CALIBRATIONS[recipe.calibration],
        # Relu is an operator of its own here so that its output is what is quantized. Gemm's own output is not: the
        # runtime drops a Relu before a QuantizeLinear with zero point 0, and the last Gemm's logits stay float.
        # A layer without bias stays a MatMul.
        op_types_to_quantize=["Gemm", "MatMul", "Relu"],
        extra_options={
            "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            "TensorQuantOverrides": {first: [pixels], **_weight_scales(prepared, recipe)},
        },
    )


def _weight_scales(model: onnx.ModelProto, recipe: QuantizationRecipe) -> dict[str, list[dict[str, Any]]]:
    return portable_overrides(model, per_channel=recipe.per_channel) if recipe.portable else {}


def _take_raw_pixels(model: onnx.ModelProto) -> None:
    """Where the input runs Cast, times 1/255, Reshape, QuantizeLinear(1/255, 0), only the Reshape does anything.

    Round(x / 255 * 255) is x for each of the 256 pixel values, so the other three are dropped.
    """
    graph = model.graph
    if graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return
    chain, tensor = [], graph.input[0].name
    for wanted in ("Cast", "Mul", "Reshape", "QuantizeLinear"):
        users = [node for node in graph.node if tensor in node.input]
        if len(users) != 1 or users[0].op_type != wanted:
            raise ModelError(
                f"the input does not run through Cast, Mul, Reshape and QuantizeLinear ({wanted} missing), which "
                "static int8 needs; use --quantize dynamic"
            )
        chain.append(users[0])
        tensor = users[0].output[0]
    cast, scaling, reshape, quantizer = chain
    reshape.input[0] = graph.input[0].name
    reshape.output[0] = quantizer.output[0]
    for node in (cast, scaling, quantizer):
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor_proto in list(graph.initializer):
        if tensor_proto.name not in used:
            graph.initializer.remove(tensor_proto)


def _quantized_tensors(model: onnx.ModelProto) -> dict[str, dict[str, Any]]:
    """dtype, scale and zero point of each tensor behind a DequantizeLinear, or of each dynamic weight."""
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found: dict[str, dict[str, Any]] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            zero = arrays[node.input[2]]
            name = node.output[0].removesuffix("_DequantizeLinear_Output")
            found[name] = _tensor(arrays[node.input[1]], zero)
        elif node.op_type == "MatMulInteger":
            name = node.input[1].removesuffix("_quantized")
            found[name] = _tensor(arrays[f"{name}_scale"], arrays[node.input[3]])
    return dict(sorted(found.items()))


def _tensor(scale: NDArray[Any], zero_point: NDArray[Any]) -> dict[str, Any]:
    return {"dtype": zero_point.dtype.name, "scale": scale.tolist(), "zero_point": zero_point.tolist()}
