"""The names of a bundle's files, and what each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.artifact import C_FILES, GOLDEN, KINDS, MANIFEST_NAME, ORT_FILES, QUANTIZED
from toolkit.native import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

__all__ = [
    "CACHE",
    "LICENCE",
    "NATIVE",
    "MODEL_LICENCE",
    "OPERATORS",
    "PACKAGE",
    "PREDICTOR",
    "README",
    "REQUIREMENTS",
    "SELFTEST",
    "SIGNATURE",
    "SUMS",
    "belongs",
    "further",
    "is_cache",
    "needed",
    "what_is",
]

PREDICTOR, SELFTEST, REQUIREMENTS = "predictor.py", "selftest.py", "requirements.txt"
NATIVE = "native.py"
README, LICENCE, MODEL_LICENCE = "README.md", "LICENSE", "MODEL_LICENCE"
OPERATORS = "required_operators.config"
SUMS, SIGNATURE = "SHA256SUMS", "model.sig"

PACKAGE = ("__init__.py", "__main__.py", "py.typed")
"""What a wheel has besides."""

CACHE = "__pycache__"
"""What Python leaves beside a module that it imported."""

_WHAT = {
    **{name: f"the model, {KINDS[name]}" for name in ("model.onnx", *QUANTIZED.values())},
    **{name: f"the model, {kind}, in onnxruntime's format" for name, kind in ORT_FILES.items()},
    **dict(
        zip(
            C_FILES,
            ("the int8 model in C", "its functions", "an example in C", "how to compile it: make -f model.mk"),
            strict=True,
        )
    ),
    LIBRARY: "the int8 model, compiled",
    NATIVE: "what the predictor takes to run it: Predictor(..., backend='native')",
    MANIFEST_NAME: "what the model is, takes and gives",
    GOLDEN: "rows with the right answers, for the self-test",
    PREDICTOR: "the runtime: from predictor import Predictor",
    SELFTEST: "the self-test: python predictor.py --selftest",
    REQUIREMENTS: "what pip installs on the device, with hashes",
    README: "how to use it there",
    LICENCE: "of predictor.py and selftest.py",
    MODEL_LICENCE: "of the model",
    OPERATORS: "the operators that a build of the runtime must have",
    SUMS: "sha256 of every file, for sha256sum -c",
    SIGNATURE: "the signature of all files",
    **dict.fromkeys(PACKAGE, "of the Python package"),
}


def what_is(name: str) -> str:
    """A file of a bundle in a phrase.

    Raises:
        KeyError: no bundle has a file of this name.
    """
    return _WHAT[name]


def belongs(name: str) -> bool:
    """A bundle may have a file of this name."""
    return name in _WHAT


def needed(model: str) -> list[str]:
    """The files that a bundle of this model cannot do without."""
    names = [MANIFEST_NAME, model, GOLDEN, PREDICTOR, SELFTEST, REQUIREMENTS, README, LICENCE]
    return [*names, *([OPERATORS] if model in ORT_FILES else [])]


def further(files: Container[str]) -> list[str]:
    """What a bundle has besides, by the files that its manifest names: the model in C, the model compiled."""
    return [*(C_FILES if C_FILES[0] in files else ()), *((LIBRARY, NATIVE) if LIBRARY in files else ())]


def is_cache(path: Path) -> bool:
    """Python's own folder of compiled modules, with nothing else in it."""
    if path.name != CACHE or path.is_symlink() or not path.is_dir():
        return False
    return all(entry.suffix == ".pyc" and entry.is_file() and not entry.is_symlink() for entry in path.iterdir())
