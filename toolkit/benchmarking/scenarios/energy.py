"""Energy of one row, where the CPU counts it: Intel's and AMD's RAPL, as Linux shows it. Never estimated.

Source: Linux, Documentation/power/powercap/powercap.rst. The counters are of whole packages, so what the rest of the
machine takes meanwhile is in them: the same time is spent idle first, and what that took is taken off.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns, sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.opened import Opened

__all__ = ["Energy", "NAME", "summarize", "take"]

NAME = "energy"

_FOLDER = "sys/class/powercap"


@dataclass(frozen=True)
class Energy:
    """What a row takes; every figure is None where it cannot be read.

    Attributes:
        readable: whether the machine lets it be read.
        reason: why not.
        domains: what was counted, such as "package-0".
        row_microjoules: of one row beyond what the idle machine takes; median of the rounds.
        row_total_microjoules: the same with it.
        idle_watts, busy_watts: medians of the rounds.
        rows: in a round.
        rounds_microjoules: row_microjoules of every round.
    """

    readable: bool
    reason: str | None = None
    domains: tuple[str, ...] = ()
    row_microjoules: float | None = None
    row_total_microjoules: float | None = None
    idle_watts: float | None = None
    busy_watts: float | None = None
    rows: int | None = None
    rounds_microjoules: tuple[float, ...] = ()


def take(opened: Opened, seconds: float, root: str = "/") -> dict[str, Any]:
    """Half the time idle, half of it one row after the other.

    Args:
        opened: the model.
        seconds: both halves together.
        root: where ``sys`` is.
    """
    domains = _domains(Path(root))
    if isinstance(domains, str):
        return {"reason": domains}
    try:
        before, begun = _read(domains), monotonic_ns()
        sleep(seconds / 2)
        idle, rested = _read(domains), monotonic_ns()
        rows, end = 0, rested + int(seconds / 2 * 1e9)
        call, turn = opened.call, opened.turn
        while monotonic_ns() < end:
            call(turn[rows % len(turn)])
            rows += 1
        done, worked = _read(domains), monotonic_ns()
    except OSError as error:
        return {"reason": f"reading {_FOLDER} failed: {error.strerror}"}
    return {
        "domains": [name for _, name, _ in domains],
        "idle": [_spent(domains, before, idle), rested - begun],
        "busy": [_spent(domains, idle, done), worked - rested],
        "rows": rows,
    }


def _domains(root: Path) -> list[tuple[Path, str, int]] | str:
    """Counter, name and range (in microjoules) of each package; or why there is none."""
    found = []
    for folder in sorted((root / _FOLDER).glob("intel-rapl:*")):
        if folder.name.count(":") > 1:  # a part of a package
            continue
        try:
            name = (folder / "name").read_text(encoding="ascii").strip()
            limit = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
            int((folder / "energy_uj").read_text(encoding="ascii"))
        except PermissionError:
            return f"{folder / 'energy_uj'} may be read by root alone"
        except (OSError, ValueError):
            continue
        if name.startswith("package"):
            found.append((folder / "energy_uj", name, limit))
    return found or f"this machine shows no energy counter (/{_FOLDER}/intel-rapl*)"


def _read(domains: Sequence[tuple[Path, str, int]]) -> list[int]:
    return [int(path.read_text(encoding="ascii")) for path, _, _ in domains]


def _spent(domains: Sequence[tuple[Path, str, int]], before: Sequence[int], after: Sequence[int]) -> int:
    """Microjoules between two readings; a counter starts again at 0 beyond its range."""
    return sum(
        (b - a) if b >= a else b + limit + 1 - a for (_, _, limit), a, b in zip(domains, before, after, strict=True)
    )


def summarize(rounds: Sequence[Sequence[dict[str, Any]]]) -> Energy:
    """The figures of all rounds."""
    takes = [taken for round_ in rounds for taken in round_]
    whole = [taken for taken in takes if "rows" in taken]
    if not whole:
        return Energy(readable=False, reason=takes[0]["reason"])
    idle = [taken["idle"][0] / taken["idle"][1] for taken in whole]  # microjoules a ns
    busy = [taken["busy"][0] / taken["busy"][1] for taken in whole]
    total = [taken["busy"][0] / taken["rows"] for taken in whole]
    beyond = tuple(
        (taken["busy"][0] - rest * taken["busy"][1]) / taken["rows"] for taken, rest in zip(whole, idle, strict=True)
    )
    return Energy(
        readable=True,
        domains=tuple(whole[0]["domains"]),
        row_microjoules=statistics.median(beyond),
        row_total_microjoules=statistics.median(total),
        idle_watts=statistics.median(idle) * 1e3,
        busy_watts=statistics.median(busy) * 1e3,
        rows=round(statistics.median(taken["rows"] for taken in whole)),
        rounds_microjoules=beyond,
    )
