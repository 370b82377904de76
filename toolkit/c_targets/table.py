"""The targets that C code is tried on: the compiler and its options, what runs it, Debian's packages for both."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TARGETS", "Chosen", "Order", "Target", "choose"]

Kind = Literal["native", "linux", "cortex-m", "wasm"]
Order = Literal["<", ">"]


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: what people call it.
        machine: what the code runs on, in a phrase.
        kind: how it is run: here, under qemu-user, as an image under qemu-system-arm, or in Node or Chromium.
        compiler: program.
        flags: of the compiler, for model.c and for what is linked around it.
        packages: Debian's, that bring the compiler and its C library.
        size: program that says how large an object file's parts are; "" where there is none.
        emulator: program, by any of these names; none where the code runs here.
        emulator_package: Debian's.
        board: of qemu-system-arm.
        order: of bytes, as numpy calls it: "<" or ">".
    """

    name: str
    machine: str
    kind: Kind
    compiler: str
    flags: tuple[str, ...]
    packages: tuple[str, ...]
    size: str
    emulator: tuple[str, ...] = ()
    emulator_package: str = ""
    board: str = ""
    order: Order = "<"


_C99 = "-std=c99"
# Of what `toolkit.c_wasm` compiles with, what a reader wants to know.
_WASM = ("--target=wasm32", "-O3", "-ffreestanding", "-nostdlib")
_HERE: Order = "<" if sys.byteorder == "little" else ">"


def _native(compiler: str, name: str, *flags: str) -> Target:
    return Target(
        f"{compiler}-{name}",
        "this machine",
        "native",
        compiler,
        (_C99, *flags),
        (compiler, "libc6-dev"),
        "size",
        order=_HERE,
    )


def _linux(name: str, machine: str, triple: str, qemu: str, libc: str, *flags: str, order: Order = "<") -> Target:
    return Target(
        name,
        machine,
        "linux",
        f"{triple}-gcc",
        (_C99, "-O2", *flags, "-static"),
        (f"gcc-{triple}", f"libc6-dev-{libc}-cross"),
        f"{triple}-size",
        (f"qemu-{qemu}-static", f"qemu-{qemu}"),
        "qemu-user-static",
        order=order,
    )


def _cortex_m(name: str, machine: str, board: str, *flags: str) -> Target:
    return Target(
        name,
        machine,
        "cortex-m",
        "arm-none-eabi-gcc",
        (_C99, "-O2", "-mthumb", *flags),
        ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi"),
        "arm-none-eabi-size",
        ("qemu-system-arm",),
        "qemu-system-arm",
        board,
    )


TARGETS: tuple[Target, ...] = (
    *(
        _native(compiler, name, *flags)
        for compiler in ("gcc", "clang")
        for name, flags in {"O0": ["-O0"], "O2": ["-O2"], "O3-native": ["-O3", "-march=native"]}.items()
    ),
    # Small, optimizes nothing, and shares no line with the other two.
    Target("tcc", "this machine", "native", "tcc", (_C99,), ("tcc", "libc6-dev"), "size", order=_HERE),
    _linux("aarch64", "64-bit ARM", "aarch64-linux-gnu", "aarch64", "arm64"),
    Target(
        "aarch64-clang",
        "64-bit ARM",
        "linux",
        "clang",
        (_C99, "--target=aarch64-linux-gnu", "-O3", "-static"),
        ("clang", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"),
        "aarch64-linux-gnu-size",
        ("qemu-aarch64-static", "qemu-aarch64"),
        "qemu-user-static",
    ),
    _linux("armhf", "32-bit ARM with a floating-point unit", "arm-linux-gnueabihf", "arm", "armhf"),
    _linux("armel", "32-bit ARM without a floating-point unit", "arm-linux-gnueabi", "arm", "armel"),
    _linux("riscv64", "64-bit RISC-V", "riscv64-linux-gnu", "riscv64", "riscv64"),
    _linux("i686", "32-bit x86, floats in the x87 stack", "i686-linux-gnu", "i386", "i386", "-mfpmath=387"),
    _linux("s390x", "IBM Z, big-endian", "s390x-linux-gnu", "s390x", "s390x", order=">"),
    _linux("powerpc", "32-bit PowerPC, big-endian", "powerpc-linux-gnu", "ppc", "powerpc", order=">"),
    # There is no board of qemu's with a Cortex-M0 and room for more than 256 KB: its code runs on an M3, which has all
    # of its instructions, and is made to fault where an M0 does.
    _cortex_m("cortex-m0", "Cortex-M0 code on an M3 that faults as an M0 does", "mps2-an385", "-mcpu=cortex-m0"),
    _cortex_m("cortex-m3", "Cortex-M3, floats in software", "mps2-an385", "-mcpu=cortex-m3"),
    _cortex_m("cortex-m4", "Cortex-M4F", "mps2-an386", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    *(
        Target(name, machine, "wasm", "clang", (*_WASM, *flags), ("clang", "lld"), "", programs, package)
        for name, machine, flags, programs, package in (
            ("wasm", "WebAssembly in Node", (), ("node",), "nodejs"),
            ("wasm-simd", "WebAssembly with vectors in Node", ("-msimd128",), ("node",), "nodejs"),
            (
                "wasm-chromium",
                "WebAssembly with vectors in Chromium",
                ("-msimd128",),
                ("chromium", "chromium-browser"),
                "chromium",
            ),
        )
    ),
)
"""What ``--c all`` means, in the order of reports."""


@dataclass(frozen=True)
class Chosen:
    """What was asked for.

    Attributes:
        targets: in the order of the table.
        named: those of them that must not be left out, where what they need is missing.
    """

    targets: tuple[Target, ...] = ()
    named: frozenset[str] = frozenset()


def choose(names: Sequence[str]) -> Chosen:
    """The targets of some names, each once.

    Args:
        names: of `TARGETS`, "all" for all of them, "here" for those that run on this machine's own CPU.

    Raises:
        UsageError: a name that does not exist.
    """
    known = {target.name.lower(): target for target in TARGETS}
    groups = {"all": set(TARGETS), "here": {target for target in TARGETS if target.kind == "native"}}
    found: set[Target] = set()
    named: set[str] = set()
    for name in (name.lower() for name in names):
        if name in groups:
            found |= groups[name]
        elif name in known:
            found.add(known[name])
            named.add(known[name].name)
        else:
            raise UsageError(f"--c is {name!r}, expected one of {', '.join(t.name for t in TARGETS)}, here or all")
    return Chosen(tuple(target for target in TARGETS if target in found), frozenset(named))
