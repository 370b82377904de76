"""The stages in sequence: what `toolkit train`, `export`, `verify` and `run` do to an artifact folder.

Each function here fills a staging folder and lets it take the artifact's place only when every gate held.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import artifact
from toolkit.artifact import (
    HISTORY,
    KERAS,
    KINDS,
    ONNX,
    PARITY,
    QUANTIZED,
    FileRecord,
    Manifest,
    ParityRecord,
    QuantizationRecord,
    TensorContract,
    TrainingRecord,
)
from toolkit.data import CLASS_NAMES
from toolkit.errors import GateError, InputError, MissingError, ModelError, ToolkitError, UsageError
from toolkit.keras_model import load_keras, predict_keras
from toolkit.predictor import PROBABILITIES, read_checked
from toolkit.publishing import staged_folder, write_atomic
from toolkit.verification.gates import Limits
from toolkit.verification.report import VerificationReport, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.metadata import ExportedFile
    from toolkit.conversion.quantize import QuantizationResult
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.data import FashionMnist
    from toolkit.progress import Note, Step
    from toolkit.training.fit import OnEpoch
    from toolkit.training.recipes import Recipe

__all__ = [
    "ExportOptions",
    "FailedGatesError",
    "export_artifact",
    "export_target",
    "open_source",
    "quantize_on",
    "run_line",
    "train_artifact",
    "verify_artifact",
    "write_parity",
]


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and what it must reach.

    Attributes:
        quantization: the recipe, or None for float32 alone.
        input_dtype: "uint8" for raw pixels, "float32" for the Keras model's own input.
        output: "probabilities", "logits" or "both".
        limits: the gates.
        keep_failed: leave what failed a gate in a folder of its own, NAME.failed.
        custom, unsafe: see `toolkit.keras_model.open_model`.
    """

    quantization: QuantizationRecipe | None
    input_dtype: str = "uint8"
    output: str = "probabilities"
    limits: Limits = dataclasses.field(default_factory=Limits)
    keep_failed: bool = False
    custom: tuple[str, ...] = ()
    unsafe: bool = False


class FailedGatesError(GateError):
    """Verification failed; carries its report."""

    def __init__(self, report: VerificationReport, consequence: str) -> None:
        failures = report.failures()
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        super().__init__(f"{failures[0]}{more}; {consequence}")
        self.report = report


def train_artifact(
    output: Path, recipe: Recipe, data: FashionMnist, seed: int, on_epoch: OnEpoch
) -> tuple[Manifest, TrainingRecord]:
    """Train a model and publish it as an artifact: model.keras, history.csv and the manifest.

    Exported files of an earlier model in that folder do not belong to the new one and are left out.

    Raises:
        UsageError, StorageError: see `toolkit.publishing.staged_folder`.
        DivergedError: nothing is published.
    """
    with staged_folder(output) as staging:
        manifest, record, _ = _train(staging, output.absolute().name, recipe, data, seed, on_epoch)
        manifest.write(staging)
    return manifest, record


def export_artifact(
    source: Path, output: Path | None, data: FashionMnist, options: ExportOptions, note: Note, step: Step
) -> tuple[Manifest, VerificationReport]:
    """Export a Keras model to ONNX, verify it, and publish it only if every gate held.

    Args:
        source: an artifact folder that holds model.keras, or a .keras or .h5 file.
        output: the artifact folder to publish; by default the source folder, or exported/NAME for NAME.keras.
        data: calibration comes from its training images, verification from its test images.
        options: what to export.
        note: told what is being done.
        step: told of verification's progress.

    Raises:
        FailedGatesError: a gate failed; what was there is untouched.
        MissingError, ModelError, CorruptArtifactError: the source is no model.
        UsageError, StorageError: see `toolkit.publishing.staged_folder`.
    """
    target = export_target(source, output)
    model_path, earlier = source, None
    if source.is_dir():
        model_path, earlier = source / KERAS, artifact.load_manifest(source)
        if KERAS not in earlier.files:
            raise MissingError(f"{source} holds no {KERAS}; train one with: toolkit train --output {source}")
    with staged_folder(target) as staging:
        # Each file is read once, checked, and from here on taken from the staging folder: whatever another command
        # does to the source meanwhile, what is exported is what was checked.
        if earlier is None:
            _copy_lone(model_path, staging / KERAS)
        else:
            earlier = artifact.load_manifest(source)  # again, now that nobody else may replace it
            for name in (n for n in _TRAINED if n in earlier.files):
                (staging / name).write_bytes(read_checked(str(source / name), earlier.files[name].sha256))
        model = load_keras(staging / KERAS, shown=model_path, custom=options.custom, unsafe=options.unsafe)
        manifest = Manifest(
            name=target.absolute().name,
            versions=artifact.versions(),
            files={name: _record(staging / name) for name in _TRAINED if (staging / name).is_file()},
            training=earlier.training if earlier else None,
        )
        manifest, report = _export(staging, target, model, manifest, data, options, note, step)
    return manifest, report


