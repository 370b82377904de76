"""Files that are no rows: damaged, hostile or simply something else. One line each, and nothing in them is run."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import REFERENCE, ROOT
from tests.datasets_helpers import FOUR, X, Y, npz, read, refused, same
from toolkit.data_sources import FILES

if TYPE_CHECKING:
    from collections.abc import Callable


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def _npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def _header(text: str, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A .npy header of one's own."""
    size = 2 if version == (1, 0) else 4
    encoded = text.encode()
    return (
        b"\x93NUMPY" + bytes(version) + (len(encoded) if length is None else length).to_bytes(size, "little") + encoded
    )


def _claims(shape: object, descr: object = "<f4", version: tuple[int, int] = (1, 0)) -> bytes:
    return _header(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n", version)


def _zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# Pickles


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle", "mixed"])
def test_a_pickle_is_never_opened(tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "mark"
    trap = np.array([_Trap(mark)], object)
    path = tmp_path / "rows"
    with path.open("wb") as file:
        if kind == "npz":
            np.savez(file, x=trap)
        elif kind == "npy":
            np.save(file, trap)
        elif kind == "pickle":
            pickle.dump(_Trap(mark), file)
        else:
            np.savez(file, x=X, y=Y, class_names=trap)
    line = refused(path)
    assert "pickle" in line
    assert not mark.exists()
    if kind != "pickle":
        np.load(path, allow_pickle=True) if kind == "npy" else np.load(path, allow_pickle=True)["x"]
        assert kind == "mixed" or mark.exists()  # the trap works: somebody who unpickles it falls in


def test_rows_of_several_lengths(tmp_path: Path) -> None:
    ragged = np.empty(2, object)
    ragged[:] = [np.ones(3), np.ones(4)]
    np.savez(tmp_path / "a.npz", x=ragged)
    assert "array 'x' holds Python objects" in refused(tmp_path / "a.npz")
    assert "rows of one length" in refused(tmp_path / "a.npz")


# Damage


def test_every_truncation_of_an_npz_is_refused(tmp_path: Path) -> None:
    whole = npz(tmp_path / "whole.npz", x=X, y=Y).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)


def test_every_truncation_of_an_npy_is_refused(tmp_path: Path) -> None:
    whole = _npy(X)
    path = tmp_path / "cut.npy"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(whole + b"\0")
    assert f"has {len(whole) + 1} bytes, expected {len(whole)}" in refused(path)
    path.write_bytes(whole)
    assert same(read(path).inputs["features"], X)


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bytes_of_an_npz_never_change_values(tmp_path: Path, compressed: bool) -> None:
    """The checksums of a zip archive cover the values; what they do not cover may not change these."""
    path = tmp_path / "flipped.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=X, y=Y)
    whole = path.read_bytes()
    outcomes = []
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            rows = read(path)
        except Exception:  # noqa: BLE001 - the next line looks at it
            outcomes.append(refused(path))
        else:
            assert same(rows.inputs["features"], X)
            assert rows.targets["kind"].tolist() == Y.tolist()
    assert len(outcomes) > len(whole) / 2


def test_an_encrypted_npz(tmp_path: Path) -> None:
    """The flag that says so, in each entry's two headers."""
    data = bytearray(npz(tmp_path / "a.npz", x=X).read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(magic)
        while place >= 0:
            data[place + at] |= 1
            place = data.find(magic, place + 4)
    (tmp_path / "a.npz").write_bytes(data)
    assert "array 'x' is encrypted; save it again" in refused(tmp_path / "a.npz")


def test_another_way_of_packing(tmp_path: Path) -> None:
    """numpy reads what zipfile reads; a method that zipfile does not know is refused."""
    path = _zip(tmp_path / "a.npz", {"x.npy": _npy(X)}, zipfile.ZIP_LZMA)
    assert same(read(path).inputs["features"], X)
    data = bytearray(path.read_bytes())
    data[8] = data[data.find(b"PK\x01\x02") + 10] = 99
    path.write_bytes(data)
    assert "cannot be unpacked" in refused(path)


# Sizes


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    path = _zip(tmp_path / "bomb.npz", {"x.npy": _claims((2**30, 4)) + bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    assert "has 50000077 bytes" in refused(path)
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.npy").write_bytes(_claims((2**30, 4)))
    assert "declares 17.2 GB of values, expected 4 GB at most" in refused(tmp_path / "a.npy")


def test_many_arrays_are_too_large_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.datasets.arrays.LIMIT", 150)
    read(npz(tmp_path / "a.npz", x=X))
    assert "expected 0 GB at most" in refused(npz(tmp_path / "a.npz", x=X, y=X))


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    start = _header("", (2, 0), 2**32 - 1)
    path = _zip(tmp_path / "bomb.npz", {"x.npy": start + b" " * 100_000_000})
    tracemalloc.start()
    assert "damaged .npy header" in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (_header("{'descr': '<f4'}\n"), "damaged .npy header"),
        (_header("__import__('os').abort()\n"), "damaged .npy header"),
        (_header("(" * 5000), "damaged .npy header"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "damaged .npy header"),
        (_claims((3, 0, 10**20)), "claims the shape"),
        (_claims((-1, 4)), "claims the shape"),
        (_claims((2, 4), "|O"), "pickle"),
        (_claims((2, 4), "<c8"), "complex64"),
        (_claims((2, 4), "|V4"), "|V4"),
        (_claims((2, 4), [("a", "<f4")]), "named fields"),
        (_claims((2, 4), version=(3, 0)), "named fields"),
        (_claims((2, 4), "<f4 + evil"), "damaged .npy header"),
    ],
)
def test_headers_that_lie(tmp_path: Path, data: bytes, wrong: str) -> None:
    for path in (tmp_path / "a.npy", _zip(tmp_path / "a.npz", {"x.npy": data})):
        if path.suffix == ".npy":
            path.write_bytes(data)
        line = refused(path)
        assert wrong in line


def test_headers_of_version_two(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, X, version=(2, 0))
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    assert same(read(tmp_path / "a.npy").inputs["features"], X)


# Names in the archive


def test_paths_in_an_npz_lead_nowhere(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    before = sorted(tmp_path.rglob("*"))
    path = _zip(inner / "a.npz", {"x.npy": _npy(X), "../../../evil.npy": _npy(Y), "/tmp/evil.npy": _npy(Y)})  # noqa: S108 - nothing is written there
    assert "which fits nothing" in refused(path)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])
    assert not Path("/tmp/evil.npy").exists()  # noqa: S108 - the point


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", _npy(X))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", _npy(X * 2))
    assert "holds the array 'x' twice" in refused(tmp_path / "a.npz")


