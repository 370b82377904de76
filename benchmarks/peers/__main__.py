"""The same trained Keras model on the same 10,000 images through other runtimes, and what each of them costs.

    python -m benchmarks.peers                  (`make peers`; writes benchmarks/results/peers.json)
    python -m benchmarks.peers --quick          a few rounds, to see that it works
    ... --only NAME;NAME                        some peers, beside ours
    ... --output FILE                           instead of benchmarks/results/peers.json

Each peer runs in processes of its own, with one thread and with as many as there are cores; they take turns in one run.
A peer that cannot be installed, or fails, has a row that says so. Environments are made once, in the user's cache.
`make readme` makes benchmarks/RESULTS.md and its plots from the results.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.field import FIELD, OURS
from benchmarks.peers.measure import BATCH, Plan, Trial, start_all, take_labels, take_starts, take_times
from benchmarks.peers.report import rows
from benchmarks.peers.targets import judged
from benchmarks.shared.common import ROOT, note
from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.errors import ToolkitError
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.peers.field import Peer

RESULT = ROOT / "benchmarks" / "results" / "peers.json"
FULL = Plan(rounds=21, calls=400, seconds=0.3, runs=8, label_seconds=4, starts=9, start_seconds=12, timeout=180)
QUICK = Plan(rounds=2, calls=50, seconds=0.1, runs=3, label_seconds=1, starts=1, start_seconds=5, timeout=180)


def main() -> int:
    """Measure and write; 130 if it was interrupted, with what was measured until then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(";"), metavar="NAME;NAME")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    names = [peer.name for peer in FIELD]
    if unknown := set(options.only or []) - set(names):
        parser.error(f"no such peer: {'; '.join(sorted(unknown))}; there are {'; '.join(names)}")
    peers = [peer for peer in FIELD if not options.only or peer.name in {OURS, *options.only}]
    try:
        report = compared(peers, QUICK if options.quick else FULL)
        write_atomic(options.output, json.dumps({**report, "quick": options.quick}, indent=1) + "\n")
    except ToolkitError as error:  # without Keras' own labels there is nothing to compare with
        parser.exit(error.exit_code, f"error: {error}\n")
    except OSError as error:
        parser.exit(3, f"error: {error}; make room in {tempfile.gettempdir()} and run it again\n")
    note(f"{sum(report['seconds'].values()):.0f} s in all; written to {options.output}")
    return 130 if report["interrupted"] else 0


def compared(peers: Sequence[Peer], plan: Plan) -> dict[str, Any]:
    """The whole report."""
    report: dict[str, Any] = {"format": 1, "host": asdict(describe_host()), "plan": asdict(plan), "batch": BATCH}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch, data = Path(folder), load()
        np.save(scratch / "images.npy", data.test_images)
        trial = Trial(scratch, scratch / "images.npy", plan)
        interrupted = False

        def part(name: str, what: Callable[[], Any]) -> Any:
            nonlocal interrupted
            if interrupted:
                return None
            start = time.monotonic()
            try:
                return what()
            except KeyboardInterrupt:
                interrupted = True
                note("interrupted; what was measured is kept")
                return None
            finally:
                seconds[name] = time.monotonic() - start
                note(f"{name}: {seconds[name]:.0f} s")

        part("Keras' labels and files", lambda: trial.convert("keras"))
        contestants = part("environments, conversions, opening", lambda: start_all(peers, trial)) or []
        try:
            part("labels", lambda: take_labels(contestants, plan))
            part("times", lambda: take_times(contestants, plan))
        finally:
            for it in contestants:
                it.stop()
        part("fresh processes", lambda: take_starts(contestants, trial))
        report |= {
            "images": len(data.test_images),
            "interrupted": interrupted,
            "seconds": seconds,
            "conversion_seconds": trial.seconds,
            "targets": judged(contestants),
            "peers": rows(contestants, trial, np.load(scratch / "keras.npy"), data.test_labels),
        }
    return report


if __name__ == "__main__":
    sys.exit(main())
