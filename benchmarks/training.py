"""How good each recipe's network is, over several seeds, and how long training takes.

    python benchmarks/training.py                      (`make training`: hours, most of them for `best`)
    python benchmarks/training.py default --seeds 5    one recipe; the others' figures stay in the file
    python benchmarks/training.py default --resume     with all its seeds in the file: only an epoch's time

For each recipe and seed it runs `toolkit run` into an empty folder: train, export float32 and int8 (one weight scale an
output channel), and verify, where the 10,000 test images are looked at for the first and only time. What is written to
benchmarks/results/training.json is read from the manifests.

The recipe `best` trains teachers for the first `--whole` seeds; the others learn from the first seed's. Teachers that a
folder of `--keep` has already are not trained again: the same seed gives the same. Students whose teachers are there
train `--jobs` at a time, a core each, and their time is no figure.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "training.json"
RECIPES = {"notebook": 3, "default": 5, "best": 5}
SPEED_EPOCHS = 12


def main() -> None:
    """Train, export, verify, write after every model, so that an interrupted run keeps what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", choices=[*RECIPES, []], default=[*RECIPES])
    parser.add_argument("--seeds", type=int, help="how many; 3 for notebook and 5 for the others")
    parser.add_argument("--whole", type=int, default=2, help="of best: how many seeds train teachers of their own")
    parser.add_argument("--jobs", type=int, default=1, help="of best: students at a time")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument(
        "--resume", action="store_true", help="keep the models that the file has, and add what is missing"
    )
    parser.add_argument("--keep", type=Path, help="an empty folder that artifacts and teachers are left in")
    options = parser.parse_args()
    report: dict[str, Any] = {"format": 1, "recipes": {}}
    if options.output.exists():
        report = json.loads(options.output.read_text(encoding="utf-8"))
    report["host"] = asdict(describe_host())
    if "default" in options.recipes:
        report["speed"] = speed()
        write_atomic(options.output, json.dumps(report, indent=1) + "\n")
    for name in options.recipes:
        if not options.resume or name not in report["recipes"]:
            report["recipes"][name] = {"models": []}
        done = {model["seed"] for model in report["recipes"][name]["models"]}
        with contextlib.nullcontext(options.keep / name) if options.keep else tempfile.TemporaryDirectory() as scratch:
            seeds = [seed for seed in range(1, 1 + (options.seeds or RECIPES[name])) if seed not in done]
            for model in measured(name, seeds, Path(scratch), options.whole, options.jobs):
                print(json.dumps(model), flush=True)
                models = report["recipes"][name]["models"]
                models.append(model)
                models.sort(key=lambda each: each["seed"])
                report["recipes"][name]["summary"] = summary(models)
                write_atomic(options.output, json.dumps(report, indent=1) + "\n")


