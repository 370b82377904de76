"""Recipes and what several seeds came to, for people."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

from toolkit.cli.console import print_json, print_table

if TYPE_CHECKING:
    from toolkit.manifest_records import TrainingRecord
    from toolkit.training.recipes import Recipe

__all__ = ["print_recipe", "print_recipes", "spread"]


def print_recipes(*, as_json: bool) -> None:
    """The named recipes, with what each is for."""
    from toolkit.training.recipe_files import recipe_to_json
    from toolkit.training.recipes import RECIPES

    if as_json:
        print_json({name: recipe_to_json(recipe) for name, recipe in RECIPES.items()})
        return
    print_table("Recipes", ["recipe", "epochs", "optimizer", "what for"], _rows(RECIPES))


def _rows(recipes: dict[str, Recipe]) -> list[list[str]]:
    return [[name, str(recipe.epochs), recipe.optimizer, recipe.purpose] for name, recipe in recipes.items()]


def print_recipe(recipe: Recipe, *, as_json: bool) -> None:
    """A recipe with all its settings, as ``--set`` calls them."""
    from toolkit.training.recipe_files import recipe_to_json

    if as_json:
        print_json(recipe_to_json(recipe))
        return
    fields = dataclasses.asdict(recipe)
    teacher = fields.pop("teacher")
    rows = [[name, _value(value)] for name, value in fields.items() if name not in ("name", "purpose")]
    rows += [["teacher", "none"]] if teacher is None else [[f"teacher.{k}", _value(v)] for k, v in teacher.items()]
    print_table(f"Recipe {recipe.name}", ["field", "value"], rows)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def spread(record: TrainingRecord) -> str:
    """What several seeds came to, in a line."""
    found = [one.validation_accuracy for one in record.seeds]
    return (
        f"{len(found)} seeds: validation accuracy {statistics.mean(found):.2%} on average, {min(found):.2%} to "
        f"{max(found):.2%}, standard deviation {100 * statistics.stdev(found):.2f} points"
    )
