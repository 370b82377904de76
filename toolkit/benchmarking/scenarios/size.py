"""Room on the disk: the model's file, and what has to be installed to run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.benchmarking.footprint import Installed, installed_size
from toolkit.benchmarking.host import distribution_of

__all__ = ["NAME", "Size", "look"]

NAME = "size"


@dataclass(frozen=True)
class Size:
    """Bytes on the disk; None is unknown.

    Attributes:
        file_bytes: of the model.
        installed: numpy, onnxruntime and what they need, each.
        installed_bytes: these together.
    """

    file_bytes: int
    installed: tuple[Installed, ...]
    installed_bytes: int | None


def look(path: str) -> Size:
    """The sizes that a model's file comes to."""
    installed = tuple(installed_size(name) for name in _needed(("numpy", "onnxruntime")))
    known = [entry.size_bytes for entry in installed if entry.size_bytes is not None]
    return Size(Path(path).stat().st_size, installed, sum(known) if len(known) == len(installed) else None)


def _needed(modules: tuple[str, ...]) -> list[str]:
    """The distributions of some modules and all that they ask for without extras, in this environment."""
    found, left = [], list(modules)
    while left:
        name = left.pop(0)
        if name in found:
            continue
        distribution = distribution_of(name)
        if distribution is None and name not in modules:
            continue  # asked for on another platform only
        found.append(name)
        for requirement in (distribution.requires or []) if distribution else []:
            asked, _, marker = requirement.partition(";")
            if "extra" not in marker:
                bare = "".join(c if c.isalnum() or c in "-_." else " " for c in asked).split()[0]
                left.append(bare)
    return found