def open_source(source: Path, folder: Path, *, custom: Sequence[str] = (), unsafe: bool = False) -> tuple[Any, str]:
    """A Keras model to work on, from a copy of its file in another folder.

    Args:
        source: an artifact folder that holds model.keras, or a .keras or .h5 file.
        folder: where the copy goes.
        custom: see `toolkit.keras_model.open_model`.
        unsafe: see there.

    Returns:
        The model and the file's sha256.

    Raises:
        MissingError, ModelError, CorruptArtifactError: the source is no model.
    """
    copy, shown = folder / KERAS, source
    if source.is_dir():
        manifest = artifact.load_manifest(source)
        if KERAS not in manifest.files:
            raise MissingError(f"{source} holds no {KERAS}; train one with: toolkit train --output {source}")
        shown = source / KERAS
        copy.write_bytes(read_checked(str(shown), manifest.files[KERAS].sha256))
    else:
        _copy_lone(source, copy)
    return load_keras(copy, shown=shown, custom=custom, unsafe=unsafe), artifact.sha256_of(copy)


def export_target(source: Path, output: Path | None) -> Path:
    """Where an export goes: output, or the source folder itself, or exported/NAME for NAME.keras."""
    return output or (source if source.is_dir() else Path("exported") / source.stem)


def run_line(
    output: Path,
    recipe: Recipe,
    data: FashionMnist,
    seed: int,
    options: ExportOptions,
    on_epoch: OnEpoch,
    note: Note,
    step: Step,
) -> tuple[Manifest, VerificationReport]:
    """Train, export and verify in one staging folder, published once at the end.

    Raises:
        As `train_artifact` and `export_artifact`; the earlier artifact is whole after each of them.
    """
    with staged_folder(output) as staging:
        manifest, _, model = _train(staging, output.absolute().name, recipe, data, seed, on_epoch)
        manifest, report = _export(staging, output, model, manifest, data, options, note, step)
    return manifest, report


def verify_artifact(
    folder: Path,
    data: FashionMnist,
    limits: Limits,
    note: Note,
    step: Step,
    *,
    custom: Sequence[str] = (),
    unsafe: bool = False,
) -> VerificationReport:
    """Verify a published artifact; nothing is written, and a gate that fails is only in the report.

    Raises:
        CorruptArtifactError: a file is not what the manifest says.
        MissingError: there is nothing to verify, or no model.keras to verify it against.
    """
    manifest = artifact.load_manifest(folder)
    artifact.check_files(folder, manifest)
    if KERAS not in manifest.files:
        raise MissingError(f"{folder} holds no {KERAS} to verify against; copy it there from where it was trained")
    if ONNX not in manifest.files:
        raise MissingError(f"{folder} holds no exported model yet; run: toolkit export {folder} --quantize")
    note("Asking Keras for its answers")
    try:
        model = load_keras(folder / KERAS, custom=custom, unsafe=unsafe)
        report = _verify(folder, model, manifest, data, limits, step)
    except ToolkitError:
        _check_unchanged(folder, manifest)
        raise
    _check_unchanged(folder, manifest)
    return report


def _check_unchanged(folder: Path, manifest: Manifest) -> None:
    if artifact.load_manifest(folder).files != manifest.files:
        raise UsageError(f"{folder} was replaced by another command while it was verified; verify it again")


def write_parity(report: VerificationReport, path: Path) -> None:
    """Write a verification report, whole or not at all.

    Raises:
        UsageError, StorageError: it cannot be written.
    """
    write_atomic(path, _parity_text(report))


