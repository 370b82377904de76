"""Where things are, how figures and ratios are taken, and what a process of a comparison starts with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.rounds import ratio_interval, spread_of_medians

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["REFERENCE", "ROOT", "clean_environment", "figures", "note", "ratio"]

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "exported" / "fashion-mnist"


def figures(rounds: Sequence[Sequence[int]]) -> dict[str, float]:
    """Percentiles of all samples (ns) of some rounds in us, and how far the rounds' medians lie apart."""
    p50, p90, p99 = np.percentile(np.concatenate([np.asarray(r) for r in rounds]), [50, 90, 99]) / 1000
    return {"p50_us": float(p50), "p90_us": float(p90), "p99_us": float(p99), "spread": spread_of_medians(rounds)}


def ratio(times: Sequence[Any], base: Sequence[Any]) -> dict[str, float]:
    """The median over the rounds of a ratio, and its 95 % interval.

    Args:
        times: of each round a time, or samples whose median is taken.
        base: the same of what it is compared with, in the same rounds.
    """
    ours, theirs = ([float(np.median(entry)) for entry in column] for column in (times, base))
    low, high = ratio_interval(ours, theirs)
    return {"ratio": float(np.median(np.divide(ours, theirs))), "low": low, "high": high}


def clean_environment() -> dict[str, str]:
    """This process's environment, but with bytecode cached and no packages of elsewhere, as on a device."""
    drop = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in drop}


def note(text: str) -> None:
    """Tell what is being done."""
    print(f"... {text}", flush=True)
