"""Each gate on a person's own model goes red through the command when what it guards is broken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests import breaking
from tests.own import CUSTOM, command, fails, layers, mostly, rows, settled, tabular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx

DATA = ("--quantize", "--calibration", "rows.npz", "--test", "rows.npz")
X = rows(150, 8)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Verified artifacts, each in a folder of its own beside its rows."""
    folder = tmp_path_factory.mktemp("gates")
    kinds: dict[str, list[tuple[str, int, str | None]]] = {
        "values": [("value", 1, None)],
        "yes": [("yes", 1, "sigmoid")],
        "labels": [("tags", 4, "sigmoid")],
        "several": [("kind", 3, "softmax"), ("level", 1, None)],
    }
    for name, heads in kinds.items():
        place = folder / name
        place.mkdir()
        (place / "own_layers.py").write_text(CUSTOM)
        model = tabular(*heads)
        model.save(place / "model.keras")
        answers = model.predict(X, verbose=0)
        np.savez(place / "rows.npz", x=X, **_targets(name, answers))
        metric = ("--metric", "mae") if name in ("values", "several") else ()
        drop = () if name == "values" else ("--max-accuracy-drop", 0.05)
        done = command("export", "model.keras", "-o", "out", *DATA, *drop, *metric, cwd=place)
        assert done.code == 0, done.err
    return folder


def _targets(name: str, answers: Any) -> dict[str, Any]:
    if name == "values":
        return {"y": answers + rows(150, 1, seed=1)}
    if name == "several":
        return {"kind": mostly(answers[0].argmax(axis=1), 3), "level": answers[1] + rows(150, 1, seed=1)}
    return {"y": mostly((answers >= 0.5).astype(int).reshape(-1), 2).reshape(answers.shape)}