def measured(recipe: str, seeds: list[int], scratch: Path, whole: int, jobs: int) -> Iterator[dict[str, Any]]:
    """Each model's figures, as they come."""
    teachers = scratch / "teachers"
    taught: list[Student] = []
    for seed in seeds:
        artifact, learns_from = scratch / f"seed-{seed}" / "fashion-mnist", seed if seed <= whole else 1
        if recipe == "best" and (seed > whole or any(teachers.glob(f"teacher-{seed}-*.keras"))):
            taught.append(Student(seed, artifact, learns_from))
            continue
        saved = ["--save-teachers", str(teachers)] if recipe == "best" else []
        toolkit("train", "--recipe", recipe, *saved, "--seed", seed, "--output", artifact)
        yield exported(seed, artifact, own_teachers=True if saved else None, timed=True)
    answers = {of: ask(recipe, teachers, of) for of in dict.fromkeys(student.learns_from for student in taught)}
    cores = itertools.cycle(sorted(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, max_tasks_per_child=1) as pool:
        running = []
        for student in taught:
            core = next(cores) if jobs > 1 else None
            running.append(pool.submit(learn, recipe, student, answers[student.learns_from], core))
        for each in as_completed(running):
            yield each.result()


class Student(NamedTuple):
    """One that learns from teachers that are there already: those of the seed `learns_from`."""

    seed: int
    artifact: Path
    learns_from: int


class Answers(NamedTuple):
    """What teachers said, on disk; see `toolkit.training.distilling.Taught`."""

    teachers: tuple[str, ...]
    soft: Path
    accuracy: float
    seconds: float


def ask(recipe: str, teachers: Path, seed: int) -> Answers:
    """What a seed's teachers say of every view, asked once for all students: it is the same."""
    from toolkit.training.distilling import teach
    from toolkit.training.recipes import RECIPES as NAMED

    files = tuple(str(path) for path in sorted(teachers.glob(f"teacher-{seed}-*.keras")))
    taught = teach(NAMED[recipe].override(teacher_files=files), load(), 0, lambda _: None, None, lambda *_: None)
    soft = teachers / f"answers-{seed}.npy"
    np.save(soft, taught.soft)
    return Answers(files, soft, taught.accuracy, taught.seconds)


def learn(name: str, student: Student, answers: Answers, core: int | None) -> dict[str, Any]:
    """What ``toolkit train --teacher ...`` does, with answers that are there already; in a process of its own."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    from toolkit.pipeline import TrainingPlan, train_artifact
    from toolkit.training import fit
    from toolkit.training.distilling import Taught
    from toolkit.training.recipes import RECIPES as NAMED

    vars(fit)["teach"] = lambda *_: Taught(np.load(answers.soft), answers.accuracy, answers.seconds)
    nothing: Any = lambda *_: None  # noqa: E731
    student.artifact.parent.mkdir(parents=True, exist_ok=True)
    recipe = NAMED[name].override(teacher_files=answers.teachers)
    train_artifact(student.artifact, TrainingPlan(recipe, (student.seed,)), load(), nothing, nothing, nothing)
    return exported(student.seed, student.artifact, own_teachers=student.learns_from == student.seed, timed=False)


def exported(seed: int, artifact: Path, *, own_teachers: bool | None, timed: bool) -> dict[str, Any]:
    """Export and verify a trained model by the installed command, and read the figures."""
    # Loose gates, since what is lost is what is measured.
    loose = ["--min-agreement", 0, "--max-accuracy-drop", 1]
    toolkit("export", artifact, "--quantize", "--per-channel", *loose)
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    training, (float32,) = manifest["training"], manifest["parity"]["model.onnx"]
    (int8,) = manifest["parity"]["model.int8.onnx"]
    kept = (
        "seconds", "teacher_seconds", "epochs_run", "train_accuracy", "validation_accuracy", "best_validation_accuracy",
        "teacher_accuracy", "precision",
    )  # fmt: skip
    return {
        "seed": seed,
        "own_teachers": own_teachers,
        "timed": timed,
        **{name: training[name] for name in kept},
        "float32": float32["accuracy"],
        "int8": int8["accuracy"],
        "int8_agreement_with_keras": int8["agreement"],
    }


def toolkit(*arguments: object) -> None:
    """Run the command, quietly unless it fails."""
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def summary(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and spreads over the seeds, in shares."""
    lost = [model["float32"] - model["int8"] for model in models]
    found: dict[str, Any] = {"seeds": len(models), "int8_lost_mean": statistics.mean(lost)}
    for name in ("float32", "int8", "validation_accuracy", "int8_agreement_with_keras"):
        values = [model[name] for model in models]
        found[name] = {
            "mean": statistics.mean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
            "least": min(values),
            "most": max(values),
        }
    return found


def speed() -> dict[str, Any]:
    """Seconds an epoch of the default recipe, from the times at which epochs end, without the first (it compiles)."""
    from toolkit.training.fit import train
    from toolkit.training.precision import policy_of
    from toolkit.training.recipes import RECIPES as NAMED

    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        recipe = NAMED["default"].override(epochs=SPEED_EPOCHS)
        train(recipe, load(), 1, Path(folder), lambda _: ends.append(time.perf_counter()))
    epochs = [after - before for before, after in pairwise(ends)]
    return {
        "recipe": "default",
        "precision": policy_of(recipe.precision),
        "epochs": epochs,
        "median_seconds": statistics.median(epochs),
    }


if __name__ == "__main__":
    main()
