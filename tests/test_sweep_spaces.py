"""What a sweep may try, as people write it."""

from __future__ import annotations

import pytest

from tests.conftest import toolkit
from toolkit.errors import UsageError
from toolkit.sweeping.spaces import combinations, default_spaces, parse_spaces
from toolkit.training.recipe_files import set_fields
from toolkit.training.recipes import RECIPES


@pytest.mark.parametrize(
    ("given", "text", "values"),
    [
        ("learning_rate=0.001..0.1", "0.001..0.1", None),
        ("learning_rate=log:1e-3..1e-1", "log:0.001..0.1", None),
        ("learning_rate=0.1|1e-2", "0.1|0.01", [0.1, 0.01]),
        ("epochs=3..5", "3..5", [3, 4, 5]),
        ("batch_size=log:32..34", "log:32..34", [32, 33, 34]),
        ("epochs=20", "20", [20]),
        ("hidden=300,100|200, 50|100", "300,100|200,50|100", [[300, 100], [200, 50], [100]]),
        ("batch_norm=yes|False", "true|false", [True, False]),
        ("optimizer=sgd|muon", "sgd|muon", ["sgd", "muon"]),
        ("teacher=none|default", "none|default", ["none", "default"]),
        ("teacher.epochs=2|3", "2|3", [2, 3]),
        (
            "teacher_files=../a.keras,b.keras|c.keras",
            "../a.keras,b.keras|c.keras",
            [["../a.keras", "b.keras"], ["c.keras"]],
        ),
    ],
)
def test_spaces_are_read(given: str, text: str, values: list[object] | None) -> None:
    (space,) = parse_spaces([given]).values()
    assert space.text == text
    assert parse_spaces([f"{space.field}={space.text}"]) == {space.field: space}
    assert (None if space.values is None else [space.value(one) for one in space.values]) == values
    assert space.fixed == (values is not None and len(values) == 1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("learning_rate", "expected FIELD=SPACE"),
        ("learning_rate=", "expected FIELD=SPACE"),
        ("speed=1..2", "unknown field 'speed', expected one of hidden, epochs"),
        ("name=a|b", "unknown field 'name'"),
        ("teacher.speed=1", "unknown field 'teacher.speed'"),
        ("learning_rate=0.1..0.01", "expected the smaller end first"),
        ("learning_rate=0.1..0.1", "expected the smaller end first"),
        ("learning_rate=a..b", "has 'a', expected a number"),
        ("learning_rate=0..inf", "expected a finite number"),
        ("learning_rate=log:0..0.1", "0 has no order of magnitude"),
        ("learning_rate=log:0.1", "expected a space such as log:0.001..0.1"),
        ("learning_rate=0.1|0.10", "names a value twice"),
        ("learning_rate=fast|slow", "expected a number"),
        ("epochs=1.5..3", "expected a whole number"),
        ("epochs=1|", "expected a whole number"),
        ("hidden=100..300", "expected a space such as A|B"),
        ("hidden=300,x", "expected layer sizes of 1 or more"),
        ("hidden=300,0", "expected layer sizes of 1 or more"),
        ("flip=maybe", "expected true or false"),
        ("flip=0..1", "expected a space such as A|B"),
        ("optimizer=sgd|adm", "has 'adm', expected some of sgd, adam"),
        ("precision=foo", "has 'foo', expected some of auto, float32"),
        ("schedule=step", "expected some of constant"),
        ("teacher=many", "expected some of none, default"),
        ("quantization_aware=none|int8", "has 'int8', expected some of none, int4"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(given: str, says: str) -> None:
    with pytest.raises(UsageError, match="--search") as caught:
        parse_spaces([given])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_has_one_space() -> None:
    with pytest.raises(UsageError, match="gives epochs twice"):
        parse_spaces(["epochs=1|2", "epochs=3"])


def test_every_value_is_one_that_a_recipe_takes() -> None:
    spaces = parse_spaces(
        [
            "optimizer=sgd|adam|adamw|muon",
            "hidden=10|20,10",
            "flip=true|false",
            "shift=0..2",
            "l2=0.0|0.1",
            "teacher=none",
            "quantization_aware=none|int4",
        ]
    )
    found = combinations(spaces, 1000)
    assert found is not None
    assert len(found) == 4 * 2 * 2 * 3 * 2 * 2
    for settings in found:
        recipe = set_fields(RECIPES["default"], [f"{field}={text}" for field, text in settings.items()])
        for field, text in settings.items():
            value = getattr(recipe, field)
            expected = spaces[field].value(text)
            assert (list(value) if isinstance(value, tuple) else value) == (None if field == "teacher" else expected)
    assert combinations(spaces, 191) is None
    assert combinations(parse_spaces(["dropout=0..0.5", "flip=true|false"]), 1000) is None


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_searched_by_default_holds_the_recipe_itself(name: str) -> None:
    recipe = RECIPES[name]
    spaces = default_spaces(recipe)
    assert set(spaces) == {"learning_rate", "hidden", "dropout", "label_smoothing"}
    assert spaces["learning_rate"].log
    assert spaces["learning_rate"].low < recipe.learning_rate < spaces["learning_rate"].high
    assert spaces["hidden"].choices[0] == ",".join(map(str, recipe.hidden))
    assert combinations(spaces, 10**9) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--search", "speed=1"], "unknown field 'speed'"),
        (["--epochs", "2", "--search", "epochs=3"], "both given; drop one"),
        (["--epochs", "0"], "epochs is 0"),
        (["--timeout", "0"], "more than 0 minutes"),
        (["--trials", "0"], "--trials"),
        (["--recipe", "bets"], "expected one of notebook, default, best"),
        (["--plot", "sweep.pdf"], ".png or .svg"),
        (["--apply", "recipe.txt"], ".json"),
        (["--apply", "manifest.json"], "would replace a file of another kind"),
        (["--output", "README.md"], "is a file, expected a folder"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], says: str) -> None:
    finished = toolkit("sweep", *arguments)
    assert finished.code == 2
    assert says in finished.error_line
    assert finished.out == ""
