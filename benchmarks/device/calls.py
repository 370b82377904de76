"""One raw image to its label: the predictor beside the bare runtime, and what eight threads at once get."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.device.common import Plan, ratio_target
from benchmarks.shared.common import figures, ratio
from toolkit.benchmarking.latency import time_calls
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["one_image", "threads_agree"]

TURN, WARMUP = 100, 10
"""Calls of one way in a row, and how many before them are not timed: short turns, so that all meet the same noise."""

OURS, PREDICT = "classify", "predict"
BOUND, INNER = "bound runtime", "inner call"
RUN, PLAIN = "session.run, our options", "session.run, default options"


def one_image(model: Path, images: NDArray[np.uint8], plan: Plan) -> dict[str, Any]:
    """Times in interleaved rounds; every session is opened anew in each, as where its memory lies moves its speed."""
    samples: dict[str, list[tuple[int, ...]]] = {}
    for number in range(plan.rounds + 1):
        timers = _timers(model)
        taken: dict[str, tuple[int, ...]] = dict.fromkeys(timers, ())
        for at in range(0, plan.calls, TURN):
            for name in list(timers) if at // TURN % 2 else reversed(timers):
                taken[name] += timers[name](images[at : at + TURN])
        for name, found in taken.items() if number else ():  # the first round is warm-up
            samples.setdefault(name, []).append(found)
    ways = {name: figures(found) for name, found in samples.items()}
    ratios = {
        f"{ours} / {base}": ratio(samples[ours], samples[base])
        for ours in (OURS, PREDICT)
        for base in (BOUND, INNER, RUN, PLAIN)
    }
    limits = {BOUND: 1.15, RUN: 0.85, PLAIN: 0.85}
    return {
        "rounds": plan.rounds,
        "calls": plan.calls,
        "ways": ways,
        "ratios": ratios,
        "targets": [
            ratio_target(f"classify / {base}", ratios[f"{OURS} / {base}"], most) for base, most in limits.items()
        ],
    }


def _timers(model: Path) -> dict[str, Callable[[NDArray[np.uint8]], tuple[int, ...]]]:
    """What times each way over some images; with as little of our own around the calls as there can be."""
    import onnxruntime as ort

    options = ort.SessionOptions()  # the predictor's
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    mine = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    plain = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    binding = mine.io_binding()
    given, answers = np.zeros((1, 28, 28), np.uint8), np.zeros((1, 10), np.float32)
    binding.bind_input("image", "cpu", 0, np.uint8, given.shape, given.ctypes.data)
    binding.bind_output("probabilities", "cpu", 0, np.float32, answers.shape, answers.ctypes.data)
    predictor = Predictor(model)

    def bound(call: Callable[[Any], object], argument: Any) -> Callable[[NDArray[np.uint8]], tuple[int, ...]]:
        def timed(images: NDArray[np.uint8]) -> tuple[int, ...]:
            given[0] = images[0]
            assert answers.shape == (1, 10)  # it lives as long as what writes into it
            return time_calls(call, [argument], calls=len(images), warmup=WARMUP)

        return timed

    def with_images(call: Callable[[Any], object]) -> Callable[[NDArray[np.uint8]], tuple[int, ...]]:
        return lambda images: time_calls(call, images, calls=len(images), warmup=WARMUP)

    return {
        OURS: with_images(predictor.classify),
        PREDICT: with_images(predictor.predict),
        BOUND: bound(mine.run_with_iobinding, binding),
        INNER: bound(partial(mine._sess.run_with_iobinding, binding._iobinding), ort.RunOptions()),  # noqa: SLF001 - as ours
        RUN: with_images(lambda image: mine.run(None, {"image": image[None]})),
        PLAIN: with_images(lambda image: plain.run(None, {"image": image[None]})),
    }


def threads_agree(model: Path, images: NDArray[np.uint8], threads: int = 8) -> dict[str, Any]:
    """Every thread classifies every image with one predictor; how many labels are not those of one thread alone."""
    predictor = Predictor(model)
    alone = [predictor.classify(image) for image in images]
    found: list[list[int]] = [[] for _ in range(threads)]
    begin = threading.Barrier(threads)

    def go(labels: list[int]) -> None:
        begin.wait()
        labels.extend(predictor.classify(image) for image in images)

    running = [threading.Thread(target=go, args=(labels,)) for labels in found]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    differ = sum(a != b for labels in found for a, b in zip(labels, alone, strict=True))
    return {"threads": threads, "calls": threads * len(images), "labels_differ": differ}
