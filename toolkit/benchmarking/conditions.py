"""What else the machine did while it was measured: other programs, the hypervisor, heat, a clock that was set."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Conditions", "Reading", "available_memory", "between", "read_conditions", "read_heat"]

_CPUS = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Reading:
    """The machine at one moment; None is what cannot be read here.

    Attributes:
        monotonic_s, wall_s: of the clocks; boot_s also counts while the machine sleeps.
        own_cpu_s: CPU time of this process and of its children that have ended.
        busy_s, steal_s: CPU time of all programs on the cores that this process may use, and what the hypervisor gave
            to others in the meantime.
        load: average over one minute.
        frequency_khz: of each usable core.
        temperature_c: of the hottest thermal zone.
        throttled: how often the usable cores were slowed down because of heat or power, since the machine started.
    """

    monotonic_s: float
    wall_s: float
    boot_s: float | None
    own_cpu_s: float
    busy_s: float | None
    steal_s: float | None
    load: float | None
    frequency_khz: tuple[int, ...] | None
    temperature_c: float | None
    throttled: int | None


@dataclass(frozen=True)
class Conditions:
    """What happened between two readings; None is what cannot be read here.

    Attributes:
        seconds: between them.
        load_before, load_after: averages over one minute.
        others_cores: cores that other programs kept busy, on average.
        steal: share of the usable cores' time that the hypervisor gave to others.
        frequency_before_mhz, frequency_after_mhz: of the slowest usable core.
        temperature_before_c, temperature_after_c: of the hottest thermal zone.
        throttled: how often usable cores were slowed down because of heat or power.
        clock_set_s: by how much somebody set the wall clock meanwhile; times are not taken from it.
        slept_s: how long the machine was suspended.
    """

    seconds: float
    load_before: float | None
    load_after: float | None
    others_cores: float | None
    steal: float | None
    frequency_before_mhz: float | None
    frequency_after_mhz: float | None
    temperature_before_c: float | None
    temperature_after_c: float | None
    throttled: int | None
    clock_set_s: float
    slept_s: float | None


def read_conditions(root: Path = Path("/")) -> Reading:
    """Look at the machine.

    Args:
        root: where ``proc`` and ``sys`` are; whatever is missing there becomes None.
    """
    cores = _usable()
    busy, steal = _stat(root, cores)
    load = None
    with suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
    frequency, temperature, throttled = read_heat(root)
    mine = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Reading(
        monotonic_s=time.monotonic(),
        wall_s=time.time(),
        boot_s=time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None,
        own_cpu_s=sum(usage.ru_utime + usage.ru_stime for usage in mine),
        busy_s=busy,
        steal_s=steal,
        load=load,
        frequency_khz=frequency,
        temperature_c=temperature,
        throttled=throttled,
    )


def read_heat(root: Path = Path("/")) -> tuple[tuple[int, ...] | None, float | None, int | None]:
    """Frequencies of the usable cores (kHz), the hottest zone (degrees Celsius), how often cores were throttled."""
    cpus = root / _CPUS
    cores = _usable()
    frequencies = _numbers(cpus / f"cpu{core}/cpufreq/scaling_cur_freq" for core in cores)
    # One counter a core, and one that all cores of a package share.
    counts = _numbers(cpus / f"cpu{core}/thermal_throttle/core_throttle_count" for core in cores)
    shared = _numbers(cpus / f"cpu{core}/thermal_throttle/package_throttle_count" for core in cores[:1])
    zones = _numbers(sorted((root / "sys/class/thermal").glob("thermal_zone*/temp")))
    throttled = sum(counts) + sum(shared) if counts or shared else None
    return tuple(frequencies) or None, max(zones) / 1000 if zones else None, throttled


def between(first: Reading, last: Reading) -> Conditions:
    """What happened from one reading to a later one."""
    seconds = last.monotonic_s - first.monotonic_s
    cores = len(_usable())
    others = steal = None
    if first.busy_s is not None and last.busy_s is not None and seconds > 0:
        others = max(0.0, last.busy_s - first.busy_s - (last.own_cpu_s - first.own_cpu_s)) / seconds
    if first.steal_s is not None and last.steal_s is not None and seconds > 0:
        steal = max(0.0, last.steal_s - first.steal_s) / seconds / cores
    slept = None
    if first.boot_s is not None and last.boot_s is not None:
        slept = last.boot_s - first.boot_s - seconds
    throttled = None
    if first.throttled is not None and last.throttled is not None:
        throttled = last.throttled - first.throttled
    return Conditions(
        seconds=seconds,
        load_before=first.load,
        load_after=last.load,
        others_cores=others,
        steal=steal,
        frequency_before_mhz=min(first.frequency_khz) / 1000 if first.frequency_khz else None,
        frequency_after_mhz=min(last.frequency_khz) / 1000 if last.frequency_khz else None,
        temperature_before_c=first.temperature_c,
        temperature_after_c=last.temperature_c,
        throttled=throttled,
        clock_set_s=last.wall_s - first.wall_s - seconds - (slept or 0.0),
        slept_s=slept,
    )


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that new programs could take now, or None."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _usable() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _numbers(paths: Iterable[Path]) -> list[int]:
    """The number in each of the files that can be read."""
    found = []
    for path in paths:
        with suppress(OSError, ValueError):
            found.append(int(path.read_text(encoding="ascii")))
    return found


def _stat(root: Path, cores: list[int]) -> tuple[float | None, float | None]:
    """Seconds that the cores were busy, and that were stolen from them (proc(5), /proc/stat)."""
    names = {f"cpu{core}" for core in cores}
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
        rows = [[int(n) for n in line.split()[1:]] for line in lines if line.split(" ")[0] in names]
        tick = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None, None
    if not rows or any(len(row) < 8 for row in rows):
        return None, None
    # user nice system idle iowait irq softirq steal
    busy = sum(row[0] + row[1] + row[2] + row[5] + row[6] for row in rows)
    return busy / tick, sum(row[7] for row in rows) / tick
