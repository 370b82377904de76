"""The same int8 file on this CPU and on an emulated Haswell (AVX2 without VNNI), over the whole test set.

    python benchmarks/portability.py         (`make portability`; writes benchmarks/results/portability.json)

Needs ``qemu-x86_64-static`` (Debian and Ubuntu: package qemu-user-static) on an x86-64 machine with VNNI. Both the
reference file, whose scales are portable, and the same model with plain scales are run; emulated time means nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.publishing import write_atomic

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
EMULATOR = ["qemu-x86_64-static", "-cpu", "Haswell"]
CHILD = """
import sys
import numpy as np
from toolkit.predictor import Predictor
model, images, answers = sys.argv[1:]
np.save(answers, Predictor(model).predict_batch(np.load(images)).probabilities)
"""


def main() -> None:
    """Run both files on both CPUs, compare and write."""
    if shutil.which(EMULATOR[0]) is None:
        sys.exit(f"error: {EMULATOR[0]} is not here; install Debian's qemu-user-static")
    data = load()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "images.npy", data.test_images)
        command = ["export", str(REFERENCE), "--quantize", "--no-portable", "-o", f"{scratch}/plain"]
        subprocess.run([sys.executable, "-m", "toolkit", *command], check=True, capture_output=True)
        report = {
            "format": 1,
            "host": asdict(describe_host()),
            "emulated": "Haswell (qemu user emulation)",
            "files": {
                "portable": _compare(REFERENCE / "model.int8.onnx", folder, data.test_labels),
                "plain": _compare(folder / "plain" / "model.int8.onnx", folder, data.test_labels),
            },
        }
    write_atomic(ROOT / "benchmarks" / "results" / "portability.json", json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["files"], indent=1))
    if report["files"]["portable"]["labels_differ"]:  # type: ignore[index]  # a literal of mixed values
        sys.exit("error: the portable file answers differently on Haswell")


def _compare(model: Path, folder: Path, labels: Any) -> dict[str, float]:
    here, there = _answers([], model, folder), _answers(EMULATOR, model, folder)
    return {
        "images": len(here),
        "accuracy_here": float((here.argmax(axis=1) == labels).mean()),
        "accuracy_there": float((there.argmax(axis=1) == labels).mean()),
        "labels_differ": int((here.argmax(axis=1) != there.argmax(axis=1)).sum()),
        "max_abs": float(np.abs(here - there).max()),
    }


def _answers(emulator: list[str], model: Path, folder: Path) -> Any:
    python = str(Path(sys.executable).resolve()) if emulator else sys.executable
    environment = {"PYTHONPATH": ":".join([str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))])}
    command = [*emulator, python, "-c", CHILD, str(model), str(folder / "images.npy"), str(folder / "answers.npy")]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return np.load(folder / "answers.npy")


if __name__ == "__main__":
    main()
