"""``toolkit predict`` and ``toolkit bench`` with models of every kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests import small_graphs
from tests.conftest import toolkit
from tests.small_graphs import write
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(11)
COLOURS = ("red", "green", "blue")
TWO_OUTPUTS = {"brightness": ("values", None), "kind": ("classification", (0, 1))}


def _floats(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def _lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return write(tmp_path / "two.onnx", small_graphs.TWO, outputs=TWO_OUTPUTS, class_names=COLOURS)


def test_several_inputs_come_by_name(two: Path, tmp_path: Path) -> None:
    rows = {"image": _floats(3, 4, 3), "rows": RANDOM.integers(1, 9, (3, 2), np.int32)}
    np.savez(tmp_path / "rows.npz", **rows)
    np.savez(tmp_path / "one.npz", image=rows["image"][0], rows=rows["rows"][0])
    np.savez(tmp_path / "part.npz", image=rows["image"])
    done = toolkit("predict", tmp_path / "rows.npz", tmp_path / "one.npz", "-m", two, "--json")
    assert done.code == 0, done.err
    expected = Predictor(two).predict_batch(rows)
    lines = _lines(done.out)
    for line, answer in zip(lines, [*expected, expected[0]], strict=True):
        assert (line["label"], line["class_name"]) == (answer.label, answer.class_name)
        for name, values in answer.outputs.items():
            np.testing.assert_allclose(line["outputs"][name], values, rtol=1e-6)
    done = toolkit("predict", tmp_path / "rows.npz", "-m", two, "--top", 2)
    assert done.code == 0
    assert all(COLOURS[answer.label] in done.out for answer in expected)
    np.save(tmp_path / "image.npy", rows["image"])
    Image.new("RGB", (3, 4)).save(tmp_path / "image.png")
    for name, says in (
        ("part.npz", "no array for the input 'rows'"),
        ("image.npy", "give an .npz with an array for each"),
        ("image.png", "give an .npz with an array for each"),
    ):
        done = toolkit("predict", tmp_path / name, "-m", two)
        assert done.code == 2
        assert says in done.error_line


def test_an_autoencoder_shows_its_outputs(tmp_path: Path) -> None:
    model = write(tmp_path / "a.onnx", small_graphs.AUTOENCODER, outputs={"again": ("values", None)})
    rows = _floats(23, 4)
    np.save(tmp_path / "rows.npy", rows)
    done = toolkit("predict", tmp_path / "rows.npy", "-m", model, env={"COLUMNS": "200"})
    assert done.code == 0, done.err
    assert "first values" in done.out
    first = np.tanh(rows[0])
    row = next(line for line in done.out.splitlines() if "rows.npy[0]" in line)
    for value in (first[0], first[3], first.min(), first.max()):
        assert f"{value:.4g}"[:5] in row
    assert "and 3 more rows" in done.out
    assert "rows.npy[22]" in toolkit("predict", tmp_path / "rows.npy", "-m", model, "--all", env={"COLUMNS": "200"}).out
    lines = _lines(toolkit("predict", tmp_path / "rows.npy", "-m", model, "--json").out)
    np.testing.assert_allclose([line["outputs"]["again"] for line in lines], np.tanh(rows), rtol=1e-5)
    assert lines[0]["label"] is None
    done = toolkit("predict", tmp_path / "rows.npy", "-m", model, "--top", 1)
    assert done.code == 2
    assert "names none (it gives again)" in done.error_line


def test_a_fixed_batch_and_integer_tokens(tmp_path: Path) -> None:
    fixed = write(tmp_path / "fixed.onnx", small_graphs.FIXED)
    np.save(tmp_path / "x.npy", _floats(7, 6))
    assert len(_lines(toolkit("predict", tmp_path / "x.npy", "-m", fixed, "--json").out)) == 7
    tokens = write(tmp_path / "tokens.onnx", small_graphs.TOKENS, inputs={"tokens": (0, 4)})
    np.save(tmp_path / "t.npy", np.array([[1, 1, 1], [3, 3, 3]]))  # int64, as numpy makes it
    assert len(_lines(toolkit("predict", tmp_path / "t.npy", "-m", tokens, "--json").out)) == 2
    np.save(tmp_path / "far.npy", np.array([[1, 1, 9]]))
    done = toolkit("predict", tmp_path / "far.npy", tmp_path / "t.npy", "-m", tokens, "--json")
    assert done.code == 2
    assert "far.npy: input 'tokens': values run from 1 to 9" in done.error_line
    assert len(done.out.splitlines()) == 2


def test_a_picture_for_any_size_and_colour(tmp_path: Path) -> None:
    model = write(
        tmp_path / "p.onnx", small_graphs.PICTURE, outputs={"colour": ("classification", None)}, class_names=COLOURS
    )
    exact = RANDOM.integers(0, 256, (8, 6, 3), np.uint8)
    Image.fromarray(exact).save(tmp_path / "exact.png")
    Image.new("RGB", (60, 80), (10, 200, 30)).save(tmp_path / "photo.png")
    Image.new("RGBA", (6, 8), (10, 20, 200, 0)).save(tmp_path / "clear.png")
    Image.new("L", (6, 8), 77).save(tmp_path / "grey.png")
    names = [tmp_path / f"{name}.png" for name in ("exact", "photo", "clear", "grey")]
    done = toolkit("predict", *names, "-m", model, "--json")
    assert done.code == 0, done.err
    found = [line["outputs"]["colour"] for line in _lines(done.out)]
    np.testing.assert_allclose(found[0], exact.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found[1:], [[10, 200, 30], [255] * 3, [77] * 3], rtol=1e-5)
    assert [line["class_name"] for line in _lines(done.out)][1] == "green"
    notes = done.err.splitlines()
    assert len(notes) == 3  # nothing was done to the first
    assert notes[0].endswith("photo.png: 60x80 RGB picture resized to 6x8")
    assert "transparency laid on white" in notes[1]
    assert "made RGB" in notes[2]


def test_a_picture_for_a_model_of_floats(tmp_path: Path) -> None:
    text = "(float[n,2,2] x) => (float[n,2,2] y) { y = Identity (x) }"
    pixels = np.array([[0, 255], [51, 102]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    for high, low in ((1, 0), (1, -1)):
        model = write(tmp_path / "scaled.onnx", text, inputs={"x": (low, high)})
        done = toolkit("predict", tmp_path / "p.png", "-m", model, "--json")
        (line,) = _lines(done.out)
        np.testing.assert_allclose(line["outputs"]["y"], low + pixels / 255 * (high - low), atol=1e-6)
        assert f"pixels scaled from 0..255 to {low}..{high}" in done.err
    done = toolkit("predict", tmp_path / "p.png", "-m", write(tmp_path / "plain.onnx", text))
    assert done.code == 2
    assert "export with --input-scale" in done.error_line
    done = toolkit("predict", tmp_path / "p.png", "-m", write(tmp_path / "rows.onnx", small_graphs.LOGITS))
    assert done.code == 2
    assert "give rows as .npy" in done.error_line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello, world", "expected an .npz, .npy or idx file"),
        (b"\x93NUMPY\x01\x00", "damaged .npy header"),
        (b"PK\x03\x04 and no more", "no whole zip archive"),
    ],
)
def test_what_holds_no_rows_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "rows").write_bytes(content)
    done = toolkit("predict", tmp_path / "rows", "-m", write(tmp_path / "m.onnx", small_graphs.LOGITS))
    assert done.code == 2
    assert says in done.error_line


@pytest.mark.slow
def test_bench_of_every_kind(two: Path, tmp_path: Path) -> None:
    cases: list[tuple[Path, list[object], str, list[tuple[Any, ...]], list[int]]] = [
        (two, [], "classify", [("float32", [4, 3], 0, 1), ("int32", [2], 0, 1)], [1, 4, 16, 64, 256, 1024]),
        (
            write(tmp_path / "fixed.onnx", small_graphs.FIXED),
            [],
            "classify",
            [("float32", [6], 0, 1)],
            [4, 16, 64, 256, 1024],
        ),
        (
            write(tmp_path / "tokens.onnx", small_graphs.TOKENS, inputs={"tokens": (1, 4)}),
            [],
            "classify",
            [("int32", [3], 1, 4)],
            [1, 4, 16, 64, 256, 1024],
        ),
        (
            write(tmp_path / "free.onnx", small_graphs.FREE, outputs={"probabilities": ("values", None)}),
            ["--size", 9],
            "predict",
            [("float32", [9, 2], 0, 1)],
            [1, 4, 16, 64, 256, 1024],
        ),
    ]
    for model, options, call, fed, batches in cases:
        done = toolkit("bench", model, "--quick", "--rounds", 2, "--calls", 500, "--json", *options)
        assert done.code == 0, done.err
        (file,) = json.loads(done.out)["files"]
        assert file["call"] == call
        assert [(i["dtype"], i["shape"], i["low"], i["high"]) for i in file["inputs"]] == fed
        assert [point["batch"] for point in file["scenarios"]["batches"]["sizes"]] == batches
        assert file["scenarios"]["cold-start"]["total_ms"] > 0
    done = toolkit("bench", cases[3][0], "--quick")
    assert "64 x 2, seeded random 0 to 1; the file says no range; free dimensions are 64" in done.out
    done = toolkit("bench", two, "--quick", "--size", 9)
    assert done.code == 2
    assert "no free dimension" in done.error_line


def test_a_size_that_does_not_suit_is_said(tmp_path: Path) -> None:
    text = "(float[n,1,length] x) => (float[n,1,m] y) <float[1,1,100] w = {%s}> { y = Conv (x, w) }"
    model = write(tmp_path / "m.onnx", text % ", ".join(["1"] * 100))
    done = toolkit("bench", model, "--quick")
    assert done.code == 2
    assert "free dimensions of size 64 do not suit" in done.error_line
    assert toolkit("bench", model, "--quick", "--size", 200).code == 0
