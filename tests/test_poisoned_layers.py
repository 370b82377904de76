"""Error by layer through the installed command: poisonous layers named, and what to do about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests import breaking
from tests.conftest import Finished, toolkit
from tests.exporting import PIXELS, answers_to
from toolkit.keras_model import import_keras, load_keras
from toolkit.training.model import build_plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from toolkit.data import FashionMnist

# Poisons. Each leaves the float model nearly as it was.


def _one_huge_weight(weights: list[NDArray[np.float32]]) -> None:
    """The first hidden unit of layer 1 never fires; what layer 2 makes of it is 100 times the rest, and never used."""
    weights[0][:, 0], weights[1][0] = 0, -1
    weights[2][0, 0] = 100 * np.abs(weights[2]).max()


def _huge_weights(weights: list[NDArray[np.float32]]) -> None:
    """The same for 60 of 100 outputs."""
    _one_huge_weight(weights)
    weights[2][0, 1:60] = weights[2][0, 0]


def _one_huge_unit(weights: list[NDArray[np.float32]]) -> None:
    """The first hidden unit of layer 1 always answers 1,000, and nobody listens."""
    weights[0][:, 0], weights[1][0] = 0, 1000
    weights[2][0, :] = 0


def _scaled_units(weights: list[NDArray[np.float32]]) -> None:
    """A unit of each hidden layer answers 1,000 times as much and is listened to 1,000 times less: the same answers."""
    for layer in (0, 2):
        weights[layer][:, 0] *= 1000
        weights[layer + 1][0] *= 1000
        weights[layer + 2][0, :] /= 1000


def _one_loud_unit(weights: list[NDArray[np.float32]]) -> None:
    """The first unit of layer 1 answers more and is listened to less: a scale each output would be three times finer.

    Not so much that the layer gets them unasked.
    """
    largest = np.abs(weights[0]).max(axis=0)
    times = np.float32(3) * np.median(largest) / largest[0]
    weights[0][:, 0] *= times
    weights[1][0] *= times
    weights[2][0] /= times


def _unseen_units(data: FashionMnist) -> Callable[[list[NDArray[np.float32]]], None]:
    """Units of layer 2 that the one calibration image leaves at 0 answer 20 times as much: the same function."""
    chosen = np.random.default_rng(0).permutation(len(data.train_images))[:1]
    pixels = data.train_images[chosen].reshape(1, -1).astype(np.float32) / 255

    def poison(weights: list[NDArray[np.float32]]) -> None:
        first = np.maximum(pixels @ weights[0] + weights[1], 0)
        silent = (first @ weights[2] + weights[3])[0] <= 0
        assert silent.sum() > 20
        weights[2][:, silent] *= 20
        weights[3][silent] *= 20
        weights[4][silent] /= 20

    return poison


def _keras_labels(model: Any, data: FashionMnist) -> NDArray[Any]:
    (found,) = answers_to(model, {"image": data.test_images[:2000]}, PIXELS).values()
    labels: NDArray[Any] = found.argmax(axis=1)
    return labels


@pytest.fixture(scope="module")
def healthy(fashion_mnist: FashionMnist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference's layers, trained a while with nothing special: what a poison does is then no recipe's affair."""
    import_keras().utils.set_random_seed(1)
    model = build_plain((300, 100))
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    images = fashion_mnist.train_images.astype(np.float32) / 255
    model.fit(images, fashion_mnist.train_labels, epochs=4, batch_size=256, verbose=0)
    path = tmp_path_factory.mktemp("healthy") / "healthy.keras"
    model.save(path)
    return path


def _poisoned(
    healthy: Path, poison: Callable[[list[NDArray[np.float32]]], None], data: FashionMnist, path: Path
) -> Path:
    model = load_keras(healthy)
    before = _keras_labels(model, data)
    weights = model.get_weights()
    poison(weights)
    model.set_weights(weights)
    assert (_keras_labels(model, data) == before).mean() > 0.995
    model.save(path)
    return path


def _refused(path: Path, *options: object) -> tuple[Finished, dict[str, Any]]:
    """A refused export: what it said, and the error by layer that it kept."""
    folder = path.parent
    finished = toolkit("export", path, "-o", folder / "out", "--quantize", "--keep-failed", *options)
    assert finished.code == 1, finished.err
    report = json.loads((folder / "out.failed" / "parity.json").read_text())
    (int8,) = [file for file in report["files"] if file["kind"] == "int8"]
    assert int8["layers"]["unknown"] is None
    return finished, int8["layers"]


