"""Where an artifact comes from: records, versions, hashes, and the commands that make it again."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.artifact import ONNX
from toolkit.errors import ToolkitError
from toolkit.pipeline.again import export_options
from toolkit.report.parts import is_own, train_again

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.artifact import Manifest

__all__ = ["Provenance", "trace"]


@dataclass(frozen=True)
class Provenance:
    """Where the artifact comes from.

    Attributes:
        training: its record: recipe, seed, data and so on; empty where there is none.
        quantization: the recipe; empty where there is none.
        data: what it was calibrated and verified on; empty where that is not known.
        conversion: how the float32 file came to be; empty likewise.
        versions: of what made it.
        hashes: (sha256, size in bytes) of each file, by name.
        commands: that make it again, in order.
    """

    training: dict[str, Any]
    quantization: dict[str, Any]
    data: dict[str, Any]
    conversion: dict[str, Any]
    versions: dict[str, str]
    hashes: dict[str, tuple[str, int]]
    commands: tuple[str, ...]


def trace(folder: Path, manifest: Manifest, place: str, *, timed: bool) -> Provenance:
    """What the manifest says of the artifact's making.

    Args:
        folder: the artifact.
        manifest: of the artifact.
        place: how commands call it.
        timed: it has a benchmark.
    """
    return Provenance(
        training=_record(manifest.training),
        quantization=dict(manifest.quantization.recipe) if manifest.quantization else {},
        data=_record(manifest.data),
        conversion=_record(manifest.conversion),
        versions=dict(manifest.versions),
        hashes={name: (record.sha256, record.bytes) for name, record in manifest.files.items()},
        commands=tuple(_commands(folder, manifest, place, timed=timed)),
    )


def _record(found: Any) -> dict[str, Any]:
    return {} if found is None else dataclasses.asdict(found)


def _commands(folder: Path, manifest: Manifest, place: str, *, timed: bool) -> list[str]:
    found, test = [], None
    if is_own(manifest) and manifest.data is not None and not manifest.data.test.endswith("random rows"):
        test = manifest.data.test.partition(",")[0].removesuffix(" (the calibration rows)")
    if again := train_again(manifest, place):
        found.append(again)
    if ONNX in manifest.files:
        try:
            options = export_options(folder, manifest, test)
        except (ToolkitError, TypeError, KeyError):  # a recipe of another version
            options = []
        if manifest.quantization is None:
            options = [option for option in options if not option.startswith("--quantize")]
        found.append(" ".join([f"toolkit export {place}", *(shlex.quote(option) for option in options)]))
        rows = [] if test is None else [f"--test={shlex.quote(test)}"]
        if cpus := dict.fromkeys(row.cpu for rows_of in manifest.cpus.values() for row in rows_of):
            found.append(" ".join([f"toolkit verify {place}", *rows, *(f"--cpu {cpu}" for cpu in cpus)]))
        if manifest.c_targets:
            targets = (f"--c {row.target}" for row in manifest.c_targets)
            found.append(" ".join([f"toolkit verify {place}", *rows, *targets]))
    return found + ([f"toolkit bench {place}"] if timed else [])
