"""Targets for tests of C code: skipped only where their tools are not installed, and in CI not even then."""

from __future__ import annotations

import dataclasses
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.c_chains import write_files
from tests.conftest import REFERENCE
from toolkit.artifact import C_FILES, load_manifest, sha256_of
from toolkit.c_targets.check import ready
from toolkit.c_targets.table import choose
from toolkit.errors import MissingError
from toolkit.manifest_records import FileRecord

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.c_targets.check import Ready
    from toolkit.c_targets.tools import Toolchain

__all__ = ["REQUIRED", "ready_or_skip", "reference_in_c", "rehashed", "tools_or_skip"]

REQUIRED = os.environ.get("TOOLKIT_REQUIRE_C_TARGETS") == "1"


def ready_or_skip(*names: str) -> list[Ready]:
    """Targets by name, with their tools."""
    try:
        return ready(choose(names))
    except MissingError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


def tools_or_skip(name: str) -> Toolchain:
    """The tools of one target."""
    ((_, tools),) = ready_or_skip(name)
    assert not isinstance(tools, str)
    return tools


def reference_in_c(folder: Path) -> Path:
    """A copy of the reference artifact with its model in C."""
    artifact = folder / "fashion-mnist"
    shutil.copytree(REFERENCE, artifact)
    write_files((artifact / "model.int8.onnx").read_bytes(), artifact, artifact.name)
    rehashed(artifact)
    return artifact


def rehashed(artifact: Path) -> None:
    """The manifest takes the C files as they are now."""
    manifest = load_manifest(artifact)
    records = {name: FileRecord("c", sha256_of(artifact / name), (artifact / name).stat().st_size) for name in C_FILES}
    dataclasses.replace(manifest, files={**manifest.files, **records}, c_targets=[]).write(artifact)
