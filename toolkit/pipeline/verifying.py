"""The verification stage: exported files against Keras, on other CPUs, layer by layer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import artifact, other_cpus
from toolkit.artifact import C_FILES, KERAS, KERAS_H5, ONNX, QUANTIZED, SAVED_MODEL, Manifest
from toolkit.c_targets.check import c_records, check_c, check_origin, ready
from toolkit.c_targets.table import TARGETS, Chosen
from toolkit.datasets import Rows, read_rows
from toolkit.diagnosis import error_by_layer, first_divergence
from toolkit.errors import GateError, InputError, MissingError, ModelError, ToolkitError, UsageError
from toolkit.keras_model import open_model
from toolkit.other_cpus import OtherCpus
from toolkit.pipeline.material import divided, fashion_rows, scales_pixels, to_file
from toolkit.pipeline.reference import Reference, exported_inputs
from toolkit.publishing import write_atomic
from toolkit.staged_folders import replace_manifest
from toolkit.verification.report import VerificationReport
from toolkit.verification.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.data import FashionMnist
    from toolkit.keras_model import SourceModel
    from toolkit.progress import Note, Step
    from toolkit.verification.gates import Limits
    from toolkit.verification.metrics import Metric

__all__ = [
    "FailedGatesError",
    "parity_text",
    "source_path",
    "verify_artifact",
    "verify_files",
    "write_c_records",
    "write_cpu_records",
    "write_parity",
]


class FailedGatesError(GateError):
    """Verification failed; carries its report.

    Args:
        report: of the verification.
        consequence: what became of the model.
        again: the start of what to try next, to which options are added.
    """

    def __init__(self, report: VerificationReport, consequence: str, again: str) -> None:
        failures = report.failures()
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        parts = [failures[0] + more]
        if any(" at batch " in failure for failure in failures):
            parts.append(
                "a row's answer depends on the rows that it is run with (a mean over the batch, perhaps); give the "
                "model a fixed batch size, or replace that layer"
            )
        parts += [file.divergence.finding for file in report.files if file.divergence and file.divergence.layer]
        for file in report.files:
            if file.kind == "float32" or not any(gate.of_quantization and not gate.passed for gate in file.gates):
                continue
            layers = file.layers if file.layers is not None and file.layers.unknown is None else None
            parts += [layers.finding] if layers is not None else []
            if layers is not None and layers.advice:
                parts.append(f"{again} {layers.advice}")
            else:
                parts.append(
                    "export it again with another --quantize, or accept less: see --min-agreement and "
                    "--max-relative-error"
                )
        if report.c is not None and not report.c.passed and report.files and all(file.passed for file in report.files):
            parts.append(
                "the C code was changed, or its compiler does not keep to IEEE 754; export it again with --c, and if "
                "it fails again report that target"
            )
        super().__init__("; ".join([*parts, consequence]))
        self.report = report


def verify_artifact(
    folder: Path,
    test: Path | Rows | None,
    fashion: Callable[[], FashionMnist],
    limits: Limits,
    note: Note,
    step: Step,
    cpus: OtherCpus | None = None,
    *,
    c: Chosen | None = None,
    metrics: Sequence[Metric] = (),
    layers: bool = False,
    custom: Sequence[str] = (),
    unsafe: bool = False,
) -> VerificationReport:
    """Verify a published artifact; nothing is written, and a gate that fails is only in the report.

    Error by layer is in the report too if int8 loses too much, and always with ``layers``.

    Args:
        folder: the artifact.
        test: test rows; None for Fashion-MNIST's where the artifact was verified on these.
        fashion: gives Fashion-MNIST.
        limits: what is accepted.
        note: told what is being done.
        step: told of the progress.
        cpus: other CPUs that it must run on as it does here.
        c: targets that its C code must run on as the int8 file does here.
        metrics: further figures to judge by.
        layers: see above.
        custom: see `toolkit.keras_model.open_model`.
        unsafe: see there.

    Raises:
        MissingError, CpuError, StorageError: another CPU cannot be emulated, or a target's compiler is not here.
        CorruptArtifactError: a file is not what the manifest says.
        MissingError: there is nothing to verify, or no model to verify it against.
        UsageError: no test rows were given, and the artifact was not verified on Fashion-MNIST.
    """
    manifest = artifact.load_manifest(folder)
    artifact.check_files(folder, manifest)
    path = source_path(folder, manifest)
    if ONNX not in manifest.files:
        raise MissingError(f"{folder} holds no exported model yet; run: toolkit export {folder} --quantize")
    if c and c.targets:
        if not {*C_FILES[:2], QUANTIZED["int8"]} <= manifest.files.keys():
            raise MissingError(f"{folder} holds no C code; write it with: toolkit export {folder} --quantize --c")
        check_origin(folder, QUANTIZED["int8"])
    known = manifest.data is not None and manifest.data.fashion_mnist
    if test is None and not known:
        was = manifest.data.test if manifest.data else "rows that the manifest does not name"
        raise UsageError(f"{folder} was verified on {was}; give --test FILE with such rows")
    try:
        cpus, targets_of_c = cpus or OtherCpus(), ready(c or Chosen())
        with other_cpus.emulators(cpus, note, step) as machines:
            source = open_model(path, custom=custom, unsafe=unsafe)
            rows, what = _test_rows(source, manifest, test, fashion, step)
            note(f"Asking Keras for its answers to {what}")
            reference = Reference(source, manifest, rows)
            reference.check_limits(limits, [record.kind for record in manifest.files.values()], metrics)
            report = verify_files(folder, manifest, reference, limits, metrics, step, layers=layers, data=what)
            few = rows.take(slice(0, cpus.images))
            targets = reference.targets_by_file(few.targets)
            report = other_cpus.check_report(report, folder, few.inputs, targets, machines, limits, note, step)
            report = dataclasses.replace(
                report, c=check_c(targets_of_c, folder, QUANTIZED["int8"], rows.inputs, note, step)
            )
    except ToolkitError:
        _check_unchanged(folder, manifest)
        raise
    _check_unchanged(folder, manifest)
    return report


def _test_rows(
    source: SourceModel, manifest: Manifest, test: Path | Rows | None, fashion: Callable[[], FashionMnist], step: Step
) -> tuple[Rows, str]:
    """Test rows as the artifact's files take them, and what they are."""
    inputs = exported_inputs(source, manifest)
    if test is None:
        data = fashion()
        rows = fashion_rows(source, data.test_images, data.test_labels, "Fashion-MNIST test set")
        if inputs[0].dtype == "float32" and not scales_pixels(source):
            rows = divided(rows)
        return to_file(rows, inputs), f"{rows.source}, {rows.count:,} images"
    rows = read_rows(test, source.inputs, source.outputs, part="test", step=step) if isinstance(test, Path) else test
    return to_file(rows, inputs), f"{rows.source}, {rows.count:,} rows"


