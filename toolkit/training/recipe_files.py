"""Recipes as text: by name, from the manifest of a trained artifact, and one setting after another."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from toolkit.errors import MissingError, UsageError
from toolkit.training.recipes import RECIPES, Recipe, TeacherRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RECIPE_FORMAT", "find_recipe", "find_seed", "recipe_from_json", "recipe_to_json", "set_fields"]

RECIPE_FORMAT = 1


def find_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a file: a recipe's JSON, or the manifest of an artifact that was trained by one.

    Raises:
        UsageError: no recipe is called so, or the file holds none that this version knows.
        MissingError: there is no such file.
    """
    if name in RECIPES:
        return RECIPES[name]
    raw, path = _read(name)
    if isinstance(raw, dict) and "training" in raw:
        training = raw["training"]
        if not isinstance(training, dict) or "recipe" not in training:
            raise UsageError(f"{path} names no recipe: its model was not trained here; choose a recipe by name")
        raw = training["recipe"]
    return recipe_from_json(raw, str(path))


def find_seed(name: str) -> int | None:
    """The seed that the manifest of an artifact was trained with; None where the recipe comes from no manifest.

    Raises:
        UsageError, MissingError: as `find_recipe`, or the manifest's seed is none.
    """
    if name in RECIPES:
        return None
    raw, path = _read(name)
    training = raw.get("training") if isinstance(raw, dict) else None
    if not isinstance(training, dict) or "seed" not in training:
        return None
    seed = training["seed"]
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UsageError(f"{path} has seed {seed!r}, expected a whole number from 0 to {2**32 - 1}; give --seed")
    return seed


def _read(name: str) -> tuple[Any, Path]:
    """The JSON in a recipe's file, and where it is."""
    path = Path(name)
    if path.suffix != ".json" and not path.exists():
        raise UsageError(f"--recipe is {name!r}, expected one of {', '.join(RECIPES)}, list, or a manifest.json")
    if path.is_dir():
        path /= "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")), path
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist; give a manifest.json, or one of {', '.join(RECIPES)}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error}); give the manifest.json of a trained artifact") from error


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON values, with the version of this form."""
    return {"format": RECIPE_FORMAT, **dataclasses.asdict(recipe)}


def recipe_from_json(raw: object, where: str) -> Recipe:
    """The recipe that plain JSON values describe.

    Args:
        raw: as `recipe_to_json` gives it.
        where: how errors call the place.

    Raises:
        UsageError: another version, an unknown field, a missing one, or a value that makes no sense.
    """
    if not isinstance(raw, dict):
        raise UsageError(f"the recipe in {where} is {type(raw).__name__}, expected an object with its fields")
    fields = dict(raw)
    if (version := fields.pop("format", RECIPE_FORMAT)) != RECIPE_FORMAT:
        raise UsageError(
            f"the recipe in {where} has format {version!r}, this version reads {RECIPE_FORMAT}; train by a named "
            f"recipe ({', '.join(RECIPES)}), or with the toolkit version that wrote it"
        )
    if (teacher := fields.get("teacher")) is not None:
        if not isinstance(teacher, dict):
            raise UsageError(f"the recipe in {where} has teacher {teacher!r}, expected an object or null")
        fields["teacher"] = _made(TeacherRecipe, teacher, f"{where}, teacher")
    recipe: Recipe = _made(Recipe, fields, where)
    return recipe


def _made(kind: Any, fields: dict[str, Any], where: str) -> Any:
    known = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := [name for name in fields if name not in known]:
        raise UsageError(
            f"the recipe in {where} has the unknown field {unknown[0]!r}, expected some of {', '.join(known)}"
        )
    needed = [name for name, field in known.items() if field.default is dataclasses.MISSING and name not in fields]
    if needed:
        raise UsageError(f"the recipe in {where} has no {needed[0]}; add it")
    return kind(**{name: _typed(kind, name, value, where) for name, value in fields.items()})


def _typed(kind: Any, name: str, value: object, where: str) -> object:
    """A JSON value as its field's type."""
    wanted = get_type_hints(kind)[name]
    fits: bool
    if wanted == tuple[int, ...]:
        fits = isinstance(value, list | tuple) and all(type(part) is int for part in value)
        value = tuple(value) if isinstance(value, list) else value
    elif wanted == tuple[str, ...]:
        fits = isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)
        value = tuple(value) if isinstance(value, list) else value
    elif wanted is float:
        fits = type(value) in (int, float)
        value = float(value) if fits else value  # type: ignore[arg-type]  # it is a number
    elif wanted in (int, bool, str):
        fits = type(value) is wanted
    else:
        fits = value is None or isinstance(value, TeacherRecipe)
    if not fits:
        what = getattr(wanted, "__name__", str(wanted)) if wanted in (int, float, bool, str) else str(wanted)
        raise UsageError(f"the recipe in {where} has {name} {value!r}, expected {what}")
    return value


def set_fields(recipe: Recipe, settings: Sequence[str], **given: Any) -> Recipe:
    """A recipe with settings as a command line gives them: ``FIELD=VALUE``, of the teacher ``teacher.FIELD=VALUE``.

    ``teacher=none`` takes the teacher away, ``teacher=default`` adds the usual ones.

    Args:
        recipe: what is changed.
        settings: texts.
        **given: fields that options of their own gave, None where one did not; a setting of the same field wins. All
            are one change: what one of them brings along, such as an optimizer's usual rate, overrides none of them.

    Raises:
        UsageError: an unknown field, or a value that makes no sense.
    """
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    of_teacher: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise UsageError(f"--set is {setting!r}, expected FIELD=VALUE, such as epochs=20")
        if name == "teacher":
            if text not in ("none", "default"):
                raise UsageError(f"--set teacher is {text!r}, expected none or default (then teacher.FIELD=VALUE)")
            changed.pop("teacher", None)
            if text == "default":
                changed["teacher"] = TeacherRecipe()
            elif recipe.teacher is not None:
                recipe = dataclasses.replace(recipe, name="custom", purpose="", teacher=None)
            continue
        kind, where, field = (
            (TeacherRecipe, of_teacher, name.removeprefix("teacher."))
            if name.startswith("teacher.")
            else (Recipe, changed, name)
        )
        known = [entry.name for entry in dataclasses.fields(kind) if entry.name not in ("name", "purpose", "teacher")]
        if field not in known:
            raise UsageError(f"--set names the unknown field {name!r}, expected one of {', '.join(known)}")
        where[field] = _parsed(get_type_hints(kind)[field], name, text)
    if of_teacher:
        teacher = changed.get("teacher", recipe.teacher)
        if teacher is None:
            raise UsageError(f"--set teacher.{next(iter(of_teacher))} does nothing: {recipe.name} trains no teacher")
        changed["teacher"] = dataclasses.replace(teacher, **of_teacher)
    return recipe.override(**changed)


def _parsed(wanted: Any, name: str, text: str) -> object:
    try:
        if wanted is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if wanted in (int, float):
            return wanted(text)
        if wanted == tuple[int, ...]:
            return tuple(int(part) for part in text.split(","))
        if wanted == tuple[str, ...]:
            return tuple(part for part in text.split(",") if part)
    except (KeyError, ValueError) as error:
        kinds = {bool: "true or false", int: "a whole number", float: "a number"}
        expected = kinds.get(wanted, "whole numbers with commas")
        raise UsageError(f"--set {name} is {text!r}, expected {expected}") from error
    return text
