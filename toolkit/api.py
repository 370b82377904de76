"""What Python programs call: a model from memory to a verified artifact, as `toolkit export` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import UsageError
from toolkit.progress import Note, silent_note, silent_step

if TYPE_CHECKING:
    from toolkit.artifact import Manifest
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.datasets import Rows
    from toolkit.keras_model import SourceModel
    from toolkit.verification.report import VerificationReport

__all__ = ["ExportResult", "export_model"]


@dataclass(frozen=True)
class ExportResult:
    """A published artifact.

    Attributes:
        folder: where it is; `toolkit.predictor.Predictor` opens it.
        manifest: what is in it.
        report: its verification; every gate held.
    """

    folder: Path
    manifest: Manifest
    report: VerificationReport


def export_model(
    model: Any,
    output: str | Path | None = None,
    *,
    quantize: str | QuantizationRecipe | None = None,
    calibration: Any = None,
    test: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    tasks: Mapping[str, str] | str | None = None,
    metrics: Sequence[str] | str = (),
    input_dtype: str | None = None,
    input_scale: float | None = None,
    input_offset: float | None = None,
    limits: Mapping[str, float] | None = None,
    custom: Sequence[str] | str = (),
    unsafe: bool = False,
    c: bool = False,
    note: Note = silent_note,
) -> ExportResult:
    """Export a Keras model to ONNX, quantize it if asked, verify it, and publish it only if every gate held.

    Args:
        model: a Keras model object, or the path of a .keras or .h5 file, a SavedModel or an artifact folder.
        output: the artifact folder to publish; by default exported/NAME.
        quantize: "static" (int8, calibrated), "dynamic", "int4", "float16", or a recipe; None for float32 alone.
        calibration: rows of what the model was trained on, for static int8: an array of shape (n, ...) for a model of
            one input, a dict of arrays by input name, or the path of anything that ``--calibration`` takes.
        test: rows to verify on, in the same forms. Without any, the calibration rows, or random numbers.
        labels: what is right for the test rows: an array for a model of one output, or a dict by output name.
        class_names: of the classes.
        tasks: by output name, or one for all: "classification", "binary", "multilabel" or "values".
        metrics: names as ``--metric`` takes them.
        input_dtype: "uint8", "int8" or "float32"; see ``--input``.
        input_scale: what raw integers are multiplied by, so that the model can take them.
        input_offset: what is added then.
        limits: gates by name, see `toolkit.verification.gates.Limits`.
        custom: "module:name" of classes that a file needs; see `toolkit.keras_model.open_model`.
        unsafe: see there.
        c: write the static int8 model as C too; see ``--c``.
        note: told what is being done.

    Returns:
        The published artifact, with its report.

    Raises:
        ToolkitError: of the kinds in `toolkit.errors`: UsageError, DataError, ModelError, MissingError, and
            `toolkit.pipeline.FailedGatesError` where a gate failed.
    """
    from toolkit.conversion.recipe import METHODS, QuantizationRecipe
    from toolkit.data import load
    from toolkit.datasets.class_names import checked_names
    from toolkit.keras_model import open_model
    from toolkit.pipeline import ExportOptions, OwnData, RawInput, export_artifact, export_target
    from toolkit.verification.gates import Limits
    from toolkit.verification.metrics import metrics_from

    if isinstance(quantize, str) and quantize not in METHODS:
        raise UsageError(f"quantize is {quantize!r}, expected one of {', '.join(METHODS)}")
    recipe = QuantizationRecipe(method=quantize) if isinstance(quantize, str) else quantize
    try:
        gates = Limits(**(limits or {}))
    except TypeError as error:
        known = ", ".join(Limits.__dataclass_fields__)
        raise UsageError(f"limits are {limits!r}, expected a dict of numbers by some of {known}") from error
    custom, metrics = ((each,) if isinstance(each, str) else tuple(each) for each in (custom, metrics))
    given = Path(model) if isinstance(model, str | Path) else model
    if (custom or unsafe) and not isinstance(given, Path):
        raise UsageError("custom and unsafe are for opening a file, and the model is an object already; leave them out")
    if labels is not None and (test is None or isinstance(test, str | Path)):
        raise UsageError(
            "labels belong to test rows that are arrays; give test as an array or dict, or labels in its file"
        )
    source = None if isinstance(given, Path) else open_model(given)
    names = class_names
    if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
        raise UsageError(f"class_names are {names!r}, expected a list of str, one for each class")
    data = OwnData(
        _rows(calibration, None, "calibration", given, source, custom, unsafe=unsafe),
        _rows(test, labels, "test", given, source, custom, unsafe=unsafe),
        None if names is None else checked_names(list(names), "class_names"),
    )
    options = ExportOptions(
        recipe,
        raw=RawInput(input_dtype, input_scale, input_offset),
        data=data,
        tasks={"": tasks} if isinstance(tasks, str) else dict(tasks or {}),
        metrics=tuple(metrics_from(metrics)),
        limits=gates,
        custom=custom,
        unsafe=unsafe,
        c=c,
    )
    folder = export_target(given, None if output is None else Path(output))
    manifest, report = export_artifact(given, folder, load, options, note, silent_step)
    return ExportResult(folder, manifest, report)


def _rows(
    rows: Any,
    labels: Any,
    what: str,
    model: Any,
    source: SourceModel | None,
    custom: Sequence[str],
    *,
    unsafe: bool,
) -> Path | Rows | None:
    """Rows in any form as the pipeline takes them; arrays are held against the model's inputs and outputs."""
    if rows is None or isinstance(rows, Path):
        return rows
    if isinstance(rows, str):
        return Path(rows)
    from toolkit.datasets.fitting import fit
    from toolkit.datasets.rows import Found
    from toolkit.keras_model import open_model

    source = source or open_model(_model_file(model), custom=custom, unsafe=unsafe)
    return fit(
        Found(
            _by_name(rows, [spec.name for spec in source.inputs], what),
            {} if labels is None else _by_name(labels, [spec.name for spec in source.outputs], "labels"),
            source=f"the {what} data",
        ),
        source.inputs,
        source.outputs,
    )


