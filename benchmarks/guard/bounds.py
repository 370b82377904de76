"""The bounds file: what each figure may be, for which machine, and why; read, judged against, and written anew."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingError, UsageError
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "BELOW",
    "ENVIRONMENT",
    "FORMAT",
    "Bounds",
    "Figure",
    "Group",
    "Row",
    "judge",
    "load",
    "renewed",
    "save",
    "with_environment",
]

FORMAT = 1
ENVIRONMENT = ("machine", "python", "build", "numpy", "onnxruntime", "valgrind")
BELOW = 0.9
"""A figure below this share of its bound asks for a tighter one."""
LARGEST_MARGIN = 0.05  # more would come close to BELOW, and let too much pass


@dataclass(frozen=True)
class Figure:
    """One line of the file.

    Attributes:
        measured: what it was when the bound was set.
        bound: the most that it may be.
        margin: how far above the measured figure a new bound is set, as a share of it.
        reason: why it is that much, and what makes it grow.
    """

    measured: int
    bound: int
    margin: float
    reason: str


@dataclass(frozen=True)
class Group:
    """Figures that are counted together.

    Attributes:
        same: entries of the environment that must be those of the file for the figures to be judged.
        figures: by name.
    """

    same: tuple[str, ...]
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Bounds:
    """The whole file: its text, what its bounds were measured with, and the groups by name."""

    text: str
    environment: dict[str, str]
    groups: dict[str, Group]

    def differences(self, group: str, here: Mapping[str, str]) -> list[str]:
        """What is otherwise here than where a group's bounds come from, in phrases."""
        names = [name for name in self.groups[group].same if self.environment[name] != here[name]]
        return [f"{name} {here[name]}, not {self.environment[name]}" for name in names]


@dataclass(frozen=True)
class Row:
    """One figure held against its bound; `verdict` is "ok", "EXCEEDED", "TIGHTEN" or "not judged"."""

    group: str
    name: str
    measured: int
    bound: int
    verdict: str

    @property
    def passed(self) -> bool:
        """Nothing is to be done about it."""
        return self.verdict in {"ok", "not judged"}


def load(path: Path, groups: Mapping[str, object]) -> Bounds:
    """Read the file.

    Args:
        path: of it.
        groups: the groups that it must have.

    Raises:
        MissingError: there is no such file.
        UsageError: it is no bounds file, or has not what one must have.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist; give a file of bounds") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give a file of bounds") from error
    try:
        data = tomllib.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r}, expected {FORMAT}")
        environment = {name: str(data["environment"][name]) for name in ENVIRONMENT}
        found = {name: _group(name, data[name]) for name in groups}
        if unknown := data.keys() - groups.keys() - {"format", "environment"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} is no file of bounds ({reason}); see benchmarks/guard/bounds.toml") from error
    return Bounds(text, environment, found)


def _group(name: str, data: dict[str, Any]) -> Group:
    same = tuple(data["same"])
    if unknown := set(same) - set(ENVIRONMENT):
        raise ValueError(f"unknown in 'same' of {name}: {', '.join(sorted(unknown))}")
    figures = {}
    for key, entry in data["figures"].items():
        figure = Figure(entry["measured"], entry["bound"], entry.get("margin", data["margin"]), entry["reason"])
        if any(type(number) is not int or number < 0 for number in (figure.measured, figure.bound)):
            raise ValueError(f"{name}, {key}: expected whole numbers")
        if not 0 <= figure.margin <= LARGEST_MARGIN:
            raise ValueError(f"{name}, {key}: margin {figure.margin}, expected 0 to {LARGEST_MARGIN}")
        if not str(figure.reason).strip():
            raise ValueError(f"{name}, {key}: no reason")
        figures[key] = figure
    return Group(same, figures)


def judge(bounds: Bounds, group: str, counted: Mapping[str, int], here: Mapping[str, str]) -> list[Row]:
    """Hold a group's figures against the file.

    Args:
        bounds: the file.
        group: its name.
        counted: the figures by name.
        here: this environment, with the entries of `ENVIRONMENT`.

    Raises:
        UsageError: the file has other figures than were counted.
    """
    known = bounds.groups[group].figures
    if known.keys() != counted.keys():
        differ = ", ".join(sorted(known.keys() ^ counted.keys()))
        raise UsageError(f"the bounds of {group} are of other figures than were counted: {differ}; add or remove them")
    judged = not bounds.differences(group, here)
    return [
        Row(group, name, number, known[name].bound, _verdict(number, known[name].bound) if judged else "not judged")
        for name, number in counted.items()
    ]


def _verdict(number: int, bound: int) -> str:
    if number > bound:
        return "EXCEEDED"
    return "TIGHTEN" if number < BELOW * bound else "ok"


def renewed(text: str, name: str, group: Group, counted: Mapping[str, int]) -> str:
    """The file's text with a group's figures as they are now; reasons, comments and the order stay.

    Raises:
        UsageError: a figure is not written as this file writes it.
    """
    for key, number in counted.items():
        bound = number + math.ceil(number * group.figures[key].margin)
        head = re.escape(f'[{name}.figures."{key}"]')
        lines = rf"(^{head}\n)measured = [\d_]+\nbound = [\d_]+$"
        text, times = re.subn(lines, rf"\g<1>measured = {number:_}\nbound = {bound:_}", text, flags=re.MULTILINE)
        if times != 1:
            raise UsageError(f"'measured' and 'bound' do not follow the head of {name}, {key}; write them in by hand")
    return text


def with_environment(text: str, here: Mapping[str, str]) -> str:
    """The file's text with this environment in place of its own.

    Raises:
        UsageError: it is not written as this file writes it.
    """
    head, between, rest = text.partition("[environment]\n")
    for name in ENVIRONMENT:
        lines = rest.split("\n")
        found = [at for at, line in enumerate(lines) if line.startswith(f"{name} = ")]
        if not found:
            raise UsageError(f"no line '{name}' below [environment]; write it in by hand")
        lines[found[0]] = f'{name} = "{here[name]}"'
        rest = "\n".join(lines)
    return head + between + rest


def save(path: Path, text: str) -> None:
    """Write the file, whole or not at all."""
    write_atomic(path, text)
