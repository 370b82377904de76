"""The export stage: ONNX, quantized, verified, in a staging folder."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import artifact, other_cpus
from toolkit.artifact import (
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
)
from toolkit.data import CLASS_NAMES
from toolkit.errors import ToolkitError
from toolkit.other_cpus import OtherCpus
from toolkit.pipeline.verifying import FailedGatesError, parity_text, verify_files
from toolkit.predictor import PROBABILITIES
from toolkit.publishing import staged_folder
from toolkit.verification.gates import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.conversion.metadata import ExportedFile
    from toolkit.conversion.quantize import QuantizationResult
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.data import FashionMnist
    from toolkit.progress import Note, Step
    from toolkit.verification.report import VerificationReport

__all__ = ["ExportOptions", "export_files", "quantize_on", "record_of"]


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and what it must reach.

    Attributes:
        quantization: the recipe, or None for float32 alone.
        input_dtype: "uint8" for raw pixels, "float32" for the Keras model's own input.
        output: "probabilities", "logits" or "both".
        limits: the gates.
        keep_failed: leave what failed a gate in a folder of its own, NAME.failed.
        cpus: other CPUs that it must run on as it does here.
        custom: see `toolkit.keras_model.open_model`.
        unsafe: see there.
    """

    quantization: QuantizationRecipe | None
    input_dtype: str = "uint8"
    output: str = "probabilities"
    limits: Limits = dataclasses.field(default_factory=Limits)
    keep_failed: bool = False
    cpus: OtherCpus = dataclasses.field(default_factory=OtherCpus)
    custom: tuple[str, ...] = ()
    unsafe: bool = False


_CALIBRATION_BATCH = 100


_LOOKED_AT = 1000  # calibration images that are looked at for being degenerate


def export_files(
    staging: Path,
    target: Path,
    model: Any,
    manifest: Manifest,
    data: FashionMnist,
    options: ExportOptions,
    note: Note,
    step: Step,
) -> tuple[Manifest, VerificationReport]:
    """Export, quantize and verify a model in its staging folder.

    Args:
        staging: holds model.keras; is filled.
        target: where it will be published, for messages and for what failed.
        model: the Keras model.
        manifest: of the staging folder so far.
        data: calibration comes from its training images, verification from its test images.
        options: what to export.
        note: told what is being done.
        step: told of verification's progress.

    Raises:
        FailedGatesError: a gate failed.
        ModelError: the model cannot be exported.
    """
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
        seen = min(options.quantization.calibration_images, len(data.train_images))
        recipe = dataclasses.replace(options.quantization, calibration_images=seen)
        quantization = QuantizationRecord(dataclasses.asdict(recipe), result.tensors, warnings)
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
    report = verify_files(staging, model, manifest, data, options.limits, step)
    with other_cpus.emulators(options.cpus, note, step) as machines:
        count = options.cpus.images
        images, labels = data.test_images[:count], data.test_labels[:count]
        report = other_cpus.check_report(report, staging, images, labels, machines, options.limits, note, step)
    (staging / PARITY).write_text(parity_text(report), encoding="utf-8")
    manifest = dataclasses.replace(
        manifest, parity={file.name: _parity_record(file.outputs[0].parity) for file in report.files}
    )
    manifest = dataclasses.replace(manifest, cpus=other_cpus.records(report))
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
        raise FailedGatesError(report, consequence, "try it again with")
    return manifest, report


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


def record_of(path: Path) -> FileRecord:
    """What the manifest says of a file, from its name and bytes."""
    return FileRecord(KINDS[path.name], artifact.sha256_of(path), path.stat().st_size)


def _onnx_record(file: ExportedFile) -> FileRecord:
    return dataclasses.replace(
        record_of(file.path),
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
