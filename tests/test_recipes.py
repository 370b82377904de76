"""Recipes as data: named, shown, changed field by field, stored with the artifact and trained again from there."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import toolkit
from toolkit.cli.option_values import seeds_from
from toolkit.errors import MissingError, UsageError
from toolkit.training.recipe_files import find_recipe, find_seed, recipe_from_json, recipe_to_json, set_fields
from toolkit.training.recipes import RECIPES, Recipe, TeacherRecipe

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = RECIPES["default"]
PLAIN = Recipe(name="plain", epochs=3, batch_size=256, optimizer="adamw", learning_rate=1e-3)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("optimizer", "rmsprop"),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("adam_learning_rate", 0.0),
        ("newton_schulz_steps", 0),
        ("momentum", 1.0),
        ("hidden", ()),
        ("hidden", (300, 0)),
        ("hidden", (20_000, 1)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("l2", -1.0),
        ("early_stopping", -1),
        ("schedule", "step"),
        ("warmup_epochs", 3),
        ("label_smoothing", 1.0),
        ("shift", 5),
        ("scale", 0.5),
        ("weight_average", 1.0),
        ("teacher_weight", 0.0),
        ("temperature", 0.0),
        ("quantization_aware", "int8"),
        ("quantization_epochs", 0),
        ("quantization_learning_rate", 0.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, value: object) -> None:
    with pytest.raises(UsageError, match="expected"):
        PLAIN.override(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("count", 0),
        ("width", 2),
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("weight_decay", -1.0),
        ("shift", 9),
        ("erase", 1.5),
        ("label_smoothing", 1.0),
        ("precision", "float8"),
    ],
)
def test_a_teachers_settings_are_checked_likewise(setting: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"teacher\.{setting} is .*, expected"):
        TeacherRecipe(**{setting: value})


def test_settings_that_would_do_nothing_together_are_refused() -> None:
    for settings, says in (
        ({"momentum": 0.9}, "only sgd"),
        ({"warmup_epochs": 1}, "choose cosine"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "choose adamw or muon"),
        ({"early_stopping": 2, "weight_average": 0.9}, "one epoch's weights"),
        ({"teacher": TeacherRecipe(), "scale": 0.1}, "shifted and flipped view"),
        ({"teacher": TeacherRecipe(), "teacher_files": ("a.keras",)}, "choose teachers to train, or files"),
    ):
        with pytest.raises(UsageError, match=says):
            Recipe(**{**vars(PLAIN), **settings})


def test_overriding_keeps_the_rest_and_drops_what_would_do_nothing() -> None:
    assert DEFAULT.override(epochs=None) is DEFAULT
    assert DEFAULT.override(epochs=DEFAULT.epochs) is DEFAULT
    changed = DEFAULT.override(optimizer="sgd", learning_rate=0.02)
    assert (changed.name, changed.weight_decay, changed.learning_rate) == ("custom", 0.0, 0.02)
    assert (changed.hidden, changed.batch_norm) == (DEFAULT.hidden, True)
    assert DEFAULT.override(optimizer="adam").learning_rate == 1e-3  # muon's rate would tear it apart
    assert DEFAULT.override(epochs=1).warmup_epochs == 0
    assert RECIPES["best"].override(teacher_files=("a.keras",)).teacher is None


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_comes_back_from_json(recipe: Recipe, tmp_path: Path) -> None:
    raw = json.loads(json.dumps(recipe_to_json(recipe)))
    assert recipe_from_json(raw, "here") == recipe
    (tmp_path / "recipe.json").write_text(json.dumps(raw))
    assert find_recipe(str(tmp_path / "recipe.json")) == recipe
    (tmp_path / "manifest.json").write_text(json.dumps({"training": {"recipe": raw}}))
    assert find_recipe(str(tmp_path)) == find_recipe(str(tmp_path / "manifest.json")) == recipe


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "has format 99, this version reads 1"),
        ({"format": None}, "has format None"),
        ({"learning_speed": 1}, "unknown field 'learning_speed'"),
        ({"epochs": "many"}, "epochs 'many', expected int"),
        ({"epochs": True}, "epochs True, expected int"),
        ({"hidden": [1.5]}, "hidden"),
        ({"hidden": 300}, "hidden 300"),
        ({"teacher": 3}, "teacher 3"),
        ({"teacher": {"cost": 1}}, "unknown field 'cost'"),
        ({"teacher_files": [1]}, "teacher_files"),
        ({"dropout": 2}, "dropout is 2"),
    ],
)
def test_a_recipe_file_with_something_wrong(change: dict[str, object], says: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**recipe_to_json(DEFAULT), **change}))
    finished = toolkit("train", "--recipe", path, "--show")
    assert finished.code == 2
    assert says in finished.error_line


def test_a_recipe_file_that_is_none(tmp_path: Path) -> None:
    for text, says in (
        ("{", "is no JSON"),
        ("[]", "expected an object"),
        ('{"training": null}', "was not trained here"),
        (json.dumps({k: v for k, v in recipe_to_json(DEFAULT).items() if k != "epochs"}), "has no epochs"),
    ):
        (tmp_path / "recipe.json").write_text(text)
        with pytest.raises(UsageError, match=says):
            find_recipe(str(tmp_path / "recipe.json"))
    with pytest.raises(MissingError, match="does not exist"):
        find_recipe(str(tmp_path / "other.json"))
    with pytest.raises(UsageError, match="expected one of notebook, default, best"):
        find_recipe("bets")


def test_single_fields_on_the_command_line() -> None:
    changed = set_fields(
        RECIPES["best"],
        ["epochs=7", "flip=no", "hidden=20,10", "temperature=3.5", "optimizer=adam", "teacher.epochs=2"],
    )
    assert (changed.epochs, changed.flip, changed.hidden, changed.temperature) == (7, False, (20, 10), 3.5)
    assert changed.teacher is not None
    assert (changed.optimizer, changed.teacher.epochs) == ("adam", 2)
    assert set_fields(RECIPES["best"], ["teacher=none"]).teacher is None
    assert set_fields(DEFAULT, ["teacher=default", "teacher.count=3"]).teacher == TeacherRecipe(count=3)
    assert set_fields(DEFAULT, ["teacher_files=a.keras,b.keras"]).teacher_files == ("a.keras", "b.keras")


def test_options_and_settings_are_one_change() -> None:
    """An optimizer's usual rate must not take the place of the rate that another option gives."""
    changed = set_fields(DEFAULT, ["optimizer=adam"], learning_rate=0.003, epochs=None)
    assert (changed.optimizer, changed.learning_rate, changed.epochs) == ("adam", 0.003, DEFAULT.epochs)
    assert set_fields(DEFAULT, ["learning_rate=0.003"], optimizer="adam").learning_rate == 0.003
    assert set_fields(DEFAULT, ["epochs=3"], epochs=4).epochs == 3
    assert set_fields(DEFAULT, ["teacher=default", "teacher=none"]).teacher is None
    with pytest.raises(UsageError, match="choose teachers to train, or files"):
        set_fields(DEFAULT, ["teacher=default"], teacher_files=("a.keras",))
    shown = toolkit("train", "--learning-rate", 0.003, "--set", "optimizer=adam", "--show", "--json")
    assert json.loads(shown.out)["learning_rate"] == 0.003


