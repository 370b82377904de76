"""Code of the user's own, named on the command line as ``module:name`` and never by a model's file."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from toolkit.errors import MissingError, UsageError

__all__ = ["import_named"]


def import_named(option: str, text: str) -> Any:
    """Import what the user names, from the current folder or the environment. This runs the module's code.

    Args:
        option: how errors call it, such as "--custom".
        text: ``module:name`` of a class or function; the module may have dots.

    Raises:
        UsageError: a name of another form, or what it names is neither class nor function, or its module fails.
        MissingError: no such module, or nothing of that name in it.
    """
    module_name, colon, name = text.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise UsageError(f"{option} is {text!r}, expected module:name, such as my_code:name")
    value = getattr(_import(option, module_name), name, None)
    if value is None:
        raise MissingError(f"{option} {text}: the module {module_name} has no {name}; check its spelling")
    if not (isinstance(value, type) or callable(value)):
        raise UsageError(f"{option} {text}: {name} is of type {type(value).__name__}, expected a class or a function")
    return value


def _import(option: str, name: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise MissingError(
                f"{option} {name}: no such module here or in the environment; start from its folder, or install it"
            ) from error
        raise MissingError(f"{option} {name}: it needs {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise UsageError(f"{option} {name}: importing it fails with {type(error).__name__}: {reason}") from error
    finally:
        if added:
            sys.path.remove(here)
