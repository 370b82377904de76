"""What a sweep may try: for each searched field of the recipe a range or a choice, read from text.

A range is ``LOW..HIGH``, evenly, or ``log:LOW..HIGH``, evenly over the orders of magnitude; a choice is ``A|B|C``; a
single value is taken by every trial. Values are handled as the texts that ``--set FIELD=VALUE`` takes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Trial

    from toolkit.training.recipes import Recipe

__all__ = ["Space", "combinations", "default_spaces", "parse_spaces"]

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "sizes": "layer sizes of 1 or more with commas",
}
# Smaller networks than the notebook's, or as large: what is found may save the device something and costs it nothing.
_STRUCTURES = ("300,100", "200,100", "128,64", "300")


@dataclass(frozen=True)
class Space:
    """The values that one field may take: a choice, or a range.

    Attributes:
        field: of the recipe, such as "learning_rate" or "teacher.epochs".
        kind: of value: "int", "float", "bool", "text", "sizes" (of layers) or "names" (of files).
        choices: the values of a choice, as text; () for a range.
        low, high: the ends of a range, both within it.
        log: the range is searched evenly over its orders of magnitude.
    """

    field: str
    kind: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def text(self) -> str:
        """The space as the command line takes it; the same space always gives the same text."""
        if self.choices:
            return "|".join(self.choices)
        low, high = (f"{end:g}" if float(f"{end:g}") == end else repr(end) for end in (self.low, self.high))
        return f"{'log:' if self.log else ''}{low}..{high}"

    @property
    def fixed(self) -> bool:
        """Whether every trial takes the same value."""
        return len(self.choices) == 1

    @property
    def values(self) -> list[str] | None:
        """Every value, as text; None if there is no end of them."""
        if self.choices:
            return list(self.choices)
        return [str(v) for v in range(int(self.low), int(self.high) + 1)] if self.kind == "int" else None

    def suggest(self, trial: Trial) -> str:
        """The value that a trial of Optuna's is to take, as text."""
        if self.fixed:
            return self.choices[0]
        if self.choices:
            return str(trial.suggest_categorical(self.field, self.choices))
        if self.kind == "int":
            return str(trial.suggest_int(self.field, int(self.low), int(self.high), log=self.log))
        return self._rounded(trial.suggest_float(self.field, self.low, self.high, log=self.log))

    def chosen(self, params: Mapping[str, Any]) -> str | None:
        """The text of the value that Optuna recorded; None if a trial ended before it had one."""
        if self.fixed:
            return self.choices[0]
        if self.field not in params:
            return None
        value = params[self.field]
        return self._rounded(value) if self.kind == "float" and not self.choices else str(value)

    def param(self, text: str) -> Any:
        """The value that Optuna records for a text."""
        return self.value(text) if not self.choices else text

    def holding(self, value: object) -> str | None:
        """The text of a recipe's own value; None if it is not in this space."""
        if isinstance(value, bool | str):
            text = str(value).lower() if isinstance(value, bool) else value
        elif isinstance(value, int | float):
            text = repr(value)
            if not self.choices:
                return text if self.low <= value <= self.high else None
        elif isinstance(value, tuple):
            text = ",".join(map(str, value))
        else:
            text = "none" if value is None else "default"  # the teacher
        return text if text in self.choices else None

    def value(self, text: str) -> Any:
        """A text as a JSON value: a number, true or false, a list of layer sizes or files, or the text itself."""
        if self.kind in ("int", "float"):
            return int(text) if self.kind == "int" else float(text)
        if self.kind == "bool":
            return text == "true"
        if self.kind in ("sizes", "names"):
            parts = text.split(",")
            return [int(part) for part in parts] if self.kind == "sizes" else [part for part in parts if part]
        return text

    def _rounded(self, value: float) -> str:
        # Four digits say all that a trial can tell, and a person can type them.
        return repr(min(max(float(f"{value:.4g}"), self.low), self.high))


def parse_spaces(settings: Sequence[str]) -> dict[str, Space]:
    """The spaces by field, from ``FIELD=SPACE`` texts.

    Raises:
        UsageError: an unknown field, a field given twice, or a space that makes no sense for it.
    """
    spaces: dict[str, Space] = {}
    for setting in settings:
        field, separator, text = setting.partition("=")
        if not separator or not text:
            raise UsageError(
                f"--search is {setting!r}, expected FIELD=SPACE, such as learning_rate=log:0.001..0.1 or "
                "'hidden=300,100|200,50'"
            )
        if field in spaces:
            raise UsageError(f"--search gives {field} twice; give it one space")
        spaces[field] = _parsed(field, text)
    return spaces