def test_a_huge_weight_gets_its_layer_a_scale_each_output(
    healthy: Path, fashion_mnist: FashionMnist, tmp_path: Path
) -> None:
    path = _poisoned(healthy, _one_huge_weight, fashion_mnist, tmp_path / "poisoned.keras")
    finished = toolkit("export", path, "-o", tmp_path / "out", "--quantize")
    assert finished.code == 0, finished.err
    tensors = json.loads((tmp_path / "out" / "manifest.json").read_text())["quantization"]["tensors"]
    shapes = {layer: np.shape(tensors[f"{layer}/kernel"]["scale"]) for layer in ("hidden_1", "hidden_2", "output")}
    assert shapes == {"hidden_1": (), "hidden_2": (100,), "output": ()}
    parity = json.loads((tmp_path / "out" / "parity.json").read_text())
    (int8,) = [file for file in parity["files"] if file["kind"] == "int8"]
    assert int8["outputs"][0]["parity"]["agreement"] > 0.985  # as without the huge weight


@pytest.mark.slow
def test_huge_weights_of_most_outputs_are_named(healthy: Path, fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    """Scales of their own would leave most outputs as they are, so the layer has one."""
    path = _poisoned(healthy, _huge_weights, fashion_mnist, tmp_path / "poisoned.keras")
    finished, found = _refused(path)
    sizes = np.abs(load_keras(path).get_weights()[2])
    spread = f"from {np.median(sizes):.2g} (median) to {sizes.max():.2g}"
    assert f"worst int8 layer hidden_2: its weights have one scale for values {spread}, " in finished.error_line
    assert "try it again with --keep-float hidden_2; nothing was published" in finished.error_line
    assert "error by layer, worst first" in finished.err
    assert (found["layers"][0]["layer"], found["layers"][0]["cause"]) == ("hidden_2", "weights")
    assert found["layers"][0]["weights_zeroed"] > 0.9
    assert found["advice"] == "--keep-float hidden_2"
    healed = toolkit("export", path, "-o", tmp_path / "out", "--quantize", "--keep-float", "hidden_2")
    assert healed.code == 0, healed.err


@pytest.mark.slow
def test_finer_weights_are_advised_where_they_help(healthy: Path, fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    """The worst layer of a good model, once less than every label is not enough."""
    limit = ("--min-agreement", 1)
    path = _poisoned(healthy, _one_loud_unit, fashion_mnist, tmp_path / "loud.keras")
    finished, found = _refused(path, *limit)
    assert "try it again with --per-channel, or --keep-float hidden_1; nothing was published" in finished.error_line
    assert (found["layers"][0]["layer"], found["layers"][0]["cause"]) == ("hidden_1", "weights")
    _, finer = _refused(path, *limit, "--per-channel")
    (again,) = [layer for layer in finer["layers"] if layer["layer"] == "hidden_1"]
    assert again["own_sqnr_db"] > found["layers"][0]["own_sqnr_db"] + 3


@pytest.mark.slow
def test_a_huge_unit_is_named_where_its_answer_is_rounded(
    healthy: Path, fashion_mnist: FashionMnist, tmp_path: Path
) -> None:
    finished, found = _refused(_poisoned(healthy, _one_huge_unit, fashion_mnist, tmp_path / "poisoned.keras"))
    assert "worst int8 layer hidden_2: the middle unit of its input hidden_1/Relu uses 0." in finished.error_line
    assert "try it again with --keep-float hidden_2; nothing" in finished.error_line
    worst, *others = found["layers"]
    assert (worst["layer"], worst["cause"]) == ("hidden_2", "range")
    assert worst["range_used"] < 0.01
    assert worst["clipped"] == 0
    assert all(layer["own_labels_changed"] < 0.01 for layer in others)


def test_clipped_values_are_named_and_more_calibration_is_advised(
    healthy: Path, fashion_mnist: FashionMnist, tmp_path: Path
) -> None:
    path = _poisoned(healthy, _unseen_units(fashion_mnist), fashion_mnist, tmp_path / "poisoned.keras")
    finished, found = _refused(path, "--calibration-images", 1, "--min-agreement", 0.99)
    assert "of its input hidden_2/Relu is clipped to the range 0 to" in finished.error_line
    assert "try it again with --calibration-images 2000, or --keep-float output" in finished.error_line
    worst = found["layers"][0]
    assert (worst["layer"], worst["cause"]) == ("output", "clipping")
    assert worst["clipped"] > 0.1


@pytest.mark.slow
def test_two_poisoned_layers_are_both_to_be_kept(healthy: Path, fashion_mnist: FashionMnist, tmp_path: Path) -> None:
    finished, found = _refused(_poisoned(healthy, _scaled_units, fashion_mnist, tmp_path / "poisoned.keras"))
    *poisoned, healthy_one = found["layers"]
    names = [layer["layer"] for layer in poisoned]
    assert sorted(names) == ["hidden_2", "output"]  # answers of both are noise, so chance decides which is worse
    assert f"try it again with --keep-float {names[0]} --keep-float {names[1]}; nothing" in finished.error_line
    assert all(layer["own_sqnr_db"] < 3 and layer["own_labels_changed"] > 0.3 for layer in poisoned)
    assert healthy_one["own_sqnr_db"] > 40


def test_verify_names_the_layer_with_damaged_weights(trained: Path, tmp_path: Path) -> None:
    broken = breaking.copy_of(trained, tmp_path)
    breaking.edit(broken, "model.int8.onnx", breaking.scramble_int8)
    finished = toolkit("verify", broken)
    assert finished.code == 1, finished.err
    assert "worst int8 layer hidden_1: its weights are not those of the float32 file" in finished.error_line
    assert "error by layer, worst first" in finished.out


def test_verify_says_how_to_export_again(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path / "a b")
    finished = toolkit("verify", artifact, "--min-agreement", 1)
    assert finished.code == 1, finished.err
    assert f"; try: toolkit export '{artifact}' --quantize --" in finished.error_line


@pytest.mark.slow
def test_layers_are_shown_on_request_only(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    without = toolkit("verify", artifact, "--json")
    assert [file["layers"] for file in json.loads(without.out)["files"]] == [None, None]
    asked = toolkit("verify", artifact, "--layers")
    assert asked.code == 0, asked.err
    assert "error by layer, worst first" in asked.out
    float32, int8 = json.loads((artifact / "parity.json").read_text())["files"]
    assert float32["layers"] is None
    assert {layer["layer"] for layer in int8["layers"]["layers"]} == {"hidden_1", "hidden_2", "output"}
    assert int8["layers"]["images"] == 1000


def test_layers_do_nothing_without_an_int8_file(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    manifest = json.loads((artifact / "manifest.json").read_text())
    del manifest["files"]["model.int8.onnx"]
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    finished = toolkit("verify", artifact, "--layers")
    assert finished.code == 2
    assert "--layers does nothing" in finished.error_line


def _rename_everything(model: onnx.ModelProto) -> None:
    """As another tool would have named it."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    for tensor in model.graph.initializer:
        tensor.name = f"t_{tensor.name}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [name if name in kept else f"t_{name}" for name in names]


def _leak(model: onnx.ModelProto) -> None:
    """Something besides its layers moves the answers."""
    (softmax,) = [node for node in model.graph.node if node.op_type == "Softmax"]
    at = list(model.graph.node).index(softmax)
    (last,) = [node for node in model.graph.node if softmax.input[0] in node.output]
    logits, last.output[0] = softmax.input[0], "before"
    model.graph.initializer.append(numpy_helper.from_array(np.arange(10, dtype=np.float32), "slope"))
    model.graph.node.insert(at, helper.make_node("Add", ["before", "slope"], [logits]))


@pytest.mark.parametrize(
    ("change", "says"), [(_rename_everything, "has no tensor t_"), (_leak, "do not account for its answers")]
)
def test_an_int8_file_of_others_is_judged_and_its_layers_said_to_be_unknown(
    trained: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    breaking.edit(artifact, "model.int8.onnx", change)
    finished = toolkit("verify", artifact, "--min-agreement", 1)
    assert finished.code == 1
    assert "label agreement is" in finished.error_line
    assert "worst int8 layer" not in finished.error_line
    (line,) = [line for line in finished.err.splitlines() if "error by layer is not known" in line]
    assert says in line
