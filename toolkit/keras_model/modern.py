"""The configuration of a saved model, of Keras 2 or 3, in the one form that Keras 3 reads without guessing.

Files differ by what wrote them: ``.h5`` files name classes without modules, so Keras 3 does not find its own operations
in them; files of Keras 2 count the calls of a nested model from one, keep tensors in another form, and have settings
that Keras 3 refuses. Parts that only training needs (initializers, regularizers, constraints, compilation) are left
out: every weight comes from the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.errors import ModelError
from toolkit.keras_model.keras2 import TF_FUNCTION, plain_layer
from toolkit.keras_model.trust import builtin_class

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["modern_config"]

_TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
_REWRITTEN = ("class_name", "config", "module", "registered_name", "compile_config")
_CONSTANT = "_CONSTANT_VALUE"


def modern_config(config: Any, custom: Mapping[str, Any], *, keras2: bool, shown: object) -> dict[str, Any]:
    """Rewrite a model's configuration; the original is not changed.

    Args:
        config: what the file holds, parsed from JSON.
        custom: what the user named; such classes get their settings as they are.
        keras2: written by Keras 1 or 2.
        shown: how errors call the file.

    Returns:
        The configuration that `keras.saving.deserialize_keras_object` takes.

    Raises:
        ModelError: it is no model's configuration, or has what Keras 3 cannot do.
    """
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str) or "config" not in config:
        raise ModelError(f"{shown} holds no model's configuration; give a whole model, saved with model.save")
    try:
        rewritten: dict[str, Any] = _Rewriter(custom, keras2, shown).entry(config)
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{shown}: its configuration is not one that Keras writes ({type(error).__name__}: {error}); save the "
            "model again"
        ) from error
    return rewritten


class _Rewriter:
    def __init__(self, custom: Mapping[str, Any], keras2: bool, shown: object) -> None:
        self.custom = custom
        self.keras2 = keras2
        self.shown = shown

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "class_name" in value and "config" in value:
            return self.entry(value)
        return {key: self.value(item) for key, item in value.items()}

    def entry(self, entry: dict[str, Any]) -> Any:
        """One object: a layer, a model, a function, a tensor."""
        kind, config = entry["class_name"], entry["config"]
        rest = {k: v for k, v in entry.items() if k not in _REWRITTEN}
        if kind in ("__numpy__", "__ndarray__"):
            return config["value"]  # only ever a number in a setting
        if kind in ("function", "__keras_tensor__") or not isinstance(config, dict | list):
            return {**rest, "module": "builtins", "class_name": kind, "config": config}
        registered = entry.get("registered_name")
        if kind in self.custom or registered in self.custom:
            name = registered if registered in self.custom else kind
            return {**rest, "module": None, "registered_name": name, "class_name": kind, "config": self.value(config)}
        if isinstance(config, list):  # a Sequential model of Keras 2.1 or older
            config = {"name": "sequential", "layers": config}
        config = {k: v for k, v in config.items() if not k.endswith(_TRAINING_ONLY)}
        if self.keras2:
            rest.pop("build_config", None)
            where = f"{self.shown}, layer '{config.get('name', kind)}'"
            if isinstance(config.get("name"), str):
                config["name"] = _plain_name(config["name"])
            kind, config = plain_layer(kind, config, where)
        config = self.settings(kind, config)
        if "name" in rest:
            rest["name"] = config.get("name", rest["name"])
        renamed = {**rest, "class_name": kind, "config": config}
        if self.keras2 and kind == TF_FUNCTION:
            return {**renamed, "module": None, "registered_name": TF_FUNCTION}
        found = builtin_class(renamed if self.keras2 else {**renamed, "module": entry.get("module")})
        return {**renamed, "module": found[1] if found else None}

    def settings(self, kind: str, config: dict[str, Any]) -> dict[str, Any]:
        if kind == "InputLayer" and "batch_input_shape" in config:
            config["batch_shape"] = config.pop("batch_input_shape")
        if "layers" in config and "input_layers" in config:
            return self.functional(config)
        if isinstance(config.get("layers"), list):
            return {**config, "layers": self.sequence(config["layers"])}
        for key in [k for k in config if k.endswith("activation")]:
            config[key] = self.activation(config[key])
        return {k: self.value(v) for k, v in config.items()}

    def activation(self, value: Any) -> Any:
        """A function of the user's by name, in the form in which Keras looks for it among custom objects."""
        if isinstance(value, str) and value in self.custom:
            return {"class_name": "function", "config": value}
        return value

    def sequence(self, layers: list[Any]) -> list[Any]:
        """A Sequential model's layers; the first says the input's shape in an InputLayer."""
        first = layers[0]["config"] if layers and isinstance(layers[0].get("config"), dict) else {}
        shape = first.get("batch_input_shape")
        result = []
        if shape is not None and layers[0]["class_name"] != "InputLayer" and "layers" not in first:
            name = f"{_plain_name(first.get('name', 'sequential'))}_input"
            dtype = "int32" if layers[0]["class_name"] == "Embedding" else "float32"
            config = {"batch_shape": shape, "dtype": dtype, "name": name}
            result.append({"module": "keras.layers", "class_name": "InputLayer", "config": config})
        for layer in layers:
            inner = layer["config"]
            if isinstance(inner, dict) and layer["class_name"] != "InputLayer":
                inner = {k: v for k, v in inner.items() if k != "batch_input_shape"}
            result.append(self.entry({**layer, "config": inner}))
        return result

    def functional(self, config: dict[str, Any]) -> dict[str, Any]:
        layers = config["layers"]
        first = _first_calls(layers, config) if self.keras2 else {}
        result = []
        for layer in layers:
            inner = layer["config"]
            if isinstance(inner, dict) and layer["class_name"] != "InputLayer":
                inner = {k: v for k, v in inner.items() if k != "batch_input_shape"}
            rewritten = self.entry({**layer, "config": inner})
            nodes = [self.node(node, first) for node in layer.get("inbound_nodes", [])]
            result.append({**rewritten, "name": _plain_name(layer["name"]), "inbound_nodes": nodes})
        # Keras 3 takes a nested functional model's own call off the count here, and only here.
        nested = {r["name"] for r in result if "input_layers" in _dict(r["config"])}

        def ends(value: Any) -> Any:
            if _is_reference(value):
                name = _plain_name(value[0])
                index = value[1] - first.get(value[0], 0) + (1 if self.keras2 and name in nested else 0)
                return [name, index, value[2]]
            if isinstance(value, dict):
                return {k: ends(v) for k, v in value.items()}
            return [ends(v) for v in value]

        return {
            **config,
            "layers": result,
            "input_layers": ends(config["input_layers"]),
            "output_layers": ends(config["output_layers"]),
        }

    def node(self, node: Any, first: Mapping[str, int]) -> Any:
        """One call of a layer, as arguments."""
        if isinstance(node, dict) and set(node) <= {"args", "kwargs"}:
            return {key: self.value(value) for key, value in node.items()}
        if not node:
            return {"args": [], "kwargs": {}}
        kwargs: dict[str, Any] = {}

        def tensors(value: Any) -> Any:
            if isinstance(value, list) and value and value[0] == _CONSTANT:
                kwargs.update(value[3] if len(value) > 3 else {})
                return value[2]
            if _is_reference(value):
                kwargs.update(value[3] if len(value) > 3 else {})
                return _tensor(value, first)
            if isinstance(value, dict):
                return {k: tensors(v) for k, v in value.items()}
            return [tensors(v) for v in value]

        given = tensors(node)
        if isinstance(given, list) and not _is_reference(node) and len(given) == 1:
            given = given[0]
        return {"args": [given], "kwargs": {k: self.argument(v, first) for k, v in kwargs.items()}}

    def argument(self, value: Any, first: Mapping[str, int]) -> Any:
        if isinstance(value, list) and len(value) == 3 and value[0] == _CONSTANT:
            return value[2]
        if _is_reference(value):
            return _tensor(value, first)
        if isinstance(value, list):
            return [self.argument(item, first) for item in value]
        return self.value(value)


