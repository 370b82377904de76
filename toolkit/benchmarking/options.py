"""Settings of a benchmark as a command line gives them; one that would do nothing is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from toolkit.benchmarking.compare import COMPARING
from toolkit.benchmarking.plan import SCENARIOS, BenchSettings
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bench_settings", "compare_settings"]

_NEEDS = {
    "rate": {"fixed-rate"},
    "seconds": {"sustained"},
    "calls": {"single-stream", "cpu-time"},
    "rounds": set(SCENARIOS) - {"sustained", "size"},
    "plot": {"single-stream"},
}


def bench_settings(
    *,
    scenarios: Sequence[str] = (),
    quick: bool = False,
    thorough: bool = False,
    save_settings: bool = False,
    plot: bool = False,
    rounds: int | None = None,
    calls: int | None = None,
    threads: int | None = None,
    rate: float | None = None,
    seconds: float | None = None,
    size: int | None = None,
    timeout: float | None = None,
) -> BenchSettings:
    """What to measure and how long; None: as the preset has it.

    Args:
        scenarios: their names; empty: those of the preset.
        quick, thorough: presets.
        save_settings: the sweep is needed too.
        plot: latencies are to be drawn.
        rounds, calls, threads, rate, timeout: see `BenchSettings`.
        seconds: of the sustained run.
        size: of free dimensions.

    Raises:
        UsageError: a value that cannot be measured with, or one that would do nothing.
    """
    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other; give one")
    preset = BenchSettings.quick() if quick else BenchSettings.thorough() if thorough else BenchSettings()
    wanted = tuple(dict.fromkeys(scenarios)) or preset.scenarios
    if save_settings and "sweep" not in wanted:
        wanted = (*wanted, "sweep")
    asked = {"rate": rate, "seconds": seconds, "calls": calls, "rounds": rounds, "plot": plot or None}
    for name, value in asked.items():
        if value is not None and not _NEEDS[name] & set(wanted):
            needed = " or ".join(sorted(_NEEDS[name]))
            raise UsageError(f"--{name} does nothing without the scenario {needed}; add --scenario, or drop it")
    given = {
        "rounds": rounds,
        "calls": calls,
        "threads": threads,
        "rate": rate,
        "sustained_seconds": seconds,
        "free_size": size,
        "timeout": timeout,
    }
    return dataclasses.replace(
        preset, scenarios=wanted, **{name: value for name, value in given.items() if value is not None}
    )


def compare_settings(
    *,
    quick: bool = False,
    thorough: bool = False,
    rounds: int | None = None,
    calls: int | None = None,
    threads: int | None = None,
    size: int | None = None,
    timeout: float | None = None,
) -> BenchSettings:
    """The same for a comparison.

    Args:
        quick, thorough: a third of the rounds, or three times as many.
        rounds, calls, threads, size, timeout: see `bench_settings`.

    Raises:
        UsageError: a value that cannot be measured with.
    """
    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other; give one")
    preset = COMPARING
    if quick or thorough:
        preset = dataclasses.replace(preset, rounds=preset.rounds // 3 if quick else preset.rounds * 3)
    given = {"rounds": rounds, "calls": calls, "threads": threads, "free_size": size, "timeout": timeout}
    return dataclasses.replace(preset, **{name: value for name, value in given.items() if value is not None})
