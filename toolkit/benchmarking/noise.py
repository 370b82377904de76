"""Whether the machine was quiet enough to believe its figures: a verdict with the measures behind it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit.benchmarking.rounds import NOISE_BOUND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.conditions import Conditions
    from toolkit.benchmarking.intervals import Ratio

__all__ = ["Noise", "Reason", "judge_noise"]

CONTROL_BOUND = 0.05
"""The control's interval may reach so far from 1: smaller differences than this could not be told."""

OTHERS_BOUND, STEAL_BOUND, SWITCHES_BOUND = 0.2, 0.02, 50.0
"""Cores that others keep busy, share of time that the hypervisor took, and involuntary context switches a second."""


@dataclass(frozen=True)
class Reason:
    """A measure beyond its bound.

    Attributes:
        what: in words.
        measured, bound: in the same unit.
        unit: "" for shares.
    """

    what: str
    measured: float
    bound: float
    unit: str = ""

    def __str__(self) -> str:
        if self.unit:
            return f"{self.what}: {self.measured:,.1f} {self.unit} (bound {self.bound:g})"
        return f"{self.what}: {self.measured:.1%} (bound {self.bound:.0%})"


@dataclass(frozen=True)
class Noise:
    """How noisy the machine was.

    Attributes:
        control: the first file against itself, opened a second time in each round: 1 but for chance. None: there was
            no single stream, or no round of it.
        probe_ns: a fixed piece of work (see `toolkit.benchmarking.probe`), median of each round.
        probe_spread: of these, (p90 - p10) / median.
        switches: involuntary context switches a second of the measured processes in the single stream.
        reasons: measures beyond their bounds.
    """

    control: Ratio | None
    probe_ns: tuple[float, ...]
    probe_spread: float | None
    switches: float | None
    reasons: tuple[Reason, ...]

    @property
    def noisy(self) -> bool:
        """Whether there is a reason to distrust the figures."""
        return bool(self.reasons)


def judge_noise(control: Ratio | None, probe: Sequence[float], switches: float | None, conditions: Conditions) -> Noise:
    """The verdict.

    Args:
        control: as in `Noise`.
        probe: medians of the rounds, in ns.
        switches: as in `Noise`.
        conditions: during the whole benchmark.
    """
    reasons = []
    if control is not None:
        reach = max(control.high - 1, 1 - control.low)
        if reach > CONTROL_BOUND:
            reasons.append(Reason("the same file opened twice differs by up to", reach, CONTROL_BOUND))
    spread = None
    if len(probe) > 1:
        low, high = np.percentile(probe, [10, 90])
        spread = float((high - low) / statistics.median(probe))
        if spread > NOISE_BOUND:
            reasons.append(Reason("a fixed piece of work changes between rounds by", spread, NOISE_BOUND))
    for what, measured, bound, unit in (
        ("other programs kept busy", conditions.others_cores, OTHERS_BOUND, "cores"),
        ("the hypervisor took from the cores", conditions.steal, STEAL_BOUND, ""),
        ("measured processes were interrupted", switches, SWITCHES_BOUND, "times a second"),
        ("cores were slowed down because of heat or power", conditions.throttled, 0, "times"),
        ("the machine was suspended for", conditions.slept_s, 0.1, "seconds"),
    ):
        if measured is not None and measured > bound:
            reasons.append(Reason(what, float(measured), float(bound), unit))
    return Noise(control, tuple(probe), spread, switches, tuple(reasons))
