"""Our int8 file and our float32 file beside LiteRT's forms of the same Keras model, each runtime in its environment."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.device.convert import CUT, NEURONS
from benchmarks.device.workers import Spec, Worker
from benchmarks.shared.common import REFERENCE, ROOT, figures, note, ratio
from benchmarks.shared.tflite import CALIBRATION, FORMS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.device.common import Plan

__all__ = ["BEST_FORM", "converted", "litert_specs", "side_by_side"]

BEST_FORM = "int8, uint8 in and out"
"""The form that takes raw images with 8-bit weights and activations, as our int8 file does."""


ALONE = "runtime alone"


def converted(folder: Path) -> None:
    """Have the reference model converted into LiteRT's forms, in a process that ends before anything is timed."""
    note("converting the reference model for LiteRT")
    command = [sys.executable, "-m", "benchmarks.device.convert", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def litert_specs(python: str, folder: Path, ours: Spec) -> dict[str, Spec]:
    """One a form."""
    settings = {"num_threads": 1}
    return {
        form: replace(ours, python=python, engine="litert", model=folder / f"{form}.tflite", settings=settings)
        for form in FORMS
    }


def side_by_side(ours: Spec, litert: dict[str, Spec], folder: Path, labels: NDArray[Any], plan: Plan) -> dict[str, Any]:
    """Latency in turns, accuracy and agreement with Keras on all test images, and sizes.

    Args:
        ours: the predictor with the int8 file.
        litert: by form.
        folder: with Keras' labels.
        labels: the right ones.
        plan: how much.
    """
    specs = {
        "toolkit, int8": ours,
        "toolkit, float32": replace(ours, model=REFERENCE / "model.onnx"),
        "onnxruntime, int8": replace(
            ours, engine="onnxruntime", settings={"intra_op_num_threads": 1, "enable_cpu_mem_arena": False}
        ),
        **{f"LiteRT, {form}": spec for form, spec in litert.items()},
    }
    keras = np.load(folder / "keras.npy")
    rows: dict[str, dict[str, Any]] = {}
    samples: dict[tuple[str, str], list[list[int]]] = {}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(spec)) for name, spec in specs.items()}
        for name, worker in workers.items():
            answers = {way: np.array(worker.ask("labels", way)) for way in worker.ways if way != ALONE}
            found = next(iter(answers.values()))
            rows[name] = {
                "bytes": specs[name].model.stat().st_size,
                "accuracy": float((found == labels[: len(found)]).mean()),
                "labels_as_keras": int((found == keras[: len(found)]).sum()),
                "ways_differ": int(sum((other != found).any() for other in answers.values())),
            }
        for name, spec in _without_arithmetic(specs, folder).items():
            workers[name] = stack.enter_context(Worker(spec))
        for number in range(plan.rounds + 1):
            for name in list(workers) if number % 2 else reversed(workers):
                for way in workers[name].ways if name in rows else [ALONE]:
                    taken = workers[name].ask("times", way, plan.calls)["samples"]
                    if number:  # the first round is warm-up
                        samples.setdefault((name, way), []).append(taken)
        ways = {name: worker.ways for name, worker in workers.items()}
    for name, row in rows.items():
        row["ways"] = {way: figures(samples[name, way]) for way in ways[name]}
        row["best"] = min((w for w in ways[name] if w != ALONE), key=lambda w: row["ways"][w]["p50_us"])
    first = "toolkit, int8"
    best = f"LiteRT, {BEST_FORM}"
    pairs = {f"{first} / {name}": ((first, "classify"), (name, rows[name]["best"])) for name in rows if name != first}
    pairs["the runtimes alone, int8"] = (("onnxruntime, int8", ALONE), (best, ALONE))
    return {
        "rounds": plan.rounds,
        "calls": plan.calls,
        "images": len(labels),
        "calibration_images": CALIBRATION,
        "forms": FORMS,
        "rows": rows,
        "neurons": NEURONS,
        "fixed": {name: figures(samples[name, ALONE]) for name in ("onnxruntime", "LiteRT")},
        "ratios": {name: ratio(samples[one], samples[other]) for name, (one, other) in pairs.items()},
    }


def _without_arithmetic(specs: dict[str, Spec], folder: Path) -> dict[str, Spec]:
    """Both runtimes with the same graph, but a few neurons a layer: what a call costs before it computes anything."""
    return {
        "onnxruntime": replace(specs["onnxruntime, int8"], model=folder / f"{CUT}.onnx"),
        "LiteRT": replace(specs[f"LiteRT, {BEST_FORM}"], model=folder / f"{CUT}.tflite"),
    }
