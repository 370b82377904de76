"""What the toolkit's own Python costs, beside what people write by hand and beside its bare dependencies.

    python benchmarks/overhead.py            (part of `make benchmarks`; writes benchmarks/results/overhead.json)

Everything that is compared runs in turn in one run, and the ratio is taken of the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.predictor import Predictor
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
PROGRAMS = Path(sys.executable).parent
ROUNDS, CALLS, STARTS = 20, 2000, 25


def main() -> None:
    """Measure and write the report."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    report = {
        "format": 1,
        "host": asdict(describe_host()),
        "one_image": one_image(),
        "start": starts(environment),
        "import": imports(environment),
    }
    write_atomic(ROOT / "benchmarks" / "results" / "overhead.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps({k: v for k, v in report.items() if k != "host"}, indent=1))


def one_image() -> dict[str, Any]:
    """Raw image to label, one thread: the predictor, the usual way, and the bare runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    images = load().test_images[:CALLS]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(PROGRAMS / "toolkit"), "export", str(REFERENCE), "--input", "float32", "-o", f"{folder}/float"]
        subprocess.run(command, check=True, capture_output=True)
        usual = ort.InferenceSession(f"{folder}/float/model.onnx", options, providers=["CPUExecutionProvider"])
    bare = ort.InferenceSession(REFERENCE / "model.int8.onnx", options, providers=["CPUExecutionProvider"])
    predictor = Predictor(REFERENCE)

    def usual_way(image: NDArray[np.uint8]) -> int:
        pixels = image[None].astype(np.float32) / np.float32(255)
        return int(usual.run(None, {"image": pixels})[0].argmax())

    def bare_run(image: NDArray[np.uint8]) -> object:
        return bare.run(None, {"image": image[None]})

    ways: dict[str, Callable[[NDArray[np.uint8]], object]] = {
        "classify, int8": predictor.classify,
        "usual way, float32": usual_way,
        "bare session.run, int8": bare_run,
        "predict, int8": predictor.predict,
        "classify, float32": Predictor(REFERENCE, kind="float32").classify,
    }
    samples: dict[str, list[int]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            taken = _time(way, images)
            if number:  # the first round is warm-up
                samples[name] += taken
    figures = {name: _microseconds(taken) for name, taken in samples.items()}
    ours = figures["classify, int8"]["p50_us"]
    return {
        "calls": ROUNDS * CALLS,
        "threads": 1,
        "ways": figures,
        "classify_to_usual_way": ours / figures["usual way, float32"]["p50_us"],
        "classify_to_bare_run": ours / figures["bare session.run, int8"]["p50_us"],
    }


def _time(way: Callable[[NDArray[np.uint8]], object], images: NDArray[np.uint8]) -> list[int]:
    clock, taken = time.perf_counter_ns, []
    for image in images:
        start = clock()
        way(image)
        taken.append(clock() - start)
    return taken


def _microseconds(taken: list[int]) -> dict[str, float]:
    p50, p90, p99 = np.percentile(taken, [50, 90, 99]) / 1000
    return {"p50_us": float(p50), "p90_us": float(p90), "p99_us": float(p99)}


def starts(environment: dict[str, str]) -> dict[str, Any]:
    """Whole processes: the command line's start beside that of the library that it is built on."""
    commands = {
        "import typer": [sys.executable, "-c", "import typer"],
        "toolkit --version": [str(PROGRAMS / "toolkit"), "--version"],
        "toolkit --help": [str(PROGRAMS / "toolkit"), "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(STARTS + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            if number:
                taken[name].append((time.perf_counter() - start) * 1000)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    base = medians["import typer"]
    return {
        "runs": STARTS,
        "median_ms": medians,
        "version_to_typer": medians["toolkit --version"] / base,
        "help_to_typer": medians["toolkit --help"] / base,
    }


def imports(environment: dict[str, str]) -> dict[str, Any]:
    """What importing the predictor adds to a process that has imported numpy and onnxruntime."""
    script = (
        "import time, numpy, onnxruntime\nstart = time.perf_counter_ns()\nimport toolkit.predictor\n"
        "print(time.perf_counter_ns() - start)"
    )
    command = [sys.executable, "-c", script]
    taken = [
        int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout) / 1e6
        for _ in range(STARTS + 1)
    ]
    return {"runs": STARTS, "predictor_median_ms": statistics.median(taken[1:]), "predictor_max_ms": max(taken[1:])}


if __name__ == "__main__":
    main()
