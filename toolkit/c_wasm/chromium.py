"""A WebAssembly model over many rows, in Chromium without a window."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.c_wasm.node import Answered, answered
from toolkit.errors import InputError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["run_in_chromium"]

_SOURCE = Path(__file__).parent / "source"
_SECONDS = 300
_FLAGS = ("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom")


def run_in_chromium(chromium: str, wasm: bytes, rows: NDArray[Any], outputs: int) -> Answered:
    """What a module of `toolkit.c_wasm.build` answers in Chromium.

    Args:
        chromium: path of the program.
        wasm: the module.
        rows: (n, ...), of the dtype that the model takes.
        outputs: values in one answer.

    Raises:
        InputError: the module takes rows of another size, or gives another number of values.
        ModelError: it cannot be run.
    """
    given = {
        "wasm": base64.b64encode(wasm).decode("ascii"),
        "rows": base64.b64encode(rows.tobytes()).decode("ascii"),
        "rowBytes": rows.itemsize * math.prod(rows.shape[1:]),
        "outputs": outputs,
    }
    scripts = ((_SOURCE / name).read_text(encoding="utf-8") for name in ("answers.js", "page.js"))
    parts = "".join(f"<script>{script}</script>" for script in (f"const GIVEN = {json.dumps(given)};", *scripts))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # its children end after it
        page = Path(folder) / "page.html"
        page.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{parts}', encoding="utf-8")
        command = [chromium, *_FLAGS, f"--user-data-dir={folder}/profile"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # it refuses root otherwise; the page is ours
        try:
            done = subprocess.run(
                [*command, page.as_uri()], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelError(f"{chromium} cannot be run here ({error}); install it again") from error
    body = re.search(r"<body>(.*)</body>", done.stdout.decode("utf-8", "replace"), re.DOTALL)
    said = body[1].strip() if body else ""
    if said.startswith("RangeError: the module"):
        raise InputError(said.removeprefix("RangeError: "))
    try:
        return answered(base64.b64decode(said, validate=True), len(rows), outputs)
    except ValueError as error:
        raise ModelError(
            f"{chromium} cannot run the WebAssembly module: it says {said[:200] or 'nothing'!r}; build it again"
        ) from error
