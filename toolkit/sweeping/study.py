"""The study: begun or joined, with Optuna's sampler and pruner; trials whose process ended are given to others."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UsageError
from toolkit.sweeping.liveness import GRACE, is_alive
from toolkit.sweeping.storage import open_storage, shown, storage_errors
from toolkit.sweeping.trials import BEAT, DEATHS, INDEX, OUTCOME, OWN, PROCESS, RETRY_OF

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from toolkit.progress import Note

__all__ = ["STARTUP", "index_of", "open_study", "plan_again", "replace_dead"]

STARTUP = 5  # trials that run to their end before others are held against them
_IDENTITY = "toolkit sweep"
_MOST_DEATHS = 2  # settings that end the process twice are not tried a third time


def open_study(
    where: str, name: str, identity: dict[str, Any], seed: int, steps: int, first: dict[str, Any] | None = None
) -> Study:
    """A study in a storage, begun or joined.

    Suggestions are Optuna's TPE, pruning is its MedianPruner: a trial stops if its best accuracy so far is below the
    median of what finished trials had at the same step. Nothing is pruned before five trials finished, nor in the first
    quarter of a training (rounded up), when the learning rate has not yet come down.

    Args:
        where: see `toolkit.sweeping.storage.open_storage`.
        name: of the study in it.
        identity: what all who share the study must have in common, as JSON values.
        seed: of the suggestions.
        steps: how many accuracies a training reports at most.
        first: what a study that is begun tries first, as Optuna's values.

    Raises:
        UsageError: a study of this name was begun otherwise.
        As `open_storage`.
    """
    import optuna

    storage = open_storage(where)
    with storage_errors(where):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=_sampler(seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=-(-steps // 4)),
        )
        earlier = study.user_attrs.get(_IDENTITY)
        if earlier is None:
            if study.get_trials(deepcopy=False):
                raise UsageError(f"the study {name!r} in {shown(where)} is not toolkit sweep's; give another --name")
            study.set_user_attr(_IDENTITY, identity)
            if first is not None:
                study.enqueue_trial(first, user_attrs={OWN: True}, skip_if_exists=True)
            earlier = study.user_attrs[_IDENTITY]
    # As JSON gives it back: tuples are lists there.
    if changed := _difference(earlier, json.loads(json.dumps(identity))):
        raise UsageError(
            f"the study {name!r} in {shown(where)} was begun with {changed}; give the same settings to go on with it, "
            "or another --name"
        )
    return study


def replace_dead(study: Study, note: Note) -> None:
    """Give up trials whose process ended without a word, and plan their settings again, once.

    They are not counted as tried. On this machine a process is looked up, on others it is taken for dead after ten
    minutes without a sign of life.
    """
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        said = trial.user_attrs
        if PROCESS in said:
            alive = is_alive(said[PROCESS], said.get(BEAT, 0.0), time.time())
        else:  # its process was ended between asking for it and signing it, or is about to sign
            begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            alive = time.time() - begun < GRACE
        if alive:
            continue
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):  # another process was quicker
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            deaths = said.get(DEATHS, 0) + 1
            again = deaths < _MOST_DEATHS
            note(
                f"trial {trial.number} was not finished: its process ended; its settings "
                f"{'are tried again' if again else 'ended a process twice and are left out'}"
            )
            if again:
                plan_again(study, trial, deaths)


def plan_again(study: Study, trial: FrozenTrial, deaths: int | None = None) -> None:
    """Plan a trial with the settings of one that could not finish.

    Args:
        study: the study.
        trial: the one that could not.
        deaths: how often these settings ended a process; None: as often as was known of the trial.
    """
    said = trial.user_attrs
    attributes = {
        RETRY_OF: trial.number,
        INDEX: index_of(study, trial),
        DEATHS: said.get(DEATHS, 0) if deaths is None else deaths,
        OWN: said.get(OWN, False),
    }
    study.enqueue_trial(trial.params, user_attrs=attributes)


def index_of(study: Study, trial: FrozenTrial) -> int:
    """A trial's place among those that are no repetition of another; a repetition has the other's."""
    if INDEX in trial.user_attrs:
        return int(trial.user_attrs[INDEX])
    earlier = study.get_trials(deepcopy=False)[: trial.number]
    extra: int = sum(RETRY_OF in one.user_attrs or one.user_attrs.get(OUTCOME) == "repeated" for one in earlier)
    return trial.number - extra


def _sampler(seed: int) -> BaseSampler:
    """TPE whose random numbers follow from the seed and the trial's place alone.

    So processes that share a study suggest different settings, and a study that was interrupted and goes on suggests
    what it would have suggested.
    """
    import optuna

    class SeededSampler(optuna.samplers.BaseSampler):
        def __init__(self) -> None:
            self._tpe = optuna.samplers.TPESampler(seed=seed)

        def before_trial(self, study: Study, trial: FrozenTrial) -> None:
            numbers = np.random.SeedSequence([seed, index_of(study, trial)]).generate_state(1)
            self._tpe = optuna.samplers.TPESampler(seed=int(numbers[0]))
            self._tpe.before_trial(study, trial)

        def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
            return self._tpe.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
            return self._tpe.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
            return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    return SeededSampler()


def _difference(earlier: Any, now: Any) -> str | None:
    """The first setting that is another, in words."""
    before, after = _leaves(earlier), _leaves(now)
    for name in {**before, **after}:
        if before.get(name, "nothing") != after.get(name, "nothing"):
            return f"{name} {before.get(name, 'nothing')!r}, and this asks for {after.get(name, 'nothing')!r}"
    return None


def _leaves(value: Any, within: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {within: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _leaves(part, f"{within}.{name}" if within else name)
    return found
