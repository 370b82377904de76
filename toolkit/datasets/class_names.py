"""Names of classes: a text file with one a line, a JSON list, or an array of text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.datasets.files import read_start
from toolkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["checked_names", "read_class_names"]

_LIMIT = 10_000_000  # bytes of a file of names


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The class names in a file, in the order of the classes.

    Args:
        path: UTF-8 text with one name a line (empty lines at its end do not count), or a JSON list of names.

    Raises:
        MissingError: no such file.
        DataError: no text, no names, an empty name, or one that is there twice.
        UsageError: the file may not be read.
    """
    shown = os.fspath(path)
    data = read_start(Path(path), shown, _LIMIT + 1, "a text file with one class name a line")
    if len(data) > _LIMIT:
        raise DataError(f"{shown} has more than {_LIMIT} bytes; expected class names, one a line")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not UTF-8 text; save the class names as UTF-8, one a line") from error
    if text.lstrip().startswith("["):
        try:
            names = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{shown} begins as a JSON list and is none ({error}); mend it") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f'{shown} is no JSON list of texts; expected ["first", "second", ...]')
    else:
        names = [line.strip() for line in text.rstrip().splitlines()]
    return checked_names(names, shown)


def checked_names(names: Sequence[str] | NDArray[Any], shown: str) -> tuple[str, ...]:
    """Class names as a tuple, each there once and not empty.

    Args:
        names: a list of str, or an array of str or bytes.
        shown: how errors call them.

    Raises:
        DataError: they are anything else.
    """
    if isinstance(names, np.ndarray):
        if names.dtype.kind not in "US" or names.ndim != 1:
            raise DataError(f"{shown} is {names.dtype} of shape {names.shape}, expected a list of texts: (classes,)")
        try:
            names = [name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist()]
        except UnicodeDecodeError as error:
            raise DataError(f"{shown} is not UTF-8 text; save it as an array of str") from error
    if not names:
        raise DataError(f"{shown} has no class names; expected one for each class, in order")
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            raise DataError(f"{shown}: the name of class {number} is {name!r}; give each class a printable name")
        if name in seen:
            raise DataError(f"{shown}: the classes {seen[name]} and {number} are both called '{name}'; name them apart")
        seen[name] = number
    return tuple(names)