def source_path(folder: Path, manifest: Manifest) -> Path:
    """The model that an artifact's files were made from.

    Raises:
        MissingError: it is not there.
        UsageError: this is a bundle, which has none.
    """
    if manifest.bundle is not None:
        raise UsageError(
            f"{folder} is a bundle for a device, without the Keras model; give the artifact it was made of"
        )
    for name in (KERAS, KERAS_H5):
        if name in manifest.files:
            return folder / name
    if f"{SAVED_MODEL}/saved_model.pb" in manifest.files:
        return folder / SAVED_MODEL
    raise MissingError(f"{folder} holds no {KERAS} to work on; copy it there from where it was trained")


def _check_unchanged(folder: Path, manifest: Manifest) -> None:
    if artifact.load_manifest(folder).files != manifest.files:
        raise UsageError(f"{folder} was replaced by another command while it was verified; verify it again")


def write_cpu_records(folder: Path, report: VerificationReport) -> None:
    """Put what a report found on other CPUs into the manifest of the artifact that it is about.

    The same files' rows of CPUs that were not run again stay.

    Raises:
        UsageError, StorageError: it cannot be written, or the artifact was replaced meanwhile.
    """
    earlier = (folder / artifact.MANIFEST_NAME).read_bytes()
    manifest = artifact.load_manifest(folder)
    if any(manifest.files[file.name].sha256 != file.sha256 for file in report.files):
        raise UsageError(f"{folder} was replaced by another command while it was verified; verify it again")
    cpus = {}
    for name, rows in other_cpus.records(report).items():
        again = {row.cpu for row in rows}
        kept = [row for row in manifest.cpus.get(name, []) if row.cpu not in again]
        cpus[name] = sorted([*kept, *rows], key=lambda row: other_cpus.ORDER.index(row.cpu))
    replace_manifest(folder, earlier, dataclasses.replace(manifest, cpus={**manifest.cpus, **cpus}).text())


