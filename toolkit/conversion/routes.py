"""The two ways from a Keras model to an ONNX graph: tf2onnx, and Keras' own export where that fails.

tf2onnx's own Keras door (``from_keras``) is broken for Keras 3, so the model goes through a ``tf.function`` with an
explicit signature, which also keeps the batch dimension free and lets inputs and outputs be named. A SavedModel holds
constants that ``from_function`` loses, so its function is frozen first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from toolkit.conversion.naming import layer_of
from toolkit.errors import ModelError
from toolkit.keras_model import import_keras

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.keras_model.source import SourceModel

__all__ = ["OPSETS", "Converted", "convert", "quiet_converters"]

OPSETS = (13, 15, 17)
"""The first that holds a graph is taken: 13 is the lowest whose Softmax and per-axis DequantizeLinear mean what today's
do, and older runtimes load it."""


@dataclass(frozen=True)
class Converted:
    """A graph and how it came to be.

    Attributes:
        model: as the converter left it; inputs and outputs have the source's names.
        route: "tf2onnx" or "Keras export".
        refused: what the first route said, where the second was taken.
    """

    model: onnx.ModelProto
    route: str
    refused: str | None = None


def convert(source: SourceModel) -> Converted:
    """A model as an ONNX graph, by the first route that gives one which the runtime opens.

    Raises:
        ModelError: none does; names the layer and the operation where they are known.
    """
    import_keras()
    try:
        return Converted(_by_tf2onnx(source), "tf2onnx")
    except ModelError as error:
        first = error
    if source.keras is not None:
        with contextlib.suppress(ModelError):
            return Converted(_by_keras(source), "Keras export", str(first))
    raise first


def _by_tf2onnx(source: SourceModel) -> onnx.ModelProto:
    failure: ModelError | None = None
    function = _graph_function(source)
    for opset in OPSETS:
        try:
            model = _tf2onnx(source, function, opset)
            _check_operators(model, source)
            _check_opens(model, source)
        except ModelError as error:
            failure = failure or error
        else:
            return model
    raise failure or ModelError(f"the model '{source.name}' was not converted")


def _graph_function(source: SourceModel) -> Any:
    import tensorflow as tf

    signature = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in source.inputs]
    names = [spec.name for spec in source.inputs]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def forward(*given: Any) -> Any:
        return source.call(dict(zip(names, given, strict=True)))

    return forward


def _tf2onnx(source: SourceModel, forward: Any, opset: int) -> onnx.ModelProto:
    import tf2onnx

    try:
        with quiet_converters(), _inner_functions_inlined():
            if source.kind == "saved_model":
                return _from_frozen(forward, source, opset)
            signature = forward.input_signature
            model: onnx.ModelProto = tf2onnx.convert.from_function(
                forward, input_signature=signature, opset=opset, custom_op_handlers=_handlers()
            )[0]
    except ModelError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"tf2onnx cannot convert the model '{source.name}': {reason}") from error
    return model


@contextmanager
def _inner_functions_inlined() -> Iterator[None]:
    """Let functions inside the model add their operations to the graph that calls them.

    Keras compiles a grouped convolution for itself, as a function of its own, which no converter looks into. Tracing
    runs it as plain Python instead.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _from_frozen(forward: Any, source: SourceModel, opset: int) -> onnx.ModelProto:
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = forward.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    given = [tensor.name for tensor in frozen.inputs if tensor.dtype.name != "resource"]
    answers = [tensor.name for tensor in frozen.outputs]
    model: onnx.ModelProto = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=given, output_names=answers, opset=opset,
        custom_op_handlers=_handlers(),
    )[0]  # fmt: skip
    wanted = {name: name.split(":", maxsplit=1)[0] for name in given}
    # A dict's outputs come in the order of its keys.
    wanted |= dict(zip(answers, sorted(spec.name for spec in source.outputs), strict=True))
    rename_tensors(model, wanted)
    return model


def _by_keras(source: SourceModel) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(prefix="toolkit-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            with quiet_converters(), contextlib.redirect_stdout(io.StringIO()):
                source.keras.export(path, format="onnx", verbose=False)
            model = onnx.load(path)
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"Keras cannot export the model '{source.name}': {reason}") from error
    given, answers = [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    wanted: dict[str, str] = {}
    for found, specs in ((given, source.inputs), (answers, source.outputs)):
        names = [spec.name for spec in specs]
        if len(found) != len(names):
            raise ModelError(f"Keras exports {len(found)} tensors of '{source.name}', expected {', '.join(names)}")
        # It keeps the order, and names only where there are several.
        wanted |= {} if set(found) == set(names) else dict(zip(found, names, strict=True))
    rename_tensors(model, wanted)
    _check_operators(model, source)
    _check_opens(model, source)
    return model


def rename_tensors(model: onnx.ModelProto, wanted: dict[str, str]) -> None:
    """Give tensors other names, wherever they stand in the graph."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = wanted.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [wanted.get(name, name) for name in names]


def _check_operators(model: onnx.ModelProto, source: SourceModel) -> None:
    """tf2onnx leaves an operation that it does not know in the graph as it is."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, opset):
            continue
        layer = layer_of(node.name, source.layers) or layer_of(node.output[0], source.layers)
        where = f"layer '{layer}'" if layer else f"'{node.name}'"
        raise ModelError(
            f"{where} of the model '{source.name}' uses the TensorFlow operation {node.op_type}, which has no ONNX "
            "form here; replace that layer by one of standard operations"
        )


def _check_opens(model: onnx.ModelProto, source: SourceModel) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no base of their own
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the converted model '{source.name}' is not opened by the runtime: {reason}") from error


def _handlers() -> dict[str, Any]:
    """Operations that tf2onnx does not know and that are easily said in those that it does."""

    def erfc(context: Any, node: Any, name: str, _: Any) -> None:
        # Keras' gelu: erfc(x) = 1 - erf(x).
        out = node.output[0]
        shape, dtype = context.get_shape(out), context.get_dtype(out)
        erf = context.make_node("Erf", [node.input[0]], name=f"{name}/erf")
        one = context.make_const(f"{name}/one", np.array(1, onnx.helper.tensor_dtype_to_np_dtype(dtype)))
        context.remove_node(node.name)
        context.make_node(
            "Sub", [one.output[0], erf.output[0]], outputs=[out], shapes=[shape], dtypes=[dtype], name=f"{name}/sub"
        )

    return {"Erfc": (erfc, [])}


@contextmanager
def quiet_converters() -> Iterator[None]:
    """Hold back what tf2onnx and the quantizer log; what matters is raised. They log through the root logger too."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
