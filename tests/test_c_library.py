"""The compiler of a native library: its flags, and what a CPU must have for its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolkit.c_code.library import find_compiler
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def compiler(path: Path, macros: str, *, more: str = "") -> str:
    """A script that says of itself what a compiler says; with -mfast it has further macros."""
    path.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo a compiler; exit;; *-mfast*) more=\'' + more + "';; esac\n"
        "for each in " + macros + ' $more; do echo "#define $each 64"; done\n'
    )
    path.chmod(0o755)
    return str(path)


def test_flags_go_behind_all_words_of_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "ccache"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    assert find_compiler(f"{wrapper} gcc -O2").command == (str(wrapper), "gcc", "-O3", "-O2")
    monkeypatch.setenv("CC", f"{wrapper} gcc")
    assert find_compiler(None).command[:3] == (str(wrapper), "gcc", "-O3")
    monkeypatch.setenv("CC", "gcc '")
    with pytest.raises(UsageError, match=r"the variable CC is .* which a shell would not take"):
        find_compiler(None)


@pytest.mark.parametrize(
    ("macros", "machine", "features"),
    [
        ("__x86_64__ __SSE3__ __LZCNT__ __GFNI__ __XOP__", "x86_64", ["abm", "gfni", "pni", "xop"]),
        ("__aarch64__ __ARM_NEON __ARM_FEATURE_DOTPROD", "aarch64", ["asimd", "asimddp"]),
        ("__arm__ __ARM_NEON __ARM_FEATURE_FMA", "armv7l", ["neon", "vfpv4"]),
        ("__riscv __riscv_xlen", "riscv64", []),
        ("__s390x__", "s390x", []),
    ],
)
def test_features_are_called_as_that_cpu_calls_them(
    macros: str, machine: str, features: list[str], tmp_path: Path
) -> None:
    found = find_compiler(compiler(tmp_path / "cc", macros))
    assert (found.machine, found.cpu_features) == (machine, features)


def test_vectors_that_linux_does_not_name_are_not_used(tmp_path: Path) -> None:
    found = find_compiler(compiler(tmp_path / "cc", "__x86_64__ __AVXVNNIINT8__"))
    assert found.command[-1] == "-mno-avxvnniint8"


def test_what_no_device_could_check_is_refused(tmp_path: Path) -> None:
    cc = compiler(tmp_path / "cc", "__riscv __riscv_xlen", more="__riscv_vector")
    with pytest.raises(UsageError, match="no riscv64 could check that it has what -mfast allows"):
        find_compiler(f"{cc} -mfast")
    assert find_compiler(f"{cc} -mtune=slow").machine == "riscv64"
    with pytest.raises(UsageError, match="compiles for a machine that is not known here, expected one of x86_64"):
        find_compiler(compiler(tmp_path / "other", "__m68k__"))
