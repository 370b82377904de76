"""What Keras 2 did differently, by layer: names, settings and functions that Keras 3 lost or changed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HARD_SIGMOID", "RENAMED", "TF_FUNCTION", "keras2_objects", "plain_layer"]

HARD_SIGMOID = "keras2_hard_sigmoid"
TF_FUNCTION = "TFOpLambda"

RENAMED = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "LSTMV1": "LSTM",
    "GRUV1": "GRU",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "DenseFeaturesV2": "DenseFeatures",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Model": "Functional",
    "Network": "Functional",
    "SlicingOpLambda": TF_FUNCTION,
}
_GONE = {
    "CuDNNLSTM": "its weights are laid out for a GPU library",
    "CuDNNGRU": "its weights are laid out for a GPU library",
    "LocallyConnected1D": "Keras 3 has no such layer",
    "LocallyConnected2D": "Keras 3 has no such layer",
    "TensorFlowOpLayer": "it is a raw TensorFlow operation",
    "DenseFeatures": "Keras 3 has no such layer",
    "ConvLSTM2DCell": "Keras 3 has no such layer",
}
# Settings that Keras 3 does not know, with the values that say nothing. None: every value does.
_SAYS_NOTHING: dict[str, tuple[Any, ...] | None] = {
    "time_major": (False, None),
    "ragged": (False, None),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "softmax_robust_masking": (False,),
    "fused": None,
    "implementation": None,
    "input_length": None,
    "query_shape": None,
    "key_shape": None,
    "value_shape": None,
    "experimental_autocast": None,
    "autocast": None,
}


def plain_layer(kind: str, config: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """A layer of Keras 2 in the words of Keras 3, with the same answers.

    Args:
        kind: its class.
        config: its settings; changed.
        where: how errors call it.

    Returns:
        The class and the settings.

    Raises:
        ModelError: Keras 3 has nothing that does the same.
    """
    kind = RENAMED.get(kind, kind)
    if kind in _GONE:
        raise ModelError(
            f"{where}: a layer of type {kind} cannot be opened ({_GONE[kind]}); export the model as a SavedModel with "
            "the TensorFlow that wrote it, and give that folder"
        )
    _drop_what_says_nothing(kind, config, where)
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config["axis"] = config["axis"][0]
    dtype = config.get("dtype")
    if isinstance(dtype, dict) and dtype.get("class_name") in ("Policy", "PolicyV1"):
        config["dtype"] = dtype["config"]["name"]
    if kind == "Lambda":
        _plain_lambda(config)
    if kind == "GRU":
        config.setdefault("reset_after", False)  # what it was before there was the setting
    if kind == "ThresholdedReLU":
        kind, config["threshold"] = "ReLU", config.pop("theta")
    for key in [key for key in config if key.endswith("activation")]:
        config[key] = _plain_activation(config[key])
    return kind, config


def _drop_what_says_nothing(kind: str, config: dict[str, Any], where: str) -> None:
    if "Conv" in kind and config.get("groups") == 1:
        del config["groups"]  # Keras 2 writes it for every kind of convolution; only some of Keras 3's know it
    for name, values in _SAYS_NOTHING.items():
        if name not in config or (kind == "InputLayer" and name == "ragged"):
            continue
        value = config.pop(name)
        if values is not None and value not in values:
            raise ModelError(
                f"{where}: {name}={value!r} has no counterpart in Keras 3; save the model without it, or export it as "
                "a SavedModel with the TensorFlow that wrote it"
            )


def _plain_activation(value: Any) -> Any:
    """The name of an activation; the one of which Keras 3 changed the meaning gets its old one.

    Keras 2: clip(0.2 x + 0.5); Keras 3: clip(x / 6 + 0.5). It is the default gate of old LSTM and GRU layers.
    """
    name = value["config"] if isinstance(value, dict) and value.get("class_name") == "function" else value
    if name == "hard_sigmoid":
        return {"class_name": "function", "config": HARD_SIGMOID}
    return value.removesuffix("_v2") if isinstance(value, str) else value  # tf.nn.softmax was written as softmax_v2


def _plain_lambda(config: dict[str, Any]) -> None:
    """Code in the file, for those who allow it to be run."""
    for name in ("function_type", "module", "output_shape_type", "output_shape_module"):
        config.pop(name, None)
    for name in ("function", "output_shape"):
        value = config.get(name)
        if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
            code = dict(zip(("code", "defaults", "closure"), value, strict=True))
            config[name] = {"class_name": "__lambda__", "config": code}
        elif name == "function" and isinstance(value, str):
            config[name] = {"class_name": "function", "config": value}


# Functions of TensorFlow that compute from tensors alone. Files name them freely, and others write files.
_FUNCTIONS = frozenset(
    """
    abs add cast clip_by_value concat convert_to_tensor exp expand_dims gather identity matmul maximum minimum
    multiply negative ones_like pad pow reduce_max reduce_mean reduce_min reduce_sum repeat reshape round shape
    sigmoid sign slice split sqrt square squeeze stack strided_slice subtract tanh tile transpose unstack where
    zeros_like compat.v1.squeeze compat.v1.transpose compat.v1.shape compat.v1.gather compat.v1.pad
    compat.v1.nn.softmax image.resize image.per_image_standardization linalg.l2_normalize linalg.matmul
    linalg.normalize math.abs math.add math.add_n math.argmax math.cos math.divide math.divide_no_nan math.equal
    math.exp math.floor math.greater math.greater_equal math.l2_normalize math.less math.less_equal math.log
    math.log1p math.log_sigmoid math.logical_and math.logical_not math.logical_or math.maximum math.minimum
    math.multiply math.negative math.pow math.reciprocal math.reduce_all math.reduce_any math.reduce_logsumexp
    math.reduce_max math.reduce_mean math.reduce_min math.reduce_prod math.reduce_std math.reduce_sum
    math.reduce_variance math.round math.rsqrt math.scalar_mul math.sigmoid math.sign math.sin math.softmax
    math.softplus math.sqrt math.square math.squared_difference math.subtract math.tanh math.truediv nn.avg_pool2d
    nn.bias_add nn.conv2d nn.depth_to_space nn.elu nn.gelu nn.l2_normalize nn.leaky_relu nn.log_softmax
    nn.max_pool2d nn.relu nn.relu6 nn.selu nn.sigmoid nn.silu nn.softmax nn.softplus nn.space_to_depth nn.swish
    nn.tanh
    """.split()  # noqa: SIM905 - a list of words is read more easily so
)
_OPERATORS = {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "neg", "getitem", "lt", "le", "gt"}
_REFLECTED = {"radd", "rsub", "rmul", "rtruediv", "rpow"}


@cache
def keras2_objects() -> dict[str, Any]:
    """Stand-ins, for Keras' loader, for what Keras 3 no longer has: the old hard sigmoid, TensorFlow's functions."""
    import keras
    import tensorflow as tf

    def keras2_hard_sigmoid(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)

    class TFOpLambda(keras.Operation):  # type: ignore[misc]  # keras is untyped
        """A call of a TensorFlow function on Keras tensors, as Keras 2 kept it."""

        def __init__(self, function: str, name: str, **_: Any) -> None:
            super().__init__(name=name)
            self.function = function
            self._call = _function(tf, function)

        def call(self, *args: Any, **kwargs: Any) -> Any:
            return self._call(*args, **kwargs)

    return {HARD_SIGMOID: keras2_hard_sigmoid, TF_FUNCTION: TFOpLambda}


def _function(tf: Any, name: str) -> Callable[..., Any]:
    import operator

    head, _, last = name.rpartition(".")
    if head == "__operators__" and last in _OPERATORS:
        plain = getattr(operator, last)
        if last == "getitem":
            return lambda x, slice_spec: x[_slices(slice_spec)]
        return lambda x, y=None, **_: plain(x) if y is None else plain(x, y)
    if head == "__operators__" and last in _REFLECTED:
        plain = getattr(operator, last.removeprefix("r"))
        return lambda x, y, **_: plain(y, x)
    if name not in _FUNCTIONS:
        raise ModelError(f"the model calls tf.{name[:80]}, which is not on the list of functions that are run")
    found = tf
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]  # tensorflow is untyped


def _slices(spec: Any) -> Any:
    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return slice(value.get("start"), value.get("stop"), value.get("step"))
        return value

    return tuple(one(value) for value in spec) if isinstance(spec, list | tuple) else one(spec)
