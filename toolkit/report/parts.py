"""What every part of a report has in common: it can be missing, and it becomes JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.errors import CorruptArtifactError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from toolkit.artifact import Manifest

__all__ = ["ASIDE", "Missing", "is_own", "not_exported", "not_quantized", "plain", "read_json", "train_again"]

ASIDE: Mapping[str, Any] = {"json": False}
"""Metadata of a field that ``--json`` leaves out: pictures, activations, graphs."""


@dataclass(frozen=True)
class Missing:
    """A part that the report does not have.

    Attributes:
        why: one sentence, or more.
        command: what adds it; empty where no command does.
    """

    why: str
    command: str = ""


def is_own(manifest: Manifest) -> bool:
    """It was exported with rows of a person's own, which commands must be given again."""
    return manifest.data is not None and not manifest.data.fashion_mnist


def not_exported(place: str) -> Missing:
    """What every part says that needs an exported file, so that it is told once.

    Args:
        place: how commands call the artifact.
    """
    return Missing("Nothing was exported yet.", f"toolkit export {place} --quantize")


def not_quantized(manifest: Manifest, place: str) -> Missing:
    """Likewise of a quantized file."""
    rows = " --calibration FILE --test FILE" if is_own(manifest) else ""
    return Missing("There is no quantized file.", f"toolkit export {place} --quantize{rows}")


def train_again(manifest: Manifest, place: str) -> str:
    """The command that trains an artifact's model again, by its recipe and seed; empty where these are not known.

    Args:
        manifest: of the artifact.
        place: how commands call it.
    """
    if manifest.training is None or not manifest.training.recipe:
        return ""
    return f"toolkit train --recipe {place}/manifest.json --seed {manifest.training.seed} --output {place}"


def plain(value: Any) -> Any:
    """Dataclasses, tuples and dicts as JSON values; what is missing as its reason and command."""
    if isinstance(value, Missing):
        return {"missing": value.why, "command": value.command}
    if dataclasses.is_dataclass(value):
        shown = [f for f in dataclasses.fields(value) if f.metadata.get("json", True)]
        return {f.name: plain(getattr(value, f.name)) for f in shown}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path, again: str) -> dict[str, Any] | None:
    """A report that a command left in the artifact, as plain values; None where there is none.

    Args:
        path: of the file.
        again: the command that writes it.

    Raises:
        CorruptArtifactError: it is damaged.
        UsageError: it cannot be read.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(
            f"{path} is damaged ({error}); remove it, or write it again with: {again}"
        ) from error
    if not isinstance(found, dict):
        raise CorruptArtifactError(
            f"{path} is damaged: it holds a {type(found).__name__}, expected an object; remove it, or write it again "
            f"with: {again}"
        )
    return found
