"""What the device side costs: calls, starts, memory, waiting, settings; beside the bare runtime and beside LiteRT.

    python -m benchmarks.device                  (`make device`; writes benchmarks/results/device.json)
    python -m benchmarks.device --quick          a minute, to see that it works
    ... --only PART,PART                         some parts; the figures of the others stay
    ... --no-litert                              nothing is converted, no environment is made: all runs in this one
    ... --output FILE                            instead of benchmarks/results/device.json

Everything that is compared runs in turn in one run; ratios are medians over the rounds with a 95 % interval. A target
that is missed stays in the report. The environments (numpy and one runtime each) are made once, in the user's cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.device import calls, settings, side_by_side
from benchmarks.device.common import FOLDER, FULL, LEAST, LITERT, LONE, NATIVE, NUMPY, QUICK, Plan, ratio_target, target
from benchmarks.device.starts import Start, parts, peaks, starts
from benchmarks.device.workers import Spec
from benchmarks.shared.common import REFERENCE, ROOT, note
from benchmarks.shared.environments import (
    environment,
    installed,
    locked,
    numpy_requirements,
    onnxruntime_requirements,
)
from benchmarks.shared.native import native_artifact
from toolkit.benchmarking.host import describe_host
from toolkit.data import load
from toolkit.errors import MissingError
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.data import FashionMnist

RESULT = ROOT / "benchmarks" / "results" / "device.json"
INT8 = REFERENCE / "model.int8.onnx"


@dataclass
class Setting:
    """What the parts are measured with: Pythons with onnxruntime, with numpy alone, with LiteRT (None without it)."""

    plan: Plan
    data: FashionMnist
    scratch: Path
    python: str
    numpy: str
    litert: str | None

    @property
    def bundle(self) -> Path:
        """The bundle of the int8 file, with its predictor.py."""
        return self.scratch / "bundle"

    @property
    def native(self) -> Path:
        """The same bundle with the compiled model; it is not there where there is no compiler."""
        return self.scratch / "native-bundle"

    @property
    def ours(self) -> Spec:
        """The predictor with the int8 file."""
        return Spec(self.python, "predictor", INT8, self.scratch / "images.npy", self.bundle)

    @property
    def litert_specs(self) -> dict[str, Spec]:
        """LiteRT's forms, if they are wanted."""
        return side_by_side.litert_specs(self.litert, self.scratch, self.ours) if self.litert else {}


