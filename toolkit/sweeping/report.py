"""What a sweep found: sweep.json is this."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from toolkit.artifact import versions
from toolkit.sweeping.storage import shown
from toolkit.sweeping.trials import counts, ranked, row_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from toolkit.sweeping.spaces import Space
    from toolkit.sweeping.sweep import SweepSettings
    from toolkit.sweeping.trials import Row
    from toolkit.training.recipes import Recipe

__all__ = ["SweepReport", "recipe_with", "report_of"]

FORMAT = 1
ENOUGH_FOR_IMPORTANCES = 10  # finished trials


@dataclass(frozen=True)
class SweepReport:
    """Every trial of a study, whichever process ran it.

    Attributes:
        study: its name.
        storage: where it is kept, without a password.
        recipe: what every trial began from.
        spaces: what was searched, by field.
        seed: of the training and of the suggestions.
        wanted: how many trials were asked for.
        data: the images, in a phrase.
        validation_images: how many images the accuracies are of.
        created: when this was written, ISO 8601 in UTC.
        versions: of what computed it here.
        trials: the best first.
        importances: each searched field's share in what set the better trials apart (PED-ANOVA), summing to 1; None
            before ten trials finished, or if fewer than two fields are searched.
    """

    study: str
    storage: str
    recipe: Recipe
    spaces: Mapping[str, Space]
    seed: int
    wanted: int
    data: str
    validation_images: int
    created: str
    versions: dict[str, str]
    trials: list[Row]
    importances: dict[str, float] | None

    @property
    def best(self) -> Row | None:
        """The best of the finished trials."""
        return self.trials[0] if self.trials and self.trials[0].outcome == "finished" else None

    @property
    def searched(self) -> list[str]:
        """The fields of which more than one value is tried."""
        return [field for field, space in self.spaces.items() if not space.fixed]

    @property
    def counted(self) -> int:
        """How many trials were tried."""
        return sum(row.counted for row in self.trials)

    @property
    def standard_error(self) -> float:
        """Of the best accuracy, as a share of so many images: smaller differences say little."""
        accuracy = self.best.validation_accuracy if self.best else None
        return math.sqrt(accuracy * (1 - accuracy) / self.validation_images) if accuracy else 0.0

    def recipe_of(self, row: Row) -> Recipe:
        """The recipe that a trial was trained by; `toolkit train` with the same seed gives the same weights.

        Raises:
            UsageError: its settings make no sense together.
        """
        return recipe_with(self.recipe, row.settings)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values; settings as numbers, truth values, lists and texts."""
        from toolkit.training.recipe_files import recipe_to_json

        return {
            "format": FORMAT,
            "study": self.study,
            "storage": self.storage,
            "recipe": recipe_to_json(self.recipe),
            "search": {field: space.text for field, space in self.spaces.items()},
            "seed": self.seed,
            "wanted": self.wanted,
            "data": self.data,
            "validation_images": self.validation_images,
            "created": self.created,
            "versions": self.versions,
            "counts": counts(self.trials),
            "best": self.best.number if self.best else None,
            "best_recipe": recipe_to_json(self.recipe_of(self.best)) if self.best else None,
            "standard_error": self.standard_error,
            "importances": self.importances,
            "trials": [
                dataclasses.asdict(row)
                | {"settings": {field: self.spaces[field].value(text) for field, text in row.settings.items()}}
                for row in self.trials
            ],
        }


def recipe_with(recipe: Recipe, settings: Mapping[str, str]) -> Recipe:
    """A recipe with a trial's settings.

    Raises:
        UsageError: they make no sense together.
    """
    from toolkit.training.recipe_files import set_fields

    return set_fields(recipe, [f"{field}={text}" for field, text in settings.items()])


def report_of(study: Study, settings: SweepSettings, data: str, validation_images: int) -> SweepReport:
    """The report of a study as it is now."""
    rows = [row for trial in study.get_trials(deepcopy=False) if (row := row_of(trial, settings.spaces)) is not None]
    return SweepReport(
        settings.name,
        shown(settings.storage),
        settings.recipe,
        settings.spaces,
        settings.seed,
        settings.trials,
        data,
        validation_images,
        datetime.now(UTC).isoformat(timespec="seconds"),
        versions(),
        ranked(rows),
        _importances(study, settings.spaces, sum(row.outcome == "finished" for row in rows)),
    )


def _importances(study: Study, spaces: Mapping[str, Space], finished: int) -> dict[str, float] | None:
    if finished < ENOUGH_FOR_IMPORTANCES or sum(not space.fixed for space in spaces.values()) < 2:
        return None
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # The other evaluators need scikit-learn. At least five trials should be among those that are held against all.
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(0.1, 5 / finished))
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {field: float(share) for field, share in found.items()}
