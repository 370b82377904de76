"""idx files of every type, and files of class names."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.datasets_helpers import CLASSES, IMAGE, read, refused, same
from toolkit.datasets import read_class_names
from toolkit.errors import DataError, MissingError
from toolkit.idx import pack
from toolkit.keras_model import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist


def _idx_of_type(code: int, array: NDArray[Any]) -> bytes:
    header = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.tobytes()


def test_real_idx_files(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    images, labels = fashion_mnist.test_images, fashion_mnist.test_labels
    for suffix, packed in (("", bytes), (".gz", gzip.compress)):
        path = tmp_path / f"few-images-idx3-ubyte{suffix}"
        path.write_bytes(packed(pack(images[:50])))
        assert read(path, IMAGE, CLASSES).targets == {}
        assert read(path, IMAGE, CLASSES).source == path.name
        beside = tmp_path / f"few-labels-idx1-ubyte{suffix}"
        beside.write_bytes(packed(pack(labels[:50])))
        rows = read(path, IMAGE, CLASSES)
        assert same(rows.inputs["image"], images[:50])
        assert same(rows.targets["probabilities"], labels[:50].astype(np.int64))
        assert rows.source == f"{path.name} with {beside.name}"
        sequence = TensorSpec("again", (None, 28, 28), "float32")
        assert "was left alone" in read(path, IMAGE, sequence).notes[0]
        beside.write_bytes(packed(pack(labels[:49])))
        assert "50 rows of input 'image', 49 rows of the targets" in refused(path, IMAGE, CLASSES)
        beside.write_bytes(packed(pack(labels[:49]))[:-1])
        assert beside.name in refused(path, IMAGE, CLASSES)
        beside.unlink()


def test_dotted_idx_names(tmp_path: Path) -> None:
    (tmp_path / "t-images.idx2-ubyte").write_bytes(pack(np.eye(4, dtype=np.uint8)))
    (tmp_path / "t-labels.idx1-ubyte.gz").write_bytes(gzip.compress(pack(np.array([0, 1, 2, 0], np.uint8))))
    assert read(tmp_path / "t-images.idx2-ubyte").targets["kind"].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, ">u1"), (9, ">i1"), (0xB, ">i2"), (0xC, ">i4"), (0xD, ">f4"), (0xE, ">f8")]
)
def test_every_type_of_idx(tmp_path: Path, code: int, dtype: str) -> None:
    values = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / "whatever"
    path.write_bytes(_idx_of_type(code, values.astype(dtype)))
    spec = TensorSpec("in", (None, 3, 4), np.dtype(dtype).newbyteorder("=").name)
    assert same(read(path, spec, []).inputs["in"], values.astype(spec.dtype))


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (pack(np.zeros((3, 4), np.uint8))[:-1], "fewer bytes than the 12 for uint8 of shape (3, 4)"),
        (pack(np.zeros((3, 4), np.uint8)) + b"\0", "more bytes than the 12"),
        (pack(np.zeros((3, 4), np.uint8))[:9], "within its header"),
        (gzip.compress(pack(np.zeros((3, 4), np.uint8)), mtime=0)[:-4], "cut short"),
        (gzip.compress(pack(np.zeros((3, 4), np.uint8)), mtime=0)[:-8] + b"12345678", "cannot be read"),
        (gzip.compress(pack(np.zeros((3, 4), np.uint8)) + b"\0", mtime=0), "more bytes than the 12"),
        (bytes([0, 0, 8, 2]) + b"\xff" * 8, "expected 4000000000 at most"),
        (bytes([0, 0, 8, 3]) + b"\0" * 4 + b"\xff" * 8, "claims the shape"),
        (bytes([0, 0, 7, 2]) + b"\0" * 8, "begins with b'\\x00\\x00\\x07"),
        (gzip.compress(b"hello", mtime=0), "no idx file is inside"),
    ],
)
def test_bad_idx(tmp_path: Path, data: bytes, wrong: str) -> None:
    path = tmp_path / "rows"
    path.write_bytes(data)
    assert wrong in refused(path)


def test_a_gzip_bomb_of_idx_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(pack(np.zeros((3, 4), np.uint8)) + bytes(200_000_000), 1))
    assert "more bytes" in refused(path)


# Class names


def test_reading_class_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    for text in (
        "T-shirt/top\nänderung\n 数 \n\n\n",
        "\ufeffT-shirt/top\r\nänderung\r\n数",
        '["T-shirt/top", "änderung", "数"]',
    ):
        path.write_bytes(text.encode())
        assert read_class_names(path) == ("T-shirt/top", "änderung", "数")


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "no class names"),
        (b"\n\n", "no class names"),
        (b"[]", "no class names"),
        (b"a\n\nb", "the name of class 1 is ''"),
        (b"a\nb\na\n", "the classes 0 and 2 are both called 'a'"),
        (b"a\x1b[31m\nb", "printable"),
        (b"\xff\xfea\0", "not UTF-8"),
        (b'["a", 1]', "no JSON list of texts"),
        (b'["a", "b"', "begins as a JSON list and is none"),
        (b'[{"a": 1}]', "no JSON list of texts"),
        (b"[" * 100_000, "begins as a JSON list"),
        (b"a" * 10_000_001, "more than"),
    ],
)
def test_bad_class_names(tmp_path: Path, data: bytes, wrong: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=wrong) as caught:
        read_class_names(path)
    assert "\n" not in str(caught.value)


def test_class_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        read_class_names(tmp_path / "none.txt")
    with pytest.raises(DataError, match="is a folder"):
        read_class_names(tmp_path)
