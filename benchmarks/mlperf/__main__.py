"""MLPerf's load generator drives the predictor: SingleStream and Offline, accuracy and performance by the same code.

    python -m benchmarks.mlperf                  (part of `make peers`; writes benchmarks/results/mlperf.json)
    python -m benchmarks.mlperf --quick          some seconds, to see that it works
    ... --output FILE                            instead of benchmarks/results/mlperf.json

The load generator stands in an environment of its own, with numpy and onnxruntime, made once in the user's cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared.common import REFERENCE, ROOT, clean_environment, note, ratio
from benchmarks.shared.environments import environment, installed, locked
from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.errors import ToolkitError
from toolkit.publishing import write_atomic

RESULT = ROOT / "benchmarks" / "results" / "mlperf.json"
MODEL = REFERENCE / "model.int8.onnx"
ROUNDS, QUERIES = 21, 5000
TIMEOUT = 300.0
WITHIN = 0.1
"""How far the two p90 may lie apart and still agree."""


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    start = time.monotonic()
    try:
        report: dict[str, Any] = {"format": 1, "quick": options.quick, "host": asdict(describe_host())}
        report |= driven(3 if options.quick else ROUNDS, 1000 if options.quick else QUERIES)
        report["seconds"] = time.monotonic() - start
        write_atomic(options.output, json.dumps(report, indent=1) + "\n")
    except ToolkitError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    except OSError as error:
        parser.exit(3, f"error: {error}; make room in {tempfile.gettempdir()} and run it again\n")
    note(f"{report['seconds']:.0f} s; written to {options.output}")
    return 0


def driven(rounds: int, queries: int) -> dict[str, Any]:
    """Everything that the load generator and we say of the predictor.

    Raises:
        ToolkitError: the environment cannot be made, or the process failed or hung.
    """
    data = load()
    python = environment("loadgen", locked("loadgen"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        np.save(scratch / "images.npy", data.test_images)
        np.save(scratch / "labels.npy", data.test_labels)
        spec = {
            "model": str(MODEL),
            "images": str(scratch / "images.npy"),
            "labels": str(scratch / "labels.npy"),
            "logs": str(scratch / "logs"),
            "rounds": rounds,
            "queries": queries,
        }
        note("the load generator drives the predictor")
        try:
            done = subprocess.run(
                [python, str(Path(__file__).with_name("drive.py")), json.dumps(spec)],
                capture_output=True,
                text=True,
                cwd=scratch,
                timeout=TIMEOUT,
                check=False,
                env=clean_environment() | {"PYTHONPATH": str(ROOT)},
            )
        except subprocess.TimeoutExpired as error:
            raise ToolkitError(f"the load generator took longer than {TIMEOUT:g} s and was killed") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ToolkitError(f"the load generator ended with {done.returncode}: {said[-1] if said else 'nothing said'}")
    return judged(json.loads(done.stdout.splitlines()[-1]), queries) | {"packages": installed(python)}


def judged(found: dict[str, Any], queries: int) -> dict[str, Any]:
    """The load generator's figures beside ours.

    Args:
        found: what `drive.py` printed.
        queries: of each round.

    Returns:
        The accuracy of both scenarios. By percentile the medians over the rounds, in us, of the load generator with the
        predictor ("loadgen"), of the predictor within the same calls by our clock ("inner"), of the load generator with
        nothing to do ("empty"), and of our own timing ("ours"). Ratios of p90 with intervals: of the two as they are;
        without what the load generator takes with nothing to do; the same beside our clock in the same calls; whether
        they agree within 10 %. Samples a second of the Offline query, of one with nothing to do, of `predict_batch`.
    """
    rounds = found.pop("rounds")
    latency = {
        name: dict(zip(("p50_us", "p90_us", "p99_us"), (np.median(rounds[name], axis=0) / 1000).tolist(), strict=True))
        for name in ("loadgen", "inner", "empty", "ours")
    }
    p90 = {name: [entry[1] for entry in rounds[name]] for name in latency}
    whole = ratio(p90["loadgen"], p90["ours"])
    own = [a - b for a, b in zip(p90["loadgen"], p90["empty"], strict=True)]
    without, same_calls = ratio(own, p90["ours"]), ratio(own, p90["inner"])
    rates = {name: float(np.median(rounds[name])) for name in ("offline", "offline_empty", "batches")}
    return {
        **found,
        "rounds": len(rounds["loadgen"]),
        "queries": queries,
        "latency": latency,
        "p90_ratio": whole,
        "p90_ratio_without_its_own": without,
        "p90_ratio_same_calls": same_calls,
        "agree": abs(whole["ratio"] - 1) <= WITHIN,
        "agree_without_its_own": abs(without["ratio"] - 1) <= WITHIN,
        "samples_per_second": rates,
    }


if __name__ == "__main__":
    sys.exit(main())
