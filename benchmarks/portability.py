"""The same int8 files on this CPU and on all emulated ones, over the whole test set, and which CPUs are too old.

    python benchmarks/portability.py         (`make portability`; writes benchmarks/results/portability.json)

Each of the reference model's int8 files is run, with portable scales and with plain ones beside it, quantized
statically per tensor and per channel, and dynamically. What is needed is fetched once (see `toolkit.emulation`).
Emulated time means nothing, so none is written. Exits 1 if a portable file fails a gate on any CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.emulation.cpus import CPUS, TOO_OLD
from toolkit.emulation.run import Machine, Task, prepared, run_all
from toolkit.errors import CpuError, ToolkitError
from toolkit.other_cpus import check_files
from toolkit.publishing import write_atomic
from toolkit.verification.cpus import judge_cpu
from toolkit.verification.gates import Limits

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "exported" / "fashion-mnist"
FILES = {
    "portable": ["--quantize"],
    "plain": ["--quantize", "--no-portable"],
    "portable, per channel": ["--quantize", "--per-channel"],
    "plain, per channel": ["--quantize", "--per-channel", "--no-portable"],
    "portable, dynamic": ["--quantize", "dynamic"],
    "plain, dynamic": ["--quantize", "dynamic", "--no-portable"],
}


def main() -> None:
    """Export, run, compare and write."""
    data = load(note=print)
    with tempfile.TemporaryDirectory() as scratch, prepared((*CPUS, *TOO_OLD), print, _silent) as machines:
        paths = [_export(name, Path(scratch)) for name in FILES]
        new, old = machines[: len(CPUS)], machines[len(CPUS) :]
        print(f"running {len(paths)} files on {', '.join(machine.name for machine in new)}")
        found = check_files(paths, {"image": data.test_images}, {"probabilities": data.test_labels}, new, _silent)
        files: dict[str, Any] = {}
        for name, checks in zip(FILES, found, strict=True):
            verdicts = [[gate for gate in judge_cpu("int8", check, Limits()) if not gate.passed] for check in checks]
            files[name] = [
                {**asdict(check), "failed": [asdict(gate) for gate in failed]}
                for check, failed in zip(checks, verdicts, strict=True)
            ]
        too_old = {machine.name: _refusal(machine, paths[0], data.test_images[:1]) for machine in old}
    report = {
        "format": 2,
        "host": asdict(describe_host()),
        "cpus": {cpu.name: asdict(cpu) for cpu in (*CPUS, *TOO_OLD)},
        "files": files,
        "too_old": too_old,
    }
    write_atomic(ROOT / "benchmarks" / "results" / "portability.json", json.dumps(report, indent=1) + "\n")
    for name, rows in files.items():
        for row in rows:
            print(
                f"{name} on {row['where']['cpu']}: {row['labels_differ']} labels and {row['logits_differ']} of "
                f"{row['logits']} logits differ, by up to {row['logits_max_abs']:.2g} "
                f"(probabilities {row['probabilities_max_abs']:.2g})"
            )
    print("\n".join(too_old.values()))
    bad = [f"{n} on {row['where']['cpu']}" for n in FILES for row in files[n] if "portable" in n and row["failed"]]
    if bad:
        sys.exit(f"error: these answer otherwise than here: {'; '.join(bad)}")


def _silent(done: int, total: int, what: str) -> None:
    """No bar: this is a script."""


def _export(name: str, folder: Path) -> Path:
    target = folder / name.replace(", ", "-").replace(" ", "-")
    command = [sys.executable, "-m", "toolkit", "export", str(REFERENCE), *FILES[name], "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    return target / "model.int8.onnx"


def _refusal(machine: Machine, path: Path, image: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """How the wheels refuse a CPU.

    Raises:
        ToolkitError: they do not.
    """
    task = Task("one", path.read_bytes(), {"image": image}, "runtime", 1)
    try:
        run_all([machine], [task], _silent, "")
    except CpuError as error:
        return str(error)
    raise ToolkitError(f"{machine.name} runs; it is not too old: move it to the table of CPUs")


if __name__ == "__main__":
    main()
