"""Each kind of Keras model, trained, exported, quantized and verified with default options, then asked as on a device.

The models are those of `tests.zoo`; benchmarks/architectures.py publishes their figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from tests.zoo import ZOO
from toolkit.api import export_model
from toolkit.pipeline import FailedGatesError
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zoo import Example
    from toolkit.api import ExportResult

# What these default options do not serve, and the gate that says so.
REFUSED = {"two_inputs_two_outputs": "brightness: relative error"}
IN_FLOAT = {"lstm": ["lstm"], "gru": ["gru"], "bidirectional": ["lstm_1", "bidirectional"], "embedding": ["embedding"]}


def _export(example: Example, folder: Path, **options: Any) -> ExportResult:
    return export_model(
        example.model,
        folder,
        quantize="static",
        calibration=example.calibration,
        test=example.test,
        labels=example.labels,
        **options,
    )


# They take longest; `make architectures` runs them too, on other CPUs as well.
SLOW = {"mobilenet", "keyword_spotter", "residual", "bidirectional", "depthwise_separable", "gru"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ZOO if name not in REFUSED],
)
def test_an_architecture_passes_with_default_options(zoo: Callable[[str], Example], tmp_path: Path, name: str) -> None:
    example = zoo(name)
    result = _export(example, tmp_path / name)
    assert result.report.passed
    assert [file.kind for file in result.report.files] == ["float32", "int8"]
    assert result.manifest.conversion is not None
    assert result.manifest.conversion.route == "tf2onnx"
    _, int8 = (onnx.load(tmp_path / name / file) for file in ("model.onnx", "model.int8.onnx"))
    operators = {node.op_type for node in int8.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} & operators
    # Batch normalization is gone, and so are the shapes that Flatten computes.
    assert "BatchNormalization" not in operators
    quantization = result.manifest.quantization
    assert quantization is not None
    assert quantization.kept_float == IN_FLOAT.get(name, [])
    _ask_as_a_device(tmp_path / name, example, result)


def _ask_as_a_device(folder: Path, example: Example, result: ExportResult) -> None:
    """One row alone, and the first rows together, give what verification saw."""
    predictor = Predictor(folder)
    assert [info.name for info in predictor.inputs] == list(example.test)
    assert set(predictor.task_of.values()) <= {"classification", "binary", "multilabel", "values"}
    few = {key: array[:7] for key, array in example.test.items()}
    if any(given.dtype == "uint8" for given in result.manifest.inputs):
        few = {key: array.astype(np.uint8) for key, array in few.items()}
    together = predictor.predict_batch(few)
    alone = predictor.predict({key: array[0] for key, array in few.items()})
    for key, values in together.outputs.items():
        np.testing.assert_allclose(alone.outputs[key], values[0], rtol=1e-4, atol=1e-4)
    if example.task == "classification":
        assert alone.label == int(next(iter(together.outputs.values()))[0].argmax())
        assert alone.class_name == str(alone.label)  # nobody named the classes, so their numbers do
    else:
        assert alone.label is None


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_loses_too_much_is_refused_by_name(zoo: Callable[[str], Example], tmp_path: Path, name: str) -> None:
    with pytest.raises(FailedGatesError, match=REFUSED[name]):
        _export(zoo(name), tmp_path / name)
    assert not (tmp_path / name).exists()
    result = _export(zoo(name), tmp_path / name, limits={"int8_max_relative_error": 0.2})
    assert result.report.passed
