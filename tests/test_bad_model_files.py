"""Bad model files, through the installed command: one line, an exit code, and nothing written."""

from __future__ import annotations

import functools
import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from tests.conftest import REFERENCE, toolkit
from tests.keras_files import edit_config, keras2_functional, keras2_h5, keras2_input, keras2_layer, write_zip
from toolkit.keras_model import import_keras, load_keras

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = REFERENCE / "model.keras"


@functools.cache
def _parts() -> dict[str, bytes]:
    with zipfile.ZipFile(MODEL) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _truncated(path: Path) -> None:
    path.write_bytes(MODEL.read_bytes()[:200_000])


def _flipped(path: Path) -> None:
    data = bytearray(MODEL.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _encrypted(path: Path) -> None:
    """The flag that says so, in each entry's two headers."""
    data = bytearray(MODEL.read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(magic)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(magic, place + 4)
    path.write_bytes(data)


def _no_model(path: Path) -> None:
    write_zip(path, {"holiday.txt": b"sun"})


def _traversing(path: Path) -> None:
    write_zip(path, {**_parts(), "assets/../../../evil.txt": b"evil"})


def _absolute(path: Path) -> None:
    write_zip(path, {**_parts(), "/tmp/evil.txt": b"evil"})  # noqa: S108 - nothing is written there, which is the point


def _bomb(path: Path) -> None:
    write_zip(path, {**_parts(), "assets/bomb": bytes(80_000_000)}, zipfile.ZIP_DEFLATED)


def _no_json(path: Path) -> None:
    write_zip(path, {**_parts(), "config.json": b"{not json"})


def _no_layers(path: Path) -> None:
    write_zip(path, {**_parts(), "config.json": b"[1, 2]"})


def _weights_only(path: Path) -> None:
    path.write_bytes(_parts()["model.weights.h5"])


def _keras2_weights_only(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense")


def _other_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["temperature"] = np.arange(3)


def _truncated_h5(path: Path) -> None:
    path.write_bytes(_parts()["model.weights.h5"][:100_000])


def _simple_h5(path: Path, size: int = 3, weights: Any = None) -> None:
    layers = [
        keras2_input("x", (None, size)),
        keras2_layer("Dense", "dense", ["x"], units=2, activation="linear", use_bias=False),
    ]
    array = np.ones((size, 2), np.float32) if weights is None else weights
    keras2_h5(path, keras2_functional(layers, ["x"], ["dense"]), {"dense": {"dense/kernel": array}})


def _large(path: Path) -> None:
    """Declares 2.4 GB, and takes some kilobytes."""
    _simple_h5(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("model_weights/dense/huge", (600_000_000,), "f4")


def _zero_size(path: Path) -> None:
    _simple_h5(path, 0)


def _wrong_shape(path: Path) -> None:
    _simple_h5(path, weights=np.ones((4, 2), np.float32))


def _unknown_layer(path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        layers = [layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense"]
        layers[0].update(class_name="Attention9", module="their.package", registered_name="theirs>Attention9")

    shutil.copyfile(MODEL, path)
    edit_config(path, change)


def _gone_layer(path: Path) -> None:
    layers = [keras2_input("x", (None, 3, 2)), keras2_layer("CuDNNLSTM", "lstm", ["x"], units=2)]
    keras2_h5(path, keras2_functional(layers, ["x"], ["lstm"]), {})


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("m.keras", _truncated, "damaged or truncated zip archive"),
        ("m.keras", _flipped, "damaged or truncated zip archive"),
        ("m.keras", _encrypted, "encrypted with a password"),
        ("m.keras", _no_model, "a zip archive without config.json"),
        ("m.keras", _traversing, "'assets/../../../evil.txt', which leads out of it"),
        ("m.keras", _absolute, "'/tmp/evil.txt', which leads out of it"),
        ("m.keras", _bomb, "unpacks from"),
        ("m.keras", _no_json, "is no JSON"),
        ("m.keras", _no_layers, "holds no model's configuration"),
        ("m.weights.h5", _weights_only, "holds weights only"),
        ("m.h5", _keras2_weights_only, "holds weights only"),
        ("m.h5", _other_h5, "an HDF5 file without a Keras model"),
        ("m.h5", _truncated_h5, "damaged or truncated HDF5 file"),
        ("m.h5", _large, "declares 2.4 GB of weights, expected 2 GB at most"),
        ("m.h5", _zero_size, "has the shape (None, 0), expected no dimension of size zero"),
        ("m.h5", _wrong_shape, "dense/kernel:0 has shape (4, 2), expected (3, 2)"),
        ("m.h5", _gone_layer, "a layer of type CuDNNLSTM cannot be opened"),
        ("m.keras", _unknown_layer, "class 'Attention9' is not one of Keras' own; give --custom MODULE:Attention9"),
        ("m.keras", _pointer, "a Git LFS pointer"),
        ("m.keras", lambda path: path.write_bytes(b""), "empty"),
        ("m.pkl", lambda path: path.write_bytes(b"\x80\x04\x95abc"), "a pickle, which is a program"),
        ("m.tflite", lambda path: path.write_bytes(b"\x1c\0\0\0TFL3"), "a LiteRT (TFLite) file"),
        ("m.onnx", lambda path: path.write_bytes(b"\x08\x07\x12"), "(its name ends in '.onnx')"),
        ("m.html", lambda path: path.write_bytes(b"<html>"), "a text such as a web page"),
        ("folder", _folder, "folder"),
    ],
)
def test_a_bad_model_file_gets_one_line(tmp_path: Path, name: str, make: Callable[[Path], None], says: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    make(path)
    finished = toolkit("export", path, "--output", tmp_path / "out")
    assert finished.code == 2, finished.err
    assert says in finished.error_line
    assert name in finished.error_line
    assert finished.out == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def _with_own_layer(path: Path) -> None:
    """The reference model, its first dense layer of a class of the user's own."""
    keras = import_keras()

    class Attention9(keras.layers.Dense):  # type: ignore[misc, name-defined]  # keras is untyped
        pass

    model = load_keras(MODEL)

    def swap(layer: Any) -> Any:
        kind = Attention9 if layer.name == "hidden_1" else type(layer)
        return kind.from_config(layer.get_config())

    own = keras.models.clone_model(model, clone_function=swap)
    own.set_weights(model.get_weights())
    own.save(path)


def test_a_model_that_needs_a_class_is_opened_with_custom(tmp_path: Path) -> None:
    """And so it is by `verify` and `tune`; without the option, the line asks for it."""
    (tmp_path / "theirs.py").write_text(
        "import keras\nclass Attention9(keras.layers.Dense):\n    pass\nclass Other(keras.layers.Layer):\n    pass\n"
    )
    path = tmp_path / "m.keras"
    _with_own_layer(path)
    finished = toolkit("export", path, "--output", tmp_path / "out", "--custom", "theirs:Attention9", cwd=tmp_path)
    assert finished.code == 0, finished.err
    finished = toolkit("verify", tmp_path / "out", cwd=tmp_path)
    assert finished.code == 2
    assert "--custom MODULE:Attention9" in finished.error_line
    finished = toolkit("verify", tmp_path / "out", "--custom", "theirs:Attention9", "--json", cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert json.loads(finished.out)["passed"] is True
    finished = toolkit("tune", tmp_path / "out", "--custom", "theirs:Other", cwd=tmp_path)
    assert finished.code == 2
    assert "--custom MODULE:Attention9" in finished.error_line


def test_code_in_a_file_is_run_only_with_unsafe(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "m.keras"
    from tests.test_keras_trust import _lambda_model

    _lambda_model(mark).save(path)
    mark.unlink()
    finished = toolkit("export", path, "--output", tmp_path / "out")
    assert finished.code == 2
    assert "a Lambda layer" in finished.error_line
    assert "--unsafe" in finished.error_line
    assert not mark.exists()
    toolkit("export", path, "--output", tmp_path / "out", "--unsafe")
    assert mark.exists()
