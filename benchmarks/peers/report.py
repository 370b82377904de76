"""What was measured, as it goes into benchmarks/results/peers.json."""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.field import OURS
from benchmarks.peers.measure import BATCH, Contestant, median_start
from benchmarks.shared.common import figures, ratio
from benchmarks.shared.environments import installed, required

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.peers.measure import Trial

__all__ = ["rows"]


def rows(
    contestants: Sequence[Contestant], trial: Trial, keras: NDArray[np.int64], labels: NDArray[np.uint8]
) -> list[dict[str, Any]]:
    """One entry a peer, in the order of the field.

    Args:
        contestants: as measured.
        trial: whose environments and files they had.
        keras: Keras' labels.
        labels: the right ones.
    """
    base = next((it for it in contestants if it.peer.name == OURS and it.threads == 1 and not it.failed), None)
    found: dict[str, dict[str, Any]] = {}
    packages = functools.cache(lambda environment: _packages(trial, environment))
    for it in contestants:
        peer = it.peer
        facts = {"name": peer.name, "engine": peer.engine, "settings": peer.settings, "threads": {}}
        entry = found.setdefault(peer.name, facts)
        entry["threads"][str(it.threads)] = (
            {"failed": it.failed} if it.failed or not it.times else _measured(it, base, keras, labels)
        )
        if "file_bytes" not in entry and not it.failed:
            paths = trial.files(peer)
            entry["file_bytes"] = sum(paths[name].stat().st_size for name in peer.shipped or paths)
            entry["packages"] = packages(peer.environment)
            entry["installed_bytes"] = sum(package["bytes"] for package in entry["packages"])
    return list(found.values())


def _packages(trial: Trial, environment: str) -> list[dict[str, Any]]:
    """What is installed for a peer: its environment, of the project's own only what Keras takes."""
    only = required(["keras", "tensorflow"]) if environment == "project" else None
    return installed(trial.python(environment), only)


def _measured(
    it: Contestant, base: Contestant | None, keras: NDArray[np.int64], labels: NDArray[np.uint8]
) -> dict[str, Any]:
    one_by_one = len(it.singles) == len(it.batches)
    answers = np.asarray(it.singles if one_by_one else it.batches)
    found: dict[str, Any] = {
        "accuracy": float((answers == labels[: len(answers)]).mean()),
        "labels_as_keras": int((answers == keras[: len(answers)]).sum()),
        "images": len(answers),
        "one_by_one": len(it.singles),
        "batches_differ": int((np.asarray(it.singles) != np.asarray(it.batches)[: len(it.singles)]).sum()),
        "calls": sum(len(samples) for samples in it.times),
        **figures(it.times),
        "images_per_second": BATCH * 1e9 / statistics.median([s for samples in it.batch_times for s in samples]),
    }
    if it.inside_times:
        found["inside_p50_us"] = figures(it.inside_times)["p50_us"]
    rounds = len(it.times)
    if base is not None and min(rounds, len(base.times)) >= 2:
        rounds = min(rounds, len(base.times))
        found["ratio"] = ratio(it.times[:rounds], base.times[:rounds])
        found["batch_ratio"] = ratio(it.batch_times[:rounds], base.batch_times[:rounds])
    if it.starts:
        first, peak, worked = median_start(it)
        found |= {"first_answer_ms": first, "peak_bytes": peak, "worked_bytes": worked, "starts": len(it.starts)}
    return found
