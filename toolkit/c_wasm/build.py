"""Compiles model.c to WebAssembly with clang and lld, as Debian packs them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from toolkit.errors import MissingError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["INSTALL", "build_wasm", "c_name"]

INSTALL = "apt-get install clang lld"
"""The command that brings what is needed."""

_SOURCE = Path(__file__).parent / "source"
_TOOLS = ("clang", "wasm-ld")
_SECONDS = 300
_STACK = 8 << 20  # bytes, as Linux gives a program

_OPTIONS = (
    "--target=wasm32", "-std=c11", "-O3", "-ffreestanding", "-nostdlib", "-ffp-contract=off",
    "-DMODEL_RINT=__builtin_rintf", "-Wl,--no-entry", "-Wl,--strip-all",
)  # fmt: skip

_RUN = re.compile(r"void (\w+)_(logits|values)_in\(struct \w+ \*\w+, const (\w+) \*\w+, float \*\w+\);")
_LAYER = re.compile(r"uint8_t (input|hidden_\d+)\[\d+\];")


class _Names(NamedTuple):
    """What model.h calls things: beginning of all names, kind of answer, type of an input, members of the scratch."""

    name: str
    answer: str
    input_type: str
    layers: Sequence[str]


def build_wasm(
    code: str, header: str, name: str, folder: Path, *, simd: bool = True, classify: str | None = None
) -> bytes:
    """A model as a WebAssembly module.

    It imports nothing and exports ``memory``, ``run()`` and where to write and read: ``input()`` (``input_bytes()``
    long), ``output()`` (float32, ``outputs()`` of them), and ``layer(at)``: what hidden layer `at` gave, uint8. Both
    forms give the same bits.

    Args:
        code: text of model.c, as `toolkit.c_code` writes it.
        header: text of model.h.
        name: what every name in them begins with.
        folder: an empty one, for the compiler's files.
        simd: with the 128-bit vectors that browsers have since 2021 to 2023; without, it takes some seven times as
            long.
        classify: name of the model's function that says a label, which the module then exports as ``label()``, with
            room for that function's stack.

    Raises:
        MissingError: clang or lld is not installed.
        ModelError: these are no files of ours, or the compiler refuses them.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise MissingError(
            f"WebAssembly is compiled with clang and lld, and {' and '.join(missing)} is not installed; run: {INSTALL}"
        )
    names = _names(header)
    if names is None or names.name != name:
        raise ModelError(
            f"model.h declares {names.name if names else 'no function that runs a model'}, expected {name}_logits_in "
            "or _values_in; export again with --c"
        )
    (folder / "model.c").write_text(code, encoding="utf-8")
    (folder / "model.h").write_text(header, encoding="utf-8")
    upper = name.upper()
    defines = {
        "MODEL_SCRATCH": f"struct {name}_scratch",
        "MODEL_RUN": f"{name}_{names.answer}_in",
        "MODEL_INPUT_TYPE": names.input_type,
        "MODEL_INPUTS": f"{upper}_INPUTS",
        "MODEL_OUTPUTS": f"{upper}_OUTPUTS",
        "MODEL_LAYERS": ", ".join(f"scratch.{layer}" for layer in names.layers),
    }
    extra = ["-msimd128"] if simd else []
    if classify:
        defines["MODEL_CLASSIFY"] = classify
        extra.append(f"-Wl,-z,stack-size={_STACK}")
    made = folder / "model.wasm"
    command = ["clang", *_OPTIONS, *extra, f"-I{folder}", f"-I{_SOURCE}"]
    command += [f"-D{key}={value}" for key, value in defines.items()]
    _compile([*command, "-o", str(made), str(_SOURCE / "wrapper.c")])
    return made.read_bytes()


def c_name(header: str) -> str | None:
    """What every name in a model.h begins with; None where it is no file of ours."""
    names = _names(header)
    return names and names.name


def _names(header: str) -> _Names | None:
    found = _RUN.search(header)
    return found and _Names(found[1], found[2], found[3], _LAYER.findall(header))


def _compile(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"clang was not done with model.c within {_SECONDS} seconds; it may be too large") from error
    if done.returncode:
        lines = done.stderr.splitlines() or ["nothing"]
        line = next((line for line in lines if "error" in line), lines[0]).strip()
        raise ModelError(
            f"clang cannot compile model.c to WebAssembly: it says {line[:200]!r}; expected is Debian's clang 14 or a "
            f"newer one, with lld: {INSTALL}"
        )
