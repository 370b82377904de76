"""What exported files give: probabilities, logits or both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from tests.conftest import REFERENCE, toolkit
from toolkit.keras_model import import_keras
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist


@pytest.fixture(scope="module")
def by_output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reference model exported with each choice of outputs."""
    folder = tmp_path_factory.mktemp("outputs")
    for output in ("probabilities", "logits", "both"):
        finished = toolkit("export", REFERENCE, "--quantize", "-o", folder / output, "--output", output)
        assert finished.code == 0, finished.err
    return {output: folder / output for output in ("probabilities", "logits", "both")}


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_logits_and_probabilities_belong_together(
    by_output: dict[str, Path], fashion_mnist: FashionMnist, kind: str
) -> None:
    images = fashion_mnist.test_images[:500]
    found = {output: Predictor(folder, kind=kind).predict_batch(images) for output, folder in by_output.items()}
    assert found["probabilities"].logits is None
    both, logits = found["both"], found["logits"]
    assert both.logits is not None
    assert logits.logits is not None
    np.testing.assert_array_equal(both.probabilities, found["probabilities"].probabilities)
    np.testing.assert_array_equal(both.logits, logits.logits)
    np.testing.assert_allclose(logits.probabilities, both.probabilities, rtol=0, atol=1e-6)
    exponentials = np.exp(both.logits.astype(np.float64))
    np.testing.assert_allclose(
        both.probabilities, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=0, atol=1e-6
    )
    for batch in found.values():
        np.testing.assert_array_equal(batch.labels, both.labels)


@pytest.mark.parametrize("output", ["logits", "both"])
def test_one_image_gives_the_same_as_a_batch(
    by_output: dict[str, Path], fashion_mnist: FashionMnist, output: str
) -> None:
    predictor = Predictor(by_output[output])
    images = fashion_mnist.test_images[:50]
    for image, expected in zip(images, predictor.predict_batch(images), strict=True):
        answer = predictor.predict(image)
        assert answer.label == expected.label == predictor.classify(image)
        assert answer.confidence == expected.confidence
        np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
        assert answer.logits is not None
        assert expected.logits is not None
        np.testing.assert_array_equal(answer.logits, expected.logits)
    kept = predictor.predict(images[0]).logits
    before = np.array(kept)
    predictor.predict(images[1])
    np.testing.assert_array_equal(kept, before)  # the caller's own copy


def test_the_outputs_are_in_the_manifest_and_the_graph(by_output: dict[str, Path]) -> None:
    expected = {"probabilities": ["probabilities"], "logits": ["logits"], "both": ["probabilities", "logits"]}
    for output, folder in by_output.items():
        manifest = json.loads((folder / "manifest.json").read_text())
        assert [entry["name"] for entry in manifest["outputs"]] == expected[output]
        for name in ("model.onnx", "model.int8.onnx"):
            graph = onnx.load(folder / name).graph
            assert [value.name for value in graph.output] == expected[output]
            assert any(node.op_type == "Softmax" for node in graph.node) == (output != "logits")
    finished = toolkit("predict", "-m", by_output["both"], REFERENCE / "samples" / "8-bag.png", "--json")
    answer = json.loads(finished.out)
    assert int(np.argmax(answer["logits"])) == answer["label"] == 8


def test_a_model_without_softmax_has_no_logits(tmp_path: Path) -> None:
    keras = import_keras()
    layers = [keras.layers.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10, activation="sigmoid")]
    keras.Sequential(layers).save(tmp_path / "sigmoid.keras")
    finished = toolkit("export", tmp_path / "sigmoid.keras", "--output", "logits", "-o", tmp_path / "out")
    assert finished.code == 2
    assert "ends in Sigmoid, not in a Softmax" in finished.error_line
    assert not (tmp_path / "out").exists()


def test_a_softmax_alone_has_no_logits_but_its_input(tmp_path: Path) -> None:
    keras = import_keras()
    keras.Sequential([keras.layers.Input((4,), name="x"), keras.layers.Softmax()]).save(tmp_path / "softmax.keras")
    finished = toolkit("export", tmp_path / "softmax.keras", "--output", "both", "-o", tmp_path / "out")
    assert finished.code == 2
    assert "its logits are its input" in finished.error_line
    assert not (tmp_path / "out").exists()
