"""The fit: from images to model.keras and history.csv."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import HISTORY, KERAS
from toolkit.errors import ModelError
from toolkit.keras_model import import_keras, import_tensorflow
from toolkit.progress import silent_step
from toolkit.training.augmentation import Augmentation
from toolkit.training.checkpoints import checkpoint_callback, done_so_far
from toolkit.training.distilling import teach
from toolkit.training.finish import finish
from toolkit.training.history import Epoch, OnEpoch, check_finite, read_history
from toolkit.training.inputs import Inputs, scaled, steps_in, training_batches, validation_rows
from toolkit.training.loop import run_epochs, steps_at_once, usual_callbacks
from toolkit.training.losses import accuracy, distillation, label_loss
from toolkit.training.model import build_mlp, fold
from toolkit.training.optimizers import optimizer_of
from toolkit.training.precision import policy_of

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.progress import Step
    from toolkit.training.distilling import Taught
    from toolkit.training.recipes import Recipe
    from toolkit.training.run_folder import RunFolder

__all__ = ["Epoch", "OnEpoch", "TrainingResult", "train"]

# Folded and unfolded network, largest difference of a probability: rounding alone stays below 1e-5.
FOLDING_TOLERANCE = 1e-4


@dataclass(frozen=True)
class TrainingResult:
    """What a training run came to; figures are those of the weights that were saved.

    Attributes:
        model: the trained Keras model, plain: what was folded is in its weights.
        epochs_run: fewer than the recipe's if training stopped early; the finish in 4 bits is not counted.
        seconds: wall time of training, teachers and finish included.
        teacher_seconds: wall time of the teachers alone.
        train_accuracy: Keras' running average over the epoch whose weights were kept.
        validation_accuracy: on the 5,000 validation images, 0 to 1.
        validation_loss: sparse categorical cross-entropy there.
        best_validation_accuracy: of all epochs before a finish; no choice was made by it unless training stopped early.
        teacher_accuracy: of the teachers' mean on the validation images; None without teachers.
        quantization_epochs: of the finish with weights rounded to 4 bits; 0 without one.
        float_validation_accuracy: of the network before the finish; None without one.
        precision: Keras' policy that the recipe's precision came to on this CPU.
    """

    model: Any
    epochs_run: int
    seconds: float
    teacher_seconds: float
    train_accuracy: float
    validation_accuracy: float
    validation_loss: float
    best_validation_accuracy: float
    teacher_accuracy: float | None
    quantization_epochs: int = 0
    float_validation_accuracy: float | None = None
    precision: str = "float32"


def train(
    recipe: Recipe,
    data: FashionMnist,
    seed: int,
    folder: Path,
    on_epoch: OnEpoch,
    *,
    run: RunFolder | None = None,
    step: Step = silent_step,
    taught: Taught | None = None,
) -> TrainingResult:
    """Train the recipe's MLP, validated after each epoch, and leave model.keras and history.csv in a folder.

    The same recipe, data and seed give the same weights on the same machine, whether training was interrupted and
    resumed or not.

    Args:
        recipe: all settings.
        data: training and validation images, uint8; they are divided by 255 here. The test images are not looked at.
        seed: of Python, numpy and TensorFlow; the order of the images and their augmentation follow from it.
        folder: an existing folder.
        on_epoch: told of each epoch's figures, of teachers too.
        run: where checkpoints are kept, and taken up; None keeps none.
        step: told of the progress of what is no epoch.
        taught: what the recipe's teachers give, where that is known; else they are trained or opened here.

    Raises:
        DivergedError: the loss is no number any more.
        MissingError, ModelError: a teacher's file is none.
        StorageError: a checkpoint cannot be written.
        CorruptArtifactError: a checkpoint is damaged.
    """
    keras = import_keras()
    import_tensorflow().config.experimental.enable_op_determinism()
    keras.config.disable_interactive_logging()  # stdout is not its own
    clock = time.perf_counter
    start = clock()
    if taught is None and recipe.distills:
        taught = teach(recipe, data, seed, on_epoch, run, step)
    done = done_so_far(run)
    # What was done before an interruption counts as it did then.
    before = (done.seconds or (taught.seconds if taught else 0.0)) - (clock() - start)

    policy = policy_of(recipe.precision)
    keras.utils.set_random_seed(seed)
    pixels = data.train_images.reshape(-1)
    standard = float(pixels.mean()) / 255, float(pixels.std()) / 255
    model = build_mlp(recipe, *standard, policy)
    inputs = Inputs(data.train_images, data.train_labels, taught.soft if taught else None)
    steps = steps_in(inputs, recipe.batch_size, whole=recipe.batch_norm)
    model.compile(
        loss=distillation(recipe.teacher_weight, recipe.temperature) if taught else label_loss,
        optimizer=optimizer_of(recipe, steps),
        metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
        steps_per_execution=steps_at_once(model, steps),
        jit_compile=False,  # with dropout in the model, XLA on the CPU takes several times as long an epoch
    )
    callbacks, stopper = _callbacks(recipe, folder / HISTORY, on_epoch)
    if run:
        if done.folder:
            shutil.copyfile(done.folder / HISTORY, folder / HISTORY)
        callbacks.append(checkpoint_callback(run, folder / HISTORY, stopper, lambda: before + clock() - start))
    last = done.epochs if done.stopped else recipe.epochs
    batches = training_batches(
        inputs,
        Augmentation(recipe.flip, recipe.shift, recipe.scale),
        recipe.batch_size,
        range(done.epochs, last),
        seed,
        whole=recipe.batch_norm,
        label_smoothing=recipe.label_smoothing,
    )
    run_epochs(model, batches, steps, data, callbacks, range(last))
    rows = read_history(folder / HISTORY)
    check_finite(rows[-1], len(rows), recipe.learning_rate)
    plain = fold(model, recipe)
    kept = rows[stopper.best_epoch if stopper else -1]
    exact, loss = model, kept["val_loss"]
    if policy != "float32":  # the history tells of rounded products
        exact = build_mlp(recipe, *standard)
        exact.set_weights(model.get_weights())
        images, labels = validation_rows(data)
        loss = float(np.mean(label_loss(labels, exact(images, training=False))))
    accurate = _validated(plain, exact, data)
    before_finish, rounding = accurate, recipe.quantization_aware != "none"
    if rounding:
        plain = finish(plain, recipe, inputs, data, seed, folder / HISTORY, on_epoch)
        kept = read_history(folder / HISTORY)[-1]
        accurate, loss = _accuracy(_answers(plain, data), data), kept["val_loss"]
    seconds = before + clock() - start
    # Saved without the optimizer: its state is twice the weights and serves no one who deploys.
    plain.save(folder / KERAS)
    return TrainingResult(
        model=plain,
        epochs_run=len(rows),
        seconds=seconds,
        teacher_seconds=taught.seconds if taught else 0.0,
        train_accuracy=kept["accuracy"],
        validation_accuracy=accurate,
        validation_loss=loss,
        best_validation_accuracy=round(max(row["val_accuracy"] for row in rows), 6),
        teacher_accuracy=taught.accuracy if taught else None,
        quantization_epochs=recipe.quantization_epochs if rounding else 0,
        float_validation_accuracy=before_finish if rounding else None,
        precision=policy,
    )


def _callbacks(recipe: Recipe, history: Path, on_epoch: OnEpoch) -> tuple[list[Any], Any]:
    """Keras' callbacks in the order in which they must come, and early stopping among them, or None."""
    keras = import_keras()
    found = usual_callbacks(history, on_epoch, recipe.epochs)
    if recipe.weight_average:
        found.insert(1, keras.callbacks.SwapEMAWeights())  # before the epoch is written down
    if not recipe.early_stopping:
        return found, None
    stopper = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=recipe.early_stopping, restore_best_weights=True
    )
    return [*found, stopper], stopper


def _validated(plain: Any, trained: Any, data: FashionMnist) -> float:
    """The accuracy of the plain network on the validation images, which must answer as the trained one does.

    Raises:
        ModelError: folding changed a probability by more than rounding does.
    """
    answers = _answers(plain, data)
    before = import_tensorflow().nn.softmax(_answers(trained, data)).numpy()
    if not (difference := float(np.abs(answers - before).max())) <= FOLDING_TOLERANCE:
        raise ModelError(
            f"folding the normalizations into the weights changed a probability by {difference:.2g}, expected at most "
            f"{FOLDING_TOLERANCE:g}; train with batch_norm=false and standardize=false"
        )
    return _accuracy(answers, data)


def _answers(model: Any, data: FashionMnist) -> Any:
    """What a model gives for the validation images, (5000, 10)."""
    return model.predict_on_batch(scaled(data.validation_images))


def _accuracy(answers: Any, data: FashionMnist) -> float:
    return float((answers.argmax(axis=1) == data.validation_labels).mean())
