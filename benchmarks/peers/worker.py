"""One peer in a process of its own, that measures when it is told to.

    python -P worker.py SPEC

SPEC is JSON: "engine" (a file of `engines`), "files" (paths by name), "threads", "options", "images" (an .npy of raw
images), "code" (the folder of predictor.py). It opens the model, classifies one image and says so in one line of JSON
with the time; then commands come as lines of JSON, [name, argument, ...], and each is answered by one.

It needs numpy and its runtime alone, and imports no more than that before its first answer, as that is timed.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # some runtimes print, which is no answer
sys.path.append(__file__.rpartition("/")[0] + "/engines")
SPEC = json.loads(sys.argv[1])
IMAGES = np.load(SPEC["images"], mmap_mode="r")
FIRST = np.array(IMAGES[0])
ENGINE = __import__(SPEC["engine"]).Engine(SPEC)
LABEL = int(ENGINE.classify(FIRST))
ANSWERED = time.monotonic_ns()

BATCH = 256


def peak_bytes() -> int:
    """The most resident memory of this process so far, as the kernel counts it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - pathlib adds to it
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def say(answer: object) -> None:
    """One line to the parent."""
    ANSWERS.write(json.dumps(answer) + "\n")
    ANSWERS.flush()


def work() -> int:
    """Some hundred images one by one and some batches; then the peak of memory."""
    block = np.array(IMAGES[:BATCH])
    for image in block:
        ENGINE.classify(image)
    for _ in range(10):
        ENGINE.classify_batch(block)
    return peak_bytes()


def singles(seconds: float) -> list[int]:
    """Labels of all images one by one, or as many as the time allows."""
    end, found = time.monotonic() + seconds, []
    for image in np.array(IMAGES):
        found.append(int(ENGINE.classify(image)))
        if time.monotonic() > end:
            break
    return found


def batches() -> list[int]:
    """Labels of all images in batches; the last one is filled up."""
    found: list[int] = []
    for at in range(0, len(IMAGES), BATCH):
        block = np.array(IMAGES[at : at + BATCH])
        full = np.concatenate([block, np.zeros((BATCH - len(block), *block.shape[1:]), block.dtype)])
        found += [int(label) for label in ENGINE.classify_batch(full)[: len(block)]]
    return found


def time_singles(calls: int, seconds: float) -> list[int]:
    """Nanoseconds of each call, after some that are not timed; fewer calls where they take too long, 10 at least."""
    clock, classify = time.perf_counter_ns, ENGINE.classify
    samples: list[int] = []
    turn = [np.array(IMAGES[at % len(IMAGES)]) for at in range(calls)]
    end = clock() + int(seconds * 1e9) // 4
    for image in turn[: max(3, calls // 20)]:
        classify(image)
        if clock() > end:
            break
    end = clock() + int(seconds * 1e9)
    for image in turn:
        start = clock()
        classify(image)
        after = clock()
        samples.append(after - start)
        if after > end and len(samples) >= 10:
            break
    return samples


def time_batches(runs: int, seconds: float) -> list[int]:
    """Nanoseconds of each batch, after one that is not timed; fewer where they take too long, 3 at least."""
    clock, classify = time.perf_counter_ns, ENGINE.classify_batch
    samples: list[int] = []
    block = np.array(IMAGES[:BATCH])
    classify(block)
    end = clock() + int(seconds * 1e9)
    while len(samples) < runs and (clock() < end or len(samples) < 3):
        start = clock()
        classify(block)
        samples.append(clock() - start)
    return samples


def time_inside(calls: int) -> list[int]:
    """Nanoseconds of each call as the engine's own language measures them, after some that are not kept."""
    turn = np.array(IMAGES[np.arange(calls + 20) % len(IMAGES)])
    return [int(sample) for sample in ENGINE.time_inside(turn)[20:]]


TOLD = (work, singles, batches, time_singles, time_batches, time_inside)
COMMANDS = {function.__name__: function for function in TOLD}

if __name__ == "__main__":
    say({"label": LABEL, "answered": ANSWERED, "peak_bytes": peak_bytes()})
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        say(COMMANDS[command](*arguments))
