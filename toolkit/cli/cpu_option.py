"""The ``--cpu`` option, which several commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolkit.emulation.cpus import Cpu

__all__ = ["CpuNames", "chosen_cpus"]

CpuNames = Annotated[
    list[str] | None,
    typer.Option(
        "--cpu",
        metavar="NAME",
        help="Also run as this CPU would, under qemu: haswell, cortex-a72, ..., oldest or all. May be repeated.",
    ),
]


def chosen_cpus(names: list[str] | None) -> "tuple[Cpu, ...]":
    """The CPUs that are named.

    Raises:
        UsageError: one does not exist.
    """
    from toolkit.emulation.cpus import choose

    return choose(names or [])