def _change(name: str, change: Callable[[Any], Any]) -> Callable[[onnx.ModelProto], None]:
    """Change one constant of a graph."""

    def edit(model: onnx.ModelProto) -> None:
        (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        before = numpy_helper.to_array(found)
        found.CopyFrom(numpy_helper.from_array(change(before.copy()).astype(before.dtype), name))

    return edit


def _one_more(array: Any) -> Any:
    array.flat[5] += 0.5
    return array


def _nan(array: Any) -> Any:
    array.flat[0] = np.nan
    return array


def _half_turned(array: Any) -> Any:
    array.flat[::2] *= -1
    return array


def _leak(model: onnx.ModelProto) -> None:
    """Let the rows of a batch have a part in the answer."""
    end = next(node for node in model.graph.node if node.output[0] == "value")
    end.output[0] = "alone"
    model.graph.node.append(helper.make_node("ReduceMean", ["alone"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.append(helper.make_node("Mul", ["mean", "tenth"], ["part"]))
    model.graph.node.append(helper.make_node("Sub", ["alone", "part"], ["value"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-2, np.float32), "tenth"))


@pytest.mark.parametrize(
    ("which", "file", "change", "gates"),
    [
        ("values", "model.onnx", _change("hidden/kernel", _one_more), {"largest difference"}),
        ("values", "model.onnx", _change("value/bias", _nan), {"values that are no numbers", "largest difference"}),
        ("values", "model.onnx", _leak, {"largest difference at batch 1", "largest difference at batch 7"}),
        ("values", "model.int8.onnx", _change("hidden/kernel_quantized", _half_turned), {"relative error"}),
        ("values", "model.int8.onnx", _change("value/bias_quantized", lambda a: a + 1500), {"change of mae"}),
        ("yes", "model.onnx", _change("yes/bias", lambda a: a + 0.5), {"labels that differ from Keras"}),
        ("yes", "model.int8.onnx", _change("hidden/kernel_quantized", _half_turned), {"label agreement"}),
        ("labels", "model.onnx", _change("tags/bias", lambda a: a + 0.5), {"labels that differ from Keras"}),
        ("labels", "model.int8.onnx", _change("tags/kernel_quantized", _half_turned), {"label agreement"}),
        ("several", "model.onnx", _change("level/kernel", _one_more), {"level: largest difference"}),
        ("several", "model.onnx", _change("kind/kernel", _one_more), {"kind: largest difference"}),
        ("several", "model.int8.onnx", _change("level/kernel_quantized", _half_turned), {"level: relative error"}),
        ("several", "model.int8.onnx", _change("kind/kernel_quantized", _half_turned), {"kind: accuracy lost"}),
    ],
)  # fmt: skip
def test_a_broken_file_fails_its_gate(
    here: Path,
    tmp_path: Path,
    which: str,
    file: str,
    change: Callable[[onnx.ModelProto], None],
    gates: set[str],
) -> None:
    broken = breaking.copy_of(here / which / "out", tmp_path)
    breaking.edit(broken, file, change)
    metric = ("--metric", "level=mae" if which == "several" else "mae") if which in ("values", "several") else ()
    done = command("verify", broken, "--test", here / which / "rows.npz", *metric, cwd=tmp_path)
    assert done.code == 1, done.err
    assert done.error_line.startswith(f"error: {file}: ")
    report = json.loads((broken / "parity.json").read_text())
    assert report["passed"] is False
    failed = {
        entry["name"]: {gate["name"] for gate in entry["gates"] if not gate["passed"]} for entry in report["files"]
    }
    assert gates <= failed.pop(file)
    assert not any(failed.values())
    if which == "several":
        other = "kind" if next(iter(gates)).startswith("level") else "level"
        assert f"{other}: " not in done.error_line


def test_the_first_layer_that_differs_is_in_the_error_line(here: Path, tmp_path: Path) -> None:
    for which, layer in (("values", "value"), ("several", "level"), ("values", "hidden")):
        broken = breaking.copy_of(here / which / "out", tmp_path / layer)
        breaking.edit(broken, "model.onnx", _change(f"{layer}/kernel", _one_more))
        line = command("verify", broken, "--test", here / which / "rows.npz", cwd=tmp_path).error_line
        assert f"; first layer that differs: {layer} (its output is off by " in line


def test_what_to_try_next_is_a_command_that_can_be_given(here: Path, tmp_path: Path) -> None:
    artifact, test = breaking.copy_of(here / "values" / "out", tmp_path), here / "values" / "rows.npz"
    line = command("verify", artifact, "--test", test, "--max-relative-error", 1e-6, cwd=tmp_path).error_line
    start = f"try: toolkit export {artifact} --quantize --calibration-images=150 --calibration=rows.npz --test={test} "
    assert f"{start}--" in line
    breaking.edit(artifact, "model.int8.onnx", _change("hidden/kernel_quantized", _half_turned))
    line = command("verify", artifact, "--test", test, cwd=tmp_path).error_line
    assert "; export it again with another --quantize" in line


@pytest.mark.parametrize(
    ("which", "limit", "gate"),
    [
        ("values", ("--max-relative-error", 1e-6), "relative error is "),
        ("values", ("--max-difference", 0), "model.onnx: largest difference is "),
        ("values", ("--metric", "own_layers:squared", "--max-metric-change", 0), "change of own_layers:squared is "),
        ("several", ("--max-relative-error", 1e-6), "level: relative error is "),
        ("labels", ("--min-agreement", 1, "--max-difference", 0), "largest difference is "),
    ],
)
def test_a_limit_that_cannot_be_met_publishes_nothing(
    here: Path, which: str, limit: tuple[object, ...], gate: str
) -> None:
    line = fails(1, "export", "model.keras", "-o", "more", *DATA, *limit, cwd=here / which)
    assert gate in line
    assert "; nothing was published to more" in line


def test_a_failed_export_leaves_the_artifact_as_it_was(here: Path) -> None:
    place = here / "values"
    before = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
    fails(1, "export", "out", *DATA, "--max-relative-error", 1e-6, cwd=place)
    assert {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()} == before


@pytest.fixture(scope="module")
def custom(here: Path) -> Path:
    """Models of layers of one's own, which leak the batch or answer with no number."""
    keras, kinds = layers()
    scope: dict[str, Any] = {}
    exec(CUSTOM, scope)  # noqa: S102 - the same text that the command imports
    given = keras.Input((8,), name="sensor")
    for layer in ("OffMean", "Logarithm"):
        inner = scope[layer](name=layer.lower())(kinds.Dense(4, name="dense")(given))
        settled(keras.Model(given, inner)).save(here / "values" / f"{layer}.keras")
    return here / "values"


def test_an_answer_that_depends_on_the_batch_is_not_published(custom: Path) -> None:
    np.savez(custom / "plain.npz", x=X)
    options = ("--custom", "own_layers:OffMean", "--test", "plain.npz")
    line = fails(1, "export", "OffMean.keras", "-o", "off", *options, cwd=custom)
    # Of all rows, and of batches of 1 and of 7: runs have fewer rows than Keras' one batch.
    assert "model.onnx: largest difference" in line
    assert "(and 2 more)" in line
    assert "a row's answer depends on the rows that it is run with" in line
    assert "give the model a fixed batch size" in line


def test_a_model_that_answers_nan_is_refused_before_it_is_quantized(custom: Path) -> None:
    np.savez(custom / "plain.npz", x=X)
    data = ("--quantize", "--calibration", "plain.npz", "--test", "plain.npz")
    done = command("export", "Logarithm.keras", "-o", "nan", "--custom", "own_layers:Logarithm", *data, cwd=custom)
    assert done.code == 2
    assert "answers NaN or infinity on the test rows" in done.error_line
    assert "Quantizing" not in done.err
    assert not (custom / "nan").exists()
