"""Classes and functions of the user's own that a model needs: ``--custom module:name``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.user_code import import_named

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
        value = import_named("--custom", text)
        found[text.rpartition(":")[2]] = value
        found[_registered_name(value)] = value
    return found


def _registered_name(value: Any) -> str:
    import keras

    return str(keras.saving.get_registered_name(value))
