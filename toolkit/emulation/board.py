"""What a program on an ARM board reads about its CPU from the system, as files that qemu shows it instead of ours.

onnxruntime learns from /proc/cpuinfo and /sys/devices/system/cpu which core it runs on. qemu user emulation hands an
x86 host's files on, and the runtime's reader of them crashes (SIGSEGV at import). qemu looks for every absolute path
below its ``-L`` folder first, so that folder holds a board's files, and links to the root's own folders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.emulation.cpus import Cpu

__all__ = ["make_board"]

CORES = 4


def make_board(cpu: Cpu, folder: Path, system: Path | None) -> None:
    """Fill a folder for qemu's ``-L``.

    Args:
        cpu: whose files; nothing is needed for x86, where the CPUID instruction answers.
        folder: empty.
        system: a root of that architecture (see `toolkit.emulation.root`) to see behind them, or None for the host's.
    """
    if system is not None:
        for entry in system.iterdir():
            (folder / entry.name).symlink_to(entry)
    if not cpu.flags:
        return
    cores = f"0-{CORES - 1}"
    core = (
        "BogoMIPS\t: 108.00\n"
        f"Features\t: {' '.join(cpu.flags)}\n"
        "CPU implementer\t: 0x41\n"
        "CPU architecture: 8\n"
        "CPU variant\t: 0x0\n"
        f"CPU part\t: {cpu.part:#05x}\n"
        "CPU revision\t: 3\n"
    )
    _write(folder / "proc/cpuinfo", "\n".join(f"processor\t: {i}\n{core}" for i in range(CORES)))
    base = folder / "sys/devices/system/cpu"
    for name in ("possible", "present", "online"):
        _write(base / name, cores)
    _write(base / "kernel_max", str(CORES - 1))
    for i in range(CORES):
        topology, frequency = base / f"cpu{i}/topology", base / f"cpu{i}/cpufreq"
        _write(topology / "physical_package_id", "0")
        _write(topology / "cluster_id", "0")
        _write(topology / "core_id", str(i))
        _write(topology / "core_siblings_list", cores)
        _write(topology / "thread_siblings_list", str(i))
        _write(frequency / "cpuinfo_max_freq", "1500000")
        _write(frequency / "cpuinfo_min_freq", "600000")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")
