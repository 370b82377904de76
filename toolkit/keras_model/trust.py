"""What a model's configuration would make Keras do, looked at before Keras sees it.

Keras' own safe mode refuses what is known to be dangerous. It has been walked around more than once (CVE-2024-3660,
CVE-2025-1550, CVE-2025-8747, CVE-2025-9905, CVE-2025-9906, CVE-2025-12058: functions named by the configuration,
loaders called as layers, legacy files, vocabulary files). So it is the second door here. The first is this list of what
is let in: Keras' own layers, operations and their parts that carry no code, and what the user names.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["builtin_class", "check_config"]

_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__ndarray__", "__bytes__", "__ellipsis__", "__slice__"}
_RUNS_CODE = {
    "Lambda": "a Lambda layer, which is Python code of whoever wrote the file",
    "__lambda__": "a Python function in the file",
    "TFSMLayer": "a layer that runs a SavedModel from elsewhere",
    "TorchModuleWrapper": "a pickled PyTorch module",
    "JaxLayer": "a pickled JAX function",
    "FlaxLayer": "a pickled JAX function",
}
_LOOKUPS = {"StringLookup", "IntegerLookup", "TextVectorization"}
_DEEPEST = 200


def check_config(config: Any, custom: Mapping[str, Any], shown: object) -> None:
    """Every class and function that a configuration names is Keras' own and carries no code, or is the user's.

    Args:
        config: a model's configuration, as it is going to be handed to Keras.
        custom: what the user named; see `toolkit.keras_model.custom`.
        shown: how errors call the file.

    Raises:
        ModelError: something else is named. The line says what, in which layer, and what to do.
    """
    for entry, layer in _objects(config, shown):
        kind, inner = entry["class_name"], entry.get("config")
        where = f"{shown}, layer '{layer}'" if layer else str(shown)
        if kind in custom or entry.get("registered_name") in custom or kind in _VALUES:
            continue
        if kind == "function":
            _check_function(inner, custom, where)
            continue
        if kind == "Lambda" and (name := _function_name(inner)):
            if name in custom:
                continue
            raise ModelError(
                f"{where}: a Lambda layer with the function '{name[:80]}'; give --custom MODULE:{_identifier(name)}, "
                "where MODULE is the Python module that defines it"
            )
        if kind in _RUNS_CODE:
            raise ModelError(
                f"{where}: {_RUNS_CODE[kind]}, is not run; rewrite it with Keras layers and save the model again, or "
                "give --unsafe if you trust the file as you trust a program"
            )
        found = builtin_class(entry)
        if found is None or entry.get("module") != found[1]:
            raise ModelError(
                f"{where}: the class '{kind}' is not one of Keras' own; give --custom MODULE:{_identifier(kind)}, "
                "where MODULE is the Python module that defines it"
            )
        if kind in _LOOKUPS and isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
            raise ModelError(
                f"{where}: its vocabulary is in the file {inner['vocabulary'][:80]!r} outside of the model, which is "
                "not read; save the model with the vocabulary inside"
            )
        if isinstance(inner, dict):
            _check_activations(inner, custom, where)


def builtin_class(entry: Mapping[str, Any]) -> tuple[type, str] | None:
    """Keras' own class that an entry of a configuration names, and the module by which Keras finds it, or None.

    A layer, operation, model, initializer, regularizer, constraint, dtype policy or quantizer. The entry's own module
    only decides between the layer and the operation of one name (`Add`); it cannot lead anywhere else.
    """
    name, config, module = entry.get("class_name"), entry.get("config"), entry.get("module")
    if not isinstance(name, str) or not name.isidentifier():
        return None
    # A layer's configuration says more than its name; an operation's does not.
    operation = isinstance(config, dict) and set(config) <= {"name"} if module is None else ".ops." in str(module)
    return _find(name, operation)


@cache
def _find(name: str, operation: bool) -> tuple[type, str] | None:
    import keras
    from keras.src import ops

    public = (keras.layers, keras.initializers, keras.regularizers, keras.constraints, keras.quantizers, keras)
    inner = (ops.numpy, ops.nn, ops.core, ops.math, ops.image, ops.linalg, keras.src.models.functional)
    for place in (*inner, *public) if operation else (*public, *inner):
        found = vars(place).get(name)
        if isinstance(found, type) and issubclass(found, _parts(keras)):
            return found, found.__module__ if place in inner else place.__name__
    return None


def _parts(keras: Any) -> tuple[type, ...]:
    return (
        keras.Operation,
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
        keras.dtype_policies.DTypePolicy,
        keras.dtype_policies.DTypePolicyMap,
        keras.quantizers.Quantizer,
    )


def _objects(config: Any, shown: object) -> Iterator[tuple[dict[str, Any], str]]:
    """Every dict that names a class, outermost first, with the name of the layer that it belongs to."""
    waiting: list[tuple[Any, str, int]] = [(config, "", 0)]
    while waiting:
        value, layer, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ModelError(f"{shown}: its configuration is nested more than {_DEEPEST} deep; no model is")
        if isinstance(value, dict):
            if "class_name" in value:
                inner = value.get("config")
                own = inner.get("name") if isinstance(inner, dict) else None
                layer = str(own)[:80] if own else layer
                yield value, layer
            waiting += [(item, layer, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, layer, depth + 1) for item in value]


def _check_function(name: Any, custom: Mapping[str, Any], where: str) -> None:
    import keras

    if isinstance(name, str) and (name in custom or callable(getattr(keras.activations, name, None))):
        return
    raise ModelError(
        f"{where}: the function {str(name)[:80]!r} is not one of Keras' activations; give --custom "
        f"MODULE:{_identifier(name)}, where MODULE is the Python module that defines it"
    )


def _check_activations(config: dict[str, Any], custom: Mapping[str, Any], where: str) -> None:
    for key, value in config.items():
        if key.endswith("activation") and isinstance(value, str):
            _check_function(value, custom, where)


def _function_name(config: Any) -> str | None:
    """The function of a Lambda layer, if it is one by name and not code in the file."""
    function = config.get("function") if isinstance(config, dict) else None
    if isinstance(function, dict):
        function = function.get("config") if function.get("class_name") == "function" else None
    return function if isinstance(function, str) else None


def _identifier(name: Any) -> str:
    return str(name).rsplit(">", maxsplit=1)[-1][:80]
