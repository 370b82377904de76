"""HDF5: whole models (``.h5`` of Keras 1 to 3), and the weights inside ``.keras`` files."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ModelError
from toolkit.keras_model.limits import CONFIG_LIMIT, check_weight_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["assign_weights", "check_weights", "opened", "read_config", "rename_old_groups"]

_WEIGHTS = "model_weights"
_TRAINING_ONLY = {"optimizer_weights", "optimizer", "metrics", "_tracker", "loss_tracker"}


@contextmanager
def opened(path: Path, shown: object, mode: str = "r") -> Iterator[Any]:
    """An HDF5 file, every link and dataset of which has been looked at.

    Raises:
        ModelError: it is damaged, leads to other files, or declares more than an exported model can hold.
    """
    import h5py

    try:
        with h5py.File(path, mode) as file:
            check_weight_bytes(check_weights(file, shown), shown)
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"{shown} is a damaged or truncated HDF5 file ({reason}); copy or download it again"
        ) from error


def check_weights(file: Any, shown: object) -> int:
    """Look at every link and dataset, without following or reading any.

    Returns:
        Bytes that the weights come to in memory; what only training needs is not counted.

    Raises:
        ModelError: something points out of the file, which could bring any file of this machine into the model.
    """
    import h5py

    total, waiting, seen = 0, [(file, True)], set()
    while waiting:
        group, counted = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ModelError(
                    f"{shown}: {group.name}/{name} is a link to something else; Keras writes none, do not trust it"
                )
            item = group[name]
            counts = counted and not (group.name == "/" and name in _TRAINING_ONLY)
            if isinstance(item, h5py.Group):
                if item.id not in seen:
                    seen.add(item.id)
                    waiting.append((item, counts))
                continue
            if item.external or item.is_virtual:
                raise ModelError(
                    f"{shown}: {item.name} keeps its values in another file; Keras writes no such file, do not trust it"
                )
            if counts and item.dtype.kind not in "OSV":
                total += item.size * item.dtype.itemsize
    return total


def read_config(file: Any, shown: object) -> tuple[Any, str]:
    """The model's configuration, and the version of Keras that wrote it ("1" where it did not say).

    Raises:
        ModelError: there is none: the file holds weights alone, or no model.
    """
    text = file.attrs.get("model_config")
    if text is None:
        if "layer_names" in file.attrs or "layers" in file or "_layer_checkpoint_dependencies" in file:
            raise ModelError(
                f"{shown} holds weights only, without the layers that they belong to; build the model in Python, load "
                "them with model.load_weights, and give what model.save('NAME.keras') writes"
            )
        raise ModelError(f"{shown} is an HDF5 file without a Keras model; give one saved by model.save")
    if len(text) > CONFIG_LIMIT:
        raise ModelError(f"{shown}: its configuration has {len(text):,} bytes, expected {CONFIG_LIMIT:,} at most")
    try:
        config = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{shown}: its model_config is no JSON; save the model again") from error
    if _WEIGHTS not in file:
        raise ModelError(f"{shown} holds a model without weights; save it with model.save")
    return config, _text(file.attrs.get("keras_version", file[_WEIGHTS].attrs.get("keras_version", "1")))


def rename_old_groups(file: Any) -> None:
    """Give the groups of a weights file of Keras 2.12 and 2.13 the names that later versions look for."""
    waiting = [file]
    while waiting:
        group = waiting.pop()
        if "_layer_checkpoint_dependencies" in group and "layers" not in group:
            group.move("_layer_checkpoint_dependencies", "layers")
        waiting += [group[name] for name in group if hasattr(group[name], "keys")]


def assign_weights(file: Any, model: Any, shown: object) -> None:
    """Put the weights of an ``.h5`` file into the model that its configuration describes.

    By name, layer by layer: Keras goes by order, which is not the same in all its versions.

    Raises:
        ModelError: weights and layers do not fit each other.
    """
    group = file[_WEIGHTS]
    stored = {_plain(name): name for name in _names(group, "layer_names")}
    layers = {layer.name: layer for layer in model.layers}
    for plain, name in stored.items():
        values = _values(group[name])
        if not values:
            continue
        layer = layers.get(plain)
        if layer is None:
            raise ModelError(f"{shown}: it has weights for a layer '{name}', which its model lacks; save it again")
        _assign(layer, values, shown)
    for layer in model.layers:
        if _weights(layer) and not (layer.name in stored and _values(group[stored[layer.name]])):
            raise ModelError(f"{shown}: it has no weights for the layer '{layer.name}'; save it again")
    if "top_level_model_weights" in group and _names(group["top_level_model_weights"], "weight_names"):
        raise ModelError(
            f"{shown}: the model has weights outside of its layers; export it as a SavedModel with what wrote it, and "
            "give that folder"
        )
    _finalize(model)


def _assign(layer: Any, values: dict[str, NDArray[Any]], shown: object) -> None:
    weights = _weights(layer)
    by_tail = {_tail(weight.path): weight for weight in weights}
    # Inside a nested model the order is the model's, so names decide where they can.
    named = len(by_tail) == len(weights) and set(by_tail) == {_tail(name) for name in values}
    chosen = [by_tail[_tail(name)] for name in values] if named else weights
    if len(chosen) != len(values):
        raise ModelError(
            f"{shown}, layer '{layer.name}': it has {len(values)} weights in the file, expected {len(chosen)}; "
            "save the model again"
        )
    for weight, (name, value) in zip(chosen, values.items(), strict=True):
        if tuple(weight.shape) != value.shape:
            raise ModelError(
                f"{shown}, layer '{layer.name}': {name} has shape {value.shape}, expected {tuple(weight.shape)}; "
                "save the model again"
            )
        weight.assign(value)


def _values(group: Any) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(group[name]) for name in _names(group, "weight_names")}


def _weights(layer: Any) -> list[Any]:
    """In the order of the files: what is trained first."""
    return [*getattr(layer, "trainable_weights", []), *getattr(layer, "non_trainable_weights", [])]


def _finalize(model: Any) -> None:
    """Let layers that compute with constants made from their weights, such as Normalization, make them."""
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
        if hasattr(layer, "layers"):
            _finalize(layer)


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names that may be split over several attributes, each of which holds 64 KB at most."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    names: list[str] = []
    part = 0
    while f"{attribute}{part}" in group.attrs:
        names += [_text(name) for name in group.attrs[f"{attribute}{part}"]]
        part += 1
    return names


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain(name: str) -> str:
    return name.replace("/", "_")


def _tail(path: str) -> tuple[str, ...]:
    return tuple(path.removesuffix(":0").split("/")[-2:])
