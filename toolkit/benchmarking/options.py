"""Settings of a benchmark as a command line gives them; one that would do nothing is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

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
    **given: Any,
) -> BenchSettings:
    """What to measure and how long.

    Args:
        scenarios: their names; empty: those of the preset.
        quick: a preset.
        thorough: another.
        save_settings: the sweep is needed too.
        plot: latencies are to be drawn.
        given: rounds, calls, threads, rate, seconds (of the sustained run), size (of free dimensions) and timeout, see
            `BenchSettings`; None: as the preset has it.

    Raises:
        UsageError: a value that cannot be measured with, or one that would do nothing.
    """
    presets = {(False, False): BenchSettings(), (True, False): BenchSettings.quick()}
    preset = presets.get(_exclusive(quick, thorough)) or BenchSettings.thorough()
    wanted = tuple(dict.fromkeys(scenarios)) or preset.scenarios
    if save_settings and "sweep" not in wanted:
        wanted = (*wanted, "sweep")
    for name, value in {**given, "plot": plot or None}.items():
        if value is not None and name in _NEEDS and not _NEEDS[name] & set(wanted):
            needed = " or ".join(sorted(_NEEDS[name]))
            raise UsageError(f"--{name} does nothing without the scenario {needed}; add --scenario, or drop it")
    return dataclasses.replace(preset, scenarios=wanted, **_named(given))


def compare_settings(*, quick: bool = False, thorough: bool = False, **given: Any) -> BenchSettings:
    """The same for a comparison.

    Args:
        quick: a third of the rounds.
        thorough: three times as many.
        given: rounds, calls, threads, size and timeout, see `bench_settings`.

    Raises:
        UsageError: a value that cannot be measured with.
    """
    _exclusive(quick, thorough)
    rounds = COMPARING.rounds // 3 if quick else COMPARING.rounds * 3 if thorough else COMPARING.rounds
    return dataclasses.replace(COMPARING, **{"rounds": rounds, **_named(given)})


def _exclusive(quick: bool, thorough: bool) -> tuple[bool, bool]:
    if quick and thorough:
        raise UsageError("--quick and --thorough exclude each other; give one")
    return quick, thorough


def _named(given: dict[str, Any]) -> dict[str, Any]:
    """What was given, by the names that `BenchSettings` has for it."""
    names = {"seconds": "sustained_seconds", "size": "free_size"}
    return {names.get(name, name): value for name, value in given.items() if value is not None}
