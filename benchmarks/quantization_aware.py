"""What int4 loses, and what a finish of training with rounded weights gives back, over several trained networks.

    python benchmarks/quantization_aware.py        (`make quantization-aware`: ten minutes on two quiet cores)
    python benchmarks/quantization_aware.py --also exported/mine      other artifacts that `toolkit train` left, too

Trains the default recipe with some seeds, exports each network to int4 as it is, then trains it on with the finish as
it is by default and exports it again; both are held against Keras on the 10,000 test images. `toolkit train` gives the
same with and without --quantization-aware; here the part that both share is trained once. An artifact of `--also` whose
recipe has teachers learns from its own answers in the finish, since its teachers' are not there any more.

The finish's epochs and rate were chosen on the validation images. Writes benchmarks/results/quantization_aware.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import export_model
from toolkit.artifact import HISTORY, KERAS, load_manifest
from toolkit.benchmarking.host import describe_host
from toolkit.data import CLASS_NAMES, load
from toolkit.keras_model import import_tensorflow, load_keras
from toolkit.predictor import Predictor
from toolkit.publishing import write_atomic
from toolkit.training.finish import finish
from toolkit.training.inputs import Inputs, scaled
from toolkit.training.recipe_files import recipe_from_json
from toolkit.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from toolkit.data import FashionMnist
    from toolkit.manifest_records import TrainingRecord

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "quantization_aware.json"
SEEDS = 5


def main() -> None:
    """Train, finish, export, compare; write after every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the default recipe")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="artifacts that were trained before")
    parser.add_argument(
        "--keep", type=Path, help="a folder that artifacts are left in, and taken from if they are there"
    )
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--resume", action="store_true", help="keep what the file has, and add what is missing")
    options = parser.parse_args()
    import_tensorflow().config.experimental.enable_op_determinism()
    data = load()
    report: dict[str, Any] = {"format": 1, "host": asdict(describe_host()), "networks": []}
    if options.resume and options.output.exists():
        report["networks"] = json.loads(options.output.read_text(encoding="utf-8"))["networks"]
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        for artifact in (*(keep / f"seed-{seed}" for seed in range(1, options.seeds + 1)), *options.also):
            if artifact not in options.also and not artifact.is_dir():
                train(artifact)
            record = load_manifest(artifact).training
            if record is None or record.quantization_epochs:
                raise SystemExit(f"{artifact} is no training without a finish; give one")
            done = [(network["recipe"]["name"], network["seed"]) for network in report["networks"]]
            if (called(recipe_from_json(record.recipe, str(artifact))), record.seed) in done:
                continue
            found = measured(artifact, record, data, Path(scratch))
            print(json.dumps(found), flush=True)
            report["networks"].append(found)
            report["networks"].sort(key=lambda network: (network["recipe"]["name"] != "default", network["seed"]))
            report["summary"] = {
                name: summary([entry for entry in report["networks"] if entry["recipe"]["name"] == name])
                for name in dict.fromkeys(entry["recipe"]["name"] for entry in report["networks"])
            }
            write_atomic(options.output, json.dumps(report, indent=1) + "\n")


def train(artifact: Path) -> None:
    """Train the default recipe, without a finish, with the seed that the folder is called by."""
    seed = artifact.name.removeprefix("seed-")
    command = [sys.executable, "-m", "toolkit", "train", "--seed", seed, "--output", str(artifact)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def called(recipe: Recipe) -> str:
    """A recipe's name; `best` with teachers that were trained before is `best` still."""
    same = RECIPES["best"].override(teacher_files=recipe.teacher_files or None)
    rounding = {name: getattr(same, name) for name in vars(same) if name.startswith("quantization")}
    return "best" if dataclasses.replace(recipe, **rounding) == same else recipe.name


def measured(artifact: Path, record: TrainingRecord, data: FashionMnist, scratch: Path) -> dict[str, Any]:
    """One network as it is and finished, each as an int4 file."""
    recipe = dataclasses.replace(
        recipe_from_json(record.recipe, str(artifact)),
        quantization_aware="int4",
        quantization_epochs=Recipe.quantization_epochs,
        quantization_learning_rate=Recipe.quantization_learning_rate,
    )
    plain, history = load_keras(artifact / KERAS), scratch / HISTORY
    shutil.copyfile(artifact / HISTORY, history)
    inputs = Inputs(data.train_images, data.train_labels)
    finished = finish(plain, recipe, inputs, data, record.seed, history, lambda _: None)
    history.unlink()
    answers = plain.predict_on_batch(scaled(data.test_images)).argmax(axis=1)
    seen = finished.predict_on_batch(scaled(data.validation_images)).argmax(axis=1)
    return {
        "recipe": {
            "name": called(recipe),
            "quantization_epochs": recipe.quantization_epochs,
            "quantization_learning_rate": recipe.quantization_learning_rate,
        },
        "seed": record.seed,
        "learns_from": "its own answers before",
        "validation": {
            "without": record.validation_accuracy,
            "with": float((seen == data.validation_labels).mean()),
        },
        "without": judged(plain, answers, data, scratch / "plain"),
        "with": judged(finished, answers, data, scratch / "finished"),
    }


def judged(model: Any, answers: Any, data: FashionMnist, folder: Path) -> dict[str, float]:
    """A network's accuracies on the test images, and how many labels its int4 file gives as Keras, and as `answers`."""
    manifest = export_model(
        model,
        folder,
        quantize="int4",
        test=data.test_images,
        labels=data.test_labels,
        class_names=CLASS_NAMES,
        input_dtype="uint8",
        input_scale=1 / 255,
        # Loose gates, since what is lost is what is measured.
        limits={"int8_min_agreement": 0.0, "int8_max_accuracy_drop": 1.0},
    ).manifest
    (float32,), (int4,) = manifest.parity["model.onnx"], manifest.parity["model.int4.onnx"]
    labels = Predictor(folder / "model.int4.onnx").predict_batch(data.test_images).labels
    assert float32.accuracy is not None
    assert int4.accuracy is not None
    assert int4.agreement is not None
    return {
        "float32": float32.accuracy,
        "int4": int4.accuracy,
        "int4_agreement_with_keras": int4.agreement,
        "int4_agreement_with_the_float_network": float((labels == answers).mean()),
    }


def summary(networks: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and spreads over the seeds of a recipe, in shares."""
    found: dict[str, Any] = {"seeds": len(networks)}
    for how in ("without", "with"):
        found[how] = {}
        for name in networks[0][how]:
            values = [network[how][name] for network in networks]
            found[how][name] = {"mean": statistics.mean(values), "least": min(values), "most": max(values)}
    return found


if __name__ == "__main__":
    main()
