"""The sweep itself: trials asked for, trained and told, until the study has as many as were wanted."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import DivergedError, ModelError, UsageError
from toolkit.keras_model import import_keras
from toolkit.progress import silent_step
from toolkit.sweeping import trials
from toolkit.sweeping.liveness import beating, this_process
from toolkit.sweeping.report import SweepReport, recipe_with, report_of
from toolkit.sweeping.spaces import combinations
from toolkit.sweeping.storage import check_optuna, storage_errors
from toolkit.sweeping.study import STARTUP, open_study, plan_again, replace_dead
from toolkit.sweeping.teachers import Teachers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna import Study, Trial

    from toolkit.data import FashionMnist
    from toolkit.progress import Note, Step
    from toolkit.sweeping.spaces import Space
    from toolkit.training.history import Epoch
    from toolkit.training.recipes import Recipe

__all__ = ["Listener", "SweepSettings", "sweep"]

MOST_COMBINATIONS = 10_000  # up to so many, a sweep tries none twice and ends when all were tried
_IDLE = ("name", "purpose")  # fields of a recipe that change nothing
_STEPS = 20  # of a training whose number of epochs is searched


@dataclass(frozen=True)
class SweepSettings:
    """What to try, and where the study is.

    Attributes:
        recipe: what every trial begins from.
        spaces: what is searched, by field.
        storage: see `toolkit.sweeping.storage.open_storage`.
        folder: for teachers that trials share.
        name: of the study in its storage.
        trials: how many the study is to have in the end, of all processes together.
        timeout: seconds after which no trial is begun any more; None: no limit.
        seed: of every training, and of the suggestions.
    """

    recipe: Recipe
    spaces: dict[str, Space]
    storage: str
    folder: Path
    name: str = "sweep"
    trials: int = 30
    timeout: float | None = None
    seed: int = 1

    @property
    def steps(self) -> int:
        """How many accuracies a training reports at most: one an epoch, or one each twentieth of it."""
        return _STEPS if "epochs" in self.spaces and not self.spaces["epochs"].fixed else self._epochs

    @property
    def _epochs(self) -> int:
        return int(self.spaces["epochs"].choices[0]) if "epochs" in self.spaces else self.recipe.epochs


@dataclass(frozen=True)
class Listener:
    """What is told of a sweep while it runs.

    Attributes:
        on_epoch: takes a trial's number and each of its epochs, of teachers too.
        on_trial: takes the number of a trial that ended here, and the report as it is then.
        note: takes lines for people.
        step: is told of what is no epoch.
    """

    on_epoch: Callable[[int, Epoch], None]
    on_trial: Callable[[int, SweepReport], None]
    note: Note
    step: Step = silent_step


class _PrunedError(Exception):
    """Ends a training that others are better than."""


def sweep(settings: SweepSettings, data: FashionMnist, listener: Listener) -> SweepReport:
    """Try recipes until the study has as many trials as were wanted, or none is left to try.

    Every trial trains on the training images and is judged by the validation accuracy of the weights that would be
    saved; the test images are not looked at. Any number of processes may be at the same study. What was tried is in the
    storage at any moment; Ctrl-C gives the trial that runs back, to be tried again by whoever goes on.

    Args:
        settings: what to try.
        data: the images.
        listener: told of the progress.

    Raises:
        UsageError: the study was begun otherwise, or none of the first settings make sense together.
        MissingError: Optuna, Keras or a teacher's file is missing.
        CorruptArtifactError, StorageError: the storage is damaged, or cannot be used.
        ModelError: none of the first trials gave a model.
    """
    from toolkit.training.recipe_files import recipe_to_json

    check_optuna()
    import_keras()  # what is missing is said before a study is begun
    arrays = (data.train_images, data.train_labels, data.validation_images, data.validation_labels)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    identity = {
        "recipe": {field: value for field, value in recipe_to_json(settings.recipe).items() if field not in _IDLE},
        "search": {field: space.text for field, space in settings.spaces.items()},
        "seed": settings.seed,
        "images": digest,
    }
    own = _own(settings)
    study = open_study(settings.storage, settings.name, identity, settings.seed, settings.steps, own)
    run = _Run(study, settings, data, listener, Teachers(settings.folder, data, digest, settings.seed))
    with storage_errors(settings.storage), _quiet():
        run.until_enough()
        return run.report()


class _Run:
    """One process' part in a study."""

    def __init__(
        self, study: Study, settings: SweepSettings, data: FashionMnist, listener: Listener, teachers: Teachers
    ) -> None:
        self._study, self._settings, self._data = study, settings, data
        self._listener, self._teachers = listener, teachers
        self._combinations = combinations(settings.spaces, MOST_COMBINATIONS)

    def report(self) -> SweepReport:
        return report_of(self._study, self._settings, self._data.source, len(self._data.validation_images))

    def until_enough(self) -> None:
        begun = time.monotonic()
        timeout = self._settings.timeout
        replace_dead(self._study, self._listener.note)
        if there := self._others():
            self._listener.note(f"trials that are there already, done or begun by others: {there}")
        while True:
            self._check_sense()
            if self._others() >= self._settings.trials or (timeout is not None and time.monotonic() - begun >= timeout):
                return
            if self._combinations is not None and not self._untried():
                self._listener.note(f"all {len(self._combinations):,} combinations were tried")
                return
            trial = self._study.ask()
            if self._others(trial.number) >= self._settings.trials:  # another process asked at the same moment
                self._end(trial, "FAIL", "surplus")
                return
            self._run(trial)
            self._listener.on_trial(trial.number, self.report())
            replace_dead(self._study, self._listener.note)

    def _others(self, before: int | None = None) -> int:
        """How many trials are done or being done, but for one that is numbered so and those begun after it."""
        from optuna.trial import TrialState

        done = (TrialState.COMPLETE, TrialState.PRUNED)
        return sum(
            one.state in done or (one.state == TrialState.RUNNING and (before is None or one.number < before))
            for one in self._study.get_trials(deepcopy=False)
        )

    def _check_sense(self) -> None:
        """Raises UsageError or ModelError if trials were tried and all were invalid, or failed to give a model."""
        found = (trials.row_of(one, self._settings.spaces) for one in self._study.get_trials(deepcopy=False))
        rows = [row for row in found if row is not None and row.counted]
        hopeless = all(row.outcome in ("invalid", "failed") for row in rows)
        if not hopeless or len(rows) < min(STARTUP, self._settings.trials):
            return
        reason = f"none of the first {len(rows)} trials could be trained, the last as {rows[-1].reason}"
        if all(row.outcome == "failed" for row in rows):
            raise ModelError(f"{reason}; choose another recipe or --search, and another --name")
        raise UsageError(f"{reason}; give other spaces by --search, and another --name")

    def _tried(self, but: int | None = None) -> list[dict[str, str]]:
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        found = self._study.get_trials(deepcopy=False, states=states)
        return [trials.settings_of(one, self._settings.spaces) for one in found if one.number != but]

    def _untried(self, but: int | None = None) -> list[dict[str, str]]:
        tried = self._tried(but)
        return [one for one in self._combinations or [] if one not in tried]

    def _run(self, trial: Trial) -> None:
        """Try a trial; what hinders all is told to the study and raised."""
        import optuna

        told = _Told(trial, self._listener, self._settings.steps)
        try:
            self._try(trial, told)
        except optuna.exceptions.UpdateFinishedTrialError:
            self._listener.note(f"another process took trial {trial.number} for dead and gave it up")
        except BaseException as error:
            # Ctrl-C, or what would hinder the next trial too. Whoever goes on tries these settings again.
            reason = None if isinstance(error, KeyboardInterrupt) else str(error)
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                self._end(trial, "FAIL", "interrupted", told, reason)
                plan_again(self._study, self._study.get_trials(deepcopy=False)[trial.number])
            self._listener.on_trial(trial.number, self.report())
            raise

    def _try(self, trial: Trial, told: _Told) -> None:
        """Train one trial and tell the study what became of it."""
        trial.set_user_attr(trials.BEAT, time.time())
        trial.set_user_attr(trials.PROCESS, this_process())
        settings = {field: space.suggest(trial) for field, space in self._settings.spaces.items()}
        if self._combinations is not None and settings in self._tried(trial.number):
            self._plan_other(trial)
            return
        try:
            recipe = recipe_with(self._settings.recipe, settings)
        except UsageError as error:
            self._end(trial, "PRUNED", "invalid", reason=str(error))
            return
        trial.set_user_attr(trials.PARAMETERS, _parameters(recipe.hidden))
        try:
            with beating(lambda now: _beat(trial, now)):
                self._train(trial, recipe, told)
        except _PrunedError:
            self._end(trial, "PRUNED", "pruned", told, "its accuracy was below the median of the finished trials")
        except DivergedError as error:
            self._end(trial, "PRUNED", "diverged", told, str(error))
        except ModelError as error:
            self._end(trial, "PRUNED", "failed", told, str(error))

    def _train(self, trial: Trial, recipe: Recipe, told: _Told) -> None:
        from toolkit.training.fit import train

        seed = self._settings.seed
        with tempfile.TemporaryDirectory(prefix="toolkit-sweep-") as folder, _keras_session():
            taught = self._teachers.of(recipe, told.epoch, self._listener.step)
            result = train(recipe, self._data, seed, Path(folder), told.epoch, step=self._listener.step, taught=taught)
        trial.set_user_attr(trials.LOSS, result.validation_loss)
        self._end(trial, "COMPLETE", "finished", told, value=result.validation_accuracy)

    def _end(
        self,
        trial: Trial,
        state: str,
        outcome: str,
        told: _Told | None = None,
        reason: str | None = None,
        value: float | None = None,
    ) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr(trials.OUTCOME, outcome)
        if reason is not None:
            trial.set_user_attr(trials.REASON, reason)
        if told is not None:
            trial.set_user_attr(trials.EPOCHS, told.epochs)
        self._study.tell(trial, value, state=TrialState[state])

    def _plan_other(self, trial: Trial) -> None:
        """In place of settings that were tried, plan one of the combinations that were not."""
        self._end(trial, "FAIL", "repeated")
        if untried := self._untried():
            chosen = untried[np.random.default_rng([self._settings.seed, trial.number]).integers(len(untried))]
            spaces = self._settings.spaces
            self._study.enqueue_trial({f: spaces[f].param(text) for f, text in chosen.items() if not spaces[f].fixed})


