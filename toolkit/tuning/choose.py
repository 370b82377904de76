"""The choice among measured candidates: a budget, an objective, and a reason in words. Pure figures, no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.benchmarking.rounds import ratio_interval
from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from toolkit.conversion.recipe import QuantizationRecipe

__all__ = ["OBJECTIVES", "Budget", "Choice", "Measured", "choose", "pareto"]

OBJECTIVES = ("latency", "size")
SAME_SIZE = 0.01
"""Files that differ by no more than this share count as equally small."""
SAME_SPEED = 0.03
"""Latencies that may differ by no more than this share count as equal: less is the luck of a memory layout."""


@dataclass(frozen=True)
class Budget:
    """What the winner may cost, and what it should be best at.

    Attributes:
        max_accuracy_drop: most accuracy lost against Keras, as a share (0.005 is half a point).
        min_agreement: least share of labels equal to Keras'.
        objective: "latency" (p50 of one image) or "size" (bytes of the file).
        portable: nothing that answers otherwise on other CPUs: no int8 that can saturate, no int4, no float16.
    """

    max_accuracy_drop: float = 0.005
    min_agreement: float = 0.98
    objective: str = "latency"
    portable: bool = True

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective is {self.objective!r}, expected one of {', '.join(OBJECTIVES)}")
        for name in ("max_accuracy_drop", "min_agreement"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected a share from 0 to 1")


@dataclass(frozen=True)
class Measured:
    """A candidate and what was measured of it.

    Attributes:
        recipe: None is float32.
        title: what sets it apart, in a few words.
        accuracy: share of the validation images that it labels right.
        accuracy_drop: what it loses against Keras there; negative where it is better.
        accuracy_drop_error: standard error of that, from the images on which the two differ.
        agreement: share of the labels equal to Keras'.
        bytes: size of the file.
        medians_ns: median latency of one image in each interleaved round, in ns.
        p50_ns, p99_ns: percentiles of all rounds together.
        cold_start_ms: median from a fresh process to its first answer.
        can_saturate: some input makes its integer sums clip on x86 without VNNI.
    """

    recipe: QuantizationRecipe | None
    title: str
    accuracy: float
    accuracy_drop: float
    accuracy_drop_error: float
    agreement: float
    bytes: int
    medians_ns: tuple[float, ...]
    p50_ns: float
    p99_ns: float
    cold_start_ms: float
    can_saturate: bool


@dataclass(frozen=True)
class Choice:
    """Which candidate, and why.

    Attributes:
        index: of the chosen one.
        reason: in one or two sentences.
        tied: those that measurement could not tell from the best of the objective.
        refused: for each candidate that was out of the question, why.
    """

    index: int
    reason: str
    tied: list[int]
    refused: dict[int, str]


def choose(measured: Sequence[Measured], budget: Budget) -> Choice:
    """The best candidate within the budget; float32 where none is really better.

    Candidates that measurement cannot tell apart in the objective are settled by agreement with Keras, the figure that
    is least a matter of chance, then by their order.

    Args:
        measured: float32 must be among them.
        budget: what is allowed.

    Raises:
        ValueError: float32 was not measured.
    """
    base = next((i for i, one in enumerate(measured) if one.recipe is None), None)
    if base is None:
        raise ValueError("float32 is not among the candidates")
    refused = {i: why for i, one in enumerate(measured) if one.recipe is not None and (why := _refusal(one, budget))}
    left = [i for i in range(len(measured)) if i not in refused]
    key = _bytes if budget.objective == "size" else _p50
    best = min(left, key=lambda i: key(measured[i]))
    tied = [i for i in left if _equal(measured[i], measured[best], budget.objective)]
    if budget.objective == "latency":  # what ties with the fastest must still be faster than float32 itself
        tied = [i for i in tied if i == base or _is_faster(measured[i], measured[base])]
    if base in tied or not tied:
        return Choice(base, _keep(base, left, refused, budget), tied, refused)
    winner = max(tied, key=lambda i: (measured[i].agreement, -i))
    return Choice(winner, _why(measured[winner], measured[base], len(tied) - 1, budget), tied, refused)


def pareto(measured: Sequence[Measured], refused: Collection[int]) -> list[int]:
    """Candidates that no other beats or equals in agreement, size and p50 at once while being better in one.

    Only those that are not refused count.
    A p50 counts in steps of `SAME_SPEED`, so that noise alone puts nobody on the front.
    """

    def figures(one: Measured) -> tuple[float, float, float]:
        return (-one.agreement, one.bytes, round(math.log(one.p50_ns, 1 + SAME_SPEED)))

    left = {i: figures(one) for i, one in enumerate(measured) if i not in refused}

    def beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in left.values())

    return [i for i, own in left.items() if not beaten(own)]


def _refusal(one: Measured, budget: Budget) -> str:
    if not one.accuracy_drop <= budget.max_accuracy_drop:
        return f"loses {100 * one.accuracy_drop:.2f} points of accuracy, {100 * budget.max_accuracy_drop:.2f} allowed"
    if not one.agreement >= budget.min_agreement:
        return f"agrees with Keras on {one.agreement:.2%} of the labels, {budget.min_agreement:.2%} asked"
    if budget.portable and one.can_saturate:
        return "can saturate on x86 without VNNI, so its answers would depend on the CPU"
    if budget.portable and one.recipe is not None and one.recipe.kind != "int8":
        return "computes in the CPU's own precision, so its answers would depend on the CPU; --no-portable admits it"
    return ""


def _p50(one: Measured) -> float:
    return one.p50_ns


def _bytes(one: Measured) -> float:
    return one.bytes


def _equal(one: Measured, best: Measured, objective: str) -> bool:
    if objective == "size":
        return one.bytes <= best.bytes * (1 + SAME_SIZE)
    if one is best:
        return True
    low, _ = ratio_interval(one.medians_ns, best.medians_ns)
    return low <= 1 + SAME_SPEED


def _is_faster(one: Measured, base: Measured) -> bool:
    return ratio_interval(one.medians_ns, base.medians_ns)[1] < 1


def _keep(base: int, left: Sequence[int], refused: dict[int, str], budget: Budget) -> str:
    others = [i for i in left if i != base]
    if not others and not refused:
        return "keep float32: no other form could be made"
    if not others:
        return f"keep float32: no other form stays within the budget (the first: {next(iter(refused.values()))})"
    what = "is smaller" if budget.objective == "size" else "is faster beyond the noise of this machine"
    return f"keep float32: none of the others within the budget ({len(others)}) {what}"


def _why(one: Measured, base: Measured, others: int, budget: Budget) -> str:
    tie = f"; {others} more are as good within what could be measured, and agree with Keras no better" if others else ""
    if budget.objective == "size":
        gain = f"{one.bytes / base.bytes:.2f} of float32's bytes"
    else:
        low, high = ratio_interval(one.medians_ns, base.medians_ns)
        gain = f"{one.p50_ns / base.p50_ns:.2f} of float32's time (95 % interval of the rounds {low:.2f} to {high:.2f})"
    return (
        f"{one.title}: {gain}; accuracy {-100 * one.accuracy_drop + 0.0:+.2f} points against Keras on the validation "
        f"images (standard error {100 * one.accuracy_drop_error:.2f}), {100 * budget.max_accuracy_drop:.2f} "
        f"may be lost{tie}"
    )
