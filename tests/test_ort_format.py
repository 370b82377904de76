"""ONNX files in the runtime's own format: the same answers, the same bytes each time, and what a small build needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from tests import small_graphs
from tests.conftest import REFERENCE, ROOT
from tests.small_graphs import write
from toolkit.api import export_model
from toolkit.conversion.logits import with_logits
from toolkit.conversion.ort_format import to_ort
from toolkit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zoo import Example

IMAGES = np.random.default_rng(3).integers(0, 256, (100, 28, 28), np.uint8)
BRANCHES = """(float[n,4] x, bool choose) => (float[n,4] y) {
    y = If (choose) <
        then_branch = then () => (float[n,4] a) { a = Elu (x) },
        else_branch = other () => (float[n,4] b) { b = Selu (x) }
    >
}"""


def _answers(data: bytes, rows: dict[str, Any], *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"], disabled_optimizers=list(without))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, rows), strict=True))


def _same_bits(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].tobytes() == values.tobytes(), name


def _operators(config: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in config.splitlines():
        domain, version, names = line.split(";")
        assert int(version) > 0
        found.setdefault(domain, set()).update(names.split(","))
    return found


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.onnx"])
def test_the_reference_keeps_its_logits_bit_for_bit(name: str) -> None:
    inner = with_logits((REFERENCE / name).read_bytes(), name)
    written, _ = to_ort(inner.data)
    assert written[4:8] == b"ORTM"
    answers = _answers(written, {"image": IMAGES})
    assert set(answers) == {"probabilities", *inner.inner.values()}
    _same_bits(answers, _answers(inner.data, {"image": IMAGES}))


def test_what_the_file_says_of_itself_is_kept() -> None:
    data = (REFERENCE / "model.int8.onnx").read_bytes()
    facts = [
        ort.InferenceSession(form, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
        for form in (data, to_ort(data)[0])
    ]
    assert facts[0] == facts[1]
    assert len(json.loads(facts[1]["toolkit.class_names"])) == 10


@pytest.mark.parametrize("name", ["depthwise_separable", pytest.param("residual", marks=pytest.mark.slow)])
def test_convolutions_in_layouts_that_every_cpu_has(zoo: Callable[[str], Example], tmp_path: Path, name: str) -> None:
    example = zoo(name)
    export_model(example.model, tmp_path / name, quantize="static", calibration=example.calibration, test=example.test)
    rows = {key: array[:50] for key, array in example.test.items()}
    data = (tmp_path / name / "model.int8.onnx").read_bytes()
    written, config = to_ort(data)
    _same_bits(_answers(written, rows), _answers(data, rows))
    assert "QLinearConv" in _operators(config)["com.microsoft"]  # with channels last: a kernel of every CPU
    # In float the runtime would lay a model out for the x86 at hand; without that, each bit is the same.
    data = (tmp_path / name / "model.onnx").read_bytes()
    written, config = to_ort(data)
    _same_bits(_answers(written, rows), _answers(data, rows, without=("NchwcTransformer",)))
    for file, close in ((written, 1e-5), (data, 1e-5)):
        for key, values in _answers(file, rows).items():
            np.testing.assert_allclose(values, _answers(data, rows)[key], atol=close)
    assert "com.microsoft.nchwc" not in _operators(config)


def test_the_same_bytes_from_every_process(tmp_path: Path) -> None:
    """The runtime's own writer follows a hash map, whose order changes from process to process."""
    script = (
        "import hashlib, sys; from pathlib import Path; from toolkit.conversion.ort_format import to_ort\n"
        "written, config = to_ort(Path(sys.argv[1]).read_bytes())\n"
        "print(hashlib.sha256(written).hexdigest(), hashlib.sha256(config.encode()).hexdigest())"
    )
    path = write(tmp_path / "branches.onnx", BRANCHES)
    two = write(tmp_path / "two.onnx", small_graphs.TWO)
    for model in (REFERENCE / "model.int8.onnx", path, two):
        said = {
            subprocess.run(
                [sys.executable, "-c", script, str(model)], cwd=folder, capture_output=True, text=True, check=True
            ).stdout
            for folder in (ROOT, tmp_path, ROOT, ROOT, ROOT, ROOT)
        }
        assert len(said) == 1


@pytest.mark.parametrize("text", [small_graphs.TWO, small_graphs.FIXED, small_graphs.TOKENS, BRANCHES])
def test_as_the_runtimes_own_tool_writes_it(tmp_path: Path, text: str) -> None:
    """But for the order of one table: here both are read by the tool's own reader."""
    path = write(tmp_path / "model.onnx", text, class_names=["a", "b"])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORT_CONVERT")}
    subprocess.run(
        [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", path, "--optimization_style", "Fixed"],
        check=True,
        capture_output=True,
        env=environment,
    )
    theirs = (tmp_path / "model.ort").read_bytes()
    (tmp_path / "ours").mkdir()
    ours, config = to_ort(path.read_bytes())
    (tmp_path / "ours" / "model.ort").write_bytes(ours)
    own_lines = (tmp_path / "model.required_operators.config").read_text().splitlines()
    assert config.splitlines() == [line for line in own_lines if not line.startswith("#")]
    assert _kernel_types(ours) == _kernel_types(theirs)
    assert list(_kernel_types(ours)) == sorted(_kernel_types(ours))


def _kernel_types(data: bytes) -> dict[str, Any]:
    import logging

    before = logging.getLogger().handlers[:]
    from onnxruntime.tools import ort_format_model  # its import sets up logging, and the path to its reader

    logging.getLogger().handlers[:] = before
    assert ort_format_model
    from ort_flatbuffers_py.fbs.InferenceSession import (  # type: ignore[import-not-found]  # see above
        InferenceSession,
    )

    found: dict[str, Any] = {}
    table = InferenceSession.GetRootAs(bytearray(data), 0).KernelTypeStrResolver()
    for operator in (table.OpKernelTypeStrArgs(i) for i in range(table.OpKernelTypeStrArgsLength())):
        types = found[operator.OpId().decode()] = {}
        for each in (operator.KernelTypeStrArgs(i) for i in range(operator.KernelTypeStrArgsLength())):
            arguments = [each.Args(i) for i in range(each.ArgsLength())]
            types[each.KernelTypeStr().decode()] = [(argument.ArgType(), argument.Index()) for argument in arguments]
    assert found
    return found


def test_branches_count_among_the_operators(tmp_path: Path) -> None:
    data = write(tmp_path / "m.onnx", BRANCHES).read_bytes()
    written, config = to_ort(data)
    assert _operators(config) == {"ai.onnx": {"If", "Elu", "Selu"}}
    for choose in (True, False):
        rows = {"x": np.array([[-2, -1, 0, 1]], np.float32), "choose": np.array(choose)}
        _same_bits(_answers(written, rows), _answers(data, rows))


def test_nothing_of_this_machine_is_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL", "basic")  # the tool would follow it
    written, config = to_ort((REFERENCE / "model.int8.onnx").read_bytes())
    for text in (str(tmp_path), "/tmp", os.path.expanduser("~")):  # noqa: S108, PTH111 - looked for, not used
        assert text.encode() not in written
        assert text not in config
    assert "QGemm" in _operators(config)["com.microsoft"]


@pytest.mark.parametrize("data", [b"", b"hello", (REFERENCE / "model.onnx").read_bytes()[:1000]])
def test_what_is_no_model_is_one_line(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        to_ort(data)
    assert "\n" not in str(caught.value)
    assert "in its own format" in str(caught.value)
