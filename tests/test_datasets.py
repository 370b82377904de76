"""Users' arrays: which is which, how they are brought to a model's shapes and dtypes, and what is refused."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given as property_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.datasets_helpers import CLASSES, FOUR, IMAGE, ONE, SIGNAL, THREE, X, Y, given, npz, read, refused, same
from toolkit.datasets import Rows, read_rows
from toolkit.errors import DataError, MissingError, UsageError
from toolkit.keras_model import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


TWO_IN = [TensorSpec("left", (None, 4), "float32"), TensorSpec("right", (None, 2), "float32")]
TWO_OUT = [TensorSpec("kind", (None, 3), "float32"), TensorSpec("price", (None, 1), "float32")]

# Names


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_named_after_the_model(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "calib.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, left=X, right=X[:, :2], kind=Y, y_price=X[:, 0])
    rows = read(path, TWO_IN, TWO_OUT)
    assert list(rows.inputs) == ["left", "right"]
    assert same(rows.inputs["left"], X)
    assert same(rows.inputs["right"], np.ascontiguousarray(X[:, :2]))
    assert same(rows.targets["kind"], Y.astype(np.int64))
    assert same(rows.targets["price"], X[:, :1].copy())
    assert (rows.count, rows.source, rows.class_names, rows.notes) == (6, "calib.npz", None, ())


@pytest.mark.parametrize("name", ["features", "x", "x_test", "x_train", "images", "inputs", "data", "arr_0", "pixels"])
def test_usual_names_of_one_input(tmp_path: Path, name: str) -> None:
    assert same(given(tmp_path, {name: X}).inputs["features"], X)


@pytest.mark.parametrize("name", ["kind", "y_kind", "y", "y_test", "y_train", "labels", "targets", "arr_1"])
def test_usual_names_of_one_output(tmp_path: Path, name: str) -> None:
    rows = given(tmp_path, {"whatever": X, name: Y})
    assert same(rows.inputs["features"], X)
    assert same(rows.targets["kind"], Y.astype(np.int64))


def test_one_name_for_input_and_output(tmp_path: Path) -> None:
    both = TensorSpec("signal", (None, 4), "float32")
    rows = given(tmp_path, {"signal": X, "y_signal": -X}, both, both)
    assert same(rows.inputs["signal"], X)
    assert same(rows.targets["signal"], -X)
    assert given(tmp_path, {"signal": X}, both, both).targets == {}


def test_part_of_a_file_with_both(tmp_path: Path) -> None:
    path = npz(tmp_path / "mnist.npz", x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2])
    assert "'x_test' and 'x_train', which all could be meant" in refused(path, outputs=[])
    assert read(path, part="train").count == 6
    test = read(path, part="test")
    assert test.count == 2
    assert test.notes == ("'x_train' and 'y_train' left out: the test part was taken",)
    only = npz(tmp_path / "only.npz", x_train=X, y_train=Y)
    assert read(only, part="test").notes == ("only.npz has no x_test: its x_train was taken",)
    with pytest.raises(UsageError, match="part='validation'"):
        read(path, part="validation")


def test_a_misspelt_name_is_not_ignored(tmp_path: Path) -> None:
    line = refused(npz(tmp_path / "a.npz", left=X, rigth=X), TWO_IN, TWO_OUT)
    assert "has 'left' and 'rigth', but no array for the input 'right'" in line
    line = refused(npz(tmp_path / "b.npz", left=X, right=X[:, :2], pirce=Y), TWO_IN, TWO_OUT)
    assert "has 'pirce', which fits nothing" in line
    assert "was given left, right" in line
    assert "'kind' and 'price'" in line
    assert "fits nothing" in refused(npz(tmp_path / "c.npz", x=X, weights=Y))
    assert "no array for the input 'features'" in refused(npz(tmp_path / "d.npz", first=X, second=X))
    assert "both of them targets" in refused(npz(tmp_path / "e.npz", x=X, kind=Y, y_kind=Y))


def test_class_names_of_a_file(tmp_path: Path) -> None:
    rows = given(tmp_path, {"x": X, "class_names": np.array(["ant", "bee", "cat"])})
    assert rows.class_names == ("ant", "bee", "cat")
    assert given(tmp_path, {"x": X, "class_names": np.array([b"no", b"yes"])}, outputs=ONE).class_names == ("no", "yes")
    for names, wrong in (
        (["ant", "bee"], "has 2 class names, expected 3"),
        (["ant", "bee", "ant"], "the classes 0 and 2 are both called 'ant'"),
        (["ant", "", "cat"], "the name of class 1 is ''"),
        ([1, 2, 3], "expected a list of texts"),
        ([["ant", "bee", "cat"]], "expected a list of texts"),
    ):
        assert wrong in refused(npz(tmp_path / "bad.npz", x=X, class_names=np.array(names)))


# Shapes


def test_a_channel_axis_comes_and_goes(tmp_path: Path) -> None:
    flat = TensorSpec("image", (None, 28, 28), "float32")
    deep = TensorSpec("image", (None, 28, 28, 1), "float32")
    images = np.arange(3 * 784, dtype=np.float32).reshape(3, 28, 28)
    for saved in (images, images[..., np.newaxis]):
        assert same(given(tmp_path, {"x": saved}, flat, []).inputs["image"], images)
        assert same(given(tmp_path, {"x": saved}, deep, []).inputs["image"], images[..., np.newaxis])


def test_free_sizes_take_any(tmp_path: Path) -> None:
    for length in (1, 7):
        signal = np.ones((2, length, 1), np.float32)
        assert same(given(tmp_path, {"x": signal}, SIGNAL, []).inputs["signal"], signal)
        assert same(given(tmp_path, {"x": signal[..., 0]}, SIGNAL, []).inputs["signal"], signal)


def test_a_fixed_batch_is_no_bound_on_rows(tmp_path: Path) -> None:
    assert given(tmp_path, {"x": X}, TensorSpec("features", (4, 4), "float32")).count == 6


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        ((28, 28), "one row of shape (28, 28), expected (batch, 28, 28); add the batch axis: array[numpy.newaxis]"),
        ((5, 784), "got shape (5, 784), expected (batch, 28, 28); array.reshape(-1, 28, 28)"),
        ((5, 32, 32), "resize or cut the rows"),
        ((5, 28, 28, 3), "got shape (5, 28, 28, 3)"),
        ((0, 28, 28), "no rows (shape (0, 28, 28))"),
        ((5, 28, 0), "rows without values"),
        ((), "got shape ()"),
    ],
)
def test_wrong_shapes(tmp_path: Path, shape: tuple[int, ...], wrong: str) -> None:
    assert wrong in refused(npz(tmp_path / "a.npz", x=np.zeros(shape, np.float32)), IMAGE, CLASSES)


def test_counts_that_differ(tmp_path: Path) -> None:
    line = refused(npz(tmp_path / "a.npz", left=X, right=X[:5, :2]), TWO_IN, TWO_OUT)
    assert "6 rows of input 'left', 5 rows of input 'right'" in line
    assert "5 rows of the targets of 'kind'" in refused(npz(tmp_path / "b.npz", x=X, y=Y[:5]))


# Dtypes


@property_of(
    data=st.data(),
    kind=st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]),
    order=st.sampled_from("<>"),
    fortran=st.booleans(),
    compressed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_numbers_survive(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    kind: str,
    order: str,
    fortran: bool,
    compressed: bool,
) -> None:
    """Whatever byte order and memory order numbers are saved in, a model of their dtype gets their values."""
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=4, max_side=5))
    elements: Any = {"allow_nan": False, "allow_infinity": False} if kind[0] == "f" else None
    native = data.draw(hnp.arrays(np.dtype(kind), shape, elements=elements))
    saved = native.astype(np.dtype(order + kind), order="F" if fortran else "C")
    folder = tmp_path_factory.mktemp("numbers")
    (np.savez_compressed if compressed else np.savez)(folder / "a.npz", x=saved)
    np.save(folder / "a.npy", saved)
    spec = TensorSpec("in", (None, *shape[1:]), np.dtype(kind).name)
    for path in (folder / "a.npz", folder / "a.npy"):
        array = read(path, spec, []).inputs["in"]
        assert same(array, native)
        assert array.flags.c_contiguous
        assert array.dtype.isnative
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("saved", "wanted", "got"),
    [
        (np.arange(4, dtype=np.int64), "int32", "int32"),
        (np.arange(4, dtype=np.uint64), "int8", "int8"),
        (np.arange(4, dtype=np.int16), "float32", "float32"),
        (np.arange(4, dtype=np.int64), "float16", "float16"),
        (np.arange(4, dtype=np.float64) / 3, "float32", "float32"),
        (np.arange(4, dtype=np.float32) / 3, "float16", "float16"),
        (np.arange(4, dtype=np.float32) / 3, "float64", "float64"),
        (np.arange(4, dtype=np.uint8), "float32", "uint8"),
        (np.arange(4, dtype=np.uint8), "int32", "int32"),
        (np.array([True, False, True, True]), "bool", "bool"),
    ],
)
def test_dtypes_that_fit(
    tmp_path: Path, saved: NDArray[Any], wanted: str, got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TensorSpec("in", (None, 4), wanted)
    rows = np.repeat(saved[np.newaxis], 5, axis=0)
    for piece in (1, 40, 10**6):  # bytes looked at in one go
        monkeypatch.setattr("toolkit.datasets.fitting._STEP", piece)
        assert same(given(tmp_path, {"x": rows}, spec, []).inputs["in"], rows.astype(got))


@pytest.mark.parametrize(
    ("saved", "wanted", "wrong"),
    [
        (np.array([[300]]), "uint8", "(0 to 255), but the values run from 300 to 300"),
        (np.array([[-1]]), "uint32", "but the values run from -1 to -1"),
        (np.array([[2**24 + 1]]), "float32", "the value 16777217, which float32 cannot hold"),
        (np.array([[2**63 - 1]]), "float64", "cannot hold"),
        (np.array([[2**64 - 1]], np.uint64), "float64", "cannot hold"),
        (np.array([[70000]]), "float16", "cannot hold"),
        (np.array([[1e39]]), "float32", "cannot hold"),
        (np.array([[1.0]]), "int32", "round or check the values, then array.astype('int32')"),
        (np.array([[0.5]], np.float32), "uint8", "got float32, expected uint8"),
        (np.array([[True]]), "float32", "array.astype('float32')"),
        (np.array([[1]]), "bool", "array.astype('bool')"),
        (np.array([["a"]]), "float32", "expected numbers"),
        (np.array([[1j]]), "float32", "holds dtype complex128"),
        (np.array([["2020-01-01"]], "M8[D]"), "float32", "holds dtype datetime64[D]"),
        (np.array([[(1, 2.0)]], [("a", "i4"), ("b", "f4")]), "float32", "records with named fields"),
        (np.array([[(1,)]], [("Zähler", "i4"), ("数", "i4")][:1]), "float32", "records with named fields"),
        (np.array([[1]]), "string", "takes string, which no data file can give"),
    ],
)
def test_dtypes_that_do_not(tmp_path: Path, saved: NDArray[Any], wanted: str, wrong: str) -> None:
    assert wrong in refused(npz(tmp_path / "a.npz", x=saved), TensorSpec("in", (None, 1), wanted), [])


def test_nan_and_infinity(tmp_path: Path) -> None:
    spoilt = np.repeat(X, 50, axis=0)
    spoilt[7, 1], spoilt[200, 3] = np.nan, np.inf
    line = refused(npz(tmp_path / "a.npz", x=spoilt))
    assert "input 'features' has NaN or infinity in 2 of 300 rows (first in row 7)" in line
    np.save(tmp_path / "a.npy", spoilt.astype(np.float64))
    assert "in 2 of 300 rows" in refused(tmp_path / "a.npy")
    assert "the targets of 'price' has NaN" in refused(npz(tmp_path / "b.npz", x=X, y=np.full(6, np.nan)), outputs=ONE)


def test_nan_is_found_in_every_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.datasets.fitting._STEP", 32)  # two rows of four floats
    spoilt = X.copy()
    spoilt[3, 0] = spoilt[5, 0] = np.nan
    assert "in 2 of 6 rows (first in row 3)" in refused(npz(tmp_path / "a.npz", x=spoilt))


def test_what_a_float_cannot_hold_is_found_in_every_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.datasets.fitting._STEP", 64)
    for place in range(6):
        large = np.zeros((6, 4), np.int64)
        large[place, 2] = 2**24 + 1
        assert "the value 16777217" in refused(npz(tmp_path / "a.npz", x=large))


# Targets


@pytest.mark.parametrize(
    ("saved", "spec", "expected"),
    [
        (Y, THREE, Y.astype(np.int64)),
        (Y.reshape(-1, 1).astype(np.uint8), THREE, Y.astype(np.int64)),
        (Y.astype(np.float32), THREE, Y.astype(np.int64)),
        (np.eye(3)[Y], THREE, Y.astype(np.int64)),
        (np.eye(3, dtype=bool)[Y], THREE, Y.astype(np.int64)),
        (np.array([[0, 1, 1]] * 6), THREE, np.array([[0, 1, 1]] * 6, np.int64)),
        (X[:, :3], THREE, X[:, :3].copy()),
        (X[:, :3].astype(np.float64), THREE, X[:, :3].copy()),
        (Y > 0, ONE, (Y > 0).astype(np.int64).reshape(-1, 1)),
        ((Y > 0).astype(np.float32), ONE, (Y > 0).astype(np.int64).reshape(-1, 1)),
        (Y, ONE, Y.astype(np.float32).reshape(-1, 1)),
        (X[:, :1], ONE, X[:, :1].copy()),
        (X, TensorSpec("again", (None, 4, 1), "float32"), X[..., np.newaxis].copy()),
        (Y.reshape(-1, 1, 1), TensorSpec("again", (None, 1, 1), "int32"), Y.astype(np.int64).reshape(-1, 1, 1)),
    ],
)
def test_targets(tmp_path: Path, saved: NDArray[Any], spec: TensorSpec, expected: NDArray[Any]) -> None:
    assert same(given(tmp_path, {"x": X, "y": saved}, outputs=spec).targets[spec.name], expected)


@pytest.mark.parametrize(
    ("saved", "spec", "wrong"),
    [
        (Y + 1, THREE, "got the class 3, expected 0 to 2; number the classes from 0 on"),
        (Y - 1, THREE, "got the class -1, expected 0 to 2"),
        (Y - 1, TensorSpec("kind", (None, None), "float32"), "got the class -1, expected 0 or more"),
        (Y + 0.5, THREE, "with the value 0.5, expected a whole number"),
        (X, THREE, "got shape (6, 4), expected (batch, 3)"),
        (X, ONE, "got shape (6, 4), expected (n,) or (n, 1)"),
        (np.int64(3), THREE, "a single number"),
        (np.array(["ant"] * 6), THREE, "expected numbers"),
        (np.array(["ant"] * 6, object), THREE, "Python objects"),
        (np.full(6, 2**24 + 1), ONE, "float32 cannot hold"),
    ],
)
def test_targets_that_fit_nothing(tmp_path: Path, saved: Any, spec: TensorSpec, wrong: str) -> None:
    assert wrong in refused(npz(tmp_path / "a.npz", x=X, y=saved), outputs=spec)


# Some of the rows


def test_taking_rows(tmp_path: Path) -> None:
    rows = given(tmp_path, {"x": X, "y": Y, "class_names": np.array(["ant", "bee", "cat"])})
    few: Rows = rows.take([4, 0, 4])
    assert same(few.inputs["features"], X[[4, 0, 4]])
    assert few.targets["kind"].tolist() == [1, 0, 1]
    assert (few.count, few.class_names, few.source) == (3, rows.class_names, rows.source)
    assert same(rows.take(slice(1, 6, 2)).inputs["features"], np.ascontiguousarray(X[1:6:2]))
    assert rows.take(np.array([5])).count == 1
    assert np.shares_memory(rows.take(slice(2, 4)).inputs["features"], rows.inputs["features"])
    with pytest.raises(DataError, match="has rows 0 to 5"):
        rows.take([6])
    with pytest.raises(DataError, match="expected row numbers"):
        rows.take(np.array([True] * 6))
    with pytest.raises(DataError, match="none was taken"):
        rows.take([])
    with pytest.raises(DataError, match="none was taken"):
        rows.take(slice(6, None))


# Places


def test_places_that_hold_nothing(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.npz")
    assert "is a folder without images" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")
    assert "File name too long" in refused(tmp_path / ("a" * 300))
    with pytest.raises(MissingError, match="a path named with nothing does not exist"):
        read_rows("", [FOUR], [])


def test_a_link_is_followed(tmp_path: Path) -> None:
    npz(tmp_path / "real.npz", x=X)
    (tmp_path / "link").symlink_to(tmp_path / "real.npz")
    assert same(read(tmp_path / "link").inputs["features"], X)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    assert "does not exist" in refused(tmp_path / "dangling")