def test_a_manifest_brings_its_seed(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"training": {"recipe": recipe_to_json(PLAIN), "seed": 7}}))
    assert find_seed(str(tmp_path)) == 7
    assert seeds_from(None, 1, str(manifest)) == (7,)
    assert seeds_from(None, 2, str(manifest)) == (1, 2)
    assert seeds_from(3, 1, str(manifest)) == (3,)
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_to_json(PLAIN)))
    for name in ("best", str(tmp_path / "recipe.json")):
        assert seeds_from(None, 1, name) == (1,)
    for seed in ("7", -1, True):
        manifest.write_text(json.dumps({"training": {"recipe": recipe_to_json(PLAIN), "seed": seed}}))
        with pytest.raises(UsageError, match="give --seed"):
            find_seed(str(manifest))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("epochs", "expected FIELD=VALUE"),
        ("speed=1", "unknown field 'speed'"),
        ("name=x", "unknown field 'name'"),
        ("epochs=1.5", "expected a whole number"),
        ("dropout=much", "expected a number"),
        ("flip=maybe", "expected true or false"),
        ("hidden=a", "expected whole numbers with commas"),
        ("teacher.epochs=3", "trains no teacher"),
        ("teacher.speed=3", "unknown field 'teacher.speed'"),
        ("teacher=many", "expected none or default"),
        ("hidden=0", "expected layer sizes of 1 or more"),
        ("quantization_aware=int8", "expected one of none, int4"),
    ],
)
def test_single_fields_that_make_no_sense(setting: str, says: str) -> None:
    finished = toolkit("train", "--set", setting, "--show")
    assert finished.code == 2
    assert says in finished.error_line


def test_recipes_are_listed_and_shown() -> None:
    listed = toolkit("train", "--recipe", "list")
    assert listed.code == 0
    assert all(name in listed.out for name in RECIPES)
    assert json.loads(toolkit("train", "--recipe", "list", "--json").out)["best"] == json.loads(
        json.dumps(recipe_to_json(RECIPES["best"]))
    )
    assert toolkit("run", "--recipe", "list").out == listed.out
    shown = toolkit("train", "--recipe", "best", "--hidden", "20", "--show")
    assert shown.code == 0
    assert "teacher.epochs" in shown.out
    assert json.loads(toolkit("train", "--hidden", "20", "--show", "--json").out)["hidden"] == [20]


def test_a_teacher_that_is_missing(tmp_path: Path) -> None:
    finished = toolkit("train", "--teacher", tmp_path / "none.keras", "--output", tmp_path / "out")
    assert finished.code == 3
    assert "does not exist" in finished.error_line
    assert not (tmp_path / "out").exists()
