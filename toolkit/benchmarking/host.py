"""What machine this is: figures of speed mean nothing without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from toolkit import __version__

__all__ = ["Host", "describe_host", "distribution_of"]

# CPU features that decide which kernels a runtime picks for small dense layers, by Linux's names.
FEATURES = frozenset(
    [
        "sse4_1",
        "sse4_2",
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
        "neon",
        "vfpv4",
        "asimd",
        "asimdhp",
        "asimddp",
        "i8mm",
        "bf16",
        "sve",
        "sve2",
        "svei8mm",
    ]
)

# ARM's own part numbers (Linux: arch/arm64/include/asm/cputype.h); its kernels print no model name.
ARM_PARTS = {
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


@dataclass(frozen=True)
class Host:
    """The machine and the software on it. None stands for unknown, never for a guess.

    Attributes:
        cpu_model: the CPU's name; on ARM the cores' names, as far as known.
        board: the board's name, where the firmware tells it (device tree).
        architecture: as ``uname -m`` says it.
        logical_cores: cores of the machine.
        affinity: the cores that this process may use.
        cpu_features: those of `FEATURES` that the CPU has, sorted.
        governor: frequency governor of the first usable core.
        load_average: over 1, 5 and 15 minutes, when it was asked.
        memory_bytes: physical memory.
        operating_system: name and version.
        kernel: its release.
        libc: name and version of the C library.
        virtualized: whether this is a virtual machine.
        python: version of Python, numpy, onnxruntime and this toolkit follow.
    """

    cpu_model: str | None
    board: str | None
    architecture: str | None
    logical_cores: int | None
    affinity: tuple[int, ...] | None
    cpu_features: tuple[str, ...] | None
    governor: str | None
    load_average: tuple[float, float, float] | None
    memory_bytes: int | None
    operating_system: str | None
    kernel: str | None
    libc: str | None
    virtualized: bool | None
    python: str
    numpy: str | None
    onnxruntime: str | None
    toolkit: str

    @property
    def usable_cores(self) -> int | None:
        """How many cores this process may use."""
        return len(self.affinity) if self.affinity else self.logical_cores

    def hardware_line(self) -> str:
        """The machine in one line for people; what is unknown is left out, but for the CPU."""
        cores = f"{_or_unknown(self.usable_cores)} of {_or_unknown(self.logical_cores)} cores usable"
        parts = [
            self.cpu_model or "CPU unknown",
            self.board,
            f"{_or_unknown(self.architecture)} ({_widest(self.cpu_features)})",
            cores,
            f"{self.memory_bytes / 2**30:.1f} GiB" if self.memory_bytes else None,
            {True: "virtual machine", False: "bare metal", None: None}[self.virtualized],
            f"governor {self.governor}" if self.governor else None,
            f"load {self.load_average[0]:.2f}" if self.load_average else None,
        ]
        return ", ".join(part for part in parts if part)

    def software_line(self) -> str:
        """The software in one line for people; what is unknown is left out, but for the packages."""
        parts = [
            self.operating_system,
            f"kernel {self.kernel}" if self.kernel else None,
            self.libc,
            f"Python {self.python}",
            f"onnxruntime {_or_unknown(self.onnxruntime)}",
            f"numpy {_or_unknown(self.numpy)}",
            f"toolkit {self.toolkit}",
        ]
        return ", ".join(part for part in parts if part)


def describe_host(root: Path = Path("/")) -> Host:
    """Look at this machine.

    Args:
        root: where ``proc``, ``sys`` and ``etc`` are; whatever is missing there becomes None.
    """
    entries = _cpuinfo(root)
    affinity = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None
    first = affinity[0] if affinity else 0
    flags = next((set(entries[key][0].split()) for key in ("flags", "Features") if key in entries), None)
    libc = " ".join(platform.libc_ver()).strip()
    return Host(
        cpu_model=_cpu_model(entries),
        board=_read(root / "proc/device-tree/model"),
        architecture=platform.machine() or None,
        logical_cores=os.cpu_count(),
        affinity=affinity,
        cpu_features=tuple(sorted(flags & FEATURES)) if flags else None,
        governor=_read(root / f"sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor"),
        load_average=_load_average(),
        memory_bytes=_memory(),
        operating_system=_operating_system(root),
        kernel=platform.release() or None,
        libc=libc or None,
        virtualized=_virtualized(root, flags),
        python=platform.python_version(),
        numpy=_version("numpy"),
        onnxruntime=_version("onnxruntime"),
        toolkit=__version__,
    )


def distribution_of(module: str) -> importlib.metadata.Distribution | None:
    """The distribution that installed a module (onnxruntime ships under several names), or None."""
    try:
        return importlib.metadata.distribution(module)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(module)
        return importlib.metadata.distribution(names[0]) if names else None


def _version(module: str) -> str | None:
    found = distribution_of(module)
    return found.version if found else None


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _widest(features: tuple[str, ...] | None) -> str:
    """The features that people ask for first: those for int8 dot products, and the widest vectors."""
    if features is None:
        return "features unknown"
    wanted = (
        "avx2",
        "avx512f",
        "avx_vnni",
        "avx512_vnni",
        "amx_int8",
        "neon",
        "asimd",
        "asimddp",
        "i8mm",
        "sve",
    )
    return " ".join(f for f in wanted if f in features) or "none of the known vector features"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0 \t\r\n") or None
    except OSError:
        return None


def _cpuinfo(root: Path) -> dict[str, list[str]]:
    """All values of each key of /proc/cpuinfo, in order; empty where there is none."""
    entries: dict[str, list[str]] = {}
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            entries.setdefault(key.strip(), []).append(value.strip())
    return entries


def _cpu_model(entries: dict[str, list[str]]) -> str | None:
    if "model name" in entries:
        return entries["model name"][0]
    if parts := list(dict.fromkeys(entries.get("CPU part", []))):  # a board may mix big and little cores
        arm = set(entries.get("CPU implementer", [])) == {"0x41"}
        return " + ".join(ARM_PARTS.get(p, f"ARM part {p}") if arm else f"CPU part {p}" for p in parts)
    if "uarch" in entries:  # RISC-V
        return entries["uarch"][0]
    return _sysctl("machdep.cpu.brand_string")


def _sysctl(name: str) -> str | None:
    """One value of macOS's sysctl."""
    if platform.system() != "Darwin":
        return None
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _load_average() -> tuple[float, float, float] | None:
    try:
        return os.getloadavg()
    except (OSError, AttributeError):
        return None


def _memory() -> int | None:
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
    return size if size > 0 else None


def _operating_system(root: Path) -> str | None:
    for line in (_read(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"' ") or None
    version = platform.mac_ver()[0]
    return f"macOS {version}" if version else None


def _virtualized(root: Path, flags: set[str] | None) -> bool | None:
    """True or False only where something says so: x86's hypervisor flag, firmware names, macOS's sysctl."""
    if flags is not None and platform.machine() in ("x86_64", "i686", "AMD64"):
        return "hypervisor" in flags
    if (root / "proc/device-tree/hypervisor").exists() or _read(root / "sys/hypervisor/type"):
        return True
    product = _read(root / "sys/class/dmi/id/product_name")
    if product and any(word in product for word in ("KVM", "QEMU", "Virtual", "VMware")):
        return True
    return {"1": True, "0": False}.get(_sysctl("kern.hv_vmm_present") or "")
