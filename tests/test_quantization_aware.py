"""Weights rounded in training are those of the exported file, and a network that was finished so loses less by it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import toolkit
from tests.data_fixtures import first_images
from tests.exporting import PIXEL_CLASSES, PIXELS, export_model
from toolkit.conversion.quantize import INT4_BLOCK, quantize
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.errors import DivergedError
from toolkit.predictor import Predictor
from toolkit.training.recipes import Recipe, TeacherRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist
    from toolkit.training.fit import TrainingResult
    from toolkit.training.history import Epoch

HIDDEN = (40, 12)  # no whole number of blocks in any layer's input
ROUNDED = Recipe(
    name="rounded", hidden=HIDDEN, epochs=6, batch_size=128, optimizer="adam", learning_rate=5e-3, flip=True, shift=1,
    quantization_aware="int4", quantization_epochs=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def few(fashion_mnist: FashionMnist) -> FashionMnist:
    return first_images(fashion_mnist, 4000)


def exported_in_int4(model: Any, folder: Path) -> Path:
    """The int4 file of a Keras model, by the exporter itself."""
    folder.mkdir(exist_ok=True)
    export_model(model, folder / "model.onnx", PIXELS, PIXEL_CLASSES)
    target = folder / "model.int4.onnx"
    quantize(folder / "model.onnx", target, QuantizationRecipe(method="int4"), [])
    return target


def weights_in(path: Path) -> list[NDArray[np.float32]]:
    """The kernels that an int4 file holds, float32 (inputs, outputs), in the graph's order."""
    graph = onnx.load(path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels = []
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            continue
        known = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        assert (known["bits"], known["block_size"], len(node.input)) == (4, INT4_BLOCK, 3)  # no zero points
        packed = arrays[node.input[1]]
        steps = np.stack([packed & 15, packed >> 4], axis=-1).reshape(known["N"], -1, INT4_BLOCK)
        values = (steps.astype(np.float32) - 8) * arrays[node.input[2]].reshape(known["N"], -1, 1)
        kernels.append(values.reshape(known["N"], -1)[:, : known["K"]].T)
    return kernels


def odd_kernels(shapes: list[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """Weights of all sizes, halves between two steps, equal magnitudes of both signs, blocks of zeros."""
    rng = np.random.default_rng(4)
    kernels = []
    for rows, columns in shapes:
        kernel = rng.normal(size=(rows, columns)) * 10.0 ** rng.uniform(-3, 1, columns)
        kernel[:, 1] = rng.integers(-16, 17, rows) / 2
        kernel[:, 2] = rng.choice([-3.0, 3.0, 1.3125], rows)
        kernel[:, 3] = 0
        kernel[:, 4] = np.abs(kernel[:, 4])
        kernels.append(kernel.astype(np.float32))
    return kernels


def test_rounded_weights_are_those_of_the_exported_file(tmp_path: Path) -> None:
    from toolkit.training.model import build_plain
    from toolkit.training.rounding import BLOCK, in_blocks

    assert BLOCK == INT4_BLOCK
    model = build_plain(HIDDEN)
    kernels = odd_kernels([(784, 40), (40, 12), (12, 10)])
    biases = [np.zeros(kernel.shape[1], np.float32) for kernel in kernels]
    for name, expected in (("first", kernels), ("again", [in_blocks(kernel).numpy() for kernel in kernels])):
        model.set_weights([part for pair in zip(expected, biases, strict=True) for part in pair])
        stored = weights_in(exported_in_int4(model, tmp_path / name))
        assert len(stored) == 3
        for kernel, found in zip(kernels, stored, strict=True):
            assert np.array_equal(in_blocks(kernel).numpy(), found)
            assert not np.array_equal(kernel, found)
    for kernel in kernels:
        once = in_blocks(kernel).numpy()
        assert np.array_equal(in_blocks(once).numpy(), once)


def test_gradients_go_straight_through() -> None:
    from toolkit.keras_model import import_tensorflow
    from toolkit.training.rounding import DenseInBlocks, in_blocks, straight_through

    tf = import_tensorflow()
    (kernel,) = odd_kernels([(50, 7)])
    weights = tf.Variable(kernel)
    factors = np.random.default_rng(1).normal(size=kernel.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        rounded = straight_through(weights)
        total = tf.reduce_sum(rounded * factors)
    assert np.array_equal(rounded, in_blocks(kernel))
    assert np.array_equal(tape.gradient(total, weights), factors)
    layer = DenseInBlocks(7)
    inputs = np.random.default_rng(2).normal(size=(3, 50)).astype(np.float32)
    layer(inputs)
    layer.set_weights([kernel, np.ones(7, np.float32)])
    with tf.GradientTape() as tape:
        answers = layer(inputs)
        total = tf.reduce_sum(answers)
    assert np.allclose(answers, inputs @ in_blocks(kernel).numpy() + 1, rtol=1e-5, atol=1e-4)
    of_kernel, of_bias = tape.gradient(total, layer.trainable_weights)
    assert np.allclose(of_kernel, np.repeat(inputs.sum(axis=0)[:, None], 7, axis=1), atol=1e-5)
    assert np.array_equal(of_bias, np.full(7, 3.0))


def trained(recipe: Recipe, data: FashionMnist, folder: Path, told: list[Epoch] | None = None) -> TrainingResult:
    from toolkit.training.fit import train

    folder.mkdir()
    return train(recipe, data, 1, folder, (told if told is not None else []).append)


def test_a_finished_network_decides_in_int4_as_keras(few: FashionMnist, tmp_path: Path) -> None:
    from toolkit.training.history import read_history
    from toolkit.training.inputs import scaled

    told: list[Epoch] = []
    plain = trained(ROUNDED.override(quantization_aware="none"), few, tmp_path / "plain")
    rounded = trained(ROUNDED, few, tmp_path / "rounded", told)
    images, agreement, right = few.test_images[:3000], {}, {}
    for name, result in (("plain", plain), ("rounded", rounded)):
        labels = Predictor(exported_in_int4(result.model, tmp_path / name)).predict_batch(images).labels
        agreement[name] = (labels == result.model.predict_on_batch(scaled(images)).argmax(axis=1)).mean()
        right[name] = (labels == few.test_labels[:3000]).mean()
    assert agreement["rounded"] > max(agreement["plain"], 0.99)
    assert right["rounded"] > right["plain"]
    stored = weights_in(tmp_path / "rounded" / "model.int4.onnx")
    assert all(np.array_equal(x, y) for x, y in zip(rounded.model.get_weights()[::2], stored, strict=True))

    assert [(epoch.network, epoch.number, epoch.epochs) for epoch in told[-5:]] == [
        ("", 6, 6),
        *(("int4", number, 4) for number in (1, 2, 3, 4)),
    ]
    rows = read_history(tmp_path / "rounded" / "history.csv")
    assert [row["epoch"] for row in rows] == list(range(10))
    assert rows[-1]["learning_rate"] < rows[6]["learning_rate"] < ROUNDED.quantization_learning_rate
    assert (rounded.epochs_run, rounded.quantization_epochs) == (6, 4)
    assert rounded.float_validation_accuracy == plain.validation_accuracy
    assert rounded.validation_loss == rows[-1]["val_loss"]
    assert rounded.validation_accuracy == pytest.approx(rows[-1]["val_accuracy"])
    assert (plain.quantization_epochs, plain.float_validation_accuracy) == (0, None)


def test_it_learns_from_teachers_where_there_are_any(few: FashionMnist, tmp_path: Path) -> None:
    """The same network before, and other soft targets: what the teachers said of each view."""
    from toolkit.training.distilling import Taught

    teacher = TeacherRecipe(count=1, width=4, epochs=1)
    recipe = dataclasses.replace(ROUNDED, teacher=teacher, teacher_weight=1.0, epochs=2, quantization_epochs=2)
    soft = np.zeros((recipe.views, 4000, 10), np.float32)
    soft[..., 3] = 1  # everything is a dress
    from toolkit.training.fit import train

    result = train(recipe, few, 1, tmp_path, lambda _: None, taught=Taught(soft, 0.1, 0.0))
    answers = result.model.predict_on_batch(few.validation_images.astype(np.float32) / 255)
    assert (answers.argmax(axis=1) == 3).all()


def test_a_finish_that_diverges_says_so(few: FashionMnist, tmp_path: Path) -> None:
    wild = dataclasses.replace(ROUNDED, epochs=1, quantization_learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"the int4 finish diverged.*lower the learning rate \(it was 1e\+30\)"):
        trained(wild, few, tmp_path / "run")
    assert not (tmp_path / "run" / "model.keras").exists()


def test_the_option_is_a_field_of_the_recipe(tmp_path: Path) -> None:
    shown = json.loads(toolkit("train", "--quantization-aware", "int4", "--show", "--json").out)
    assert (shown["quantization_aware"], shown["quantization_epochs"]) == ("int4", Recipe.quantization_epochs)
    old = {name: value for name, value in shown.items() if not name.startswith("quantization")}
    (tmp_path / "old.json").write_text(json.dumps(old))  # as earlier versions wrote it
    read = json.loads(toolkit("train", "--recipe", tmp_path / "old.json", "--show", "--json").out)
    assert read == {**shown, "quantization_aware": "none"}
    assert "quantization_aware" in toolkit("train", "--show").out
    for command in ("train", "run"):
        refused = toolkit(command, "--quantization-aware", "int8", "--output", tmp_path / "out")
        assert refused.code == 2
        assert "quantization_aware is int8, expected one of none, int4" in refused.error_line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_line_makes_an_int4_file(tmp_path: Path) -> None:
    settings = ["--epochs", 3, "--set", "quantization_epochs=2", "--quantization-aware", "int4"]
    finished = toolkit("run", *settings, "--output", tmp_path / "mine")
    assert finished.code == 0, finished.err
    assert "int4 epoch 2/2" in finished.err
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert manifest["training"]["recipe"]["quantization_aware"] == "int4"
    assert (manifest["training"]["epochs_run"], manifest["training"]["quantization_epochs"]) == (3, 2)
    assert manifest["parity"]["model.int4.onnx"][0]["agreement"] > 0.99
