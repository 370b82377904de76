"""A benchmark in a process of its own, for callers whose own memory and threads would be in the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["time_artifact"]


def time_artifact(folder: Path) -> dict[str, Any]:
    """A quick benchmark of an artifact in a fresh process, as on a device: no training library in its memory.

    Returns:
        The report without its samples (bench.json in the folder has them all).

    Raises:
        ToolkitError: the benchmark failed.
    """
    command = [sys.executable, "-m", "toolkit", "bench", str(folder), "--quick", "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if finished.returncode == 130:
        raise KeyboardInterrupt
    if finished.returncode != 0:
        failure = ToolkitError(
            f"the benchmark ended with exit code {finished.returncode} (see above); the artifact in {folder} is "
            f"published and whole, try: toolkit bench {folder}"
        )
        failure.exit_code = finished.returncode if finished.returncode > 0 else 1
        raise failure
    return dict(json.loads(finished.stdout))
