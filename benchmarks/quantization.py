"""What portable scales cost: accuracy over five trained models, size, and latency beside the plain file's.

    python benchmarks/quantization.py        (`make quantization`; writes benchmarks/results/quantization.json)
    ... --keep FOLDER                        trained artifacts (FOLDER/seed-1 and so on) are left there, or taken

Trains the default recipe with five seeds (two minutes each on two cores), exports each with portable and with plain
scales, per tensor and per channel, and holds all of them against Keras on the 10,000 test images. Latency is taken of
the reference model's files in interleaved rounds, each file opened anew in each round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from toolkit.benchmarking.feed import fed_with, random_rows
from toolkit.benchmarking.host import describe_host
from toolkit.benchmarking.latency import time_calls
from toolkit.benchmarking.rounds import Measurement, ratio_interval, run_rounds
from toolkit.predictor import Predictor, TensorInfo
from toolkit.progress import silent_step
from toolkit.publishing import write_atomic

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
SEEDS = (1, 2, 3, 4, 5)
FORMS = {
    "portable, per tensor": [],
    "plain, per tensor": ["--no-portable"],
    "portable, per channel": ["--per-channel"],
    "plain, per channel": ["--per-channel", "--no-portable"],
    "portable, per tensor, entropy": ["--calibration-method", "entropy"],
    "7 bits, per tensor": ["--reduce-range"],
    "int4": ["int4"],
}
ROUNDS, CALLS = 30, 1000


def main() -> None:
    """Train, export, compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = [_model(folder, (options.keep or folder) / f"seed-{seed}", seed) for seed in SEEDS]
        report = {
            "format": 2,  # 1 was measured without bias correction
            "host": asdict(describe_host()),
            "models": models,
            "summary": _summary(models),
            "size": _size(REFERENCE / "model.int8.onnx"),
            "latency": _latency(folder),
        }
    write_atomic(ROOT / "benchmarks" / "results" / "quantization.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: report[key] for key in ("summary", "size", "latency")}, indent=1))


def _toolkit(*arguments: object) -> None:
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


def _model(folder: Path, artifact: Path, seed: int) -> dict[str, Any]:
    """One trained model in every form; loose gates, since what is lost is what is measured."""
    if not artifact.is_dir():
        _toolkit("train", "--seed", seed, "--output", artifact)
    forms = {}
    for name, options in FORMS.items():
        method, rest = ("int4", []) if options == ["int4"] else ("static", options)
        loose = ["--min-agreement", 0, "--max-accuracy-drop", 1]
        _toolkit("export", artifact, f"--quantize={method}", *rest, *loose, "--output", folder / "form")
        manifest = json.loads((folder / "form" / "manifest.json").read_text())
        (quantized,) = [name for name, file in manifest["files"].items() if file["kind"] in ("int8", "int4")]
        forms[name] = manifest["parity"][quantized][0]
    return {"seed": seed, "float32": manifest["parity"]["model.onnx"][0], "forms": forms}


def _summary(models: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over the models, in points of accuracy and shares of labels."""
    found = {}
    for name in ("float32", *FORMS):
        records = [model["float32"] if name == "float32" else model["forms"][name] for model in models]
        accuracies = [100 * record["accuracy"] for record in records]
        lost = [100 * (record["keras_accuracy"] - record["accuracy"]) for record in records]
        agreements = [100 * record["agreement"] for record in records]
        found[name] = {
            "accuracy_mean": statistics.mean(accuracies),
            "accuracy_std": statistics.stdev(accuracies),
            "lost_mean": statistics.mean(lost),
            "lost_std": statistics.stdev(lost),
            "agreement_mean": statistics.mean(agreements),
            "agreement_min": min(agreements),
        }
    return found


def _size(path: Path) -> dict[str, float]:
    """The file against one byte a weight and four a bias."""
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    weights = sum(a.size for a in arrays.values() if a.dtype == np.int8 and a.ndim == 2)
    biases = sum(a.size for a in arrays.values() if a.dtype == np.int32 and a.ndim == 1)
    least = weights + 4 * biases
    size = path.stat().st_size
    return {"bytes": size, "weights": weights, "biases": biases, "least_bytes": least, "ratio": size / least}


def _latency(folder: Path) -> dict[str, Any]:
    """p50 of one image for the reference model's files, and the ratios that the README states."""
    _toolkit("export", REFERENCE, "--quantize", "--no-portable", "--output", folder / "plain")
    paths = {
        "float32": REFERENCE / "model.onnx",
        "portable": REFERENCE / "model.int8.onnx",
        "plain": folder / "plain" / "model.int8.onnx",
    }
    images = random_rows(fed_with(TensorInfo("image", np.dtype(np.uint8), (28, 28)), (0, 255), free=1), 64, 0)
    timed: dict[str, Measurement[tuple[int, ...]]] = {
        name: Measurement(lambda path=path: time_calls(Predictor(path).classify, images, calls=CALLS, warmup=100))  # type: ignore[misc]  # a default binds the path
        for name, path in paths.items()
    }
    run_rounds(list(timed.values()), ROUNDS, silent_step)
    medians = {name: [statistics.median(r) for r in one.results] for name, one in timed.items()}
    ratios = {}
    for one, base in (("portable", "plain"), ("portable", "float32"), ("plain", "float32")):
        low, high = ratio_interval(medians[one], medians[base])
        ratio = statistics.median(a / b for a, b in zip(medians[one], medians[base], strict=True))
        ratios[f"{one} to {base}"] = {"ratio": ratio, "low": low, "high": high}
    p50 = {name: float(np.percentile(np.concatenate(one.results), 50)) / 1000 for name, one in timed.items()}
    return {"rounds": ROUNDS, "calls": CALLS, "p50_us": p50, "ratios": ratios}


if __name__ == "__main__":
    main()