def default_spaces(recipe: Recipe) -> dict[str, Space]:
    """What is searched where nothing is named: learning rate, structure, dropout and label smoothing."""
    rate = recipe.learning_rate
    structures = dict.fromkeys([",".join(map(str, recipe.hidden)), *_STRUCTURES])
    return parse_spaces(
        [
            f"learning_rate=log:{rate / 10:.4g}..{rate * 10:.4g}",
            f"hidden={'|'.join(structures)}",
            "dropout=0..0.5",
            "label_smoothing=0..0.2",
        ]
    )


def combinations(spaces: Mapping[str, Space], most: int) -> list[dict[str, str]] | None:
    """Every combination of values; None if there are more than so many."""
    values = [space.values for space in spaces.values()]
    finite = [found for found in values if found is not None]
    if len(finite) < len(values) or math.prod(map(len, finite)) > most:
        return None
    return [dict(zip(spaces, chosen, strict=True)) for chosen in itertools.product(*finite)]


def _parsed(field: str, text: str) -> Space:
    kind = _kind_of(field)
    numeric = kind in ("int", "float")
    low, dots, high = text.removeprefix("log:").partition("..")
    if text.startswith("log:") or (dots and kind != "names"):
        if not numeric or not dots:
            example = "log:0.001..0.1" if numeric else "A|B"
            raise UsageError(f"--search {field} is {text!r}, expected a space such as {example}")
        return _range(field, kind, low, high, log=text.startswith("log:"))
    choices = tuple(_choice(field, kind, part) for part in text.split("|"))
    if len(set(choices)) < len(choices):
        raise UsageError(f"--search {field} is {text!r}, which names a value twice; name each once")
    return Space(field, kind, choices)


def _kind_of(field: str) -> str:
    from toolkit.training.recipes import Recipe, TeacherRecipe

    # The recipe's name and purpose are no settings.
    hints = {name: hint for name, hint in get_type_hints(Recipe).items() if name not in ("name", "purpose")}
    hints |= {f"teacher.{name}": hint for name, hint in get_type_hints(TeacherRecipe).items()}
    if field not in hints:
        raise UsageError(f"--search names the unknown field {field!r}, expected one of {', '.join(hints)}")
    kinds = {int: "int", float: "float", bool: "bool", tuple[int, ...]: "sizes", tuple[str, ...]: "names"}
    return kinds.get(hints[field], "text")


def _range(field: str, kind: str, low: str, high: str, *, log: bool) -> Space:
    least, most = _number(field, kind, low), _number(field, kind, high)
    if not least < most:
        raise UsageError(f"--search {field} is {low}..{high}, expected the smaller end first")
    if log and least <= 0:
        raise UsageError(f"--search {field} is log:{low}..{high}, expected ends above 0: 0 has no order of magnitude")
    return Space(field, kind, low=least, high=most, log=log)


def _number(field: str, kind: str, text: str) -> float:
    try:
        value = int(text) if kind == "int" else float(text)
    except ValueError as error:
        raise UsageError(f"--search {field} has {text!r}, expected {_EXPECTED[kind]}") from error
    if not math.isfinite(value):
        raise UsageError(f"--search {field} has {text!r}, expected a finite number")
    return value


def _choice(field: str, kind: str, text: str) -> str:
    """A value's text in its usual form."""
    from toolkit.training.recipes import OPTIMIZERS, PRECISIONS, QUANTIZATIONS, SCHEDULES

    if kind in ("int", "float"):
        return repr(_number(field, kind, text))
    if kind == "bool" and text.lower() in ("true", "yes", "1", "false", "no", "0"):
        return "true" if text.lower() in ("true", "yes", "1") else "false"
    parts = [part.strip() for part in text.split(",")]
    if kind == "sizes" and all(part.isdecimal() and int(part) > 0 for part in parts):
        return ",".join(str(int(part)) for part in parts)
    if kind in _EXPECTED:
        raise UsageError(f"--search {field} has {text!r}, expected {_EXPECTED[kind]}")
    known = {
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "precision": PRECISIONS,
        "teacher.precision": PRECISIONS,
        "quantization_aware": QUANTIZATIONS,
        "teacher": ("none", "default"),
    }.get(field)
    if known is not None and text not in known:
        raise UsageError(f"--search {field} has {text!r}, expected some of {', '.join(known)}")
    return text
