"""A Keras image classifier to a float32 ONNX file that takes raw pixels."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from toolkit.conversion.metadata import ExportedFile, finish, write_metadata
from toolkit.errors import ModelError, UsageError
from toolkit.keras_model import import_keras
from toolkit.predictor import LOGITS, PROBABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["INPUT", "OPSET", "OUTPUTS", "export_float32", "quiet_converters"]

INPUT = "image"
OUTPUTS = {"probabilities": [PROBABILITIES], "logits": [LOGITS], "both": [PROBABILITIES, LOGITS]}
"""What an exported file can be asked to give."""

# The lowest opset whose Softmax and per-axis DequantizeLinear mean what today's do; older runtimes load it.
OPSET = 13


def export_float32(
    model: Any,
    path: Path,
    *,
    class_names: Sequence[str],
    source_sha256: str,
    input_dtype: str,
    output: str = "probabilities",
) -> ExportedFile:
    """Write a Keras image classifier as ONNX, with the preprocessing inside the graph.

    tf2onnx's own Keras door is broken for Keras 3, so the model goes through a ``tf.function`` with an explicit
    signature, which also keeps the batch dimension free and lets input and output be named.

    Args:
        model: takes float32 pixels divided by 255, gives probabilities of shape (batch, classes).
        path: the file to write.
        class_names: one a class.
        source_sha256: of the .keras file, kept in the metadata.
        input_dtype: "uint8" (raw pixels) or "float32" (the Keras model's own input).
        output: a key of `OUTPUTS`.

    Raises:
        UsageError: logits are asked of a model that does not end in a softmax.
        ModelError: the model has another shape of input or output, a weight that is no number, or an operator that
            cannot be converted.
    """
    check_contract(model, len(class_names))
    import_keras()
    import tensorflow as tf
    import tf2onnx

    signature = (tf.TensorSpec([None, *model.input_shape[1:]], getattr(tf, input_dtype), name=INPUT),)

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def forward(image: Any) -> Any:
        pixels = image if input_dtype == "float32" else tf.cast(image, tf.float32) / 255.0
        return {PROBABILITIES: model(pixels, training=False)}

    try:
        with quiet_converters():
            converted, _ = tf2onnx.convert.from_function(forward, input_signature=signature, opset=OPSET)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"tf2onnx cannot convert the model '{model.name}': {reason}") from error
    _free_batch(converted)
    _name_like_keras(converted, model)
    if output != "probabilities":
        _give_logits(converted, OUTPUTS[output])
    write_metadata(converted, class_names=class_names, source_sha256=source_sha256, quantization=None)
    return finish(converted, path, "float32")


def check_contract(model: Any, classes: int) -> None:
    """The model is an image classifier of the supported form, and every weight is a number.

    Raises:
        ModelError: it is not.
    """
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if shapes != ((None, 28, 28), (None, classes)):
        raise ModelError(
            f"the Keras model maps {shapes[0]} to {shapes[1]}; this version exports classifiers that map "
            f"(None, 28, 28) to (None, {classes})"
        )
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight)).all():
            raise ModelError(f"weight {weight.path} holds NaN or infinity; train the model again")


def _free_batch(model: onnx.ModelProto) -> None:
    """Give the free dimension its name, instead of a counter."""
    for value in (*model.graph.input, *model.graph.output):
        dimension = value.type.tensor_type.shape.dim[0]
        dimension.Clear()
        dimension.dim_param = "batch"


def _give_logits(model: onnx.ModelProto, wanted: Sequence[str]) -> None:
    """Make what goes into the softmax at the end an output, beside the probabilities or instead of them."""
    graph = model.graph
    softmax = next(node for node in graph.node if PROBABILITIES in node.output)
    if softmax.op_type != "Softmax":
        raise UsageError(
            f"the model ends in {softmax.op_type}, not in a Softmax, so it has no logits beside its answer; leave out "
            "--output"
        )
    inner = softmax.input[0]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [LOGITS if name == inner else name for name in names]
    logits = onnx.ValueInfoProto()
    logits.CopyFrom(graph.output[0])
    logits.name = LOGITS
    graph.output.append(logits)
    if PROBABILITIES not in wanted:
        graph.node.remove(softmax)
        graph.output.pop(0)


def _name_like_keras(model: onnx.ModelProto, keras_model: Any) -> None:
    """Name tensors and nodes after the Keras layers and weights that they come from, without counters.

    A weight's tensor gets the weight's own path, such as ``hidden_1/kernel``; everything else the layer's name and
    the operation's.
    """
    paths = {(w.shape, np.asarray(w).tobytes()): w.path for w in keras_model.weights}
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    taken = set(kept)
    renamed: dict[str, str] = {}

    def rename(name: str, wish: str) -> None:
        number, found = 1, wish
        while found in taken:
            number += 1
            found = f"{wish}_{number}"
        taken.add(found)
        renamed[name] = found

    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        rename(tensor.name, paths.get((array.shape, array.tobytes()), _plain(tensor.name, keras_model)))
    for node in model.graph.node:
        for output in node.output:
            if output not in kept:
                rename(output, _plain(output, keras_model))
    for tensor in model.graph.initializer:
        tensor.name = renamed[tensor.name]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        node.name = node.output[0]
    model.graph.name = keras_model.name


def _plain(name: str, keras_model: Any) -> str:
    """A converter's name without its counters and without the model's own name in front."""
    layers = {layer.name for layer in keras_model.layers}
    parts = []
    for part in re.sub(r"(__\d+)?(:\d+)?$", "", name).split("/"):
        bare = re.sub(r"_\d+$", "", part)
        if bare != keras_model.name:
            parts.append(bare if bare in layers else part)
    return "/".join(parts)


@contextmanager
def quiet_converters() -> Iterator[None]:
    """Hold back what tf2onnx and the quantizer log below an error; they log through the root logger too."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
