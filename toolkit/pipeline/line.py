"""The stages in sequence, in a staging folder that takes the artifact's place only when every gate held."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import artifact, other_cpus
from toolkit.artifact import (
    HISTORY,
    KERAS,
    Manifest,
    TrainingRecord,
)
from toolkit.errors import MissingError, UsageError
from toolkit.keras_model import load_keras
from toolkit.pipeline.exporting import ExportOptions, export_files, record_of
from toolkit.predictor import read_checked
from toolkit.publishing import staged_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.data import FashionMnist
    from toolkit.progress import Note, Step
    from toolkit.training.fit import OnEpoch
    from toolkit.training.recipes import Recipe
    from toolkit.verification.report import VerificationReport

__all__ = ["contract_of", "export_artifact", "export_target", "open_source", "run_line", "train_artifact"]


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
    _prepare(options, note, step)
    with staged_folder(target) as staging:
        # Each file is read once, checked, and from here on taken from the staging folder: whatever another command
        # does to the source meanwhile, what is exported is what was checked.
        if earlier is None:
            _copy_lone(model_path, staging / KERAS)
        else:
            earlier = artifact.load_manifest(source)  # again, now that nobody else may replace it
            for name in (n for n in _TRAINED if n in earlier.files):
                (staging / name).write_bytes(read_checked(str(source / name), earlier.files[name].sha256))
        model = _opened(staging / KERAS, model_path, options.custom, unsafe=options.unsafe)
        manifest = Manifest(
            name=target.absolute().name,
            versions=artifact.versions(),
            files={name: record_of(staging / name) for name in _TRAINED if (staging / name).is_file()},
            training=earlier.training if earlier else None,
        )
        manifest, report = export_files(staging, target, model, manifest, data, options, note, step)
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


def _opened(copy: Path, shown: Path, custom: Sequence[str], *, unsafe: bool) -> Any:
    """The Keras model in a copied file; what is no .keras archive (an .h5 file) is written anew as one."""
    model = load_keras(copy, shown=shown, custom=custom, unsafe=unsafe)
    if not zipfile.is_zipfile(copy):
        model.save(copy)
    return model


def _prepare(options: ExportOptions, note: Note, step: Step) -> None:
    """What cannot be had should be known before the work."""
    with other_cpus.emulators(options.cpus, note, step):
        pass


def contract_of(source: Path) -> tuple[str, str]:
    """What an artifact was exported with: its input's dtype, and "probabilities", "logits" or "both".

    For a file, or an artifact that was not exported yet, what `ExportOptions` has by default.
    """
    manifest = artifact.load_manifest(source) if source.is_dir() else None
    if manifest is None or not manifest.inputs or not manifest.outputs:
        return ExportOptions.input_dtype, ExportOptions.output
    output = "both" if len(manifest.outputs) > 1 else manifest.outputs[0].name
    return manifest.inputs[0].dtype, output


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
    _prepare(options, note, step)
    with staged_folder(output) as staging:
        manifest, _, model = _train(staging, output.absolute().name, recipe, data, seed, on_epoch)
        manifest, report = export_files(staging, output, model, manifest, data, options, note, step)
    return manifest, report


_TRAINED = (KERAS, HISTORY)


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
    files = {name: record_of(staging / name) for name in _TRAINED}
    manifest = Manifest(name=name, versions=artifact.versions(), files=files, training=record)
    return manifest, record, result.model
