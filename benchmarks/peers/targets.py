"""What the model in C is to reach beside others: ratios of one run, each with the most that it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.peers.field import BY_HAND, GENERATED, NATIVE, OURS
from benchmarks.shared.common import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.measure import Contestant

__all__ = ["TARGETS", "Target", "judged"]


class Target(NamedTuple):
    """One ratio of the time of one image, in one thread.

    Attributes:
        what: for people; the bases are named behind it.
        peer: whose time it is.
        bases: whose time it is divided by: of several, the fastest.
        most: that the ratio may be.
        inside: without Python around the functions.
    """

    what: str
    peer: str
    bases: tuple[str, ...]
    most: float
    inside: bool = False


TARGETS = (
    Target("`Predictor(backend='native').classify`", NATIVE, ("LiteRT, dynamic int8", "LiteRT, full int8"), 0.85),
    Target("`Predictor(backend='native').classify`", NATIVE, (OURS,), 0.5),
    Target("the generated function alone, timed in C", GENERATED, (BY_HAND,), 1.2, inside=True),
    Target("the generated function, called by ctypes", GENERATED, (BY_HAND,), 1.2),
)


def judged(contestants: Sequence[Contestant], targets: Sequence[Target] = TARGETS) -> list[dict[str, Any]]:
    """Each target with its ratio, interval and verdict; all three None where somebody was not measured.

    Of several bases none may be missing: the fastest of those that are left might be the slow one.

    Args:
        contestants: as measured.
        targets: see `TARGETS`.
    """
    alone = {it.peer.name: it for it in contestants if it.threads == 1 and not it.failed}
    found = []
    for target in targets:
        entry: dict[str, Any] = {"what": target.what, "base": " or ".join(target.bases), "most": target.most}
        entry |= dict.fromkeys(("ratio", "low", "high", "met"))
        times = {name: _times(alone.get(name), inside=target.inside) for name in (target.peer, *target.bases)}
        rounds = min(len(samples) for samples in times.values())
        if rounds >= 2:
            kept = {name: samples[:rounds] for name, samples in times.items()}
            base = min(target.bases, key=lambda name: float(np.median(np.concatenate(kept[name]))))
            entry |= {"base": base, **ratio(kept[target.peer], kept[base])}
            entry["met"] = bool(entry["ratio"] <= target.most)
        found.append(entry)
    return found


def _times(it: Contestant | None, *, inside: bool) -> list[list[int]]:
    if it is None:
        return []
    return it.inside_times if inside else it.times