_TRAINED = (KERAS, HISTORY)
_CALIBRATION_BATCH = 100
_LOOKED_AT = 1000  # calibration images that are looked at for being degenerate


def _copy_lone(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise MissingError(
            f"{source} does not exist; give a .keras or .h5 file, or train one with: toolkit train"
        ) from error
    except PermissionError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; check its permissions") from error


def _train(
    staging: Path, name: str, recipe: Recipe, data: FashionMnist, seed: int, on_epoch: OnEpoch
) -> tuple[Manifest, TrainingRecord, Any]:
    from toolkit.training.fit import train

    result = train(recipe, data, seed, staging, on_epoch)
    record = TrainingRecord(
        recipe=dataclasses.asdict(recipe),
        seed=seed,
        data=f"Fashion-MNIST, first 5,000 training images for validation ({data.source})",
        epochs_run=result.epochs_run,
        seconds=round(result.seconds, 1),
        train_accuracy=result.train_accuracy,
        validation_accuracy=result.validation_accuracy,
        validation_loss=result.validation_loss,
    )
    files = {name: _record(staging / name) for name in _TRAINED}
    manifest = Manifest(name=name, versions=artifact.versions(), files=files, training=record)
    return manifest, record, result.model


def _export(
    staging: Path,
    target: Path,
    model: Any,
    manifest: Manifest,
    data: FashionMnist,
    options: ExportOptions,
    note: Note,
    step: Step,
) -> tuple[Manifest, VerificationReport]:
    from toolkit.conversion.keras_to_onnx import INPUT, OUTPUTS, export_float32

    source_sha256 = manifest.files[KERAS].sha256
    note("Exporting to ONNX")
    exported = [
        export_float32(
            model,
            staging / ONNX,
            class_names=CLASS_NAMES,
            source_sha256=source_sha256,
            input_dtype=options.input_dtype,
            output=options.output,
        )
    ]
    quantization = None
    if options.quantization is not None:
        result, warnings = quantize_on(data, staging / ONNX, staging, options.quantization, source_sha256, note)
        exported.append(result.file)
        quantization = QuantizationRecord(dataclasses.asdict(options.quantization), result.tensors, warnings)
    _write_samples(staging / "samples", data)
    scale = [0.0, 255.0] if options.input_dtype == "uint8" else [0.0, 1.0]
    classes: list[str | int] = ["batch", len(CLASS_NAMES)]
    manifest = dataclasses.replace(
        manifest,
        files={**manifest.files, **{file.path.name: _onnx_record(file) for file in exported}},
        inputs=[TensorContract(INPUT, options.input_dtype, ["batch", 28, 28], scale)],
        outputs=[
            TensorContract(name, "float32", classes, [0.0, 1.0] if name == PROBABILITIES else None)
            for name in OUTPUTS[options.output]
        ],
        class_names=list(CLASS_NAMES),
        quantization=quantization,
        parity={},
    )
    manifest.write(staging)  # the predictor checks what it opens against the manifest
    note(f"Verifying against Keras on {len(data.test_images):,} test images")
    report = _verify(staging, model, manifest, data, options.limits, step)
    (staging / PARITY).write_text(_parity_text(report), encoding="utf-8")
    manifest = dataclasses.replace(manifest, parity={file.name: _parity_record(file.parity) for file in report.files})
    manifest.write(staging)
    if not report.passed:
        consequence = f"nothing was published to {target}"
        if options.keep_failed:
            failed = target.absolute().with_name(f"{target.absolute().name}.failed")
            try:
                with staged_folder(failed) as beside:
                    shutil.copytree(staging, beside, dirs_exist_ok=True)
                consequence += f", what failed is in {failed}"
            except ToolkitError as error:  # the verdict matters more
                consequence += f", and what failed could not be kept ({error})"
        raise FailedGatesError(report, consequence)
    return manifest, report


def _verify(
    folder: Path, model: Any, manifest: Manifest, data: FashionMnist, limits: Limits, step: Step
) -> VerificationReport:
    from toolkit.verification.parity import compare

    if tuple(model.input_shape[1:]) != data.test_images.shape[1:]:
        raise ModelError(
            f"{folder / KERAS} takes input of shape {model.input_shape}, but the test images are "
            f"{data.test_images.shape[1:]}; this version verifies image classifiers of that shape"
        )
    keras = predict_keras(model, data.test_images)
    if not np.isfinite(keras).all():
        raise ModelError(f"{KERAS} answers NaN or infinity on the test images; train the model again")
    reference = compare(keras, keras, data.test_labels)
    files = []
    for name, record in manifest.files.items():
        if record.kind not in ("float32", *QUANTIZED):
            continue
        try:
            images, labels = data.test_images, data.test_labels
            files.append(verify(folder / name, record.kind, record.sha256, keras, images, labels, limits, step))
        except InputError as error:
            raise ModelError(f"{folder / name} does not take the test images ({error}); export it again") from error
    return VerificationReport(
        data=f"Fashion-MNIST test set, {len(data.test_images):,} images",
        limits=limits,
        keras_sha256=manifest.files[KERAS].sha256,
        keras_accuracy=reference.accuracy,
        keras_confusion=reference.confusion,
        class_names=list(CLASS_NAMES),
        versions=artifact.versions(),
        files=files,
    )


def quantize_on(
    data: FashionMnist, source: Path, folder: Path, recipe: QuantizationRecipe, source_sha256: str, note: Note
) -> tuple[QuantizationResult, list[str]]:
    """Quantize an exported float32 file, calibrated on a seeded choice of the training images.

    Args:
        data: only its training images are used.
        source: the float32 file.
        folder: where the quantized one goes, under its kind's name.
        recipe: how.
        source_sha256: of the .keras file, for the metadata.
        note: told what is done, and what is doubtful about it.

    Returns:
        The file, and every warning.
    """
    import onnx

    from toolkit.conversion.calibration import suspicions
    from toolkit.conversion.quantize import quantize

    note(f"Quantizing to {recipe.title}")
    count = min(recipe.calibration_images, len(data.train_images))
    chosen = np.sort(np.random.default_rng(recipe.seed).permutation(len(data.train_images))[:count])
    given = onnx.load(source).graph.input[0]
    raw = given.type.tensor_type.elem_type == onnx.TensorProto.UINT8

    def batches() -> Iterator[dict[str, NDArray[Any]]]:
        for start in range(0, count, _CALIBRATION_BATCH):
            images = data.train_images[chosen[start : start + _CALIBRATION_BATCH]]
            yield {given.name: images if raw else images.astype(np.float32) / np.float32(255)}

    result = quantize(
        source,
        folder / QUANTIZED[recipe.kind],
        recipe,
        batches(),
        class_names=CLASS_NAMES,
        source_sha256=source_sha256,
    )
    warnings = list(result.warnings)
    if recipe.method == "static":
        few = chosen[:_LOOKED_AT]
        warnings += suspicions(data.train_images[few], data.train_labels[few])
    for warning in warnings:
        note(f"warning: {warning}")
    return result, warnings


def _write_samples(folder: Path, data: FashionMnist) -> None:
    """The first test image of each class as a PNG, for people to try `toolkit predict` on."""
    from PIL import Image

    folder.mkdir()
    for label, name in enumerate(CLASS_NAMES):
        index = int(np.flatnonzero(data.test_labels == label)[0])
        slug = name.lower().replace("/", "-").replace(" ", "-")
        Image.fromarray(data.test_images[index]).save(folder / f"{label}-{slug}.png")


def _record(path: Path) -> FileRecord:
    return FileRecord(KINDS[path.name], artifact.sha256_of(path), path.stat().st_size)


def _onnx_record(file: ExportedFile) -> FileRecord:
    return dataclasses.replace(
        _record(file.path),
        opset=file.opset,
        ir_version=file.ir_version,
        operators=file.operators,
        onnxruntime=file.onnxruntime,
    )


def _parity_record(parity: Any) -> ParityRecord:
    return ParityRecord(
        images=parity.n,
        keras_accuracy=parity.keras_accuracy,
        accuracy=parity.accuracy,
        agreement=parity.agreement,
        max_abs=parity.max_abs,
        mean_abs=parity.mean_abs,
    )


def _parity_text(report: VerificationReport) -> str:
    return json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