# Something else


def _onnx(path: Path) -> None:
    shutil.copy(REFERENCE / "model.onnx", path)


def _keras(path: Path) -> None:
    shutil.copy(REFERENCE / "model.keras", path)


@pytest.mark.parametrize(
    ("name", "make", "wrong"),
    [
        ("model.onnx", _onnx, "is a model, no data"),
        ("model.keras", _keras, "is a .keras model, no data"),
        ("rows.npz", _keras, "is a .keras model, no data"),
        ("rows.csv", b"a,b\n1,2\n", "numpy.loadtxt"),
        ("rows", b"1.5;2.5\n", "numpy.loadtxt"),
        ("rows.npz", b"", "is empty"),
        ("rows.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(100), "a LiteRT (TFLite) model"),
        ("rows.npz", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("rows.npz", b"<!doctype html>", "web page"),
        ("rows.json", b"[[1, 2]]", "JSON"),
        ("rows.mat", b"MATLAB 5.0 MAT-file", "MATLAB"),
        ("rows.parquet", b"PAR1" + bytes(100), "Parquet"),
        ("rows.tar", bytes(257) + b"ustar" + bytes(300), "tar archive"),
        ("rows.npz.gz", gzip.compress(b"PK", mtime=0), "unpack it first"),
        ("rows.tfrecord", bytes(100), "TFRecord"),
        ("cat.png", b"\x89PNG\r\n\x1a\n" + bytes(100), "put it into a folder"),
        ("cat.jpg", b"\xff\xd8\xff\xe0" + bytes(100), "put it into a folder"),
        ("rows.bin", b"\xa1\xb2\xc3\xd4", "which is nothing known"),
        ("rows.zip", {"a/cat.png": b""}, "zip of pictures"),
        ("model.pt", {"archive/data.pkl": b""}, "PyTorch"),
        ("book.xlsx", {"xl/workbook.xml": b""}, "holds 'xl/workbook.xml'"),
        ("rows.npz", {}, "archive without arrays"),
    ],
)
def test_files_of_other_kinds(
    tmp_path: Path, name: str, make: bytes | dict[str, bytes] | Callable[[Path], None], wrong: str
) -> None:
    path = tmp_path / name
    if isinstance(make, bytes):
        path.write_bytes(make)
    elif isinstance(make, dict):
        _zip(path, make)
    else:
        make(path)
    line = refused(path)
    assert wrong in line
    assert name in line


def test_one_file_for_several_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    assert "this one takes 'features' and 'features'" in refused(tmp_path / "a.npy", [FOUR, FOUR])


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_bytes(b"\0")
    assert "is a folder without images" in refused(tmp_path)


def test_folders_of_models(tmp_path: Path) -> None:
    assert "is an exported artifact, no data" in refused(REFERENCE)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert "is a SavedModel, no data" in refused(tmp_path)


def test_what_may_not_be_read() -> None:
    """In a process without root's rights, which would hide what modes forbid."""
    script = """
import os, sys
from pathlib import Path
import numpy as np
from toolkit.datasets import read_class_names, read_rows
from toolkit.keras_model.source import TensorSpec
specs = [TensorSpec("x", (None, 2, 2), "float32")]
def tell(path):
    try:
        read_rows(path, specs, [])
    except Exception as error:
        print(type(error).__name__, error)
os.chdir(sys.argv[1])
try:
    read_rows("pictures", specs, [])  # imports what reads them, while that may be read
except ValueError:
    pass
if os.geteuid() == 0:
    os.setuid(65534)
for path in ("a.npz", "closed", "open", "closed/a.npz", "pictures"):
    tell(path)
try:
    read_class_names("a.npz")
except Exception as error:
    print(type(error).__name__, error)
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        npz(folder / "a.npz", x=X).chmod(0)
        for inner in ("closed", "open/closed", "pictures"):
            (folder / inner).mkdir(parents=True)
        (folder / "pictures" / "cat.png").write_bytes(b"")
        (folder / "pictures" / "cat.png").chmod(0)
        for closed in ("closed", "open/closed"):
            (folder / closed).chmod(0)
        folder.chmod(0o755)
        command = [sys.executable, "-c", script, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        for closed in ("closed", "open/closed"):
            (folder / closed).chmod(0o700)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6, lines
    for line in lines:
        assert line.startswith("UsageError cannot read "), lines
        assert "Permission denied" in line
