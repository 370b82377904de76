"""Datasets that TensorFlow saved: their structures, order and damage; nothing in them is run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.datasets_helpers import CLASSES, FOUR, IMAGE, SIGNAL, THREE, read, refused, same
from toolkit.keras_model import TensorSpec, import_keras

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist

COUNT = 2500  # more than are read at a time
X = np.random.default_rng(3).normal(size=(COUNT, 4)).astype(np.float32)
Y = np.arange(COUNT) % 3
TWO_IN = [TensorSpec("left", (None, 4), "float32"), TensorSpec("right", (None, 2), "float32")]
TWO_OUT = [TensorSpec("kind", (None, 3), "float32"), TensorSpec("price", (None, 1), "float32")]


def _dataset(elements: Any) -> Any:
    import_keras()
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(elements)


def _saved(folder: Path, elements: Any, batch: int = 0, **options: Any) -> Path:
    dataset = _dataset(elements)
    (dataset.batch(batch) if batch else dataset).save(str(folder), **options)
    return folder


@pytest.mark.parametrize("batch", [0, 64, 4])
@pytest.mark.parametrize(
    "elements",
    [(X, Y), {"features": X, "kind": Y}, {"x": X, "y": Y}, ({"features": X}, {"kind": Y}), ({"x": X}, Y), ((X,), (Y,))],
    ids=["x,y", "names", "usual names", "two dicts", "dict,y", "tuples"],
)
def test_structures_of_a_model_of_one_input(tmp_path: Path, elements: Any, batch: int) -> None:
    rows = read(_saved(tmp_path / "saved", elements, batch))
    assert same(rows.inputs["features"], X)
    assert same(rows.targets["kind"], Y.astype(np.int64))
    assert (rows.source, rows.class_names) == ("saved", None)


@pytest.mark.parametrize("batch", [0, 64])
@pytest.mark.parametrize(
    "elements",
    [
        ({"left": X, "right": X[:, :2]}, {"kind": Y, "price": X[:, 0]}),
        ((X, X[:, :2]), (Y, X[:, :1])),
        {"left": X, "right": X[:, :2], "kind": Y, "y_price": X[:, 0]},
    ],
    ids=["dicts", "tuples", "one dict"],
)
def test_structures_of_several_inputs(tmp_path: Path, elements: Any, batch: int) -> None:
    rows = read(_saved(tmp_path / "saved", elements, batch), TWO_IN, TWO_OUT)
    assert list(rows.inputs) == ["left", "right"]
    assert same(rows.inputs["left"], X)
    assert same(rows.inputs["right"], np.ascontiguousarray(X[:, :2]))
    assert same(rows.targets["kind"], Y.astype(np.int64))
    assert same(rows.targets["price"], X[:, :1].copy())


def test_rows_alone(tmp_path: Path) -> None:
    for name, elements in (("bare", X), ("tuple", (X,)), ("dict", {"features": X})):
        rows = read(_saved(tmp_path / name, elements))
        assert same(rows.inputs["features"], X)
        assert rows.targets == {}


def test_some_targets_of_several(tmp_path: Path) -> None:
    rows = read(_saved(tmp_path / "saved", ({"features": X}, {"kind": Y})), FOUR, TWO_OUT)
    assert list(rows.targets) == ["kind"]


def test_real_images(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    images, labels = fashion_mnist.test_images[:300], fashion_mnist.test_labels[:300]
    deep = TensorSpec("image", (None, 28, 28, 1), "float32")
    for batch in (0, 32):
        folder = _saved(tmp_path / str(batch), (images, labels), batch)
        rows = read(folder, IMAGE, CLASSES)
        assert same(rows.inputs["image"], images)
        assert same(rows.targets["probabilities"], labels.astype(np.int64))
        assert same(read(folder, deep, CLASSES).inputs["image"], images[..., np.newaxis])


def test_batches_are_told_by_rank(tmp_path: Path) -> None:
    """A signal of free length with a channel: (5, 1) is a row, (5,) is a row without its channel."""
    signal = np.random.default_rng(1).normal(size=(40, 5, 1)).astype(np.float32)
    for name, array in (("deep", signal), ("flat", signal[..., 0])):
        rows = read(_saved(tmp_path / f"{name} rows", array), SIGNAL, [])
        assert same(rows.inputs["signal"], signal)
    rows = read(_saved(tmp_path / "batches", signal, 7), SIGNAL, [])
    assert same(rows.inputs["signal"], signal)


def test_every_batch_size_and_the_last_rest(tmp_path: Path) -> None:
    for batch in (1, 3, 2499, 2500, 9999):
        assert same(read(_saved(tmp_path / str(batch), X, batch)).inputs["features"], X)


def test_several_shards_keep_pairs_and_come_in_one_order(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "saved", (X, Y), shard_func=lambda _, y: y)
    rows = read(folder)
    order = np.argsort(Y, kind="stable")
    assert same(rows.inputs["features"], X[order])
    assert rows.targets["kind"].tolist() == Y[order].tolist()


def test_compression(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    assert same(read(_saved(folder, X, compression="GZIP")).inputs["features"], X)
    assert same(read(_saved(folder, -X)).inputs["features"], -X)  # saved again, over the other
    assert "uncompressed or with GZIP" in refused(_saved(tmp_path / "snappy", X, compression="SNAPPY"))


# What is refused


@pytest.mark.parametrize(
    ("elements", "wrong"),
    [
        ((X, Y, Y), "sample weights"),
        ((X, Y, Y, Y), "elements of 4 parts"),
        (np.array(["a", "b"]), "elements with string"),
        (X.astype(np.complex64), "elements with complex64"),
        (X[:0], "has no elements"),
        (X[:, :3], "has elements of shape (3,), expected rows, or batches of rows, of 'features': (batch, 4)"),
        (X[:, 0], "has elements of shape ()"),
        ({"feature": X, "kind": Y, "price": Y}, "no array for the input 'features'"),
        (({"features": X, "more": X}, Y), "has 'more', which fits nothing"),
        (({"features": X}, {"price": Y}), "has targets for 'price', but this model takes 'features' and gives 'kind'"),
        ((X, (Y, Y)), "has 2 tensors in y, expected 1, one for each output ('kind')"),
        ({"features": {"deep": X}}, "nested too deeply"),
        ((((X,),), Y), "nested too deeply"),
        ((X, Y + 1), "got the class 3"),
        ((np.where(Y[:, None] == 1, np.nan, X), Y), "NaN or infinity in 833 of 2500 rows"),
    ],
)
def test_wrong_elements(tmp_path: Path, elements: Any, wrong: str) -> None:
    assert wrong in refused(_saved(tmp_path / "saved", elements))


def test_one_tensor_for_two_inputs(tmp_path: Path) -> None:
    line = refused(_saved(tmp_path / "saved", (X, Y)), TWO_IN, THREE)
    assert "has 1 tensors in x, expected 2, one for each input ('left' and 'right')" in line


def test_ragged_and_sparse_tensors(tmp_path: Path) -> None:
    import_keras()
    import tensorflow as tf

    for name, tensor in (
        ("ragged", tf.ragged.constant([[1.0, 2.0], [3.0]])),
        ("sparse", tf.sparse.from_dense([[0.0, 1.0], [2.0, 0.0]])),
    ):
        folder = _saved(tmp_path / name, tensor)
        assert f"elements with {name.capitalize()}TensorSpec, expected plain tensors" in refused(folder)
    nested = _dataset(X).window(5)
    nested.map(lambda window: window.batch(5).get_single_element()).save(str(tmp_path / "fine"))
    read(tmp_path / "fine")


def test_rows_of_different_lengths(tmp_path: Path) -> None:
    import_keras()
    import tensorflow as tf

    rows = tf.data.Dataset.range(1, 4).map(lambda n: tf.ones([n, 1]))
    rows.save(str(tmp_path / "saved"))
    assert "Cannot batch tensors with different shapes" in refused(tmp_path / "saved", SIGNAL, [])


def test_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.datasets.saved.LIMIT", 20_000)
    assert "GB of values; give fewer rows: dataset.take(n)" in refused(_saved(tmp_path / "saved", X))


def _values(folder: Path) -> Path:
    (path,) = folder.glob("*/*/*.snapshot")
    return path


def test_damage(tmp_path: Path) -> None:
    whole = _saved(tmp_path / "whole", (X, Y), 64)
    size = _values(whole).stat().st_size

    def damaged(change: Any) -> str:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(whole, tmp_path / "copy")
        change(tmp_path / "copy")
        return refused(tmp_path / "copy")

    def flip(folder: Path, place: int) -> None:
        data = bytearray(_values(folder).read_bytes())
        data[place] ^= 1
        _values(folder).write_bytes(data)

    for place in (0, 8, 12, 100, size // 2, size - 1):
        assert "cannot be read as a saved dataset" in damaged(lambda folder, place=place: flip(folder, place))
    for length in (0, 1, size // 2, size - 1):
        line = damaged(lambda folder, length=length: _values(folder).write_bytes(_values(folder).read_bytes()[:length]))
        assert "cannot be read as a saved dataset" in line or "it is cut short" in line
    assert "it is cut short" in damaged(lambda folder: _values(folder).write_bytes(b""))
    assert "copy" in damaged(lambda folder: _values(folder).unlink())
    assert "has no dataset_spec.pb" in damaged(lambda folder: (folder / "dataset_spec.pb").unlink())
    assert "is damaged" in damaged(lambda folder: (folder / "dataset_spec.pb").write_bytes(b"\xff\xff\xff"))
    assert "nothing in them" in damaged(lambda folder: (folder / "dataset_spec.pb").write_bytes(b""))
    assert "nothing in them" in damaged(lambda folder: (folder / "dataset_spec.pb").write_bytes(bytes(2_000_000)))
    assert "cannot be read" in damaged(lambda folder: (folder / "snapshot.metadata").unlink())
    assert "cannot be read" in damaged(lambda folder: (folder / "snapshot.metadata").write_bytes(b"\xff" * 9))
    assert "distributed snapshot" in damaged(lambda folder: (folder / "chunks").mkdir())


def test_a_structure_of_another_type_is_not_made(tmp_path: Path) -> None:
    """A spec may name any registered type; none is looked up."""
    folder = _saved(tmp_path / "saved", X)
    import tensorflow as tf
    from tensorflow.core.protobuf import struct_pb2

    value = struct_pb2.StructuredValue()
    value.type_spec_value.type_spec_class = struct_pb2.TypeSpecProto.REGISTERED_TYPE_SPEC
    value.type_spec_value.type_spec_class_name = "evil.Spec"
    (folder / "dataset_spec.pb").write_bytes(value.SerializeToString())
    assert "elements with evil.Spec, expected plain tensors" in refused(folder)
    deep = struct_pb2.StructuredValue()
    for _ in range(50):
        outer = struct_pb2.StructuredValue()
        outer.tuple_value.values.append(deep)
        deep = outer
    (folder / "dataset_spec.pb").write_bytes(deep.SerializeToString())
    assert "elements with tuple_value" in refused(folder)
    assert tf.__version__


def test_without_tensorflow(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["tensorflow"] = None
from toolkit.datasets import read_rows
from toolkit.keras_model.source import TensorSpec
try:
    read_rows(sys.argv[1], [TensorSpec("x", (None, 4), "float32")], [])
except Exception as error:
    print(type(error).__name__, error.exit_code, error)
"""
    command = [sys.executable, "-c", script, str(_saved(tmp_path / "saved", X))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("MissingError 3 this needs Keras and TensorFlow")


def test_a_spec_that_lies_about_dtype_ends_in_one_line(tmp_path: Path) -> None:
    """In a process of its own, as TensorFlow's native code reads the values."""
    floats, ints = _saved(tmp_path / "floats", X), _saved(tmp_path / "ints", X.astype(np.int64))
    for one, other in ((floats, ints), (ints, floats)):
        shutil.copytree(one, tmp_path / "mixed")
        shutil.copy(other / "dataset_spec.pb", tmp_path / "mixed" / "dataset_spec.pb")
        script = """
import sys
from toolkit.datasets import read_rows
from toolkit.keras_model.source import TensorSpec
try:
    read_rows(sys.argv[1], [TensorSpec("x", (None, 4), "float32")], [])
except ValueError as error:
    print(type(error).__name__, error)
"""
        command = [sys.executable, "-c", script, str(tmp_path / "mixed")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("DataError")
        assert done.stdout.count("\n") == 1
        shutil.rmtree(tmp_path / "mixed")