def main() -> None:
    """Measure, write, print the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-litert", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), metavar="PART,PART")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    report: dict[str, Any] = {"format": 1, "quick": options.quick, "host": asdict(describe_host())}
    if options.only != list(PARTS) and options.output.is_file():
        earlier = json.loads(options.output.read_text(encoding="utf-8"))
        if earlier["host"]["cpu_model"] != report["host"]["cpu_model"]:
            raise SystemExit(f"{options.output} is of another machine; measure all parts here")
        report = {**earlier, **report}
    with tempfile.TemporaryDirectory() as folder:
        setting = prepared(Path(folder), QUICK if options.quick else FULL, litert=not options.no_litert)
        for name in options.only:
            start = time.monotonic()
            if found := PARTS[name](setting):
                report[name] = found
            note(f"{name}: {time.monotonic() - start:.0f} s")
    write_atomic(options.output, json.dumps(report, indent=1) + "\n")
    for name in PARTS:
        for entry in report.get(name, {}).get("targets", []):
            print(f"{'met   ' if entry['met'] else 'MISSED'} {entry['what']}: {_shown(entry)}")


def _shown(entry: dict[str, Any]) -> str:
    interval = f" ({entry['low']:.3f} to {entry['high']:.3f})" if "low" in entry else ""
    return f"{entry['got']:,.3f}{interval}, at most {entry['most']:,g} {entry['unit']}".rstrip()


def prepared(scratch: Path, plan: Plan, *, litert: bool) -> Setting:
    """The files and environments that the parts take."""
    data = load()
    np.save(scratch / "images.npy", data.test_images if plan is FULL else data.test_images[:1000])
    bundled(REFERENCE, scratch / "bundle", "--zip", "--wheel")
    # The model alone, where no manifest stands beside it.
    shutil.copy(INT8, scratch)
    try:
        native_artifact(scratch / "native", data.test_images)
    except MissingError as error:
        note(f"the native backend is left out: {error}")
    else:
        bundled(scratch / "native", scratch / "native-bundle", "--native")
    if not litert:
        return Setting(plan, data, scratch, sys.executable, sys.executable, None)
    side_by_side.converted(scratch)
    python, numpy = environment("onnxruntime", onnxruntime_requirements()), environment("numpy", numpy_requirements())
    return Setting(plan, data, scratch, python, numpy, environment("litert", locked("litert")))


def bundled(artifact: Path, target: Path, *options: str) -> None:
    """What `toolkit bundle` makes of an artifact."""
    command = [sys.executable, "-m", "toolkit", "bundle", str(artifact), "-o", str(target), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def one_image(setting: Setting) -> dict[str, Any]:
    """The predictor beside the bare runtime, and 8 threads at once."""
    found = calls.one_image(INT8, setting.data.test_images, setting.plan)
    threads = calls.threads_agree(INT8, setting.data.test_images[: setting.plan.images])
    found["targets"].append(target("labels that 8 threads at once get otherwise", threads["labels_differ"], 0))
    return {**found, "threads_at_once": threads}


def cold_start(setting: Setting) -> dict[str, Any]:
    """Fresh processes: time, where it goes, and peak memory."""
    lone = setting.scratch / INT8.name

    def kind(name: str, script: str, target: Path, python: str = setting.python) -> Start:
        return Start(name, python, script, target, setting.bundle)

    kinds = [
        kind(LEAST, "least_onnxruntime.py", lone),
        kind(FOLDER, "with_predictor.py", setting.bundle),
        kind(LONE, "with_predictor.py", lone),
        Start(NUMPY, setting.numpy, "least_numpy.py", lone, setting.bundle, answers=False),
    ]
    timed = [
        (kind(LEAST, "parts_onnxruntime.py", lone), ("interpreter", "numpy", "onnxruntime", "session", "first run")),
        (
            kind(FOLDER, "parts_predictor.py", setting.bundle),
            ("interpreter", "numpy", "predictor", "onnxruntime", "reading and checks", "session", "first run"),
        ),
    ]
    if has_native := setting.native.is_dir():
        kinds.append(Start(NATIVE, setting.numpy, "with_native.py", setting.native, setting.native))
        timed.append(
            (
                Start(NATIVE, setting.numpy, "parts_native.py", setting.native, setting.native),
                ("interpreter", "numpy", "predictor", "reading and checks", "session", "first run"),
            )
        )
    if setting.litert:
        file = setting.scratch / f"{side_by_side.BEST_FORM}.tflite"
        kinds.append(kind(LITERT, "least_litert.py", file, setting.litert))
    pairs = [(NATIVE, other) for other in (LITERT, NUMPY) if has_native and (other == NUMPY or setting.litert)]
    found, compared = starts(kinds, setting.plan.starts, pairs)
    memory, where = peaks(kinds), parts(timed, setting.plan.starts)
    targets = [
        ratio_target(f"{name}, {what.replace('_', ' ')} / {LEAST}", found[name][what], 1.05)
        for name in (FOLDER, LONE)
        for what in ("first_answer", "exit")
    ]
    targets += [
        target(f"peak memory, {name} minus {LEAST}", (memory[name] - memory[LEAST]) / 1e6, 2, "MB")
        for name in (FOLDER, LONE)
    ]
    if (NATIVE, LITERT) in pairs:
        targets += native_targets(compared[f"{NATIVE} / {LITERT}"]["first_answer"], memory)
    return {
        "starts": setting.plan.starts,
        "processes": found,
        "compared": compared,
        "peak_bytes": memory,
        "parts_ms": where,
        "targets": targets,
    }


def native_targets(first_answer: dict[str, float], memory: dict[str, int]) -> list[dict[str, Any]]:
    """What the native backend may take beside LiteRT: no more.

    Args:
        first_answer: ratio of the times to the first answer.
        memory: peak bytes by name.
    """
    return [
        ratio_target(f"{NATIVE}, first answer / {LITERT}", first_answer, 1.0),
        target(f"peak memory, {NATIVE} / {LITERT}", memory[NATIVE] / memory[LITERT], 1.0),
    ]


def memory(setting: Setting) -> dict[str, Any]:
    """Over many calls, and over batches of many sizes."""
    return {**settings.steady(setting.ours, setting.plan), "batches": settings.batches(setting.ours, setting.plan)}


def idle(setting: Setting) -> dict[str, Any]:
    """What waiting costs."""
    specs = setting.litert_specs
    others = {f"LiteRT, {side_by_side.BEST_FORM}": specs[side_by_side.BEST_FORM]} if specs else {}
    return settings.idle(setting.ours, others, setting.plan)


def each_setting(setting: Setting) -> dict[str, Any]:
    """Latency, CPU time and opening by setting."""
    return settings.settings(setting.ours, setting.plan)


def sizes(setting: Setting) -> dict[str, Any]:
    """What a bundle and a wheel hold beside the model."""
    files = {"bundle": {path.name: path.stat().st_size for path in setting.bundle.iterdir() if path.is_file()}}
    for path in (setting.bundle.with_suffix(".zip"), *setting.scratch.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            members = [(Path(entry.filename).name, entry) for entry in archive.infolist()]
        name = "wheel" if path.suffix == ".whl" else "bundle as a zip file"
        files[name] = {member: entry.file_size for member, entry in members}  # neither is compressed
    found = {
        name: {"bytes": sum(held.values()), "beside_the_model": sum(held.values()) - held[INT8.name]}
        for name, held in files.items()
    }
    targets = [
        target(f"{name}, beside the model", found[name]["beside_the_model"], 150_000, "bytes")
        for name in ("bundle", "wheel")
    ]
    return {"files": found, "targets": targets}


def litert(setting: Setting) -> dict[str, Any]:
    """LiteRT side by side, and what is installed."""
    if not setting.litert:
        return {}
    specs = setting.litert_specs
    found = side_by_side.side_by_side(setting.ours, specs, setting.scratch, setting.data.test_labels, setting.plan)
    return {**found, "installed": {"toolkit": installed(setting.python), "LiteRT": installed(setting.litert)}}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "one_image": one_image,
    "cold_start": cold_start,
    "memory": memory,
    "idle": idle,
    "settings": each_setting,
    "sizes": sizes,
    "litert": litert,
}

if __name__ == "__main__":
    main()
