"""The CPUs that qemu can play, what each must show when it is asked for its features, and which are too old.

Which is the oldest was found by trying (``make portability`` tries again and writes down what came of it). With
numpy 2.4.6 and onnxruntime 1.31.1 on x86-64: Conroe (2006, SSSE3) ends in SIGILL while numpy is imported; Penryn
(2007, SSE4.1) gets as far as numpy's own refusal, "NumPy was built with baseline optimizations: (X86_V2)"; Nehalem
(2008, SSE4.2 and POPCNT, which make X86_V2) runs, and so do Westmere, Sandy Bridge, Ivy Bridge, AMD's Opteron G5 and
the Atoms Denverton and Snowridge. On ARM every 64-bit core that qemu has runs, from the very first, Cortex-A53 and
A57; the plainer Cortex-A35 (2015) as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CPUS", "TOO_OLD", "Cpu", "choose"]

AMD64, ARM64 = "amd64", "arm64"

_ARMV8 = ("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32")
_ARMV8_2 = (*_ARMV8, "atomics", "fphp", "asimdhp", "cpuid", "asimdrdm", "lrcpc", "dcpop", "asimddp")
_ARMV8_6 = (*_ARMV8_2, "jscvt", "fcma", "sha3", "sha512", "asimdfhm", "dit", "ilrcpc", "flagm", "ssbs", "sb", "dcpodp",
            "flagm2", "frint", "i8mm", "bf16")  # fmt: skip


@dataclass(frozen=True)
class Cpu:
    """A CPU that can be emulated.

    Attributes:
        name: what ``--cpu`` takes.
        architecture: Debian's name for it: "amd64" or "arm64".
        model: what qemu's ``-cpu`` takes.
        since: the year it was first sold or, for a core design, announced.
        description: what it is, for people.
        has: features (by numpy's names for them) that must be seen there, or it is not this CPU.
        lacks: features that must not be seen there.
        part: ARM's number of the core design (MIDR_EL1), by which the runtime picks kernels.
        flags: the Features line of Linux' /proc/cpuinfo on ARM. It must not list what qemu does not play: the runtime
            believes it and ends in SIGILL.
    """

    name: str
    architecture: str
    model: str
    since: int
    description: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    part: int = 0
    flags: tuple[str, ...] = ()


CPUS: tuple[Cpu, ...] = (
    Cpu("nehalem", AMD64, "Nehalem", 2008, "first Core i7, SSE4.2: the oldest x86 that the wheels run on",
        ("X86_V2",), ("AVX",)),
    Cpu("haswell", AMD64, "Haswell", 2013, "Core i 4000 and many later ones: AVX2 without VNNI",
        ("AVX2", "FMA3"), ("AVX512F",)),
    Cpu("cortex-a53", ARM64, "cortex-a53", 2012, "Raspberry Pi 3, many routers: the oldest 64-bit ARM",
        ("ASIMD",), ("ASIMDDP",), 0xD03, _ARMV8),
    Cpu("cortex-a72", ARM64, "cortex-a72", 2015, "Raspberry Pi 4, Graviton 1: no dot product instruction",
        ("ASIMD",), ("ASIMDDP",), 0xD08, (*_ARMV8, "cpuid")),
    Cpu("cortex-a76", ARM64, "cortex-a76", 2018, "Raspberry Pi 5, RK3588: dot product",
        ("ASIMDDP",), ("SVE",), 0xD0B, (*_ARMV8_2, "ssbs")),
    Cpu("armv8.6", ARM64, "max,sve=off,sme=off", 2020, "8-bit matrix multiply (i8mm), as in Apple's M2",
        ("ASIMDDP", "ASIMDFHM"), ("SVE",), 0xD46, _ARMV8_6),
)  # fmt: skip
"""What ``--cpu all`` means; of each architecture the first is the oldest."""

TOO_OLD: tuple[Cpu, ...] = (
    Cpu("conroe", AMD64, "Conroe", 2006, "first Core 2, SSSE3", (), ("SSE41",)),
    Cpu("penryn", AMD64, "Penryn", 2007, "second Core 2, SSE4.1", ("SSE41",), ("SSE42",)),
)
"""Named here so that it can be seen how the wheels refuse them."""


def choose(names: Sequence[str]) -> tuple[Cpu, ...]:
    """The CPUs of some names, each once, in the order of the table.

    Args:
        names: of `CPUS` or `TOO_OLD`, "all" for `CPUS`, "oldest" for the oldest of each architecture.

    Raises:
        UsageError: a name that does not exist.
    """
    known = {cpu.name: cpu for cpu in (*CPUS, *TOO_OLD)}
    groups = {"all": list(CPUS), "oldest": [next(c for c in CPUS if c.architecture == a) for a in (AMD64, ARM64)]}
    found: set[Cpu] = set()
    for name in names:
        if name in groups:
            found.update(groups[name])
        elif name in known:
            found.add(known[name])
        else:
            raise UsageError(f"--cpu is {name!r}, expected one of {', '.join(c.name for c in CPUS)}, oldest or all")
    return tuple(cpu for cpu in known.values() if cpu in found)
