"""Batches of several sizes, one after the other, by ``predict_batch``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.latency import Throughput, summarize_throughput, time_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.benchmarking.opened import Opened

__all__ = ["NAME", "Batches", "summarize", "take"]

NAME = "batches"


@dataclass(frozen=True)
class Batches:
    """Rows a second by batch size.

    Attributes:
        sizes: one `Throughput` each, rising.
    """

    sizes: tuple[Throughput, ...]


def take(opened: Opened, size: int, seconds: float) -> dict[str, Any]:
    """Time runs over one batch; the first is not timed."""
    runs = time_batches(opened.predictor.predict_batch, opened.batch(size), seconds=seconds)
    return {"size": size, "samples": runs, "warmup": 1}


def summarize(rounds: Sequence[Sequence[dict[str, Any]]]) -> Batches:
    """The figures of all rounds, each with one take a size."""
    by_size: dict[int, list[dict[str, Any]]] = {}
    for takes in rounds:
        for taken in takes:
            by_size.setdefault(taken["size"], []).append(taken)
    return Batches(
        tuple(
            summarize_throughput([taken["samples"] for taken in found], size, sum(taken["warmup"] for taken in found))
            for size, found in sorted(by_size.items())
        )
    )
