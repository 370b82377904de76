"""What tests of WebAssembly share: whether it can be made and run here, and the reference model made of it."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REFERENCE
from toolkit.c_code.reading import read_chain
from toolkit.c_code.source import write_source
from toolkit.c_wasm.build import build_wasm

if TYPE_CHECKING:
    from toolkit.c_code.chain import Chain

COMPILES = all(shutil.which(tool) for tool in ("clang", "wasm-ld"))
_REQUIRED = os.environ.get("TOOLKIT_REQUIRE_WASM") == "1"

needs_clang = pytest.mark.skipif(not COMPILES and not _REQUIRED, reason="clang or lld is not installed")
needs_node = pytest.mark.skipif(shutil.which("node") is None and not _REQUIRED, reason="node is not installed")


@functools.cache
def reference_chain() -> Chain:
    """The committed int8 model."""
    return read_chain((REFERENCE / "model.int8.onnx").read_bytes())


@functools.cache
def reference_wasm(*, simd: bool) -> bytes:
    """The same as a module, made once for all tests of a process."""
    return built(reference_chain(), simd=simd)


def built(chain: Chain, *, simd: bool) -> bytes:
    """Any chain as a module."""
    source = write_source(chain, "some model")
    with tempfile.TemporaryDirectory() as folder:
        return build_wasm(source.code, source.header, source.name, Path(folder), simd=simd)