def write_c_records(folder: Path, report: VerificationReport) -> None:
    """Put what a report found of the C code on targets into the manifest of the artifact that it is about.

    The same code's rows of targets that were not run again stay; targets that something is missing for are no rows.

    Raises:
        UsageError, StorageError: it cannot be written, or the artifact was replaced meanwhile.
    """
    if report.c is None:
        return
    earlier = (folder / artifact.MANIFEST_NAME).read_bytes()
    manifest = artifact.load_manifest(folder)
    int8 = next(file for file in report.files if file.name == report.c.of)
    same = {report.c.name: report.c.sha256, int8.name: int8.sha256}
    if any(name not in manifest.files or manifest.files[name].sha256 != sha256 for name, sha256 in same.items()):
        raise UsageError(f"{folder} was replaced by another command while it was verified; verify it again")
    rows = c_records(report.c)
    again = {check.made.target for check in report.c.targets if check.verdict != "not run"}
    order = [target.name for target in TARGETS]
    kept = [row for row in manifest.c_targets if row.target not in again and row.target in order]
    rows = sorted([*kept, *rows], key=lambda row: order.index(row.target))
    replace_manifest(folder, earlier, dataclasses.replace(manifest, c_targets=rows).text())


def write_parity(report: VerificationReport, path: Path) -> None:
    """Write a verification report, whole or not at all.

    Raises:
        UsageError, StorageError: it cannot be written.
    """
    write_atomic(path, parity_text(report))


def verify_files(
    folder: Path,
    manifest: Manifest,
    reference: Reference,
    limits: Limits,
    metrics: Sequence[Metric],
    step: Step,
    *,
    layers: bool = False,
    data: str | None = None,
) -> VerificationReport:
    """Hold every exported file of a folder against its model on the test rows.

    Args:
        folder: an artifact, or the staging folder that is to become one.
        manifest: of the folder.
        reference: the model's answers.
        limits: what is accepted.
        metrics: further figures to judge by.
        step: told of the progress.
        layers: look for error by layer even if int8 does not lose too much.
        data: what the rows are; None: what the manifest says.

    Raises:
        ModelError: the model or a file does not take the rows, or the model answers with NaN.
        UsageError: a metric that cannot be had.
    """
    answers, rows, keras = reference.answers, reference.rows, reference.described(metrics)
    files = []
    for name, record in manifest.files.items():
        if record.kind not in ("float32", *QUANTIZED):
            continue
        path = folder / name
        try:
            file = verify(
                path,
                record.kind,
                record.sha256,
                answers,
                rows.inputs,
                reference.targets,
                reference.tasks,
                limits,
                metrics,
                step,
            )
        except InputError as error:
            raise ModelError(f"{path} does not take the test rows ({error}); export it again") from error
        if file.kind == "int8" and (layers or file.loses_too_much):
            outputs = file.failing
            found = error_by_layer(folder, reference.source.layers, manifest, rows.inputs, step, outputs)
            file = dataclasses.replace(file, layers=found)
        if file.leaves_keras:
            worst = [output.parity.worst_row for output in file.outputs]
            first = first_divergence(reference.source, path, record.sha256, reference.keras_rows, rows.inputs, worst)
            file = dataclasses.replace(file, divergence=first)
        files.append(file)
    described = data or (manifest.data.test if manifest.data else rows.source)
    return VerificationReport(
        data=described,
        limits=limits,
        keras_sha256=manifest.source_sha256,
        reference=keras,
        class_names=manifest.class_names,
        versions=artifact.versions(),
        files=files,
    )


def parity_text(report: VerificationReport) -> str:
    """A verification report as parity.json has it."""
    return json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
