"""The training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.report.charts import Line, course_chart
from toolkit.report.history import RISE
from toolkit.report.markup import Child, Html, paragraph, tag
from toolkit.report.parts import Missing
from toolkit.report.sections.common import figure, section, without
from toolkit.report.words import epochs_of, percent
from toolkit.report.words import figure as number

if TYPE_CHECKING:
    from toolkit.manifest_records import TrainingRecord
    from toolkit.report.history import TrainingFacts
    from toolkit.report.report import Report

__all__ = ["pictures", "show"]


def show(report: Report) -> Html:
    """Courses of accuracy, loss and learning rate, and where the model begins to overfit."""
    record, facts = report.manifest.training, report.training
    said = None if record is None else paragraph(_record(record))
    if isinstance(facts, Missing):
        return section("training", "Training", said, without(facts))
    drawn = pictures(facts)
    figures = [figure(picture, _caption(name, facts)) for name, picture in drawn.items()]
    rate = None
    if "learning-rate" not in drawn:
        rate = paragraph(
            "The learning rate of each epoch was not written down"
            + (
                f"; the recipe begins with {record.recipe['learning_rate']:g} and follows the "
                f"schedule {record.recipe['schedule']}."
                if record and isinstance(record.recipe.get("learning_rate"), float) and "schedule" in record.recipe
                else "."
            )
        )
    return section("training", "Training", said, paragraph(_verdict(facts)), tag("div", figures, class_="charts"), rate)


def _record(record: TrainingRecord) -> str:
    name = record.recipe.get("name")
    recipe = f"Recipe {name}, seed {record.seed}" if name else f"Seed {record.seed}"
    return (
        f"{recipe}: {epochs_of(record)} in {record.seconds:,.0f} s on {record.data}. The saved weights reach "
        f"{percent(record.train_accuracy)} on the training images (a running average over the epoch, with whatever "
        f"the recipe does to images and neurons while it trains) and {percent(record.validation_accuracy)} on the "
        "validation images."
    )


def _verdict(facts: TrainingFacts) -> Child:
    least = facts.val_loss[facts.best_epoch - 1]
    said = f"The validation loss is least after epoch {facts.best_epoch}: {number(least)}. "
    if facts.finish:
        said = f"Of the {len(facts.epochs) - facts.finish} epochs before the weights were rounded: {said}"
    if facts.overfits_from is not None:
        return [
            said,
            tag("strong", "From there on the model overfits"),
            f": by the last epoch that loss rises by {percent(facts.rise, 1)}, while training goes on.",
        ]
    if facts.best_epoch == len(facts.epochs) - facts.finish:
        return f"{said}That is the last one, so the model does not overfit yet."
    return (
        f"{said}By the last epoch it lies {percent(facts.rise)} higher; below {RISE:.0%} that counts as noise, not "
        "as overfitting."
    )


def pictures(facts: TrainingFacts) -> dict[str, Html]:
    """The charts by name."""
    mark = None
    if facts.overfits_from is not None:
        mark = (facts.overfits_from, f"overfits from epoch {facts.overfits_from}")
    found = {}
    if any(value is not None for value in (*facts.accuracy, *facts.val_accuracy)):
        lines = [Line("training", facts.accuracy), Line("validation", facts.val_accuracy)]
        known = [line for line in lines if any(value is not None for value in line.values)]
        found["accuracy"] = course_chart("Accuracy over the epochs", known, text=lambda v: f"{100 * v:g}%", mark=mark)
    if any(value is not None for value in facts.loss):
        lines = [Line("training", facts.loss), Line("validation", facts.val_loss)]
        found["loss"] = course_chart("Loss over the epochs", lines, mark=mark)
    if any(value is not None for value in facts.learning_rate):
        line = Line("learning rate", facts.learning_rate)
        found["learning-rate"] = course_chart("Learning rate over the epochs", [line], from_zero=True)
    return found


def _caption(name: str, facts: TrainingFacts) -> str:
    if name == "learning-rate":
        return "Learning rate, as it was written down." if facts.recorded else "Learning rate: constant, by the recipe."
    return f"{name.capitalize()}, training against validation."
