"""The stages in sequence, in a staging folder that takes the artifact's place only when every gate held."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import artifact, other_cpus
from toolkit.artifact import HISTORY, KERAS, KERAS_H5, SAVED_MODEL, Manifest
from toolkit.errors import MissingError, ModelError, UsageError
from toolkit.keras_model import open_model
from toolkit.keras_model.saved_model import GRAPH, is_saved_model
from toolkit.keras_model.source import from_keras
from toolkit.pipeline.exporting import ExportOptions, export_files, record_of
from toolkit.pipeline.material import gather, is_fashion
from toolkit.pipeline.training import TrainingPlan, run_folder_of, train_staged
from toolkit.pipeline.verifying import source_path
from toolkit.predictor import read_checked
from toolkit.staged_folders import staged_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.data import FashionMnist
    from toolkit.keras_model import SourceModel
    from toolkit.manifest_records import TrainingRecord
    from toolkit.progress import Note, Step
    from toolkit.training.history import OnEpoch
    from toolkit.verification.report import VerificationReport

__all__ = ["contract_of", "export_artifact", "export_target", "run_line", "stage_source", "train_artifact"]


def train_artifact(
    output: Path, plan: TrainingPlan, data: FashionMnist, on_epoch: OnEpoch, note: Note, step: Step
) -> tuple[Manifest, TrainingRecord]:
    """Train a model and publish it as an artifact: model.keras, history.csv and the manifest.

    Exported files of an earlier model in that folder do not belong to the new one and are left out.

    Raises:
        UsageError, StorageError: see `toolkit.staged_folders.staged_folder`.
        DivergedError: nothing is published.
        MissingError, CorruptArtifactError: see `toolkit.pipeline.training.train_staged`.
    """
    with staged_folder(output) as staging:
        manifest, _ = train_staged(staging, output, plan, data, on_epoch, note, step)
        manifest.write(staging)
    shutil.rmtree(run_folder_of(output), ignore_errors=True)
    assert manifest.training is not None
    return manifest, manifest.training


def export_artifact(
    source: Path | Any,
    output: Path | None,
    fashion: Callable[[], FashionMnist],
    options: ExportOptions,
    note: Note,
    step: Step,
) -> tuple[Manifest, VerificationReport]:
    """Export a model to ONNX, verify it, and publish it only if every gate held.

    Args:
        source: an artifact folder, a .keras or .h5 file, a SavedModel folder, or a Keras model object.
        output: the artifact folder to publish; by default the source folder, or exported/NAME for NAME.keras.
        fashion: gives Fashion-MNIST, which a model of its form is calibrated and verified on if the options have no
            other rows.
        options: what to export.
        note: told what is being done.
        step: told of verification's progress.

    Raises:
        FailedGatesError: a gate failed; what was there is untouched.
        MissingError, UsageError: see `toolkit.c_code.library.find_compiler`, if a library is asked for.
        MissingError, ModelError, CorruptArtifactError: the source is no model.
        DataError, UsageError: the rows do not fit it, or there are none to calibrate on.
        UsageError, StorageError: see `toolkit.staged_folders.staged_folder`.
    """
    from toolkit.conversion.tasks import check_wishes

    target = export_target(source, output)
    _prepare(options, note, step)
    with staged_folder(target) as staging:
        model, manifest = stage_source(source, staging, options)
        check_wishes(model, options.tasks)
        if manifest.class_names is not None and options.data.class_names is None and not options.tasks:
            kept = dataclasses.replace(options.data, class_names=tuple(manifest.class_names))
            options = dataclasses.replace(options, data=kept)
        manifest = dataclasses.replace(manifest, name=target.absolute().name)
        data = None
        if not options.data.given and is_fashion(model):
            if manifest.training is None:
                note(
                    "the model takes 28x28 and gives ten values, and no --test was given: it is calibrated and "
                    "verified on Fashion-MNIST"
                )
            data = fashion()
        elif options.data.fashion is not None:
            raise UsageError(
                f"--data names Fashion-MNIST (28x28 into ten classes), which is not of the form of the model "
                f"'{model.name}'; drop it, and give rows of its own: --test FILE"
            )
        material = gather(model, options.data, options.raw, data, options.quantization, note, step)
        manifest, report = export_files(staging, target, model, manifest, material, options, note, step)
    return manifest, report


def stage_source(source: Path | Any, staging: Path, options: ExportOptions) -> tuple[SourceModel, Manifest]:
    """A model to work on, its file in a staging folder, and a manifest of that.

    The file is read once, checked, and from here on taken from the staging folder: whatever another command does to
    the source meanwhile, what is exported is what was checked.

    Raises:
        MissingError, ModelError, CorruptArtifactError: the source is no model.
    """
    training, class_names = None, None
    if not isinstance(source, Path):
        model = open_model(source)
        _save(model, staging / KERAS)
    elif source.is_dir() and not is_saved_model(source) and (source / artifact.MANIFEST_NAME).exists():
        earlier = artifact.load_manifest(source)
        place = source_path(source, earlier)
        wanted = {place.name, HISTORY}
        for name in (n for n in earlier.files if n in wanted or n.startswith(f"{place.name}/")):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(read_checked(str(source / name), earlier.files[name].sha256))
        model = open_model(staging / place.name, place, custom=options.custom, unsafe=options.unsafe)
        training = earlier.training
        if earlier.class_names != [str(number) for number in range(len(earlier.class_names or ()))]:
            class_names = earlier.class_names
    elif source.is_dir():
        if not is_saved_model(source):
            open_model(source)  # says what is wrong with it
        copy = staging / SAVED_MODEL
        copy.mkdir()
        for part in (GRAPH, "variables", "assets"):
            _copy_saved(source / part, copy / part)
        model = open_model(copy, source, custom=options.custom, unsafe=options.unsafe)
        model = dataclasses.replace(model, name=source.name)
    else:
        model = _stage_file(source, staging, options)
    files = sorted(path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file())
    records = {name: record_of(staging / name, name) for name in files}
    return model, Manifest("", artifact.versions(), records, class_names=class_names, training=training)


def _stage_file(source: Path, staging: Path, options: ExportOptions) -> SourceModel:
    """A lone file; what is no .keras archive (an .h5 file) is written anew as one where Keras can do that."""
    copy = staging / KERAS
    _copy_lone(source, copy)
    model = open_model(copy, source, custom=options.custom, unsafe=options.unsafe)
    if zipfile.is_zipfile(copy):
        return model
    older = copy.rename(staging / KERAS_H5)
    try:
        _save(model, copy)
        again = open_model(copy, custom=options.custom, unsafe=options.unsafe)
        same = (again.inputs, again.outputs, again.layers) == (model.inputs, model.outputs, model.layers)
    except ModelError:
        same = False
    (older if same else copy).unlink(missing_ok=True)
    return model


def _save(model: SourceModel, path: Path) -> None:
    try:
        model.keras.save(path)
    except OSError:  # a full disk is not the model's fault
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"Keras cannot save the model '{model.name}': {reason}") from error


def _copy_saved(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    elif source.exists():
        shutil.copyfile(source, target)


def _prepare(options: ExportOptions, note: Note, step: Step) -> None:
    """What cannot be had should be known before the work."""
    if options.native:
        from toolkit.c_code.library import find_compiler

        find_compiler(options.cc)
    with other_cpus.emulators(options.cpus, note, step):
        pass


def contract_of(source: Path) -> tuple[str | None, str]:
    """What an artifact was exported with: its input's dtype, and "probabilities", "logits" or "both".

    For a file, or an artifact that was not exported yet, what `ExportOptions` has by default.
    """
    manifest = artifact.load_manifest(source) if source.is_dir() and not is_saved_model(source) else None
    if manifest is None or not manifest.inputs or not manifest.outputs:
        return None, ExportOptions.output
    read_off = [output.name for output in manifest.outputs if output.of and output.name == "logits"]
    output = "probabilities" if not read_off else "both" if len(manifest.outputs) > 1 else "logits"
    return manifest.inputs[0].dtype, output


def export_target(source: Path | Any, output: Path | None) -> Path:
    """Where an export goes: output, or the source's own artifact folder, or exported/NAME for NAME.keras."""
    if output is not None:
        return output
    if not isinstance(source, Path):
        return Path("exported") / str(getattr(source, "name", "model"))
    own = source.is_dir() and not is_saved_model(source)
    return source if own else Path("exported") / (source.absolute().name if source.is_dir() else source.stem)


def run_line(
    output: Path,
    plan: TrainingPlan,
    data: FashionMnist,
    options: ExportOptions,
    on_epoch: OnEpoch,
    note: Note,
    step: Step,
) -> tuple[Manifest, VerificationReport]:
    """Train, export and verify in one staging folder, published once at the end.

    What was trained is kept beside it until then, so that a run that failed afterwards can go on from there.

    Raises:
        As `train_artifact` and `export_artifact`; the earlier artifact is whole after each of them.
    """
    _prepare(options, note, step)
    with staged_folder(output) as staging:
        manifest, keras = train_staged(staging, output, plan, data, on_epoch, note, step)
        model = from_keras(keras)
        material = gather(model, options.data, options.raw, data, options.quantization, note, step)
        manifest, report = export_files(staging, output, model, manifest, material, options, note, step)
    shutil.rmtree(run_folder_of(output), ignore_errors=True)
    return manifest, report


def _copy_lone(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise MissingError(
            f"{source} does not exist; give a .keras or .h5 file, or train one with: toolkit train"
        ) from error
    except PermissionError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}; check its permissions") from error
