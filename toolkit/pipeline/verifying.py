"""The verification stage: exported files against Keras, on other CPUs, layer by layer."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit import artifact, other_cpus
from toolkit.artifact import (
    KERAS,
    ONNX,
    QUANTIZED,
    Manifest,
)
from toolkit.data import CLASS_NAMES
from toolkit.diagnosis import error_by_layer, first_divergence
from toolkit.errors import GateError, InputError, MissingError, ModelError, ToolkitError, UsageError
from toolkit.keras_model import load_keras, predict_keras
from toolkit.keras_model.source import from_keras
from toolkit.other_cpus import OtherCpus
from toolkit.predictor import PROBABILITIES
from toolkit.publishing import replace_manifest, write_atomic
from toolkit.verification.report import VerificationReport, describe_keras
from toolkit.verification.verify import verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.progress import Note, Step
    from toolkit.verification.gates import Limits

__all__ = ["FailedGatesError", "parity_text", "verify_artifact", "verify_files", "write_cpu_records", "write_parity"]


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
        parts += [file.divergence.finding for file in report.files if file.divergence and file.divergence.layer]
        for layers in (file.layers for file in report.files if file.loses_too_much):
            if layers is not None and layers.unknown is None:
                parts += [layers.finding, *([f"{again} {layers.advice}"] if layers.advice else [])]
        super().__init__("; ".join([*parts, consequence]))
        self.report = report


def verify_artifact(
    folder: Path,
    data: FashionMnist,
    limits: Limits,
    note: Note,
    step: Step,
    cpus: OtherCpus | None = None,
    *,
    layers: bool = False,
    custom: Sequence[str] = (),
    unsafe: bool = False,
) -> VerificationReport:
    """Verify a published artifact; nothing is written, and a gate that fails is only in the report.

    Error by layer is in the report too if int8 loses too much, and always with ``layers``.

    Raises:
        MissingError, CpuError, StorageError: another CPU cannot be emulated.
        CorruptArtifactError: a file is not what the manifest says.
        MissingError: there is nothing to verify, or no model.keras to verify it against.
    """
    manifest = artifact.load_manifest(folder)
    artifact.check_files(folder, manifest)
    if KERAS not in manifest.files:
        raise MissingError(f"{folder} holds no {KERAS} to verify against; copy it there from where it was trained")
    if ONNX not in manifest.files:
        raise MissingError(f"{folder} holds no exported model yet; run: toolkit export {folder} --quantize")
    try:
        cpus = cpus or OtherCpus()
        with other_cpus.emulators(cpus, note, step) as machines:
            note("Asking Keras for its answers")
            report = verify_files(
                folder,
                load_keras(folder / KERAS, custom=custom, unsafe=unsafe),
                manifest,
                data,
                limits,
                step,
                layers=layers,
            )
            images, labels = data.test_images[: cpus.images], data.test_labels[: cpus.images]
            report = other_cpus.check_report(report, folder, images, labels, machines, limits, note, step)
    except ToolkitError:
        _check_unchanged(folder, manifest)
        raise
    _check_unchanged(folder, manifest)
    return report


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


def write_parity(report: VerificationReport, path: Path) -> None:
    """Write a verification report, whole or not at all.

    Raises:
        UsageError, StorageError: it cannot be written.
    """
    write_atomic(path, parity_text(report))


def verify_files(
    folder: Path,
    model: Any,
    manifest: Manifest,
    data: FashionMnist,
    limits: Limits,
    step: Step,
    *,
    layers: bool = False,
) -> VerificationReport:
    """Hold every exported file of a folder against its Keras model on the test images.

    Args:
        folder: an artifact, or the staging folder that is to become one.
        model: the Keras model.
        manifest: of the folder.
        data: its test images are used.
        limits: what is accepted.
        step: told of the progress.
        layers: look for error by layer even if int8 does not lose too much.

    Raises:
        ModelError: the model or a file does not take the test images, or Keras answers with NaN.
    """
    if tuple(model.input_shape[1:]) != data.test_images.shape[1:]:
        raise ModelError(
            f"{folder / KERAS} takes input of shape {model.input_shape}, but the test images are "
            f"{data.test_images.shape[1:]}; this version verifies image classifiers of that shape"
        )
    keras = predict_keras(model, data.test_images)
    if not np.isfinite(keras).all():
        raise ModelError(f"{KERAS} answers NaN or infinity on the test images; train the model again")
    reference = {PROBABILITIES: keras}
    targets, tasks = {PROBABILITIES: data.test_labels}, {PROBABILITIES: "classification"}
    scaled = data.test_images.astype(np.float32) / np.float32(255)
    files = []
    for name, record in manifest.files.items():
        if record.kind not in ("float32", *QUANTIZED):
            continue
        try:
            (contract,) = manifest.inputs
            inputs = {contract.name: data.test_images if contract.dtype == "uint8" else scaled}
            file = verify(
                folder / name, record.kind, record.sha256, reference, inputs, targets, tasks, limits, (), step
            )
            if file.kind == "int8" and (layers or file.loses_too_much):
                file = dataclasses.replace(file, layers=error_by_layer(folder, model, manifest, inputs, step))
            if file.leaves_keras:
                source = from_keras(model)
                given = {source.inputs[0].name: scaled}
                worst = [output.parity.worst_row for output in file.outputs]
                found = first_divergence(source, folder / name, record.sha256, given, inputs, worst)
                file = dataclasses.replace(file, divergence=found)
            files.append(file)
        except InputError as error:
            raise ModelError(f"{folder / name} does not take the test images ({error}); export it again") from error
    return VerificationReport(
        data=f"Fashion-MNIST test set, {len(data.test_images):,} images",
        limits=limits,
        keras_sha256=manifest.files[KERAS].sha256,
        reference=describe_keras(reference, {}, targets, tasks),
        class_names=list(CLASS_NAMES),
        versions=artifact.versions(),
        files=files,
    )


def parity_text(report: VerificationReport) -> str:
    """A verification report as parity.json has it."""
    return json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
