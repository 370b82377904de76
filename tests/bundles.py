"""Bundles for tests: made by the installed command, changed on purpose, and asked in processes of their own."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.conftest import REFERENCE, toolkit
from toolkit.bundle import sums

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODEL = "model.int8.onnx"


def make_bundle(folder: Path, *options: object) -> Path:
    """The reference artifact's bundle."""
    done = toolkit("bundle", REFERENCE, "-o", folder, *options)
    assert done.code == 0, done.err
    return folder


def changed(bundle: Path, folder: Path, **files: bytes) -> Path:
    """A copy with other files (their names with _ for .) and hashes that fit them: damage that no hash shows."""
    shutil.copytree(bundle, folder)
    for name, data in files.items():
        (folder / name.replace("__", "/").replace("_", ".")).write_bytes(data)
    content = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    (folder / "SHA256SUMS").write_bytes(sums.write(content))
    return folder


def with_manifest(bundle: Path, folder: Path, **section: Any) -> Path:
    """A copy whose manifest says something else in its section on the bundle."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["bundle"] |= section
    return changed(bundle, folder, manifest_json=json.dumps(manifest).encode())


def with_golden(bundle: Path, folder: Path, arrays: Mapping[str, Any]) -> Path:
    """A copy with some other golden arrays."""
    with np.load(bundle / "golden.npz") as stored:
        golden = {name: stored[name] for name in stored.files}
    written = io.BytesIO()
    np.savez(written, **{**golden, **arrays})
    return changed(bundle, folder, golden_npz=written.getvalue())


def selftest(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python predictor.py --selftest`` there, without the toolkit on its path."""
    command = [sys.executable, "predictor.py", "--selftest", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
