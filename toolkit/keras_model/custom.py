"""Classes and functions of the user's own that a model needs: ``--custom module:name``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["import_custom"]


def import_custom(names: Sequence[str]) -> dict[str, Any]:
    """Import what the user names, from the current folder or the environment.

    This runs the module's code: it is the user who names it, never the model's file.

    Args:
        names: each ``module:name`` of a class or function; the module may have dots.

    Returns:
        What Keras takes as custom objects. An object registered with Keras is there under its registered name too.

    Raises:
        UsageError: a name of another form, or what it names is neither class nor function, or its module fails.
        MissingError: no such module, or nothing of that name in it.
    """
    found: dict[str, Any] = {}
    for text in names:
        module_name, colon, name = text.partition(":")
        if not (colon and name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
            raise UsageError(f"--custom is {text!r}, expected module:name, such as my_layers:Attention")
        value = getattr(_import(module_name), name, None)
        if value is None:
            raise MissingError(f"--custom {text}: the module {module_name} has no {name}; check its spelling")
        if not (isinstance(value, type) or callable(value)):
            raise UsageError(
                f"--custom {text}: {name} is of type {type(value).__name__}, expected a class or a function"
            )
        found[name] = value
        found[_registered_name(value)] = value
    return found


def _import(name: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise MissingError(
                f"--custom {name}: no such module here or in the environment; start from its folder, or install it"
            ) from error
        raise MissingError(f"--custom {name}: it needs {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise UsageError(f"--custom {name}: importing it fails with {type(error).__name__}: {reason}") from error
    finally:
        if added:
            sys.path.remove(here)


def _registered_name(value: Any) -> str:
    import keras

    return str(keras.saving.get_registered_name(value))
