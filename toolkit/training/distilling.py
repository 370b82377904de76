"""What a student learns from its teachers: their probabilities for every view of each training image."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.keras_model import import_tensorflow, load_keras
from toolkit.training.augmentation import Augmentation, view_of
from toolkit.training.form import CLASSES
from toolkit.training.inputs import scaled
from toolkit.training.teacher import fused, open_teacher, train_teacher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from toolkit.data import FashionMnist
    from toolkit.progress import Step
    from toolkit.training.history import OnEpoch
    from toolkit.training.recipes import Recipe
    from toolkit.training.run_folder import RunFolder

__all__ = ["Taught", "soft_targets", "teach"]

tf = import_tensorflow()

BATCH = 2500


@dataclass(frozen=True, eq=False)
class Taught:
    """What teachers gave.

    Attributes:
        soft: their mean probabilities at the recipe's temperature, float32 (views, n, 10); see `Augmentation.views`.
        accuracy: of their mean probabilities on the validation images.
        seconds: training them, and asking them.
    """

    soft: NDArray[np.float32]
    accuracy: float
    seconds: float


def teach(
    recipe: Recipe, data: FashionMnist, seed: int, on_epoch: OnEpoch, run: RunFolder | None, step: Step
) -> Taught:
    """Train or open a recipe's teachers, and take their answers for every view that the student may see.

    What is finished is kept in the run folder, and taken from there by a run that goes on.

    Args:
        recipe: one that distills.
        data: training images, and validation images to judge the teachers by.
        seed: each teacher's own follows from it.
        on_epoch: told of the teachers' epochs.
        run: where finished teachers and their answers are kept; None keeps nothing.
        step: told of the views.

    Raises:
        MissingError, ModelError: a teacher's file is none.
        DivergedError: a teacher's loss is no number.
    """
    if run and (found := run.find("taught")):
        state = json.loads((found / "state.json").read_text(encoding="utf-8"))
        return Taught(np.load(found / "soft.npy"), state["accuracy"], state["seconds"])
    if recipe.teacher is not None:
        seeds = np.random.SeedSequence([seed, 1]).generate_state(recipe.teacher.count)
        found_ones = [_trained(recipe, data, int(s), at, on_epoch, run) for at, s in enumerate(seeds, start=1)]
        opened, spent = [one for one, _ in found_ones], sum(seconds for _, seconds in found_ones)
    else:
        opened, spent = [open_teacher(Path(name)) for name in recipe.teacher_files], 0.0
    teachers = [fused(one) for one in opened]
    start = time.perf_counter()
    augmentation = Augmentation(recipe.flip, recipe.shift)
    soft = soft_targets(teachers, data.train_images, augmentation, recipe.temperature, step)
    judged = soft_targets(teachers, data.validation_images, Augmentation(), 1.0, lambda *_: None)
    accuracy = float((judged[0].argmax(axis=1) == data.validation_labels).mean())
    taught = Taught(soft, accuracy, spent + time.perf_counter() - start)
    if run:
        run.commit("taught", lambda folder: _keep(taught, folder))
    return taught


def _trained(
    recipe: Recipe, data: FashionMnist, seed: int, number: int, on_epoch: OnEpoch, run: RunFolder | None
) -> tuple[Any, float]:
    """A teacher and the seconds that it took, from the run folder if it has one."""
    assert recipe.teacher is not None
    name = f"teacher-{number}"
    if run and (found := run.find(name)):
        return load_keras(found / "teacher.keras"), json.loads((found / "state.json").read_text())["seconds"]
    start = time.perf_counter()
    teacher = train_teacher(recipe.teacher, data, seed, f"teacher {number} of {recipe.teacher.count}", on_epoch)
    seconds = time.perf_counter() - start

    def fill(folder: Path) -> None:
        teacher.save(folder / "teacher.keras")
        (folder / "state.json").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")

    if run:
        run.commit(name, fill)
    return teacher, seconds


def _keep(taught: Taught, folder: Path) -> None:
    np.save(folder / "soft.npy", taught.soft)
    state = {"accuracy": taught.accuracy, "seconds": taught.seconds}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def soft_targets(
    teachers: Sequence[Any], images: NDArray[np.uint8], augmentation: Augmentation, temperature: float, step: Step
) -> NDArray[np.float32]:
    """The teachers' mean probabilities at a temperature, for every shifted and flipped view of each image.

    Args:
        teachers: Keras models that give logits, or probabilities (whose logarithm is then taken).
        images: uint8 (n, 28, 28).
        augmentation: the student's; its flip and shift decide the views.
        temperature: what logits are divided by.
        step: told how many views are done.

    Returns:
        float32 (views, n, 10), in the order of `Augmentation.views`.
    """
    views = augmentation.views
    found = np.empty((len(views), len(images), CLASSES), np.float32)
    functions = [tf.function(teacher, reduce_retracing=True) for teacher in teachers]
    for number, (flip, down, right) in enumerate(views):
        step(number, len(views), "teachers' answers")
        for start in range(0, len(images), BATCH):
            pixels = scaled(view_of(images[start : start + BATCH], flip, down, right).numpy())
            answers = [_softened(answer(pixels, training=False), temperature) for answer in functions]
            found[number, start : start + BATCH] = np.mean(answers, axis=0)
    step(len(views), len(views), "teachers' answers")
    return found


def _softened(answers: Any, temperature: float) -> NDArray[np.float32]:
    values = tf.cast(answers, tf.float32)
    if bool(tf.reduce_all(values >= 0)) and bool(tf.reduce_all(tf.abs(tf.reduce_sum(values, axis=1) - 1) < 1e-3)):
        values = tf.math.log(tf.maximum(values, 1e-30))
    softened: NDArray[np.float32] = tf.nn.softmax(values / temperature).numpy()
    return softened
