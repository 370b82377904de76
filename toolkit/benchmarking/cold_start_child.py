"""What the cold-start benchmark runs in a fresh process: open a model, answer one row, time each part.

Run as a file: ``python -P cold_start_child.py MODEL THREADS FOLDER_OF_TOOLKIT WORK_CALLS FREE``;
FREE is the size of free dimensions;
it prints one line of JSON.
"""

from time import monotonic_ns  # system-wide, so the parent can subtract its own reading

STAMPS = [monotonic_ns()]
PEAKS: list[int] = []

# ruff: noqa: E402 - the order of the imports is what is measured
import os
import sys

model, threads, folder, work_calls, free = sys.argv[1:]


def peak_memory() -> tuple[int, str]:
    """Peak resident memory of this process in bytes, and who says so."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024, "VmHWM"
    except OSError:
        pass
    import resource

    # KiB on Linux, bytes on macOS. On Linux it begins at the peak of the process that started this one.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "ru_maxrss"


def stamp() -> None:
    """The end of a part, and the beginning of the next: what reading memory takes is in neither."""
    ended = monotonic_ns()
    PEAKS.append(peak_memory()[0])
    STAMPS.append(ended - LOST[0])
    LOST[0] += monotonic_ns() - ended


LOST = [0]  # ns spent on reading memory so far
if folder not in sys.path:  # the toolkit may run from a source tree that is not installed, or beside another that is
    sys.path.insert(0, folder)

import numpy as np

stamp()

from toolkit.predictor import Predictor, RuntimeSettings

stamp()

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as the predictor does before this import
import onnxruntime  # noqa: F401, TID253 - timed

stamp()

predictor = Predictor(model, settings=RuntimeSettings(threads=int(threads)))
stamp()

rows = {
    info.name: np.full([int(free) if size is None else size for size in info.shape], low, info.dtype)
    for info in predictor.inputs
    for low in predictor.ranges.get(info.name, (0,))[:1]  # zero may be no value that it takes
}
row = rows if len(rows) > 1 else rows[predictor.input_name]
answer = predictor.classify if predictor.classes else predictor.predict
answer(row)
stamp()

import json

WORK_NS = 2_000_000_000  # of a large model: what takes memory has done so by then


def without_bytecode() -> list[str]:
    """Which of the measured modules Python had to compile in this start."""
    missing = []
    for name in ("numpy", "onnxruntime", "toolkit.predictor"):
        spec = sys.modules[name].__spec__
        if spec and spec.cached and not os.path.exists(spec.cached):  # noqa: PTH110
            missing.append(name)
    return missing


made, end = 0, monotonic_ns() + WORK_NS
while made < int(work_calls) and monotonic_ns() < end:
    answer(row)
    made += 1
after_work, source = peak_memory()
report = {
    "stamps": STAMPS,
    "peaks": [*PEAKS, after_work],
    "work_calls": made,
    "memory_source": source,
    "without_bytecode": without_bytecode(),
}
sys.stdout.write(json.dumps(report))
