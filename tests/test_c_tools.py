"""Programs that C targets take: what is said of those that are there and of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from toolkit.c_targets.building import Built
from toolkit.c_targets.check import ready
from toolkit.c_targets.instructions import count
from toolkit.c_targets.interface import Interface
from toolkit.c_targets.table import Chosen, choose
from toolkit.c_targets.tools import Toolchain, run
from toolkit.errors import MissingError, ModelError
from toolkit.verification.c_targets import Footprint

if TYPE_CHECKING:
    from pathlib import Path


def test_a_program_that_the_system_does_not_run_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "gcc"
    fake.write_bytes(b"\x7fELF of another machine")
    fake.chmod(0o755)
    with pytest.raises(ModelError, match=r"gcc cannot be run here \(Exec format error\); install it again"):
        run([str(fake)], None, 60)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (target,) = choose(["gcc-O2"]).targets
    with pytest.raises(MissingError, match="cannot be run for any of 1 targets"):
        ready(Chosen((target,), frozenset()))


def test_an_emulator_without_a_version_counts_nothing(tmp_path: Path) -> None:
    (target,) = choose(["riscv64"]).targets
    tools = Toolchain(target, "gcc", "gcc", None, "qemu-riscv64", "qemu-riscv64")
    built = Built(tmp_path / "program", 0, None)
    found = count(tools, built, Interface("a_logits", "uint8_t", 784, 10, "0"), np.zeros((1, 784), np.uint8))
    assert found == Footprint(not_counted="qemu-riscv64 does not say its version")
