"""The first layer where a float32 file leaves Keras is named, whichever it is and whatever the converter joined."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import REFERENCE
from toolkit.conversion.contract import file_inputs
from toolkit.conversion.divergence import all_layers, all_tensors
from toolkit.conversion.keras_to_onnx import Wishes, export_float32
from toolkit.diagnosis import first_divergence
from toolkit.errors import ModelError
from toolkit.keras_model import import_keras, open_model
from toolkit.keras_model.source import SourceModel, from_keras
from toolkit.verification.divergence import Divergence, find_divergence

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def _dense() -> Any:
    keras = import_keras()
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6), name="image"),
            layers.Flatten(),
            layers.Dense(9, activation="relu", name="first"),
            layers.Dropout(0.5),
            layers.Dense(9, activation="tanh", name="second"),
            layers.Dense(9, activation="elu", name="third"),
            layers.Dense(9, name="fourth"),
            layers.Dense(4, activation="softmax", name="last"),
        ]
    )


def _convolutions() -> Any:
    keras = import_keras()
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((10, 10, 3), name="image"),
            layers.Conv2D(6, 3, padding="same", activation="relu", name="first"),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(3, padding="same", name="second"),
            layers.Conv2D(5, 1, activation="relu6", name="third"),
            layers.Flatten(),
            layers.Dense(7, activation="relu", name="fourth"),
            layers.Dense(3, activation="softmax", name="last"),
        ]
    )


def _residual() -> Any:
    """With batch normalization, which the converter writes into the convolutions, and a nested model."""
    keras = import_keras()
    layers = keras.layers

    def normal(filters: int, name: str, given: Any) -> Any:
        given = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(given)
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(given))

    given = keras.Input((8, 8, 2), name="image")
    stem = normal(6, "stem", given)
    left = normal(6, "left", stem)
    right = layers.Conv2D(6, 1, name="right")(stem)
    both = layers.Add(name="both")([left, right])
    inner = keras.Input((8, 8, 6))
    head = keras.Model(inner, layers.Dense(5, name="hidden")(normal(4, "deep", inner)), name="head")
    pooled = layers.GlobalAveragePooling2D(name="pool")(head(both))
    answer = layers.Dense(3, activation="softmax", name="last")(pooled)
    value = layers.Dense(2, name="value")(pooled)
    return keras.Model(given, {"answer": answer, "value": value})


def _built(build: Callable[[], Any]) -> SourceModel:
    keras = import_keras()
    keras.utils.set_random_seed(3)
    model = build()
    rng = np.random.default_rng(4)
    for weight in model.weights:  # as after training: no bias is 0, no variance 1
        if "kernel" not in weight.path:
            weight.assign(rng.uniform(0.1, 0.4, weight.shape).astype(np.float32))
    return from_keras(model)


def _rows(source: SourceModel, count: int = 16) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    return {spec.name: rng.random((count, *(d or 1 for d in spec.shape[1:])), np.float32) for spec in source.inputs}


def _exported(source: SourceModel) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_float32(source, path, file_inputs(source, None), Wishes(), source_sha256="0" * 64)
        model = onnx.load(path)
    assert isinstance(model, onnx.ModelProto)
    return model


def _found(source: SourceModel, model: onnx.ModelProto) -> Divergence:
    rows = _rows(source)
    return find_divergence(all_layers(source, rows), all_tensors(model.SerializeToString(), rows))


def _weights(model: onnx.ModelProto, ending: str) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if tensor.name.endswith(ending)]


def _set(tensor: onnx.TensorProto, array: NDArray[Any]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@pytest.mark.parametrize(("build", "joined"), [(_dense, 0), (_convolutions, 0), (_residual, 3)])
def test_a_good_file_has_every_layer(build: Callable[[], Any], joined: int) -> None:
    """But for those that are joined with their normalization."""
    source = _built(build)
    found = _found(source, _exported(source))
    assert found.layer is None
    assert found.unknown is not None
    assert found.unknown.startswith("no layer is off by more than")
    assert found.compared == len(all_layers(source, _rows(source))) - joined


@pytest.mark.parametrize("build", [_dense, _convolutions, pytest.param(_residual, marks=pytest.mark.slow)])
def test_each_layer_is_named_when_one_of_its_weights_is_another(build: Callable[[], Any]) -> None:
    """In the model that is exported, so that it does not matter what the file calls a weight."""
    source, changed = _built(build), _built(build)
    named = 0
    for path, weight in changed.weights.items():
        layer = path.rpartition("/")[0]
        before = np.asarray(weight).copy()
        after = before.copy()
        after.reshape(-1)[after.size // 2] += 0.5
        weight.assign(after)
        found = _found(source, _exported(changed))
        weight.assign(before)
        assert found.layer is not None, path
        assert layer in found.layer.split(" + "), path
        assert found.layer.count(" + ") <= 1
        assert found.difference is not None
        assert found.difference > 1e-3
        named += 1
    assert named >= 8


@pytest.mark.parametrize("build", [_dense, _convolutions])
def test_each_weight_of_the_file_leads_to_its_layer(build: Callable[[], Any]) -> None:
    source = _built(build)
    good = _exported(source)
    named = set()
    for kernel in [t for t in good.graph.initializer if len(t.dims) > 1 and t.data_type == onnx.TensorProto.FLOAT]:
        broken = onnx.ModelProto()
        broken.CopyFrom(good)
        (tensor,) = _weights(broken, kernel.name)
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[array.size // 2] += 0.5
        _set(tensor, array)
        layer = _found(source, broken).layer
        assert layer is not None
        if not kernel.name.startswith("conv/"):  # the converter forgets the name of a depthwise kernel
            assert kernel.name.split("/")[-2] in layer.split(" + ")
        named |= {*layer.split(" + ")}
    assert named == {layer.name for layer in source.keras.layers if layer.weights}


def test_the_finding_is_one_line() -> None:
    source = _built(_dense)
    broken = _exported(source)
    (tensor,) = _weights(broken, "third/kernel")
    _set(tensor, numpy_helper.to_array(tensor) * np.float32(1.01))
    found = _found(source, broken)
    assert found.before == ["second"]
    assert found.finding.startswith("first layer that differs: third (its output is off by ")
    assert found.finding.endswith(" of its largest value; second still agrees)")


def test_two_layers_with_each_others_biases() -> None:
    source = _built(_dense)
    broken = _exported(source)
    one, other = (_weights(broken, f"{name}/bias")[0] for name in ("second", "third"))
    arrays = [numpy_helper.to_array(tensor) for tensor in (one, other)]
    _set(one, arrays[1])
    _set(other, arrays[0])
    assert _found(source, broken).layer == "second"


@pytest.mark.parametrize(("build", "name"), [(_dense, "second/bias"), (_convolutions, "fourth/kernel")])
def test_the_layer_where_values_stop_being_numbers(build: Callable[[], Any], name: str) -> None:
    source = _built(build)
    broken = _exported(source)
    (tensor,) = _weights(broken, name)
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[0] = np.nan
    _set(tensor, array)
    found = _found(source, broken)
    assert (found.layer, found.difference) == (name.partition("/")[0], None)
    assert "holds values that are no numbers" in found.finding


def test_only_the_branch_that_differs_is_named() -> None:
    source, changed = _built(_residual), _built(_residual)
    changed.weights["right/bias"].assign(np.asarray(changed.weights["right/bias"]) + 1)
    found = _found(source, _exported(changed))
    assert (found.layer, found.before) == ("right", ["stem_relu"])
    changed = _built(_residual)
    changed.weights["value/bias"].assign(np.asarray(changed.weights["value/bias"]) + 1)
    assert _found(source, _exported(changed)).layer == "value"


def test_a_row_that_is_known_to_be_wrong_is_looked_at(tmp_path: Path) -> None:
    """The other rows do not touch the weight that differs."""
    source, changed = _built(_dense), _built(_dense)
    kernel = np.asarray(changed.weights["first/kernel"]).copy()
    kernel[0, 0] += 1
    changed.weights["first/kernel"].assign(kernel)
    path = tmp_path / "m.onnx"
    onnx.save(_exported(changed), path)
    rows = _rows(source, 40)
    rows["image"][:, 0, 0] = 0
    rows["image"][33, 0, 0] = 1
    assert first_divergence(source, path, None, rows, rows).layer is None
    assert first_divergence(source, path, None, rows, rows, [33]).layer == "first"


def test_what_cannot_be_opened_up_is_said(tmp_path: Path) -> None:
    source = _built(_dense)
    rows = _rows(source)
    (tmp_path / "m.onnx").write_bytes(b"no model")
    found = first_divergence(source, tmp_path / "m.onnx", None, rows, rows)
    assert found.layer is None
    assert found.finding.startswith("the first layer that differs is not known: ")
    with pytest.raises(ModelError, match="SavedModel has no layers"):
        all_layers(SourceModel("saved_model", "m", source.inputs, source.outputs, source.call), rows)
    with pytest.raises(ModelError, match="does not run layer by layer"):
        all_layers(source, {"image": np.zeros((2, 5, 5), np.float32)})
    assert "call" not in vars(source.keras.layers[1])  # the model is as it was


def test_shared_layers_are_there_for_each_call() -> None:
    keras = import_keras()
    shared = keras.layers.Dense(3, name="shared")
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    source = from_keras(keras.Model([one, two], keras.layers.Add(name="sum")([shared(one), shared(two)])))
    calls = all_layers(source, _rows(source))
    assert [(call.name, call.sources) for call in calls] == [("shared", ()), ("shared", ()), ("sum", (0, 1))]
    np.testing.assert_allclose(calls[0].value + calls[1].value, calls[2].value, rtol=1e-6)


def test_the_reference_model_agrees_layer_by_layer(fashion_mnist: Any) -> None:
    images = fashion_mnist.test_images[:32]
    source = open_model(REFERENCE / "model.keras")
    given = {source.inputs[0].name: images.astype(np.float32) / np.float32(255)}
    found = first_divergence(source, REFERENCE / "model.onnx", None, given, {"image": images})
    assert (found.layer, found.compared) == (None, 4)
