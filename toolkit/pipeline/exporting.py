"""The export stage: ONNX, quantized, verified, in a staging folder."""

from __future__ import annotations

import dataclasses
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import artifact, other_cpus
from toolkit.artifact import C_FILES, GOLDEN, ONNX, PARITY, QUANTIZED, Manifest
from toolkit.errors import ToolkitError, UsageError
from toolkit.golden import SURE, dump, make_golden
from toolkit.manifest_records import ConversionRecord, FileRecord, ParityRecord, QuantizationRecord, TensorContract
from toolkit.native import LIBRARY
from toolkit.other_cpus import OtherCpus
from toolkit.pipeline.material import Material, OwnData, RawInput
from toolkit.pipeline.reference import Reference
from toolkit.pipeline.verifying import FailedGatesError, parity_text, verify_files
from toolkit.staged_folders import staged_folder
from toolkit.verification.gates import Limits
from toolkit.verification.parity import DecisionParity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.conversion.keras_to_onnx import Exported
    from toolkit.conversion.metadata import ExportedFile
    from toolkit.conversion.quantize import QuantizationResult
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.datasets import Rows
    from toolkit.keras_model import SourceModel
    from toolkit.progress import Note, Step
    from toolkit.verification.metrics import Metric
    from toolkit.verification.report import OutputReport, VerificationReport

