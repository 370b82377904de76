"""The best settings of the runtime on this machine, kept with the artifact."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError
from toolkit.predictor import SUMS_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.benchmarking.report import BenchReport

__all__ = ["SETTINGS_NAME", "default_place", "settings_text"]

SETTINGS_NAME = "settings.json"
_FORMAT = 1


def default_place(path: Path, name: str) -> Path:
    """Where a report of a model goes: in an artifact's folder; beside a bundle, to which nothing is added, or a file.

    Args:
        path: of the artifact, bundle or file.
        name: of the report in an artifact; else NAME.name.
    """
    if not path.is_dir():
        return path.with_name(f"{path.stem}.{name}")
    if not (path / SUMS_NAME).exists():
        return path / name
    folder = path.resolve()
    return folder.with_name(f"{folder.name}.{name}")


def settings_text(report: BenchReport) -> str:
    """The content of settings.json: of the file that a predictor opens by default.

    Raises:
        ToolkitError: the sweep of that file was not whole.
    """
    file = report.files[0]
    sweep = file.scenarios.sweep
    if sweep is None or file.failed is not None:
        raise ToolkitError(f"the settings of {file.name} were not measured, so none are saved; measure again")
    host = report.host
    value: dict[str, Any] = {
        "format": _FORMAT,
        **sweep.best._asdict(),
        "file": file.name,
        "sha256": file.sha256,
        "gain": {
            "row": sweep.row_gain.to_json() if sweep.row_gain else None,
            "batch": sweep.batch_gain.to_json() if sweep.batch_gain else None,
        },
        "noisy": report.noise.noisy,
        "host": {
            "cpu_model": host.cpu_model,
            "board": host.board,
            "architecture": host.architecture,
            "cores": host.usable_cores,
            "onnxruntime": host.onnxruntime,
        },
    }
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
