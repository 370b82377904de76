"""The predictor as MLPerf's system under test, in an environment of numpy, onnxruntime and the load generator.

    python drive.py SPEC

SPEC is JSON: "model", "images" and "labels" (.npy), "logs" (a folder), "rounds", "queries". Prints one line of JSON.

One system under test serves everything: a query's images go through `Predictor.classify` (SingleStream, one image) or
`predict_batch` (Offline, in batches), and its labels go back to the load generator. Rounds take turns: the load
generator with the predictor, the load generator with a predictor that does nothing, our own timing of the same calls.
"""

from __future__ import annotations

import importlib
import json
import struct
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.benchmarking.latency import time_batches, time_calls
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
BATCH = 256
PERFORMANCE_SAMPLES = 1024
"""Images that the performance runs draw from, as MLPerf's rules have a set that is in memory."""

OFFLINE_SAMPLES = 96 * BATCH
"""What MLPerf's rules ask an Offline query to have at least: 24,576."""

WARM_UP = 500


class System:
    """One system under test: it counts how long it computed itself, call by call.

    Attributes:
        inner: nanoseconds within the predictor, of each query since they were last cleared.
    """

    def __init__(self, classify: Callable[[Any], Any], predict_batch: Callable[[Any], Any], images: Any) -> None:
        self._lg: Any = importlib.import_module("mlperf_loadgen")
        self._classify, self._batch = classify, predict_batch
        self._images, self._rows = images, list(images)
        self._labels = np.zeros(max(len(images), OFFLINE_SAMPLES), np.int64)
        self._address = self._labels.ctypes.data
        self.inner: list[int] = []

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """What the load generator calls: one image, or all of them at once."""
        response, complete = self._lg.QuerySampleResponse, self._lg.QuerySamplesComplete
        if len(ids) == 1:
            start = perf_counter_ns()
            self._labels[0] = self._classify(self._rows[indices[0]])
            self.inner.append(perf_counter_ns() - start)
            complete([response(ids[0], self._address, 8)])
            return
        for at in range(0, len(ids), BATCH):
            chosen = indices[at : at + BATCH]
            self._labels[at : at + len(chosen)] = self._batch(self._images[chosen])
            complete([response(one, self._address + 8 * (at + k), 8) for k, one in enumerate(ids[at : at + BATCH])])

    def run(self, scenario: str, *, accuracy: bool, queries: int, logs: Path) -> str:
        """One test; the text of its summary."""
        lg = self._lg
        settings = lg.TestSettings()
        settings.scenario = getattr(lg.TestScenario, scenario)
        settings.mode = lg.TestMode.AccuracyOnly if accuracy else lg.TestMode.PerformanceOnly
        settings.min_duration_ms = 0
        settings.min_query_count = queries  # Offline: so many samples in the one query
        settings.single_stream_expected_latency_ns = 20_000
        output, log = lg.LogOutputSettings(), lg.LogSettings()
        logs.mkdir(parents=True, exist_ok=True)
        output.outdir, output.copy_summary_to_stdout = str(logs), False
        log.log_mode = lg.LoggingMode.EndOfTestOnly  # its other thread would take part of what is measured
        log.log_output, log.enable_trace = output, False
        system = lg.ConstructFastSUT(self.issue, lambda: None)
        count = len(self._rows)
        loaded = count if scenario == "Offline" else PERFORMANCE_SAMPLES
        library = lg.ConstructQSL(count, loaded, lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(system, library, settings, log)
        finally:
            lg.DestroyFastSUT(system)
            lg.DestroyQSL(library)
        return (logs / "mlperf_log_summary.txt").read_text(encoding="utf-8")


def figure(summary: str, name: str) -> float:
    """One number of a summary; its names are padded."""
    for line in summary.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return float(value)
    raise SystemExit(f"the load generator's summary has no {name!r}")


def accuracy(system: System, scenario: str, right: Any, logs: Path) -> dict[str, Any]:
    """From the load generator's own accuracy log: every answer, by the image's number."""
    system.run(scenario, accuracy=True, queries=len(right), logs=logs)
    entries = json.loads((logs / "mlperf_log_accuracy.json").read_text(encoding="utf-8"))
    found = {entry["qsl_idx"]: struct.unpack("<q", bytes.fromhex(entry["data"]))[0] for entry in entries}
    answers = np.array([found[at] for at in range(len(right))])
    return {
        "images": len(found),
        "accuracy": float((answers == right).mean()),
        "answers": answers,
    }


def main() -> None:
    """Both scenarios, accuracy and performance."""
    logs, images, right = Path(SPEC["logs"]), np.load(SPEC["images"]), np.load(SPEC["labels"])
    predictor = Predictor(SPEC["model"])
    ours = System(predictor.classify, lambda rows: predictor.predict_batch(rows).labels, images)
    empty = System(lambda _: 0, lambda rows: np.zeros(len(rows), np.int64), images)
    one, offline = (accuracy(ours, name, right, logs) for name in ("SingleStream", "Offline"))
    differ = int((one.pop("answers") != offline.pop("answers")).sum())
    # Ours takes the images as the load generator does: drawn from as many, in no order.
    rows = [images[at] for at in np.random.default_rng(0).integers(0, PERFORMANCE_SAMPLES, SPEC["queries"])]
    block = np.ascontiguousarray(images[:BATCH])
    names = ("loadgen", "empty", "ours", "inner", "batches", "offline", "offline_empty")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(SPEC["rounds"] + 1):
        taken: dict[str, Any] = {}
        for name in ("loadgen", "ours", "empty") if number % 2 else ("empty", "ours", "loadgen"):
            if name == "ours":
                samples = time_calls(predictor.classify, rows, calls=SPEC["queries"], warmup=WARM_UP)
                taken["ours"] = [float(p) for p in np.percentile(samples, [50, 90, 99])]
                continue
            system = ours if name == "loadgen" else empty
            system.inner.clear()
            system.run("SingleStream", accuracy=False, queries=WARM_UP, logs=logs)
            system.inner.clear()
            text = system.run("SingleStream", accuracy=False, queries=SPEC["queries"], logs=logs)
            taken[name] = [figure(text, f"{p:.2f} percentile latency (ns)") for p in (50, 90, 99)]
            if name == "loadgen":
                taken["inner"] = [float(p) for p in np.percentile(system.inner, [50, 90, 99])]
        for name, system in (("offline", ours), ("offline_empty", empty)):
            text = system.run("Offline", accuracy=False, queries=OFFLINE_SAMPLES, logs=logs)
            taken[name] = figure(text, "Samples per second")
        runs = time_batches(predictor.predict_batch, block, seconds=0.2)
        taken["batches"] = BATCH * 1e9 / float(np.median(runs))
        for name, value in taken.items() if number else ():  # the first round is warm-up
            found[name].append(value)
    report = {"single_stream": one, "offline": offline, "scenarios_differ": differ, "rounds": found}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