__all__ = ["ExportOptions", "export_files", "export_onnx", "quantize_on", "record_of"]


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and what it must reach.

    Attributes:
        quantization: the recipe, or None for float32 alone.
        raw: what the file takes.
        output: "probabilities", "logits" or "both".
        data: rows of one's own; without any, Fashion-MNIST where the model is of its form.
        tasks: of outputs, where a person says so; see `toolkit.conversion.tasks.tasks_of`.
        metrics: further figures to judge by.
        limits: the gates.
        keep_failed: leave what failed a gate in a folder of its own, NAME.failed.
        cpus: other CPUs that it must run on as it does here.
        custom: see `toolkit.keras_model.open_model`.
        unsafe: see there.
        c: write the int8 model as C too; it is a chain of dense layers then, or refused.
        native: also compile that into a library for the predictor.
        cc: the compiler, see `toolkit.c_code.library.build_library`.
    """

    quantization: QuantizationRecipe | None
    raw: RawInput = field(default_factory=RawInput)
    output: str = "probabilities"
    data: OwnData = field(default_factory=OwnData)
    tasks: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    limits: Limits = field(default_factory=Limits)
    keep_failed: bool = False
    cpus: OtherCpus = field(default_factory=OtherCpus)
    custom: tuple[str, ...] = ()
    unsafe: bool = False
    c: bool = False
    native: bool = False
    cc: str | None = None

    def __post_init__(self) -> None:
        static = self.quantization is not None and self.quantization.method == "static"
        if self.data.calibration is not None and self.data.test is not None and not static:
            raise UsageError(
                "--calibration does nothing here: only static int8 (--quantize) is calibrated, and the files are "
                "verified on --test; drop it"
            )
        if (self.c or self.native) and not static:
            asked = "--c" if self.c else "--native"
            raise UsageError(f"{asked} makes C of the static int8 model, and none was asked for; add --quantize")
        if self.cc is not None and not self.native:
            raise UsageError("--cc does nothing without --native; add it, or drop this")


_CALIBRATION_BATCH = 100
_LOOKED_AT = 1000  # calibration rows that are looked at for being degenerate
_SAMPLES = 10


def export_files(
    staging: Path,
    target: Path,
    source: SourceModel,
    manifest: Manifest,
    material: Material,
    options: ExportOptions,
    note: Note,
    step: Step,
) -> tuple[Manifest, VerificationReport]:
    """Export, quantize and verify a model in its staging folder.

    Args:
        staging: holds the model's own file; is filled.
        target: where it will be published, for messages and for what failed.
        source: the model.
        manifest: of the staging folder so far.
        material: what it takes, and the rows.
        options: what to export.
        note: told what is being done.
        step: told of verification's progress.

    Raises:
        FailedGatesError: a gate failed.
        ModelError: the model cannot be exported.
    """
    exported = export_onnx(source, staging / ONNX, material, options, manifest.source_sha256, note)
    _write_samples(staging / "samples", material, exported.class_names)
    manifest = dataclasses.replace(
        manifest,
        files={**manifest.files, exported.file.path.name: _onnx_record(exported.file)},
        inputs=[
            TensorContract(given.name, given.dtype, _named_shape(given.name, given.shape), given.range)
            for given in material.inputs
        ],
        outputs=_output_contracts(source, exported),
        class_names=exported.class_names,
        conversion=ConversionRecord(
            source=source.written_by or source.kind,
            route=exported.route,
            refused=exported.refused,
            folded=exported.folded,
            scaling={g.name: dataclasses.asdict(g.scaling) for g in material.inputs if g.scaling},
            notes=list(source.notes),
        ),
        data=material.record,
        quantization=None,
        parity={},
        cpus={},
        c_targets=[],
        native=None,
    )
    # What cannot be judged should be said before the work of quantizing.
    reference = Reference(source, manifest, material.test, random=material.random)
    kinds = ["float32", *([options.quantization.kind] if options.quantization else [])]
    reference.check_limits(options.limits, kinds, options.metrics)
    note("Asking Keras for its answers")
    reference.described(options.metrics)
    if options.quantization is not None:
        manifest = _with_quantized(staging, source, manifest, material, options.quantization, note)
    manifest.write(staging)  # the predictor checks what it opens against the manifest
    note(f"Verifying against Keras on {material.record.test}")
    report = verify_files(staging, manifest, reference, options.limits, options.metrics, step)
    with other_cpus.emulators(options.cpus, note, step) as machines:
        rows = material.test.take(slice(0, options.cpus.images))
        report = other_cpus.check_report(
            report, staging, rows.inputs, reference.targets_by_file(rows.targets), machines, options.limits, note, step
        )
    (staging / PARITY).write_text(parity_text(report), encoding="utf-8")
    parity = {file.name: [_parity_record(output) for output in file.outputs] for file in report.files}
    manifest = dataclasses.replace(manifest, parity=parity, cpus=other_cpus.records(report))
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
    if options.c or options.native:
        from toolkit.pipeline.c_files import build_native, write_c_files

        write_c_files(staging, QUANTIZED["int8"], manifest.name, material.test, note)
        names = [*C_FILES]
        if options.native:
            native = build_native(staging, QUANTIZED["int8"], manifest.name, material.test, options.cc, note)
            manifest = dataclasses.replace(manifest, native=native)
            names.append(LIBRARY)
        found = {name: record_of(staging / name) for name in names}
        manifest = dataclasses.replace(manifest, files={**manifest.files, **found})
        manifest.write(staging)
    return _with_golden(staging, manifest, reference, report, options, note, random=material.random), report


def _with_golden(
    staging: Path,
    manifest: Manifest,
    reference: Reference,
    report: VerificationReport,
    options: ExportOptions,
    note: Note,
    *,
    random: bool,
) -> Manifest:
    """The manifest with golden vectors of all exported files, which are made if any row suits."""
    paths = [staging / file.name for file in report.files]
    rows, answers = reference.rows.inputs, reference.answers
    golden = make_golden(paths, rows, answers, manifest.outputs, options.limits, random=random)
    if golden is None:
        note(
            f"no {GOLDEN} is written: of no test row Keras is sure (a margin above {SURE}) while every file gives its "
            "label"
        )
        return manifest
    (staging / GOLDEN).write_bytes(dump(golden))
    manifest = dataclasses.replace(manifest, files={**manifest.files, GOLDEN: record_of(staging / GOLDEN)})
    manifest.write(staging)
    return manifest


def _with_quantized(
    staging: Path, source: SourceModel, manifest: Manifest, material: Material, recipe: QuantizationRecipe, note: Note
) -> Manifest:
    """The manifest with a quantized file, which is made."""
    result, warnings = quantize_on(material, staging / ONNX, staging, recipe, source.layers, note)
    if result.kept_float:
        note(f"    in float: {', '.join(result.kept_float)}, which cannot be quantized or were asked to stay")
    seen = material.calibration.count if material.calibration else 0
    settings = dataclasses.asdict(dataclasses.replace(recipe, calibration_images=max(seen, 1)))
    return dataclasses.replace(
        manifest,
        files={**manifest.files, result.file.path.name: _onnx_record(result.file)},
        quantization=QuantizationRecord(settings, result.tensors, result.kept_float, warnings),
    )


def export_onnx(
    source: SourceModel, path: Path, material: Material, options: ExportOptions, source_sha256: str, note: Note
) -> Exported:
    """The float32 file of a model.

    Raises:
        ModelError, UsageError: see `toolkit.conversion.keras_to_onnx.export_float32`.
    """
    from toolkit.conversion.keras_to_onnx import Wishes, export_float32

    note("Exporting to ONNX")
    for line in source.notes:
        note(f"    {line}")
    class_outputs = [name for name, target in material.test.targets.items() if target.ndim == 1]
    if material.class_names is not None and len(source.outputs) == 1:
        class_outputs.append(source.outputs[0].name)
    wishes = Wishes(
        gives=options.output,
        tasks=options.tasks,
        class_names=material.class_names,
        class_outputs=class_outputs,
        usual_names=material.record.fashion_mnist,
    )
    exported = export_float32(source, path, material.inputs, wishes, source_sha256=source_sha256)
    note(
        f"    by Keras' own export, since {exported.refused}"
        if exported.refused
        else f"    by {exported.route}, opset {exported.file.opset}"
    )
    return exported


def quantize_on(
    material: Material, source: Path, folder: Path, recipe: QuantizationRecipe, layers: tuple[str, ...], note: Note
) -> tuple[QuantizationResult, list[str]]:
    """Quantize an exported float32 file on the calibration rows.

    Args:
        material: its calibration rows are used.
        source: the float32 file.
        folder: where the quantized one goes, under its kind's name.
        recipe: how.
        layers: the Keras model's.
        note: told what is done, and what is doubtful about it.

    Returns:
        The file, and every warning.

    Raises:
        UsageError: there are no calibration rows, and static quantization needs them.
    """
    from toolkit.conversion.calibration import suspicions
    from toolkit.conversion.quantize import quantize

    note(f"Quantizing to {recipe.title}")
    rows = material.calibration
    if rows is None and recipe.method == "static":
        raise UsageError("static int8 needs calibration rows; give --calibration, or --quantize dynamic")
    result = quantize(
        source, folder / QUANTIZED[recipe.kind], recipe, _batches(rows, material) if rows else (), layers=layers
    )
    warnings = list(result.warnings)
    if recipe.method == "static" and rows is not None:
        for array in rows.inputs.values():
            found = suspicions(array[:_LOOKED_AT], None if material.labels is None else material.labels[:_LOOKED_AT])
            warnings += [line for line in found if line not in warnings]
    for warning in warnings:
        note(f"warning: {warning}")
    return result, warnings


def _batches(rows: Rows, material: Material) -> Iterator[dict[str, NDArray[Any]]]:
    """Rows a batch at a time; of a fixed batch size, and then whole ones, where the model has one."""
    fixed = next((given.shape[0] for given in material.inputs if given.shape[0] is not None), None)
    size = fixed or _CALIBRATION_BATCH
    for start in range(0, rows.count, size):
        which = np.arange(start, start + size if fixed else min(start + size, rows.count)) % rows.count
        yield {name: array[which] for name, array in rows.inputs.items()}


def _named_shape(name: str, shape: tuple[int | None, ...]) -> list[str | int]:
    return [size if size is not None else "batch" if axis == 0 else f"{name}_{axis}" for axis, size in enumerate(shape)]


def _output_contracts(source: SourceModel, exported: Exported) -> list[TensorContract]:
    shapes = {spec.name: spec.shape for spec in source.outputs}
    found = []
    for output in exported.outputs:
        own = exported.of_source[output.name]
        shape = _named_shape(output.name, shapes[own])
        of = None if own == output.name else own
        found.append(TensorContract(output.name, output.dtype, shape, output.range, output.task, of))
    return found


def _write_samples(folder: Path, material: Material, class_names: list[str] | None) -> None:
    """Some test rows to try `toolkit predict` on: pictures of grey pixels as PNG, one a class; else ten rows."""
    folder.mkdir()
    rows = material.test
    array = next(iter(rows.inputs.values()))
    pictures = len(rows.inputs) == 1 and array.dtype == np.uint8 and array.ndim == 4 - (array.shape[-1] > 4)
    labels = next((target for target in rows.targets.values() if target.ndim == 1), None)
    if material.random:
        return
    if not pictures or labels is None or class_names is None:
        few = {name: values[:_SAMPLES] for name, values in rows.inputs.items()}
        np.savez(folder / "rows.npz", **few)  # type: ignore[arg-type]  # its stub takes any array for allow_pickle
        return
    from PIL import Image

    for label, name in enumerate(class_names):
        found = np.flatnonzero(labels == label)
        if len(found):
            slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:40]
            pixels = array[int(found[0])]
            Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(folder / f"{label}-{slug}.png")


def record_of(path: Path, name: str | None = None) -> FileRecord:
    """What the manifest says of a file, from its name (below the artifact) and bytes."""
    kind = artifact.kind_of(name or path.name)
    if kind is None:
        raise ToolkitError(f"{path} has no place in an artifact; this is a bug, please report it")
    return FileRecord(kind, artifact.sha256_of(path), path.stat().st_size)


def _onnx_record(file: ExportedFile) -> FileRecord:
    return dataclasses.replace(
        record_of(file.path),
        opset=file.opset,
        ir_version=file.ir_version,
        operators=file.operators,
        onnxruntime=file.onnxruntime,
    )


def _parity_record(output: OutputReport) -> ParityRecord:
    parity = output.parity
    shared = (output.name, output.task, parity.n, parity.max_abs, parity.mean_abs)
    if isinstance(parity, DecisionParity):
        return ParityRecord(
            *shared, agreement=parity.agreement, accuracy=parity.accuracy, keras_accuracy=parity.keras_accuracy
        )
    return ParityRecord(*shared, relative_error=parity.relative_error)
