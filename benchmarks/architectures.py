"""Every kind of Keras model that the tests know, through export, int8 and verification with default options.

    python -m benchmarks.architectures           (writes benchmarks/results/architectures.json)
    python -m benchmarks.architectures --cpu     also as Haswell and Cortex-A72 run them, under emulation (`make
                                                 architectures`)
    ... --model NAME=MODEL,CALIBRATION,TEST      a file of one's own beside them
    ... --only NAME,NAME                         some of them; the figures of the others stay

For each model: the largest difference of its float32 file to Keras, how its int8 file agrees with Keras (or how far its
values are off), the sizes of the two, and their latencies for one row, in interleaved rounds of one process, each file
opened anew in each round.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo import ZOO, Example
from toolkit.benchmarking.host import describe_host
from toolkit.benchmarking.latency import time_calls
from toolkit.benchmarking.rounds import Measurement, ratio_interval, run_rounds
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.datasets import Rows
from toolkit.emulation.cpus import choose
from toolkit.other_cpus import OtherCpus
from toolkit.pipeline import ExportOptions, FailedGatesError, OwnData, export_artifact
from toolkit.predictor import Predictor
from toolkit.progress import silent_note, silent_step
from toolkit.publishing import write_atomic
from toolkit.verification.parity import DecisionParity

ROOT = Path(__file__).parents[1]
CPUS = ("haswell", "cortex-a72")
ROUNDS, CALLS = 11, 300
CPU_ROWS = 100


def main() -> None:
    """Build, export, judge, time, write."""
    words = sys.argv[1:]
    cpus = OtherCpus(choose(list(CPUS)), CPU_ROWS) if "--cpu" in words else OtherCpus()
    models: dict[str, Any] = {name: partial(_of_zoo, build) for name, build in ZOO.items()}
    only = None
    for at, word in enumerate(words):
        if word == "--only":
            only = words[at + 1].split(",")
        if word == "--model":
            name, _, paths = words[at + 1].partition("=")
            models[name] = partial(_of_files, *map(Path, paths.split(",")))
    found: dict[str, Any] = {}
    report = {"format": 1, "host": asdict(describe_host()), "rounds": ROUNDS, "calls": CALLS, "models": found}
    with tempfile.TemporaryDirectory() as scratch:
        for name, build in models.items():
            if only is not None and name not in only:
                continue
            model, data, labels = build()
            entry = _measured(Path(scratch) / name, model, data, cpus)
            found[name] = {**entry, "labels_known": labels}
            print(name, json.dumps(entry), flush=True)
    target = ROOT / "benchmarks" / "results" / "architectures.json"
    if only is not None:
        earlier = json.loads(target.read_text())
        if earlier["host"]["cpu_model"] != report["host"]["cpu_model"]:  # type: ignore[index]  # asdict gives a dict
            raise SystemExit(f"{target} is of another machine; measure all models here")
        report["models"] = {**earlier["models"], **found}
    write_atomic(target, json.dumps(report, indent=1) + "\n")


def _of_zoo(build: Any) -> tuple[Any, OwnData, bool]:
    example: Example = build()
    targets = {} if example.labels is None else {example.model.output_names[0]: example.labels}
    calibration = Rows(example.calibration, {}, None, "training rows")
    return example.model, OwnData(calibration, Rows(example.test, targets, None, "test rows")), bool(targets)


def _of_files(model: Path, calibration: Path, test: Path) -> tuple[Path, OwnData, bool]:
    return model, OwnData(calibration, test), False


def _measured(folder: Path, model: Any, data: OwnData, cpus: OtherCpus) -> dict[str, Any]:
    options = ExportOptions(QuantizationRecipe(), data=data, cpus=cpus, keep_failed=True)
    why = None
    try:
        _, report = export_artifact(model, folder, _none, options, silent_note, silent_step)
    except FailedGatesError as failure:
        report, why = failure.report, failure.report.failures()
        folder = folder.with_name(f"{folder.name}.failed")
    manifest = json.loads((folder / "manifest.json").read_text())
    float32, int8 = (next(file for file in report.files if file.kind == kind) for kind in ("float32", "int8"))
    found: dict[str, Any] = {
        "route": manifest["conversion"]["route"],
        "folded": manifest["conversion"]["folded"],
        "kept_float": manifest["quantization"]["kept_float"],
        "passed": report.passed,
        "why": why,
        "float32_max_abs": max(output.parity.max_abs for output in float32.outputs),
        "outputs": [_output(output) for output in int8.outputs],
        "parameters_bytes": manifest["files"]["model.onnx"]["bytes"],
        "size_ratio": manifest["files"]["model.int8.onnx"]["bytes"] / manifest["files"]["model.onnx"]["bytes"],
        "latency": _latency(folder),
        "cpus": {
            check.where.cpu: {"values_differ": check.logits_differ, "values": check.logits, "exact": check.exact}
            for check in int8.cpus
        },
    }
    return found


def _none() -> Any:
    raise RuntimeError("no model here has Fashion-MNIST by itself")


def _output(output: Any) -> dict[str, Any]:
    parity = output.parity
    decides = isinstance(parity, DecisionParity)
    return {
        "name": output.name,
        "task": output.task,
        "rows": parity.n,
        "agreement": parity.agreement if decides else None,
        "relative_error": None if decides else parity.relative_error,
    }


def _latency(folder: Path) -> dict[str, float]:
    """p50 of one row of both files, and the ratio of int8's to float32's with its interval."""
    paths = {"float32": folder / "model.onnx", "int8": folder / "model.int8.onnx"}
    sample = folder / "samples"
    rows = _rows(sample, Predictor(paths["float32"]))
    timed: dict[str, Measurement[tuple[int, ...]]] = {
        name: Measurement(partial(_time, path, rows)) for name, path in paths.items()
    }
    run_rounds(list(timed.values()), ROUNDS, silent_step)
    medians = {name: [statistics.median(samples) for samples in one.results] for name, one in timed.items()}
    low, high = ratio_interval(medians["int8"], medians["float32"])
    ratio = statistics.median(a / b for a, b in zip(medians["int8"], medians["float32"], strict=True))
    return {name: statistics.median(each) / 1000 for name, each in medians.items()} | {
        "ratio": ratio,
        "low": low,
        "high": high,
    }


def _time(path: Path, rows: list[Any]) -> tuple[int, ...]:
    return time_calls(Predictor(path).predict, rows, calls=CALLS, warmup=30)


def _rows(folder: Path, predictor: Predictor) -> list[Any]:
    """The sample rows one by one, as the predictor takes them."""
    if (folder / "rows.npz").exists():
        with np.load(folder / "rows.npz") as arrays:
            held = {name: arrays[name] for name in arrays.files}
    else:
        from PIL import Image

        pixels = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
        shape = [size or 1 for size in predictor.inputs[0].shape]
        held = {predictor.inputs[0].name: np.stack([each.reshape(shape) for each in pixels])}
    count = len(next(iter(held.values())))
    return [{name: array[at] for name, array in held.items()} for at in range(count)]


if __name__ == "__main__":
    main()
