"""The diagram: well-formed, nothing overflows or overlaps, and nothing of another kind is overwritten."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import REFERENCE, toolkit
from toolkit.errors import UsageError
from toolkit.inspection import check_target, inspect_path, write_diagram
from toolkit.inspection.diagram import draw
from toolkit.inspection.graph import INPUT, Graph, Node
from toolkit.inspection.keras_models import inspect_keras
from toolkit.inspection.layout import place, ranks_of
from toolkit.inspection.neurons import as_columns
from toolkit.inspection.svg import fitted, text_width
from toolkit.keras_model import import_keras, open_model

if TYPE_CHECKING:
    from pathlib import Path

_SVG = "{http://www.w3.org/2000/svg}"
_SIZES = {"name": (12, True), "title": (15, True), "small": (11, False), "frame-name": (11, False)}


def _parsed(drawn: str) -> ET.Element:
    return ET.fromstring(drawn)  # noqa: S314 - our own


def _texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{_SVG}text")]


def test_the_mlp_is_drawn_as_neurons(tmp_path: Path) -> None:
    target = tmp_path / "model.svg"
    finished = toolkit("inspect", REFERENCE / "model.int8.onnx", "--diagram", target)
    assert finished.code == 0, finished.err
    root = _parsed(target.read_text())
    said = _texts(root)
    for text in ("784 inputs", "300 neurons", "100 neurons", "10 neurons", "relu", "softmax", "int8", "Ankle boot"):
        assert text in said
    circles = [c.get("class") for c in root.iter(f"{_SVG}circle")]
    # Ten of each long layer with three dots between, and all ten of the last.
    assert [circles.count(kind) for kind in ("input", "weights", "output", "dots")] == [10, 20, 10, 9]
    webs = [p.get("d", "").count("M") for p in root.iter(f"{_SVG}path") if p.get("class") == "web"]
    assert webs == [100, 100, 100]
    assert "prefers-color-scheme: dark" in target.read_text()


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "model.int8.onnx"])
def test_each_file_of_the_mlp_shows_the_same_neurons(name: str) -> None:
    columns = as_columns(inspect_path(REFERENCE / name).files[-1].graph)
    assert columns is not None
    assert [column.count for column in columns] == [784, 300, 100, 10]
    assert [column.name for column in columns] == ["image", "hidden_1", "hidden_2", "output"]
    for column, activation in zip(columns[1:], ("relu", "relu", "softmax"), strict=True):
        assert activation in column.lines


def _facts(model: Any) -> Graph:
    return inspect_keras(open_model(model), "m.keras", 0).graph


def _branches() -> Any:
    keras = import_keras()
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same"), layers.ReLU()], name="inner")
    one, two = keras.Input((8, 8, 4), name="picture"), keras.Input((3,), name="numbers")
    summed = layers.Add(name='<script>alert(1) & "more"')([inner(one), one])
    flat = layers.Flatten()(summed)
    both = layers.Concatenate()([flat, two])
    return keras.Model([one, two], [layers.Dense(2, name="a")(both), layers.Dense(1, name="b" * 90)(both)])


def test_any_other_model_is_drawn_as_boxes() -> None:
    graph = _facts(_branches())
    assert as_columns(graph) is None
    drawn = draw(graph)
    root = _parsed(drawn)
    assert "<script" not in drawn
    names = [t.text for t in root.iter(f"{_SVG}title")]
    assert any('<script>alert(1) & "more"' in (name or "") for name in names)
    boxes = _boxes(root)
    assert len(boxes) == len(graph.nodes)
    frames = [r for r in root.iter(f"{_SVG}rect") if r.get("class") == "frame"]
    assert len(frames) == 1
    assert "inner" in _texts(root)
    for one, two in itertools.combinations(boxes, 2):
        assert not _overlap(one, two)


def _boxes(root: ET.Element) -> list[tuple[float, float, float, float]]:
    kinds = ("box", "weights", "input", "output")
    found = [r for r in root.iter(f"{_SVG}rect") if r.get("class") in kinds]
    return [tuple(float(r.get(key, "")) for key in ("x", "y", "width", "height")) for r in found]  # type: ignore[misc]


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return (
        one[0] < two[0] + two[2] and two[0] < one[0] + one[2] and one[1] < two[1] + two[3] and two[1] < one[1] + one[3]
    )


@pytest.mark.parametrize("name", ["m" * 200, "漢字" * 40, "a/b/" * 30, "W" * 50, "é" * 99, "tiny"])
def test_text_stays_inside_its_box(name: str) -> None:
    graph = Graph("t", (Node("x", "Input", (3,), role=INPUT), Node(name, name, (1,) * 40, 10**30)), ((0, 1),))
    root = _parsed(draw(graph))
    groups = [
        g for g in root.iter(f"{_SVG}g") if g.find(f"{_SVG}rect") is not None and g.find(f"{_SVG}title") is not None
    ]
    assert len(groups) == 2
    for group in groups:
        box = group.find(f"{_SVG}rect")
        assert box is not None
        for text in group.iter(f"{_SVG}text"):
            size, bold = _SIZES[text.get("class", "")]
            assert text_width(text.text or "", size, bold=bold) <= float(box.get("width", "")) - 20


@given(st.text(max_size=60), st.floats(10, 300))
def test_fitted_text_fits_and_any_text_makes_a_picture(said: str, width: float) -> None:
    short = fitted(said, 12, width)
    assert text_width(short, 12) <= max(width, text_width("…", 12))
    _parsed(draw(Graph(said, (Node(said, said, None),), ())))


def test_control_characters_and_halves_of_characters_are_replaced() -> None:
    drawn = draw(Graph("a\x00b\ud800", (Node("n\x1b\u202e", "T", (None,)),), ()))
    _parsed(drawn)
    drawn.encode()
    assert not set(drawn) & {"\x00", "\x1b", "\u202e"}


@st.composite
def _graphs(draw_: Any) -> tuple[int, list[tuple[int, int]]]:
    count = draw_(st.integers(1, 25))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, sorted(set(draw_(st.lists(st.sampled_from(pairs), max_size=40)))) if pairs else []


@given(_graphs(), st.integers(0, 9))
def test_boxes_never_overlap_and_lines_run_down(graph: tuple[int, list[tuple[int, int]]], seed: int) -> None:
    count, edges = graph
    sizes = [(40.0 + 37 * ((i * 7 + seed) % 5), 62.0) for i in range(count)]
    placed = place(sizes, edges)
    boxes = [(x, y, *size) for (x, y), size in zip(placed.boxes, sizes, strict=True)]
    for one, two in itertools.combinations(boxes, 2):
        assert not _overlap(one, two)
    for x, y, wide, tall in boxes:
        assert x >= -0.01
        assert y >= 0
        assert x + wide <= placed.width + 0.01
        assert y + tall <= placed.height + 0.01
    ranks = ranks_of(count, edges)
    assert all(ranks[start] < ranks[end] for start, end in edges)
    for line in placed.lines:
        assert line[0][1] < line[1][1]


def test_a_long_chain_is_broken_into_columns() -> None:
    nodes = tuple(Node(f"layer_{i}", "Conv2D", (8, 8, i), 100) for i in range(100))
    root = _parsed(draw(Graph("long", nodes, tuple((i, i + 1) for i in range(99)))))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    assert 0.5 < width / height < 2
    columns = {x for x, *_ in _boxes(root)}
    assert len(columns) > 2
    lines = [p for p in root.iter(f"{_SVG}path") if p.get("class") == "line"]
    assert len(lines) == 99


def test_too_many_boxes_are_refused() -> None:
    nodes = tuple(Node(str(i), "Relu", None) for i in range(3001))
    with pytest.raises(UsageError, match="more than the 3,000"):
        draw(Graph("huge", nodes, ()))


def test_only_pictures_are_replaced(tmp_path: Path) -> None:
    inspection = inspect_path(REFERENCE / "model.onnx")
    target = tmp_path / "model.svg"
    assert write_diagram(inspection, target) == str(REFERENCE / "model.onnx")
    first = target.read_bytes()
    write_diagram(inspection, target)
    assert target.read_bytes() == first
    target.write_text('<?xml version="1.0"?>\n<!-- drawn elsewhere -->\n<svg/>')
    check_target(target)
    for content in ("", "my notes", "<html><svg></svg></html>"):
        target.write_text(content)
        finished = toolkit("inspect", REFERENCE / "model.onnx", "--diagram", target)
        assert finished.code == 2
        assert "no SVG picture" in finished.error_line
        assert target.read_text() == content
    finished = toolkit("inspect", REFERENCE / "model.onnx", "--diagram", tmp_path / "model.png")
    assert finished.code == 2
    assert ".svg" in finished.error_line
    assert [path.name for path in tmp_path.iterdir()] == ["model.svg"]
    assert toolkit("inspect", REFERENCE / "model.onnx", "--diagram", tmp_path).code == 2