def _model_file(path: Path) -> Path:
    """The model's own file where the path is an artifact's."""
    from toolkit.artifact import load_manifest
    from toolkit.keras_model.saved_model import is_saved_model
    from toolkit.pipeline.verifying import source_path

    return source_path(path, load_manifest(path)) if path.is_dir() and not is_saved_model(path) else path


def _by_name(arrays: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    """Arrays by the model's names; one alone belongs to the only one.

    Raises:
        UsageError: a name that the model does not have, one that is missing, or one array for several.
    """
    if not isinstance(arrays, Mapping):
        if len(names) != 1:
            raise UsageError(f"{what} is one array, but the model has {', '.join(names)}; give a dict by these names")
        return {names[0]: _array(arrays, what)}
    found = {str(name): _array(array, f"{what} {name!r}") for name, array in arrays.items()}
    if unknown := [name for name in found if name not in names]:
        raise UsageError(f"{what} names {', '.join(unknown)}, but the model has {', '.join(names)}; rename them")
    if what != "labels" and (missing := [name for name in names if name not in found]):
        raise UsageError(f"{what} lacks {', '.join(missing)}; give every input of the model")
    return found


def _array(rows: Any, what: str) -> Any:
    """Rows as one array.

    Raises:
        UsageError: they cannot be one.
    """
    import numpy as np

    try:
        found = np.asarray(rows)
    except ValueError as error:
        raise UsageError(f"{what} has rows of different lengths, expected an array; pad or cut them") from error
    if found.dtype == object:
        raise UsageError(
            f"{what} is of type {type(rows).__name__}, which holds no plain numbers, expected an array, a dict of "
            "arrays by name, or the path of a file"
        )
    return found
