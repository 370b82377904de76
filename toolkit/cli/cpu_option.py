"""The ``--cpu`` option, which several commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolkit.other_cpus import OtherCpus

__all__ = ["CpuImages", "CpuNames", "chosen_cpus"]

CpuNames = Annotated[
    list[str] | None,
    typer.Option(
        "--cpu",
        metavar="NAME",
        help="Also run as this CPU would, under qemu: haswell, cortex-a72, ..., oldest or all. May be repeated.",
    ),
]


CpuImages = Annotated[
    int | None, typer.Option("--cpu-images", help="Test images that other CPUs run, for a quick look.  [default: all]")
]


def chosen_cpus(names: list[str] | None, images: int | None) -> "OtherCpus":
    """What the two options ask for.

    Raises:
        UsageError: a CPU does not exist, or an option would do nothing.
    """
    from toolkit.emulation.cpus import choose
    from toolkit.other_cpus import OtherCpus

    return OtherCpus(choose(names or []), images)
