"""The training stage: one seed or several, each of which can be interrupted and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from toolkit import artifact
from toolkit.artifact import HISTORY, KERAS, Manifest
from toolkit.errors import MissingError
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

    Finished seeds and checkpoints stay in `run_folder_of` until the caller, having published, removes that.

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
        As `toolkit.training.fit.train`, whose errors leave the checkpoints as they are.
    """
    root = run_folder_of(output)
    if plan.resume and not root.is_dir():
        raise MissingError(
            f"there is no interrupted training of {output} to resume ({root} is not there); train without --resume"
        )
    if root.is_dir() and not plan.resume:
        note(f"an earlier training of {output} that did not end is given up; --resume would have gone on with it")
        shutil.rmtree(root)
    digest = hashlib.sha256(data.train_images.tobytes() + data.train_labels.tobytes()).hexdigest()
    found: dict[int, tuple[Path, TrainingRecord]] = {}
    for number, seed in enumerate(plan.seeds, start=1):
        if len(plan.seeds) > 1:
            note(f"    seed {seed}, {number} of {len(plan.seeds)}")
        found[seed] = _seed(root / f"seed-{seed}", plan, seed, digest, data, on_epoch, step)
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
        result = train(plan.recipe, data, seed, working, on_epoch, run=run, step=step)
        record = TrainingRecord(
            recipe=recipe_to_json(plan.recipe),
            seed=seed,
            data=f"Fashion-MNIST, first 5,000 training images for validation ({data.source})",
            **{
                field.name: getattr(result, field.name) for field in dataclasses.fields(result) if field.name != "model"
            },
        )
        (working / "record.json").write_text(json.dumps(dataclasses.asdict(record)), encoding="utf-8")
        run.commit(RESULT, lambda place: _move(working, place))
        done = folder / RESULT
        if plan.save_teachers is not None:
            for place in sorted(folder.glob("teacher-*/teacher.keras")):
                number = place.parent.name.removeprefix("teacher-")
                write_atomic(plan.save_teachers / f"teacher-{seed}-{number}.keras", place.read_bytes())
        for path in folder.iterdir():  # a finished seed needs no checkpoint, and teachers' answers are large
            if path.is_dir() and path != done:
                shutil.rmtree(path)
    raw = json.loads((done / "record.json").read_text(encoding="utf-8"))
    return done, TrainingRecord(**raw)


def _move(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
