"""Model files as other programs wrote them, made from scratch: the layouts of Keras 2 above all."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Weights = dict[str, "NDArray[Any]"]


def keras2_h5(
    path: Path, config: Mapping[str, Any], weights: Mapping[str, Weights], version: str | None = "2.4.0"
) -> Path:
    """An .h5 file as `model.save` of Keras 2 wrote it, with the state of an optimizer that nobody has.

    Args:
        path: the file to write.
        config: class_name and config of the model.
        weights: by layer, in the file's order, by the weight's name without ":0".
        version: what the file says of itself.
    """
    with h5py.File(path, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["training_config"] = json.dumps({"optimizer_config": {"class_name": "Gone", "config": {}}})
        file.create_dataset("optimizer_weights/Gone/iter:0", data=np.int64(3))
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        if version is not None:
            file.attrs["keras_version"] = group.attrs["keras_version"] = version
        for layer, arrays in weights.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [f"{name}:0".encode() for name in arrays]
            for name, array in arrays.items():
                inner.create_dataset(f"{name}:0", data=array)
    return path


def keras2_layer(kind: str, name: str, inputs: Sequence[Any] | None = None, **settings: Any) -> dict[str, Any]:
    """A layer's entry in a functional configuration of Keras 2; inputs are nodes, or names of layers."""
    nodes = [[[i, 0, 0, {}] if isinstance(i, str) else i for i in inputs]] if inputs else []
    config = {"name": name, "trainable": True, "dtype": "float32", **settings}
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": nodes}


def keras2_functional(layers: Sequence[Any], inputs: Sequence[str], outputs: Sequence[Any]) -> dict[str, Any]:
    """A functional model's configuration."""
    ends = [[out, 0, 0] if isinstance(out, str) else out for out in outputs]
    return {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": list(layers),
            "input_layers": [[name, 0, 0] for name in inputs],
            "output_layers": ends,
        },
    }


def keras2_input(name: str, shape: Sequence[int | None]) -> dict[str, Any]:
    entry = keras2_layer("InputLayer", name, batch_input_shape=list(shape), sparse=False, ragged=False)
    del entry["config"]["trainable"]
    return entry


def edit_config(path: Path, change: Any) -> None:
    """Change the configuration inside a .keras or .h5 file, as somebody who means ill can."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(parts["config.json"])
        change(config)
        parts["config.json"] = json.dumps(config).encode()
        write_zip(path, parts)
        return
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


def write_zip(path: Path, parts: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def edit_weights(path: Path, change: Any) -> None:
    """Change the HDF5 file inside a .keras archive."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    memory = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(memory, "r+") as file:
        change(file)
    parts["model.weights.h5"] = memory.getvalue()
    write_zip(path, parts)


def layer_named(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A layer's entry, to change."""
    (found,) = (layer for layer in config["config"]["layers"] if layer["config"]["name"] == name)
    return dict(found) if not isinstance(found, dict) else found