class _Told:
    """Hears of a trial's epochs, reports their accuracies and ends the training where Optuna would."""

    def __init__(self, trial: Trial, listener: Listener, steps: int) -> None:
        self._trial, self._listener, self._steps = trial, listener, steps
        self._last = 0
        self.epochs = 0

    def epoch(self, epoch: Epoch) -> None:
        """Takes an epoch's figures.

        Raises:
            _PrunedError: others are better.
        """
        self._listener.on_epoch(self._trial.number, epoch)
        if epoch.network:
            return
        self.epochs = epoch.number
        step = epoch.number * self._steps // epoch.epochs
        # A loss that is no number ends the training without our doing.
        if step == self._last or not (math.isfinite(epoch.loss) and math.isfinite(epoch.validation_loss)):
            return
        self._last = step
        self._trial.report(epoch.validation_accuracy, step)
        if epoch.number < epoch.epochs and self._trial.should_prune():
            raise _PrunedError


def _own(settings: SweepSettings) -> dict[str, Any] | None:
    """The recipe's own values of what is searched, as Optuna's, which are tried first; None if not all may be tried.

    Fields that are given one value count as the recipe's own.
    """
    spaces = {field: space for field, space in settings.spaces.items() if not space.fixed}
    try:
        recipe = recipe_with(settings.recipe, {f: s.choices[0] for f, s in settings.spaces.items() if s.fixed})
        found = {field: space.holding(attrgetter(field)(recipe)) for field, space in spaces.items()}
    except (UsageError, AttributeError):  # of a teacher that there is not
        return None
    own = {field: spaces[field].param(text) for field, text in found.items() if text is not None}
    return own if len(own) == len(spaces) else None


def _beat(trial: Trial, now: float) -> None:
    import optuna

    with suppress(optuna.exceptions.OptunaError, OSError):  # the next one may get through
        trial.set_user_attr(trials.BEAT, now)


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back TensorFlow's warnings that functions are traced again and again, as each model's must be."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _keras_session() -> Iterator[None]:
    """A block in which Keras prints nothing, and after which it holds nothing of the models made there."""
    keras = import_keras()
    keras.config.disable_interactive_logging()  # else it tells stdout of a loss that is no number
    try:
        yield
    finally:
        keras.utils.clear_session()  # this sets the printing back too


def _parameters(hidden: tuple[int, ...]) -> int:
    """Weights and biases of the MLP that is saved."""
    sizes = [28 * 28, *hidden, 10]
    return sum((before + 1) * after for before, after in itertools.pairwise(sizes))
