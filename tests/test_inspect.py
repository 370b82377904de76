"""`toolkit inspect` of every kind of file, through the installed command and by its values."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.alike import alike_onnx
from tests.conftest import REFERENCE, toolkit
from tests.keras_files import edit_config, layer_named
from toolkit.conversion import metadata
from toolkit.conversion.compatibility import has_static_layers, lowest_runtime
from toolkit.errors import ModelError, UsageError
from toolkit.inspection import KerasFacts, OnnxFacts, SavedModelFacts, inspect_path
from toolkit.inspection.facts import Inspection

if TYPE_CHECKING:
    from pathlib import Path


def _json(*arguments: object) -> dict[str, Any]:
    finished = toolkit("inspect", *arguments, "--json")
    assert finished.code == 0, finished.err
    found: dict[str, Any] = json.loads(finished.out)
    return found


def test_the_reference_artifact() -> None:
    found = _json(REFERENCE)
    assert (found["format"], found["path"]) == (1, str(REFERENCE))
    int8, float32, keras = found["files"]
    assert [file["type"] for file in found["files"]] == ["onnx", "onnx", "keras"]
    manifest = json.loads((REFERENCE / "manifest.json").read_text())
    short = found["artifact"]
    assert short["class_names"] == manifest["class_names"] == int8["class_names"]
    assert short["files"] == {name: entry["bytes"] for name, entry in manifest["files"].items()}
    assert short["quantization"]["method"] == "static"
    assert short["parity"] == manifest["parity"]
    # 784 x 300 + 300 x 100 + 100 x 10, and a bias for each neuron.
    for file in (int8, float32, keras):
        assert (file["multiply_adds"], file["parameters"]) == (266_200, 266_610)
    for file, name in ((int8, "model.int8.onnx"), (float32, "model.onnx")):
        entry = manifest["files"][name]
        assert (file["opsets"], file["ir_version"]) == ({"ai.onnx": entry["opset"]}, entry["ir_version"])
        assert (file["operators"], file["file_bytes"]) == (entry["operators"], entry["bytes"])
        assert file["onnxruntime"]["version"] == entry["onnxruntime"]
        assert file["producer"] == "toolkit 0.1.0"
    assert (int8["kind"], float32["kind"]) == ("int8 (static)", "float32")
    assert int8["inputs"] == [
        {"name": "image", "shape": ["batch", 28, 28], "dtype": "uint8", "range": [0, 255], "task": None}
    ]
    assert [layer["output"] for layer in int8["layers"] if layer["type"] == "Gemm"] == [
        ["batch", 300],
        ["batch", 100],
        ["batch", 10],
    ]
    assert keras["layers"][1] == {
        "name": "hidden_1", "type": "Dense", "output": [None, 300], "parameters": 235_500, "multiply_adds": 235_200,
        "per_position": None, "calls": 1,
    }  # fmt: skip
    assert keras["weights"] == {"float32": {"numbers": 266_610, "bytes": 1_066_440}}


def test_quantization_is_what_the_manifest_says() -> None:
    (facts,) = inspect_path(REFERENCE / "model.int8.onnx").files
    assert isinstance(facts, OnnxFacts)
    recorded = json.loads((REFERENCE / "manifest.json").read_text())["quantization"]["tensors"]
    found = {tensor.tensor: tensor for layer in facts.quantized for tensor in layer.tensors}
    assert len(facts.quantized) == 3
    for name in ("hidden_1", "hidden_2", "output"):
        weights, bias = found[f"{name}/kernel_quantized"], found[f"{name}/bias_quantized"]
        scales = recorded[f"{name}/kernel"]["scale"]
        each = isinstance(scales, list)  # training decides whether a layer's channels have a scale each
        assert (weights.dtype, weights.role, weights.zero_point) == ("int8", "weights", 0)
        assert (weights.scales, weights.axis) == ((len(scales), 1) if each else (1, None))
        assert weights.scale == pytest.approx([min(scales), max(scales)] if each else [scales])
        assert (bias.dtype, bias.role) == ("int32", "bias")
    assert [t.scale for layer in facts.quantized for t in layer.tensors if t.role == "activation"] == [
        pytest.approx([recorded[name]["scale"]]) for name in ("flatten/Reshape", "hidden_1/Relu", "hidden_2/Relu")
    ]


def test_people_see_tables() -> None:
    finished = toolkit("inspect", REFERENCE, fresh=True)
    assert finished.code == 0, finished.err
    for text in (
        "266,200 for one row", "from 1.11 (its 8-bit layers, which", "from 1.7 (the oldest release that was tried)",
        "Ankle boot", "image uint8 [batch, 28, 28] from 0 to 255", "saturation on x86 without VNNI",
        "nothing can saturate", "per tensor", "235,500",
    ):  # fmt: skip
        assert text in finished.out, text
    (keras,) = inspect_path(REFERENCE / "model.keras").files
    assert isinstance(keras, KerasFacts)
    for layer in keras.layers:
        assert f" {layer.name} " in finished.out, layer.name


@pytest.mark.parametrize("method", ["dynamic", "per channel", "int4", "float16"])
def test_other_forms_of_quantization(method: str, tmp_path: Path) -> None:
    from toolkit.conversion.quantize import quantize
    from toolkit.conversion.recipe import QuantizationRecipe

    per_channel = method == "per channel"
    recipe = QuantizationRecipe(method="static" if per_channel else method, per_channel=per_channel)
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    target = tmp_path / "m.onnx"
    quantize(alike_onnx(tmp_path / "alike.onnx"), target, recipe, [{"image": images}])
    (facts,) = inspect_path(target).files
    assert isinstance(facts, OnnxFacts)
    assert (facts.multiply_adds, facts.parameters) == (266_200, 266_610)
    weights = [t for layer in facts.quantized for t in layer.tensors if t.role == "weights"]
    match method:
        case "dynamic":
            assert facts.kind == "int8 (dynamic)"
            assert all(t.scale is not None and t.scales == 1 for t in weights)
            activations = [t for layer in facts.quantized for t in layer.tensors if t.role == "activation"]
            assert [(t.scale, t.scales) for t in activations] == [(None, None)] * 3
        case "per channel":
            assert [(t.scales, t.axis) for t in weights] == [(300, 1), (100, 1), (10, 1)]
            assert all(t.scale is not None and len(t.scale) == 2 for t in weights)
        case "int4":
            assert (facts.kind, facts.onnxruntime.version) == ("int4 weights", "1.17")
            assert facts.opsets["com.microsoft"] == 1
            assert weights
        case "float16":
            assert (facts.kind, facts.quantized) == ("float16", ())


def test_saved_models_and_h5(tmp_path: Path) -> None:
    from toolkit.keras_model import load_keras

    model = load_keras(REFERENCE / "model.keras")
    model.export(tmp_path / "saved", verbose=False)
    model.save(tmp_path / "m.h5")
    (h5,) = inspect_path(tmp_path / "m.h5").files
    (keras,) = inspect_path(REFERENCE / "model.keras").files
    (saved,) = inspect_path(tmp_path / "saved").files
    assert isinstance(h5, KerasFacts)
    assert isinstance(keras, KerasFacts)
    assert h5.layers == keras.layers
    assert isinstance(saved, SavedModelFacts)
    assert (saved.multiply_adds, saved.parameters) == (266_200, 266_610)
    assert saved.operators["MatMul"] == 3
    assert saved.written_by.startswith("TensorFlow 2.")
    assert toolkit("inspect", tmp_path / "saved").code == 0


def test_a_nested_model_a_shared_layer_and_a_fixed_batch() -> None:
    import keras

    from toolkit.inspection.keras_models import inspect_keras
    from toolkit.keras_model import open_model

    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="twice")], name="inner")
    one = keras.Input((4,), batch_size=5, name="one")
    model = keras.Model(one, layers.Add()([inner(one), inner(layers.ReLU()(one))]))
    facts = inspect_keras(open_model(model), "m", 0)
    (dense,) = (layer for layer in facts.layers if layer.type == "Dense")
    assert (dense.name, dense.calls, dense.parameters, dense.multiply_adds) == ("inner/twice", 2, 15, 24)
    assert facts.inputs[0].shape == (5, 4)
    assert facts.parameters == 15


def test_a_model_without_weights_is_a_model(tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((4, 3)), keras.layers.Flatten()]).save(tmp_path / "m.keras")
    finished = toolkit("inspect", tmp_path / "m.keras", "--diagram", tmp_path / "m.svg")
    assert finished.code == 0, finished.err
    (file,) = inspect_path(tmp_path / "m.keras").files
    assert (file.parameters, file.multiply_adds, file.weights) == (0, 0, {})


def test_own_classes_need_custom_and_lambdas_unsafe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import keras\n@keras.saving.register_keras_serializable('mine')\nclass Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n        return 2 * x\n"
    )
    finished = toolkit("inspect", _own_class(tmp_path), cwd=tmp_path)
    assert finished.code == 2
    assert "--custom" in finished.error_line
    given = toolkit("inspect", "m.keras", "--custom", "mine:Twice", "--json", cwd=tmp_path)
    assert given.code == 0, given.err
    (file,) = json.loads(given.out)["files"]
    assert file["multiply_adds"] is None
    idle = toolkit("inspect", REFERENCE / "model.onnx", "--unsafe")
    assert idle.code == 2
    assert "--unsafe would do nothing" in idle.error_line


def _own_class(folder: Path) -> Path:
    import keras

    path = folder / "m.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.ReLU(name="mine")]).save(path)

    def change(config: dict[str, Any]) -> None:
        layer = layer_named(config, "mine")
        layer.update(class_name="Twice", module="mine", registered_name="mine>Twice")
        layer["config"] = {"name": "mine"}

    edit_config(path, change)
    return path


def test_names_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = _identity(tmp_path / "m.onnx", "evil\x1b[2J\nname")
    finished = toolkit("inspect", path)
    assert finished.code == 0, finished.err
    assert "\x1b" not in finished.out
    assert "evil\ufffd[2J\ufffdname" in finished.out


def _identity(path: Path, name: str = "n", opset: int = 13, ir_version: int = 7) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name=name)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version), path)
    return path


def test_what_only_the_runtime_refuses_is_still_described(tmp_path: Path) -> None:
    """An operator that it has no kernel for: the file is sound, and what is in it can be said."""
    graph = helper.make_graph(
        [helper.make_node("Odd", ["x"], ["y"], domain="my.own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("my.own", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=7), tmp_path / "m.onnx")
    finished = toolkit("inspect", tmp_path / "m.onnx", "--json")
    assert finished.code == 0, finished.err
    (file,) = json.loads(finished.out)["files"]
    assert "cannot be opened by onnxruntime" in file["saturation"]["refused"]
    assert (file["operators"], file["opsets"]) == ({"my.own.Odd": 1}, {"ai.onnx": 13, "my.own": 2})
    assert (file["multiply_adds"], file["onnxruntime"]["version"]) == (None, None)
    assert file["saturation"]["can_saturate"] is None
    assert "nothing can saturate" not in toolkit("inspect", tmp_path / "m.onnx").out


def test_the_runtimes_of_all_opsets_that_files_are_written_in() -> None:
    releases = {13: "1.7", 14: "1.8", 15: "1.9", 16: "1.11", 17: "1.12"}
    assert releases.keys() == metadata._IR_BY_OPSET.keys()
    for opset, release in releases.items():
        assert lowest_runtime({"": opset}, metadata._IR_BY_OPSET[opset], ())[0] == release
    assert lowest_runtime({"": 13}, 7, ["MatMulNBits"])[0] == "1.17"
    assert lowest_runtime({"": 13}, 7, (), static_layers=True) == (
        "1.11",
        "its 8-bit layers, which earlier releases compute in float and answer otherwise",
    )
    assert lowest_runtime({"": 17}, 8, (), static_layers=True)[0] == "1.12"


def test_which_files_have_static_layers(tmp_path: Path) -> None:
    from toolkit.conversion.quantize import quantize
    from toolkit.conversion.recipe import QuantizationRecipe

    for method in ("dynamic", "int4", "float16"):
        recipe = QuantizationRecipe(method=method)
        result = quantize(REFERENCE / "model.onnx", tmp_path / f"{method}.onnx", recipe, ())
        assert not has_static_layers(onnx.load(result.file.path)), method
        assert result.file.onnxruntime == ("1.17" if method == "int4" else "1.7")
    assert has_static_layers(onnx.load(REFERENCE / "model.int8.onnx"))
    assert not has_static_layers(onnx.load(REFERENCE / "model.onnx"))
    # Weights that are stored in 8 bits and used in float need no such kernel, nor do pixels that are scaled by it.
    tensors = {"w": np.ones((3, 4), np.int8), "s": np.float32(0.5), "z": np.int8(0), "v": np.ones((3, 4), np.float32)}
    taken = {"weights alone": ("w", TensorProto.FLOAT), "input alone": ("x", TensorProto.INT8)}
    for name, (quantized, dtype) in taken.items():
        pair = ["x", "d"] if quantized == "w" else ["d", "v"]
        graph = helper.make_graph(
            [
                helper.make_node("DequantizeLinear", [quantized, "s", "z"], ["d"]),
                helper.make_node("MatMul", pair, ["y"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", dtype, ["n", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in tensors.items()],
        )
        assert not has_static_layers(helper.make_model(graph)), name


@pytest.mark.parametrize(
    ("opsets", "ir_version", "own", "release", "because"),
    [
        ({"ai.onnx": 9}, 3, (), "1.7", "the oldest release that was tried"),
        ({"ai.onnx": 14}, 7, (), "1.8", "opset 14; by the published table"),
        ({"ai.onnx": 13}, 9, (), "1.16", "IR version 9"),
        ({"ai.onnx": 21}, 10, (), "1.18", "opset 21, IR version 10"),
        ({"ai.onnx": 12, "ai.onnx.ml": 4}, 7, (), "1.17", "ai.onnx.ml 4"),
        ({"ai.onnx": 22}, 10, (), None, "opset 22 is newer"),
        ({"ai.onnx": 13}, 11, (), None, "IR version 11 is newer"),
        ({"ai.onnx": 13}, 7, ["Rare"], None, "operator Rare"),
    ],
)
def test_the_lowest_runtime(opsets: Any, ir_version: int, own: Any, release: str | None, because: str) -> None:
    found, why = lowest_runtime(opsets, ir_version, own)
    assert found == release
    assert because in why


def test_files_of_others(tmp_path: Path) -> None:
    """Constants as nodes, an unknown metadata form, scales that are not finite, initializers that are inputs too."""
    tensors = {"w": np.ones((3, 4), np.int8), "s": np.float32("nan"), "z": np.int8(0)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("Constant", [], ["b"], value=numpy_helper.from_array(np.ones(4, np.float32), "b")),
        helper.make_node("MatMul", ["x", "wd"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("w", TensorProto.INT8, [3, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    helper.set_model_props(model, {"toolkit.class_names": "{", "author": "me"})
    onnx.save(model, tmp_path / "m.onnx")
    (file,) = _json(tmp_path / "m.onnx")["files"]
    assert [given["name"] for given in file["inputs"]] == ["x"]
    assert (file["multiply_adds"], file["parameters"], file["kind"]) == (12, 16, "int8 (weights only)")
    assert file["quantized"][0]["tensors"][0]["scale"] == [None]
    assert (file["class_names"], file["metadata"]["author"]) == (None, "me")
    assert any("unreadable" in said for said in file["notes"])


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("m.onnx", b"", 2, "no ONNX model"),
        ("m.onnx", b"not a model", 2, "no ONNX model"),
        ("m.txt", b"not a model", 2, "no model"),
        ("m.keras", b"", 2, "it is empty"),
        ("m.keras", b"PK\x03\x04 cut short", 2, "m.keras"),
        ("m.h5", b"\x89HDF\r\n\x1a\n cut short", 2, "damaged or truncated"),
        ("m.pkl", b"\x80\x04\x95 pickle", 2, "a pickle"),
        ("m.tflite", b"\0\0\0\0TFL3", 2, "LiteRT"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1", 2, "Git LFS"),
    ],
)
def test_what_is_no_model_gives_one_line(name: str, content: bytes, code: int, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    finished = toolkit("inspect", tmp_path / name)
    assert finished.code == code
    assert says in finished.error_line
    assert finished.out == ""


def test_truncated_models_and_folders_give_one_line(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.keras"):
        data = (REFERENCE / name).read_bytes()
        for share in (0.001, 0.5, 0.999):
            (tmp_path / name).write_bytes(data[: int(len(data) * share)])
            with pytest.raises(ModelError):
                inspect_path(tmp_path / name)
        assert toolkit("inspect", tmp_path / name).error_line
    (tmp_path / "empty").mkdir()
    assert "folder without a model" in toolkit("inspect", tmp_path / "empty").error_line
    assert toolkit("inspect", tmp_path / "nothing").code == 3
    empty = helper.make_model(helper.make_graph([], "g", [], []))
    onnx.save(empty, tmp_path / "empty.onnx")
    assert toolkit("inspect", tmp_path / "empty.onnx").error_line
    with pytest.raises(UsageError):
        inspect_path(_identity(tmp_path / "own.onnx"), custom=["a:b"])


def test_a_changed_file_of_an_artifact_is_corrupt(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(REFERENCE, folder)
    with (folder / "model.keras").open("ab") as file:
        file.write(b"x")
    finished = toolkit("inspect", folder)
    assert finished.code == 4
    assert "model.keras" in finished.error_line


def test_json_is_plain_and_finite() -> None:
    found = Inspection("p", inspect_path(REFERENCE / "model.onnx").files).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "graph" not in found["files"][0]
