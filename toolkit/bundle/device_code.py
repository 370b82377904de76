"""The toolkit's own files that a bundle carries: the predictor, the self-test, the licence."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import toolkit
from toolkit.bundle.layout import NATIVE, PREDICTOR, SELFTEST
from toolkit.errors import MissingError

__all__ = ["licence", "native", "predictor", "selftest"]

_IMPORT = b"from toolkit import predictor as device\n"
_PACKAGE = Path(toolkit.__file__).parent


def predictor() -> bytes:
    """``predictor.py``, byte for byte."""
    return _read(_PACKAGE / PREDICTOR)


def native() -> bytes:
    """``native.py``, byte for byte."""
    return _read(_PACKAGE / NATIVE)


def selftest(package: str | None = None) -> bytes:
    """``selftest.py``, with the predictor taken from beside it.

    Args:
        package: the Python package that both are in; None: a plain folder.

    Raises:
        MissingError: the installed toolkit is not whole.
    """
    source = _read(_PACKAGE / SELFTEST)
    if source.count(_IMPORT) != 1:
        raise MissingError(f"{_PACKAGE / SELFTEST} is not this version's; install the toolkit again")
    beside = (
        b"import predictor as device\n" if package is None else f"from {package} import predictor as device\n".encode()
    )
    return source.replace(_IMPORT, beside)


def licence() -> bytes:
    """The toolkit's licence: from beside the package in a clone, else from what was installed.

    Raises:
        MissingError: it is in neither place.
    """
    beside = _PACKAGE.parent / "LICENSE"
    if (_PACKAGE.parent / "pyproject.toml").is_file():
        return _read(beside)
    try:
        text = metadata.distribution("toolkit").read_text("licenses/LICENSE")
    except metadata.PackageNotFoundError:
        text = None
    return text.encode() if text else _read(beside)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingError(f"{path} cannot be read ({error.strerror}); install the toolkit again") from error
