"""`toolkit.export_model` with rows in every form, the routes of conversion, and exports with few or no rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import toolkit
from tests.own import CUSTOM, command, fails, layers, manifest, mostly, rows, settled, tabular
from toolkit.conversion import routes
from toolkit.errors import MissingError, ModelError, ToolkitError, UsageError
from toolkit.pipeline import FailedGatesError
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from toolkit.keras_model import SourceModel

X = rows(120, 8)


@pytest.fixture(scope="module")
def model() -> Any:
    return tabular(("kind", 3, "softmax"))


@pytest.fixture(scope="module")
def labels(model: Any) -> Any:
    return mostly(model.predict(X, verbose=0).argmax(axis=1), 3)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, model: Any, labels: Any) -> Path:
    folder = tmp_path_factory.mktemp("api")
    model.save(folder / "kind.keras")
    np.savez(folder / "kind.npz", x=X, y=labels)
    (folder / "own_layers.py").write_text(CUSTOM)
    return folder


def test_rows_in_every_form_give_the_same_answers(here: Path, model: Any, labels: Any, tmp_path: Path) -> None:
    forms: list[tuple[Any, dict[str, Any]]] = [
        (model, {"calibration": X, "test": X, "labels": labels}),
        (model, {"calibration": X.tolist(), "test": X.tolist(), "labels": labels.tolist()}),
        (model, {"calibration": {"sensor": X}, "test": {"sensor": X}, "labels": {"kind": labels}}),
        (here / "kind.keras", {"calibration": X, "test": X, "labels": labels}),
        (str(here / "kind.keras"), {"calibration": str(here / "kind.npz"), "test": here / "kind.npz"}),
    ]
    answers = []
    for number, (given, data) in enumerate(forms):
        result = toolkit.export_model(given, tmp_path / f"out{number}", quantize="static", **data)
        assert result.report.passed
        assert result.report.keras_accuracy == 0.9
        assert result.folder == tmp_path / f"out{number}"
        answers.append(Predictor(result.folder).predict_batch(X).probabilities)
    for each in answers[1:]:
        np.testing.assert_array_equal(each, answers[0])


def test_class_names_tasks_metrics_and_notes(model: Any, labels: Any, tmp_path: Path) -> None:
    said: list[str] = []
    result = toolkit.export_model(
        model, tmp_path / "named", test=X, labels=labels, class_names=["ant", "bee", "cat"], note=said.append
    )
    assert result.manifest.class_names == ["ant", "bee", "cat"]
    assert "Exporting to ONNX" in said
    plain = toolkit.export_model(model, tmp_path / "plain", test=X, labels=labels, tasks="values", metrics="mae")
    assert plain.manifest.outputs[0].task == "values"
    right = np.eye(3)[labels]
    expected = np.abs(model.predict(X, verbose=0) - right).mean()
    assert plain.report.reference[0].metrics["mae"] == pytest.approx(expected, rel=1e-5)


def test_a_model_of_a_class_of_ones_own(labels: Any, tmp_path: Path) -> None:
    keras, kinds = layers()

    class Own(keras.Model):  # type: ignore[misc, name-defined]  # keras is untyped
        def __init__(self) -> None:
            super().__init__()
            self.dense = kinds.Dense(3, activation="softmax")

        def call(self, x: Any) -> Any:
            return self.dense(x)

    built = Own()
    built(X[:2])
    result = toolkit.export_model(settled(built), tmp_path / "own", test=X, labels=labels)
    assert [(output.name, output.shape) for output in result.manifest.outputs] == [("output", ["batch", 3])]
    with pytest.raises(ModelError, match="does not say what inputs it takes"):
        toolkit.export_model(Own(), tmp_path / "unbuilt", test=X)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"quantize": "int8"}, UsageError, "expected one of static, dynamic"),
        ({"quantize": "static"}, UsageError, "or --quantize dynamic, which needs none"),
        ({"limits": {"nonsense": 1}}, UsageError, "expected a dict of numbers"),
        ({"limits": {"float32_values": "x"}}, UsageError, "expected a dict of numbers"),
        ({"limits": [1]}, UsageError, "expected a dict of numbers"),
        ({"labels": np.zeros(3)}, UsageError, "labels belong to test rows"),
        ({"test": X, "labels": np.zeros(3, int)}, ToolkitError, "has 120 rows of input 'sensor', 3 rows of"),
        ({"test": X, "labels": {"other": np.zeros(120, int)}}, UsageError, "labels names other"),
        ({"test": X[:, :4]}, ToolkitError, "got shape (120, 4), expected (batch, 8)"),
        ({"test": {"other": X}}, UsageError, "test names other, but the model has sensor"),
        ({"test": {}}, UsageError, "test lacks sensor"),
        ({"test": [[1], [1, 2]]}, UsageError, "rows of different lengths"),
        ({"test": (row for row in X)}, UsageError, "is of type generator"),
        ({"test": np.array([1, None])}, UsageError, "holds no plain numbers"),
        ({"test": X * np.nan}, ToolkitError, "has NaN or infinity in 120 of 120 rows"),
        ({"test": "nowhere.npz"}, MissingError, "nowhere.npz does not exist"),
        ({"test": X, "calibration": X}, UsageError, "--calibration does nothing here"),
        ({"class_names": "abc"}, UsageError, "expected a list of str"),
        ({"class_names": [1, 2, 3]}, UsageError, "expected a list of str"),
        ({"class_names": ["a", "a", "b"]}, ToolkitError, "both called 'a'"),
        ({"class_names": ["a", "b"]}, UsageError, "the model tells 3 classes apart; give 3"),
        ({"tasks": {"other": "values"}}, UsageError, "the model has kind; name one"),
        ({"tasks": "sorting"}, UsageError, "--task is 'sorting', expected one of"),
        ({"tasks": "binary"}, UsageError, "--task kind=classification or multilabel or values"),
        ({"metrics": ["mae"], "test": X}, UsageError, "--metric kind=mae"),
        ({"input_dtype": "int16"}, UsageError, "expected uint8, int8 or float32"),
        ({"input_scale": 0}, UsageError, "would make all inputs the same"),
        ({"input_scale": "1/255"}, UsageError, "expected a finite number"),
        ({"input_offset": 1.0}, UsageError, "does nothing without --input-scale"),
        ({"custom": "own:Layer"}, UsageError, "the model is an object already"),
        ({"unsafe": True}, UsageError, "the model is an object already"),
    ],
)
def test_what_is_wrong_is_one_line(
    model: Any, tmp_path: Path, settings: dict[str, Any], error: type[ToolkitError], says: str
) -> None:
    with pytest.raises(error) as raised:
        toolkit.export_model(model, tmp_path / "out", **settings)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is of type builtins.NoneType, expected a Keras 3 model"):
        toolkit.export_model(None, tmp_path / "out")
    with pytest.raises(MissingError, match=r"nowhere.keras does not exist"):
        toolkit.export_model("nowhere.keras", tmp_path / "out", test=X)
    keras, kinds = layers()
    with pytest.raises(ModelError, match="does not say what inputs it takes"):
        toolkit.export_model(keras.Sequential([kinds.Dense(2)]), tmp_path / "out")


def test_a_failed_gate_has_its_report(model: Any, tmp_path: Path) -> None:
    with pytest.raises(FailedGatesError) as raised:
        toolkit.export_model(model, tmp_path / "out", test=X, limits={"float32_max_abs": 0.0})
    assert not raised.value.report.passed
    assert list(tmp_path.iterdir()) == []


def test_without_rows_random_ones_are_taken_and_said(here: Path) -> None:
    done = command("export", "kind.keras", "-o", "random", "--quantize", "dynamic", cwd=here)
    assert done.code == 0, done.err
    assert "warning: no test rows were given (--test), so the files are held against Keras on random" in done.err
    found = manifest(here / "random")
    assert found["data"] == {"test": "256 random rows", "fashion_mnist": False, "calibration": None}
    assert {record["task"] for (record,) in found["parity"].values()} == {"values"}
    assert not list((here / "random" / "samples").iterdir())
    assert "give --test FILE" in fails(2, "verify", "random", cwd=here)


def test_static_int8_without_calibration_offers_dynamic(here: Path) -> None:
    line = fails(2, "export", "kind.keras", "-o", "refused", "--quantize", "--test", "kind.npz", cwd=here)
    assert "give --calibration FILE" in line
    assert "or --quantize dynamic, which needs none" in line
    assert command("export", "kind.keras", "-o", "offered", "--quantize", "dynamic", cwd=here).code == 0


def test_four_bits_are_not_called_float(here: Path) -> None:
    limits = ("--min-agreement", 0.5, "--max-accuracy-drop", 0.5)
    done = command("export", "kind.keras", "-o", "int4", "--quantize", "int4", "--test", "kind.npz", *limits, cwd=here)
    assert done.code == 0, done.err
    assert manifest(here / "int4")["quantization"]["kept_float"] == []
    assert "in float:" not in done.err


def test_what_cannot_be_converted_is_named_by_layer_and_operation(here: Path) -> None:
    keras, kinds = layers()
    scope: dict[str, Any] = {}
    exec(CUSTOM, scope)  # noqa: S102 - the same text that the command imports
    given = keras.Input((8,), name="sensor")
    inner = scope["Singular"](name="singular")(kinds.Dense(8, name="dense")(given))
    keras.Model(given, inner).save(here / "svd.keras")
    line = fails(2, "export", "svd.keras", "-o", "svd", "--custom", "own_layers:Singular", cwd=here)
    assert "layer 'singular' of the model" in line
    assert "the TensorFlow operation Svd, which has no ONNX form here; replace that layer" in line


def _refusing(reason: str) -> Callable[[SourceModel], Any]:
    def refuse(source: SourceModel) -> Any:
        raise ModelError(f"{source.name}: {reason}")

    return refuse


def test_the_second_route_is_taken_and_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_by_tf2onnx", _refusing("broken on purpose"))
    data = ("--calibration", "kind.npz", "--test", "kind.npz")
    done = command("export", "kind.keras", "-o", "second", "--quantize", *data, cwd=here)
    assert done.code == 0, done.err
    assert "by Keras' own export, since " in done.err
    record = manifest(here / "second")["conversion"]
    assert record["route"] == "Keras export"
    assert record["refused"].endswith("broken on purpose")
    report = json.loads((here / "second" / "parity.json").read_text())
    assert [file["outputs"][0]["name"] for file in report["files"]] == ["kind", "kind"]


def test_where_both_routes_fail_the_first_says_why(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_by_tf2onnx", _refusing("the first reason"))
    monkeypatch.setattr(routes, "_by_keras", _refusing("the second reason"))
    line = fails(2, "export", "kind.keras", "-o", "none", cwd=here)
    assert "the first reason" in line
    assert "the second reason" not in line
