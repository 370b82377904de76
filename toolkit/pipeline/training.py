"""The training stage: one seed or several, each of which can be interrupted and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from toolkit import artifact
from toolkit.artifact import HISTORY, KERAS, Manifest
from toolkit.errors import DivergedError, MissingError, UsageError
from toolkit.keras_model import load_keras
from toolkit.manifest_records import SeedRecord, TrainingRecord
from toolkit.pipeline.exporting import record_of
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.progress import Note, Step
    from toolkit.training.history import OnEpoch
    from toolkit.training.recipes import Recipe

__all__ = ["TrainingPlan", "run_folder_of", "train_staged"]

RESULT = "result"
_TRAINED = (KERAS, HISTORY)


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What to train.

    Attributes:
        recipe: all settings.
        seeds: one model is trained with each; the best on the validation images is taken.
        resume: go on with an interrupted training of this artifact.
        save_teachers: a folder that the teachers that were trained are put into, as teacher-SEED-NUMBER.keras.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    resume: bool = False
    save_teachers: Path | None = None


def run_folder_of(output: Path) -> Path:
    """Where an artifact's training keeps its checkpoints until it is published: a hidden folder beside it."""
    return output.absolute().with_name(f".{output.absolute().name}.training")


def train_staged(
    staging: Path,
    output: Path,
    plan: TrainingPlan,
    data: FashionMnist,
    on_epoch: OnEpoch,
    note: Note,
    step: Step,
) -> tuple[Manifest, Any]:
    """Train into a staging folder: model.keras and history.csv of the best seed.

    Finished seeds and checkpoints stay in `run_folder_of` until the caller, having published, removes that. A seed that
    diverged would diverge again: what it left is removed.

    Args:
        staging: an existing folder.
        output: the artifact folder that it will become.
        plan: recipe, seeds, and whether to go on.
        data: the images.
        on_epoch: told of each epoch.
        note: told of the seeds.
        step: told of what is no epoch.

    Returns:
        The manifest of what is in the staging folder, and the Keras model.

    Raises:
        MissingError: there is nothing to resume.
        UsageError: what is there is of other seeds, or the teachers' folder cannot be written.
        DivergedError: a loss is no number any more.
        As `toolkit.training.fit.train`, whose errors leave the checkpoints as they are.
    """
    root = run_folder_of(output)
    if plan.save_teachers is not None:
        _check_writable(plan.save_teachers)
    if plan.resume:
        _check_resumable(root, output, plan.seeds)
    elif root.is_dir():
        note(f"an earlier training of {output} that did not end is given up; --resume would have gone on with it")
        shutil.rmtree(root)
    digest = hashlib.sha256(data.train_images.tobytes() + data.train_labels.tobytes()).hexdigest()
    found: dict[int, tuple[Path, TrainingRecord]] = {}
    for number, seed in enumerate(plan.seeds, start=1):
        if len(plan.seeds) > 1:
            note(f"    seed {seed}, {number} of {len(plan.seeds)}")
        try:
            found[seed] = _seed(root / f"seed-{seed}", plan, seed, digest, data, on_epoch, step)
        except DivergedError:
            _remove_diverged(root, plan.seeds[: len(found) + 1], note)
            raise
        if len(plan.seeds) > 1:
            note(f"    seed {seed}: validation accuracy {found[seed][1].validation_accuracy:.2%}")
    best = max(found, key=lambda seed: (found[seed][1].validation_accuracy, -found[seed][1].validation_loss))
    folder, record = found[best]
    for name in _TRAINED:
        shutil.copyfile(folder / name, staging / name)
    if len(found) > 1:
        seeds = [SeedRecord(seed, r.validation_accuracy, r.seconds) for seed, (_, r) in found.items()]
        record = dataclasses.replace(record, seeds=seeds)
    files = {name: record_of(staging / name) for name in _TRAINED}
    manifest = Manifest(output.absolute().name, artifact.versions(), files, training=record)
    return manifest, load_keras(staging / KERAS)


def _check_writable(folder: Path) -> None:
    """Teachers are written after half an hour: whether they can be is asked before."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise UsageError(f"--save-teachers is {folder}, expected a folder to write to; choose another")


def _check_resumable(root: Path, output: Path, seeds: tuple[int, ...]) -> None:
    if not root.is_dir():
        raise MissingError(
            f"there is no interrupted training of {output} to resume ({root} is not there); train without --resume"
        )
    there = sorted(int(number) for path in root.glob("seed-*") if (number := path.name[5:]).isdecimal())
    if there and not set(there) & set(seeds):
        asked, begun = (", ".join(map(str, some)) for some in (seeds, there))
        raise UsageError(
            f"the interrupted training of {output} has seed {begun}, and this asks for {asked}; resume it with "
            f"--seed {there[0]}, or train without --resume, which starts anew"
        )


def _seed(
    folder: Path, plan: TrainingPlan, seed: int, digest: str, data: FashionMnist, on_epoch: OnEpoch, step: Step
) -> tuple[Path, TrainingRecord]:
    """One seed's result: the folder of its files, and its record."""
    from toolkit.training.fit import train
    from toolkit.training.precision import policy_of
    from toolkit.training.recipe_files import recipe_to_json
    from toolkit.training.run_folder import RunFolder

    identity = {
        "recipe": recipe_to_json(plan.recipe),
        "seed": seed,
        "training images": digest,
        "precision on this CPU": policy_of(plan.recipe.precision),
    }
    run = RunFolder(folder, identity, resume=plan.resume and folder.is_dir())
    if (done := run.find(RESULT)) is None:
        working = folder / "working-result"
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        try:
            result = train(plan.recipe, data, seed, working, on_epoch, run=run, step=step)
        except DivergedError:
            _save_teachers(folder, plan, seed)  # they are finished, and asked for
            raise
        record = TrainingRecord(
            recipe=recipe_to_json(plan.recipe),
            seed=seed,
            data=f"Fashion-MNIST, first 5,000 training images for validation ({data.source})",
            **{
                field.name: getattr(result, field.name) for field in dataclasses.fields(result) if field.name != "model"
            },
        )
        (working / "record.json").write_text(json.dumps(dataclasses.asdict(record)), encoding="utf-8")
        # Before the commit: a finished seed is not looked at again by a run that goes on.
        _save_teachers(folder, plan, seed)
        run.commit(RESULT, lambda place: _move(working, place))
        done = folder / RESULT
        for path in folder.iterdir():  # a finished seed needs no checkpoint, and teachers' answers are large
            if path.is_dir() and path != done:
                shutil.rmtree(path)
    raw = json.loads((done / "record.json").read_text(encoding="utf-8"))
    return done, TrainingRecord(**raw)


def _remove_diverged(root: Path, seeds: tuple[int, ...], note: Note) -> None:
    """Remove what the last of these seeds left; those before it are finished."""
    *finished, seed = seeds
    shutil.rmtree(root / f"seed-{seed}", ignore_errors=True)
    with suppress(OSError):  # other seeds are there
        root.rmdir()
    if finished:
        note(
            f"seed {seed} diverged; the {len(finished)} finished before are kept: --seed {finished[0]} --seeds "
            f"{len(finished)} --resume takes the best of them"
        )


def _save_teachers(folder: Path, plan: TrainingPlan, seed: int) -> None:
    if plan.save_teachers is None:
        return
    for place in sorted(folder.glob("teacher-*/teacher.keras")):
        number = place.parent.name.removeprefix("teacher-")
        write_atomic(plan.save_teachers / f"teacher-{seed}-{number}.keras", place.read_bytes())


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