def _first_calls(layers: list[Any], config: dict[str, Any]) -> dict[str, int]:
    """By nested model the number of its first call: Keras 2 counts the call by which it was made, if there was one."""
    nested = {layer["name"] for layer in layers if "layers" in _dict(layer["config"])}
    lowest: dict[str, int] = {}

    def look(value: Any) -> None:
        if _is_reference(value) and value[0] in nested:
            lowest[value[0]] = min(value[1], lowest.get(value[0], value[1]))
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(item)

    for layer in layers:
        look(layer.get("inbound_nodes", []))
    look(config["input_layers"])
    look(config["output_layers"])
    return lowest


def _is_reference(value: Any) -> bool:
    """A tensor as Keras 2 names it: layer, number of the call, number of the output, and perhaps arguments."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and type(value[1]) is int
        and (type(value[2]) is int or value[0] == _CONSTANT)
    )


def _tensor(reference: list[Any], first: Mapping[str, int]) -> dict[str, Any]:
    name, call, output = reference[:3]
    history = [_plain_name(name), call - first.get(name, 0), output]
    return {"class_name": "__keras_tensor__", "config": {"shape": [None], "dtype": "float32", "keras_history": history}}


def _plain_name(name: str) -> str:
    """Keras 3 allows no slash in a layer's name."""
    return name.replace("/", "_")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
