"""The ``--c`` option of `toolkit verify`: targets that the C code is tried on."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolkit.c_targets.table import Chosen

__all__ = ["CTargets", "chosen_targets"]

CTargets = Annotated[
    list[str] | None,
    typer.Option(
        "--c",
        metavar="TARGET",
        help="Also compile the C code for this target and run it there: gcc-O2, aarch64, cortex-m4, ..., here or all. "
        "May be repeated.",
    ),
]


def chosen_targets(names: list[str] | None) -> "Chosen":
    """What the option asks for.

    Raises:
        UsageError: a target does not exist.
    """
    from toolkit.c_targets.table import choose

    return choose(names or [])
