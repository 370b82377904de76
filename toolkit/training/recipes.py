"""Training recipes as data: a recipe is a row of settings, never a branch in the code."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from toolkit.errors import UsageError

__all__ = ["OPTIMIZERS", "PRECISIONS", "QUANTIZATIONS", "RECIPES", "SCHEDULES", "Recipe", "TeacherRecipe"]

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
SCHEDULES = ("constant", "cosine", "linear")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
QUANTIZATIONS = ("none", "int4")

# What is taken where an optimizer is chosen without a rate; the notebook's, Keras' defaults, and the recipe's below.
USUAL_RATES = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3, "muon": 0.05}

# A slip of the finger must not end in an exhausted machine: two layers of half this many weigh 400 MB.
MAX_NEURONS = 20_000
MAX_EPOCHS, MAX_BATCH, MAX_SHIFT, MAX_TEACHERS = 100_000, 55_000, 4, 16


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """How the toolkit trains the convolutional networks whose answers a student learns from.

    The network, by `toolkit.training.teacher.build_teacher`: 2x2 blocks of pixels to channels, convolution,
    convolution, pooling, residual block, convolution, pooling, residual block, global maximum, 10 values. It is trained
    with SGD, Nesterov momentum 0.9, a warm-up over a fifth of all steps and a cosine to zero.

    Attributes:
        count: teachers, each with a seed of its own, whose probabilities are averaged.
        width: channels of the first convolution; the next have two and four times as many.
        epochs: passes of each teacher.
        batch_size: images a step.
        learning_rate: at its highest.
        weight_decay: decoupled decay of the kernels: that share of a weight, times the learning rate, goes each step.
        shift: augmentation: pixels, at most, in each direction.
        erase: augmentation: share of images of which a random rectangle is erased (Zhong et al. 2017).
        label_smoothing: share of each label that is spread over all classes.
        precision: what is multiplied in, see `Recipe`.
    """

    count: int = 2
    width: int = 48
    epochs: int = 12
    batch_size: int = 256
    learning_rate: float = 0.1
    weight_decay: float = 5e-3
    shift: int = 2
    erase: float = 0.3
    label_smoothing: float = 0.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        _check(
            (1 <= self.count <= MAX_TEACHERS, "teacher.count", self.count, f"1 to {MAX_TEACHERS}"),
            (4 <= self.width <= 256, "teacher.width", self.width, "4 to 256 channels"),
            (1 <= self.epochs <= MAX_EPOCHS, "teacher.epochs", self.epochs, f"1 to {MAX_EPOCHS:,}"),
            (1 <= self.batch_size <= MAX_BATCH, "teacher.batch_size", self.batch_size, f"1 to {MAX_BATCH:,}"),
            (0 < self.learning_rate < math.inf, "teacher.learning_rate", self.learning_rate, "more than 0"),
            (0 <= self.weight_decay < math.inf, "teacher.weight_decay", self.weight_decay, "0 or more"),
            (0 <= self.shift <= MAX_SHIFT, "teacher.shift", self.shift, f"0 to {MAX_SHIFT} pixels"),
            (0 <= self.erase <= 1, "teacher.erase", self.erase, "a share from 0 to 1"),
            (0 <= self.label_smoothing < 1, "teacher.label_smoothing", self.label_smoothing, "a share below 1"),
            (self.precision in PRECISIONS, "teacher.precision", self.precision, f"one of {', '.join(PRECISIONS)}"),
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run does, but the data and the seed.

    What a setting is by default leaves it out; a recipe names what it uses.

    Attributes:
        name: what the recipe is called.
        purpose: what it is for, in one line.
        hidden: neurons of each hidden layer, input side first.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: "sgd" (plain, or with the momentum below), "adam", "adamw", or "muon" (Jordan et al. 2024: the
            weight matrices by orthogonalized momentum, everything else by Adam).
        learning_rate: at its highest.
        adam_learning_rate: muon's rate for what is no matrix.
        newton_schulz_steps: iterations by which muon orthogonalizes; Jordan et al. take 5, each costs about a tenth of
            an epoch of the reference network.
        momentum: of sgd (Nesterov's, if not 0).
        schedule: "constant"; "cosine" or "linear": down to zero over all steps.
        warmup_epochs: passes over which a cosine schedule first rises from zero.
        weight_decay: decoupled decay of weights, for adamw and muon (there of the matrices alone).
        dropout: share of each hidden layer's outputs that is dropped in training.
        l2: factor of the L2 penalty on the hidden layers' weights.
        batch_norm: batch normalization between each hidden layer's sums and its ReLU, folded into the weights at the
            end; an epoch's last, smaller batch is then left out.
        standardize: the pixels are shifted and scaled to mean 0 and deviation 1 of the training images, folded
            likewise.
        label_smoothing: share of each label that is spread over all classes.
        flip: augmentation: mirror half of the images.
        shift: augmentation: move by up to so many whole pixels in each direction.
        scale: augmentation: enlarge or shrink by up to this share.
        weight_average: momentum of a running average of the weights, which is what is validated and saved; 0 is none.
        precision: what is multiplied in: "float32"; "mixed_bfloat16" (weights and sums stay float32; faster where the
            CPU multiplies bfloat16, much slower elsewhere); or "auto": bfloat16 where this CPU multiplies it. What is
            saved is float32 in any case, and so are its figures.
        early_stopping: epochs without a better validation loss after which training stops and the best epoch's
            weights are taken; 0 is never.
        teacher: how teachers are trained; None for no teacher, unless there are files.
        teacher_files: models to learn from instead: .keras files that take 28x28 pixels divided by 255 and give ten
            probabilities.
        teacher_weight: the teachers' share of the loss; the rest is the label's.
        temperature: what logits are divided by before student and teacher are compared (Hinton et al. 2015).
        quantization_aware: "none", or "int4": at the end the folded network is trained on with its weights rounded as
            an int4 file's are, and these are saved. It learns from the teachers, or without from its own answers
            before, with the share and the temperature above.
        quantization_epochs: passes of that finish.
        quantization_learning_rate: of the finish, Adam's, at its begin; a cosine takes it to zero.
    """

    name: str
    purpose: str = ""
    hidden: tuple[int, ...] = (300, 100)
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    adam_learning_rate: float = 2e-3
    newton_schulz_steps: int = 5
    momentum: float = 0.0
    schedule: str = "constant"
    warmup_epochs: int = 0
    weight_decay: float = 0.0
    dropout: float = 0.0
    l2: float = 0.0
    batch_norm: bool = False
    standardize: bool = False
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    scale: float = 0.0
    weight_average: float = 0.0
    precision: str = "float32"
    early_stopping: int = 0
    teacher: TeacherRecipe | None = None
    teacher_files: tuple[str, ...] = ()
    teacher_weight: float = 0.5
    temperature: float = 2.0
    quantization_aware: str = "none"
    quantization_epochs: int = 10
    quantization_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        decays = self.optimizer in ("adamw", "muon")
        _check(
            (len(self.hidden) > 0 and min(self.hidden) >= 1, "hidden", self.hidden, "layer sizes of 1 or more"),
            (sum(self.hidden) <= MAX_NEURONS, "hidden", self.hidden, f"{MAX_NEURONS:,} neurons in all at most"),
            (1 <= self.epochs <= MAX_EPOCHS, "epochs", self.epochs, f"1 to {MAX_EPOCHS:,}"),
            (1 <= self.batch_size <= MAX_BATCH, "batch_size", self.batch_size, f"1 to {MAX_BATCH:,}"),
            (self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}"),
            (self.schedule in SCHEDULES, "schedule", self.schedule, f"one of {', '.join(SCHEDULES)}"),
            (0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "more than 0"),
            (0 < self.adam_learning_rate < math.inf, "adam_learning_rate", self.adam_learning_rate, "more than 0"),
            (1 <= self.newton_schulz_steps <= 20, "newton_schulz_steps", self.newton_schulz_steps, "1 to 20"),
            (0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and less than 1"),
            (not self.momentum or self.optimizer == "sgd", "momentum", self.momentum, "0: only sgd takes one"),
            (0 <= self.warmup_epochs < self.epochs, "warmup_epochs", self.warmup_epochs, "fewer than epochs"),
            (
                not self.warmup_epochs or self.schedule == "cosine",
                "warmup_epochs",
                self.warmup_epochs,
                f"0, since the schedule {self.schedule} has none; choose cosine",
            ),
            (0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "0 or more"),
            (
                not self.weight_decay or decays,
                "weight_decay",
                self.weight_decay,
                f"0, since {self.optimizer} has none; choose adamw or muon",
            ),
            (0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and less than 1"),
            (0 <= self.l2 < math.inf, "l2", self.l2, "0 or more"),
            (0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "at least 0 and less than 1"),
            (0 <= self.shift <= MAX_SHIFT, "shift", self.shift, f"0 to {MAX_SHIFT} pixels"),
            (0 <= self.scale < 0.5, "scale", self.scale, "at least 0 and less than 0.5"),
            (0 <= self.weight_average < 1, "weight_average", self.weight_average, "at least 0 and less than 1"),
            (self.precision in PRECISIONS, "precision", self.precision, f"one of {', '.join(PRECISIONS)}"),
            (self.early_stopping >= 0, "early_stopping", self.early_stopping, "0 or more epochs"),
            (
                not (self.weight_average and self.early_stopping),
                "weight_average",
                self.weight_average,
                "0 with early_stopping, which takes one epoch's weights",
            ),
            (0 < self.teacher_weight <= 1, "teacher_weight", self.teacher_weight, "a share above 0, up to 1"),
            (0 < self.temperature < math.inf, "temperature", self.temperature, "more than 0"),
            (
                self.quantization_aware in QUANTIZATIONS,
                "quantization_aware",
                self.quantization_aware,
                f"one of {', '.join(QUANTIZATIONS)}",
            ),
            (
                1 <= self.quantization_epochs <= MAX_EPOCHS,
                "quantization_epochs",
                self.quantization_epochs,
                f"1 to {MAX_EPOCHS:,}",
            ),
            (
                0 < self.quantization_learning_rate < math.inf,
                "quantization_learning_rate",
                self.quantization_learning_rate,
                "more than 0",
            ),
            (
                not (self.distills and self.scale),
                "scale",
                self.scale,
                "0 with a teacher, whose answers are made once for every shifted and flipped view",
            ),
        )
        if self.teacher is not None and self.teacher_files:
            raise UsageError("teacher and teacher_files are both given; choose teachers to train, or files")

    @property
    def distills(self) -> bool:
        """Whether it learns from teachers."""
        return self.teacher is not None or bool(self.teacher_files)

    @property
    def views(self) -> int:
        """How many shifted and flipped views of one image there are."""
        return (2 * self.shift + 1) ** 2 * (2 if self.flip else 1)

    def override(self, **settings: object) -> Recipe:
        """A copy with the given settings; None leaves one as it is. A changed copy is named "custom".

        What came with the recipe and would do nothing with another optimizer or schedule is dropped with it.

        Raises:
            UsageError: a setting that makes no sense.
        """
        changed = {name: value for name, value in settings.items() if value is not None}
        if all(getattr(self, name) == value for name, value in changed.items()):
            return self
        optimizer = changed.get("optimizer", self.optimizer)
        if optimizer not in ("adamw", "muon"):
            changed.setdefault("weight_decay", 0.0)
        if optimizer != "sgd":
            changed.setdefault("momentum", 0.0)
        if optimizer != self.optimizer and optimizer in USUAL_RATES:
            changed.setdefault("learning_rate", USUAL_RATES[str(optimizer)])
        epochs = changed.get("epochs", self.epochs)
        too_short = isinstance(epochs, int) and epochs <= self.warmup_epochs
        if too_short or changed.get("schedule", self.schedule) != "cosine":
            changed.setdefault("warmup_epochs", 0)
        if changed.get("early_stopping"):
            changed.setdefault("weight_average", 0.0)
        if changed.get("teacher_files"):
            changed.setdefault("teacher", None)
        named = {"name": "custom", "purpose": "", **changed}
        return dataclasses.replace(self, **named)  # type: ignore[arg-type]  # checked by __post_init__


def _check(*checks: tuple[bool, str, object, str]) -> None:
    for holds, what, found, expected in checks:
        if not holds:
            raise UsageError(f"{what} is {found}, expected {expected}")


_NOTEBOOK = Recipe(
    name="notebook",
    purpose="plain SGD without regularization, as in the notebook that this grew from: it overfits",
    epochs=70,
    batch_size=32,
    optimizer="sgd",
    learning_rate=0.01,
)

# Chosen on the validation images.
_DEFAULT = Recipe(
    name="default",
    purpose="the best without a teacher, in about two minutes on two cores",
    epochs=80,
    batch_size=1024,
    optimizer="muon",
    learning_rate=0.05,
    schedule="cosine",
    warmup_epochs=2,
    weight_decay=0.1,
    batch_norm=True,
    standardize=True,
    flip=True,
    shift=1,
    precision="auto",
)

_BEST = dataclasses.replace(
    _DEFAULT,
    name="best",
    purpose="learns from two convolutional networks that are trained first: about half an hour on two cores",
    epochs=450,
    learning_rate=0.03,
    teacher=TeacherRecipe(),
)

RECIPES = {recipe.name: recipe for recipe in (_NOTEBOOK, _DEFAULT, _BEST)}
