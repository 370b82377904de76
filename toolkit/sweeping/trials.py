"""What became of each trial, as Optuna recorded it, and their order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.trial import FrozenTrial

    from toolkit.sweeping.spaces import Space

__all__ = [
    "BEAT",
    "DEATHS",
    "EPOCHS",
    "INDEX",
    "LOSS",
    "OUTCOME",
    "OWN",
    "PARAMETERS",
    "PROCESS",
    "REASON",
    "RETRY_OF",
    "Row",
    "counts",
    "ranked",
    "row_of",
    "settings_of",
]

# What is recorded with a trial, besides its settings, accuracies and state.
PROCESS, BEAT = "process", "beat"
OUTCOME, REASON = "outcome", "reason"
EPOCHS, LOSS, PARAMETERS = "epochs_run", "validation_loss", "parameters"
RETRY_OF, INDEX, DEATHS = "retry_of", "index", "deaths"
OWN = "own"

# Those that are counted as tried.
_COUNTED = ("finished", "pruned", "diverged", "failed", "invalid")
# Neither tried nor to be shown: their settings were tried by another trial.
_HIDDEN = ("surplus", "repeated")


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: from 0, as Optuna counts.
        outcome: "finished"; "pruned" (stopped, as it was worse than others); "diverged"; "failed" (to give a model);
            "invalid" (its settings make no sense together); "interrupted" or "died" (its settings were given to another
            trial); "running".
        settings: the searched fields, as text; fewer if it ended before it had all.
        validation_accuracy: of the weights that would be saved, 0 to 1; None unless it finished.
        validation_loss: likewise.
        last_accuracy: on the validation images after the last epoch that was recorded; None if there was none.
        accuracies: the same after each epoch, by epoch; by twentieths of the training if epochs are searched.
        epochs_run: how many epochs were trained.
        parameters: of the network; None if its settings make no sense.
        seconds: wall time; None if it has not ended.
        host: the machine's name.
        reason: why it did not finish.
        own: its settings are the recipe's own.
    """

    number: int
    outcome: str
    settings: dict[str, str]
    validation_accuracy: float | None
    validation_loss: float | None
    last_accuracy: float | None
    accuracies: dict[int, float]
    epochs_run: int
    parameters: int | None
    seconds: float | None
    host: str
    reason: str | None
    own: bool

    @property
    def counted(self) -> bool:
        """Whether it is one of the trials that were asked for."""
        return self.outcome in _COUNTED


def settings_of(trial: FrozenTrial, spaces: Mapping[str, Space]) -> dict[str, str]:
    """A trial's settings by field, as text."""
    found = {field: space.chosen(trial.params) for field, space in spaces.items()}
    return {field: text for field, text in found.items() if text is not None}


def row_of(trial: FrozenTrial, spaces: Mapping[str, Space]) -> Row | None:
    """What became of a trial; None of one that is only planned, or whose settings another trial has."""
    from optuna.trial import TrialState

    said = trial.user_attrs
    outcome = {
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: said.get(OUTCOME, "pruned"),
        TrialState.FAIL: said.get(OUTCOME, "died"),  # it could not say so itself
    }.get(trial.state)
    if outcome is None or outcome in _HIDDEN:
        return None
    steps = trial.intermediate_values
    return Row(
        trial.number,
        outcome,
        settings_of(trial, spaces),
        trial.value if outcome == "finished" else None,
        said.get(LOSS),
        steps[max(steps)] if steps else None,
        dict(sorted(steps.items())),
        said.get(EPOCHS, 0),
        said.get(PARAMETERS),
        trial.duration.total_seconds() if trial.duration is not None else None,
        said.get(PROCESS, {}).get("host", ""),
        said.get(REASON),
        said.get(OWN, False),
    )


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The best first: finished ones by accuracy, then loss, then the others by how far they came."""

    def key(row: Row) -> tuple[Any, ...]:
        finished = row.validation_accuracy is not None
        loss = row.validation_loss if row.validation_loss is not None else math.inf
        return not finished, -(row.validation_accuracy or row.last_accuracy or 0.0), loss, row.number

    return sorted(rows, key=key)


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many trials ended how, in the order of the outcomes."""
    order = (*_COUNTED, "interrupted", "died", "running")
    found = {outcome: sum(row.outcome == outcome for row in rows) for outcome in order}
    return {outcome: count for outcome, count in found.items() if count}
