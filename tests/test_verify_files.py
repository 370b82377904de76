"""Whole files of every task through the predictor: each output its own section, each gate seen red."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.small_graphs import AUTOENCODER, BINARY, FIXED, FREE, LOGITS, MULTILABEL, TWO, write
from toolkit.errors import InputError, ModelError, UsageError
from toolkit.predictor import Predictor
from toolkit.verification.gates import Limits
from toolkit.verification.metrics import metrics_from
from toolkit.verification.report import FileReport, VerificationReport, describe_keras
from toolkit.verification.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
ROWS = 250
BOTH = """(float[n,4] x) => (float[n,4] probabilities, float[n,4] logits) {
    logits = Neg (x)
    probabilities = Softmax <axis = 1> (logits)
}"""
LEAK = """(float[n,4] x) => (float[n,4] again) {
    mean = ReduceMean <axes = [0], keepdims = 1> (x)
    tiny = Sub (x, mean)
    again = Tanh (tiny)
}"""


def _rows(seed: int = 0, shape: tuple[int, ...] = (ROWS, 4)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _verify(
    path: Path,
    reference: Arrays,
    inputs: Arrays,
    tasks: dict[str, str],
    targets: Arrays | None = None,
    kind: str = "float32",
    metrics: tuple[str, ...] = (),
) -> FileReport:
    told: list[int] = []
    report = verify(
        path,
        kind,
        "0" * 64,
        reference,
        inputs,
        targets or {},
        tasks,
        Limits(),
        metrics_from(metrics),
        lambda done, total, _: told.append(total - done),
    )
    assert told == sorted(told, reverse=True)
    assert told[-1] == 0
    return report


def _answers(path: Path, inputs: Arrays) -> Arrays:
    return dict(Predictor(path).predict_batch(inputs).outputs)


def _failed(report: FileReport) -> list[str]:
    return [gate.name for gate in report.gates if not gate.passed]


def test_every_output_has_its_own_section(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", TWO)
    inputs: Arrays = {"image": _rows(shape=(ROWS, 4, 3)), "rows": np.ones((ROWS, 2), np.int32)}
    reference, tasks = _answers(path, inputs), {"brightness": "values", "kind": "classification"}
    targets = {"kind": reference["kind"].argmax(axis=1), "brightness": reference["brightness"] + 1}
    report = _verify(path, reference, inputs, tasks, targets, "int8", ("mae",))
    assert report.passed
    assert report.rows == ROWS
    brightness, kind = sorted(report.outputs, key=lambda output: output.name)
    assert (brightness.task, kind.task) == ("values", "classification")
    assert [metric.name for metric in brightness.metrics] == ["mae"]
    assert brightness.metrics[0].keras == pytest.approx(1)
    assert kind.metrics == []
    assert {check.batch_size for check in kind.batches} == {1, 7}
    assert [check.labels_differ for check in brightness.batches] == [None, None]
    names = {gate.name for gate in report.gates}
    assert {"brightness: relative error", "brightness: change of mae", "kind: label agreement"} <= names
    assert {"kind: accuracy lost", "kind: labels that differ at batch 7"} <= names
    # One of them wrong: only its gates fail.
    wrong = {**reference, "kind": reference["kind"][:, ::-1].copy()}
    assert _failed(_verify(path, wrong, inputs, tasks, targets, "int8")) == ["kind: label agreement"]
    wrong = {**reference, "brightness": -reference["brightness"]}
    broken = _verify(path, wrong, inputs, tasks, targets, "int8")
    assert _failed(broken) == ["brightness: relative error"]
    assert broken.loses_too_much
    assert not broken.leaves_keras
    broken = _verify(path, wrong, inputs, tasks)
    assert _failed(broken) == ["brightness: largest difference"]
    assert broken.leaves_keras
    assert not broken.loses_too_much


@pytest.mark.parametrize(("text", "task"), [(BINARY, "binary"), (MULTILABEL, "multilabel")])
def test_yes_and_no_are_decisions(tmp_path: Path, text: str, task: str) -> None:
    path = write(tmp_path / "m.onnx", text)
    inputs = {"x": _rows()}
    reference = _answers(path, inputs)
    ((name, right),) = ((name, (array >= 0.5).astype(np.int64)) for name, array in reference.items())
    good = _verify(path, reference, inputs, {name: task}, {name: right}, "int8")
    assert good.passed
    assert [gate.name for gate in good.gates][1:3] == ["label agreement", "accuracy lost"]
    bad = _verify(path, {name: 1 - reference[name]}, inputs, {name: task}, {name: 1 - right}, "int8")
    assert _failed(bad) == ["label agreement", "accuracy lost"]
    assert "labels that differ from Keras" in _failed(_verify(path, {name: 1 - reference[name]}, inputs, {name: task}))


def test_an_autoencoder_is_judged_by_its_own_input(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", AUTOENCODER)
    inputs = {"x": _rows()}
    reference = _answers(path, inputs)
    report = _verify(path, reference, inputs, {"again": "values"}, kind="int8", metrics=("mse",))
    assert report.passed
    (metric,) = report.outputs[0].metrics
    assert metric.keras == pytest.approx(float(np.square(reference["again"] - inputs["x"]).mean()))
    (described,) = describe_keras(reference, inputs, {}, {"again": "values"}, metrics_from(["mse"]))
    assert described.metrics == {"mse": metric.keras}
    assert (described.accuracy, described.confusion) == (None, None)


def test_probabilities_and_logits_are_two_forms_of_one_answer(tmp_path: Path) -> None:
    both = write(tmp_path / "both.onnx", BOTH)
    inputs = {"x": _rows()}
    reference = {"probabilities": _answers(both, inputs)["probabilities"]}
    report = _verify(both, reference, inputs, {"probabilities": "classification"})
    assert report.passed
    assert {(output.name, output.of) for output in report.outputs} == {
        ("probabilities", "probabilities"),
        ("logits", "probabilities"),
    }
    lone = write(tmp_path / "lone.onnx", LOGITS.replace("kind", "logits"))
    assert _verify(lone, reference, inputs, {"probabilities": "classification"}).passed
    off = {"probabilities": reference["probabilities"][::-1].copy()}
    assert "labels that differ from Keras" in _failed(_verify(lone, off, inputs, {"probabilities": "classification"}))
    # Where Keras itself gives logits, they are compared as they are.
    own = {"logits": -inputs["x"]}
    assert _verify(lone, own, inputs, {"logits": "classification"}).passed
    own["logits"] += np.float32(1e-3)
    assert _failed(_verify(lone, own, inputs, {"logits": "classification"})) == ["largest difference"]


def test_answers_that_depend_on_the_batch_fail(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", LEAK)
    inputs = {"x": _rows()}
    failed = _failed(_verify(path, _answers(path, inputs), inputs, {"again": "values"}))
    assert failed == ["largest difference at batch 1", "largest difference at batch 7"]


def test_a_fixed_batch_and_a_free_length(tmp_path: Path) -> None:
    path = write(tmp_path / "fixed.onnx", FIXED)
    inputs = {"x": _rows(shape=(ROWS + 1, 6))}
    report = _verify(path, _answers(path, inputs), inputs, {"probabilities": "classification"})
    assert report.passed
    assert [check.batch_size for check in report.outputs[0].batches] == [1]
    path = write(tmp_path / "free.onnx", FREE)
    inputs = {"signal": _rows(shape=(ROWS, 9, 2))}
    assert _verify(path, _answers(path, inputs), inputs, {"probabilities": "classification"}).passed


def test_rows_that_do_not_fit_into_one_run_take_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.onnx", AUTOENCODER)
    inputs = {"x": _rows()}
    reference = _answers(path, inputs)
    largest: list[int] = []
    inner = Predictor.predict_batch

    def watched(self: Predictor, rows: Any) -> Any:
        largest.append(len(rows["x"]))
        return inner(self, rows)

    monkeypatch.setattr(Predictor, "predict_batch", watched)
    monkeypatch.setattr("toolkit.verification.verify._RUN_BYTES", 1000)
    assert _verify(path, reference, inputs, {"again": "values"}).passed
    assert max(largest) == 1000 // 16


def test_what_does_not_fit_together_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", AUTOENCODER)
    inputs = {"x": _rows()}
    again = _answers(path, inputs)["again"]
    for reference, says in (
        ({"other": again}, "gives an output 'again' that the Keras model does not (other)"),
        ({"again": again, "other": again}, "does not give the Keras model's output 'other'"),
        ({"again": again[:, :3]}, "Keras gives (250, 3)"),
        ({"again": again * np.float32(np.nan)}, "the Keras model answers NaN or infinity in 'again'"),
    ):
        with pytest.raises(ModelError) as caught:
            _verify(path, reference, inputs, dict.fromkeys(reference, "values"))
        assert says in str(caught.value)
    with pytest.raises(InputError):
        _verify(path, {"again": again}, {"x": inputs["x"][:, :3]}, {"again": "values"})
    with pytest.raises(UsageError, match="needs targets"):
        _verify(path, {"again": again[:, :, None]}, inputs, {"again": "values"}, metrics=("mae",))


def test_the_report_is_json_without_what_is_not_known(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", MULTILABEL.replace("Sigmoid (x)", "Log (x)"))  # NaN below 0
    inputs = {"x": _rows()}
    reference = {"answers": np.full((ROWS, 4), 0.25, np.float32)}
    for task in ("multilabel", "values"):
        tasks = {"answers": task}
        file = _verify(path, reference, inputs, tasks)
        assert {"values that are no numbers", "largest difference"} <= set(_failed(file))
        report = VerificationReport(
            "rows of m.npz", Limits(), "0" * 64, describe_keras(reference, inputs, {}, tasks), None, {}, [file]
        )
        plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert (plain["format"], plain["passed"], plain["class_names"]) == (2, False, None)
        (output,) = plain["files"][0]["outputs"]
        assert output["parity"]["not_finite"] > 0
        if task == "multilabel":
            assert output["parity"]["accuracy"] is output["parity"]["accuracy_drop"] is None
            assert output["parity"]["confusion"] is None
        assert report.keras_accuracy is None
        assert report.failures()[0].startswith("m.onnx: values that are no numbers is ")


def test_a_report_names_its_output_where_there_are_several(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from toolkit.cli.rendering import print_verification

    path = write(tmp_path / "m.onnx", TWO)
    inputs: Arrays = {"image": _rows(shape=(40, 4, 3)), "rows": np.ones((40, 2), np.int32)}
    reference, tasks = _answers(path, inputs), {"brightness": "values", "kind": "classification"}
    wrong = {"brightness": reference["brightness"] * 2, "kind": reference["kind"][:, ::-1].copy()}
    targets = {"brightness": reference["brightness"], "kind": reference["kind"].argmax(axis=1)}
    metrics = metrics_from(["mae"])
    file = _verify(path, wrong, inputs, tasks, targets, "int8", ("mae",))
    described = describe_keras(wrong, inputs, targets, tasks, metrics)
    report = VerificationReport("rows", Limits(), "0" * 64, described, None, {}, [file])
    print_verification(report, flips=2)
    shown = capsys.readouterr()
    tables = shown.out.split("Verification on rows, output ")
    assert len(tables) == 3
    for table in tables[1:]:
        values = table.startswith("brightness (values)")
        assert values or table.startswith("kind (classification)")
        head = table.partition("Keras")[0] if values else table
        assert ("relative error" in head, "labels" in head) == (values, not values)
        assert ("mae" in head) == values
    assert "m.onnx, kind: " in shown.out
    assert "failed: m.onnx: brightness: relative error is " in shown.err
    assert "note: m.onnx: kind: accuracy is judged on 40" in shown.err
