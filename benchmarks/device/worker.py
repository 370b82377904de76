"""One runtime in a long-lived process of its own, that measures when it is told to.

    python -P worker.py SPEC

SPEC is JSON: "engine" (predictor, onnxruntime or litert), "model" (a path), "images" (an .npy of raw uint8 images),
"settings" (of the engine), "code" (the folder of predictor.py). Commands come as lines of JSON, [name, argument, ...];
each is answered by one. It needs numpy and its engine alone, so that it runs in an environment that has nothing else.

An engine gives ways to ask it: each takes a raw image and gives its label.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Way = Callable[[Any], Any]

SPEC = json.loads(sys.argv[1])
IMAGES = np.load(SPEC["images"])


def _predictor() -> tuple[dict[str, Way], Callable[[Any], Any], Callable[[], object]]:
    sys.path.append(SPEC["code"])
    module: Any = importlib.import_module("predictor")
    settings = module.RuntimeSettings(**SPEC["settings"])

    def opened() -> Any:
        return module.Predictor(SPEC["model"], settings=settings)

    it = opened()
    return {"classify": it.classify, "predict": lambda image: it.predict(image).label}, it.predict_batch, opened


def _onnxruntime() -> tuple[dict[str, Way], Callable[[Any], Any], Callable[[], object]]:
    ort: Any = importlib.import_module("onnxruntime")

    def opened() -> Any:
        options = ort.SessionOptions()
        for key, value in SPEC["settings"].items():
            setattr(options, key, value)
        return ort.InferenceSession(SPEC["model"], options, providers=["CPUExecutionProvider"])

    session = opened()
    name, given, answers = session.get_inputs()[0].name, np.zeros((1, 28, 28), np.uint8), np.zeros((1, 10), np.float32)
    binding = session.io_binding()
    binding.bind_input(name, "cpu", 0, np.uint8, given.shape, given.ctypes.data)
    binding.bind_output(session.get_outputs()[0].name, "cpu", 0, np.float32, answers.shape, answers.ctypes.data)

    def alone(_: Any) -> int:
        session.run_with_iobinding(binding)
        return 0

    ways: dict[str, Way] = {
        "run": lambda image: int(session.run(None, {name: image[None]})[0].argmax()),
        "runtime alone": alone,
    }
    return ways, lambda images: session.run(None, {name: images}), opened


def _litert() -> tuple[dict[str, Way], Callable[[Any], Any], Callable[[], object]]:
    interpreter: Any = importlib.import_module("ai_edge_litert.interpreter").Interpreter

    def opened() -> Any:
        it = interpreter(model_path=SPEC["model"], **SPEC["settings"])
        it.allocate_tensors()
        return it

    it, other = opened(), opened()  # views of one may not be held while it runs
    first, last = it.get_input_details()[0], it.get_output_details()[0]
    given, answers, signed = first["index"], last["index"], first["dtype"] is np.int8
    set_tensor, invoke, get_tensor = it.set_tensor, it.invoke, it.get_tensor
    row, into, out_of, run = np.zeros((1, 28, 28), np.uint8), other.tensor(given), other.tensor(answers), other.invoke

    def by_copy(image: Any) -> int:
        set_tensor(given, image[None])
        invoke()
        return int(get_tensor(answers).argmax())

    def by_copy_signed(image: Any) -> int:  # int8 is the pixel minus 128, which is its highest bit turned
        np.bitwise_xor(image, 128, out=row[0])
        set_tensor(given, row.view(np.int8))
        invoke()
        return int(get_tensor(answers).argmax())

    def by_view(image: Any) -> int:
        if signed:
            np.bitwise_xor(image, 128, out=into()[0].view(np.uint8))
        else:
            into()[0] = image
        run()
        return int(out_of().argmax())

    def alone(_: Any) -> int:
        invoke()
        return 0

    ways: dict[str, Way] = {
        "set_tensor": by_copy_signed if signed else by_copy,
        "views": by_view,
        "compiled model": _compiled(signed, last["dtype"]),
        "runtime alone": alone,
    }
    return ways, lambda _: None, opened


def _compiled(signed: bool, dtype: Any) -> Way:
    """LiteRT's newer interface."""
    options: Any = importlib.import_module("ai_edge_litert.options")
    accelerators: Any = importlib.import_module("ai_edge_litert.hardware_accelerator")
    cpu: Any = importlib.import_module("ai_edge_litert.cpu_options")
    chosen = options.Options(
        hardware_accelerators=accelerators.HardwareAccelerator.CPU, cpu_options=cpu.CpuOptions(num_threads=1)
    )
    model = importlib.import_module("ai_edge_litert.compiled_model").CompiledModel.from_file(
        SPEC["model"], options=chosen
    )
    given, answers = model.create_input_buffers(0), model.create_output_buffers(0)
    row = np.zeros((28, 28), np.uint8)

    def ask(image: Any) -> int:
        given[0].write(np.bitwise_xor(image, 128, out=row).view(np.int8) if signed else image)
        model.run_by_index(0, given, answers)
        return int(answers[0].read(10, dtype).argmax())

    return ask


def _times(name: str, calls: int) -> dict[str, Any]:
    """Nanoseconds of each call, and CPU time of all threads."""
    way, clock, samples = WAYS[name], time.perf_counter_ns, [0] * calls
    turn = [IMAGES[at % len(IMAGES)] for at in range(calls)]
    for image in turn[:50]:
        way(image)
    before = time.process_time_ns()
    for at, image in enumerate(turn):
        start = clock()
        way(image)
        samples[at] = clock() - start
    return {"samples": samples, "cpu_ns": time.process_time_ns() - before}


def _paced(name: str, calls: int, pause: float) -> int:
    """CPU time of all threads, in ns, for calls with a pause after each."""
    way, before = WAYS[name], time.process_time_ns()
    for at in range(calls):
        way(IMAGES[at % len(IMAGES)])
        time.sleep(pause)
    return time.process_time_ns() - before


def _labels(name: str) -> list[int]:
    return [int(WAYS[name](image)) for image in IMAGES]


def _steady(name: str, calls: int, traced: int) -> dict[str, int]:
    """What memory does over many calls: resident bytes, Python's own blocks, and bytes that tracemalloc sees."""
    way, turn = WAYS[name], [IMAGES[at] for at in range(min(1000, len(IMAGES)))]

    def go(count: int) -> None:
        for at in range(count):
            way(turn[at % len(turn)])

    go(2000)
    gc.collect()
    resident, blocks = _status("VmRSS"), sys.getallocatedblocks()
    go(calls)
    gc.collect()
    found = {"resident_bytes": _status("VmRSS") - resident, "blocks": sys.getallocatedblocks() - blocks}
    tracemalloc.start()
    go(1000)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    go(traced)
    gc.collect()
    found["traced_bytes"] = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return found


def _batches(count: int, largest: int) -> dict[str, int]:
    """How resident memory grows over batches of random sizes, the same ones for everybody."""
    sizes, run = random.Random(0), BATCH  # noqa: S311 - sizes, no secrets
    run(IMAGES[:1])
    before = _status("VmRSS")
    for _ in range(count):
        run(IMAGES[: sizes.randint(1, largest)])
    return {"growth_bytes": _status("VmRSS") - before, "peak_growth_bytes": _status("VmHWM") - before}


def _openings(count: int) -> list[int]:
    samples = []
    for _ in range(count):
        start = time.perf_counter_ns()
        session = OPENED()
        samples.append(time.perf_counter_ns() - start)
        del session
    return samples


def _status(key: str) -> int:
    """Bytes, as the kernel counts them."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key))


ENGINES = {"predictor": _predictor, "onnxruntime": _onnxruntime, "litert": _litert}
COMMANDS: dict[str, Callable[..., Any]] = {
    "times": _times,
    "paced": _paced,
    "labels": _labels,
    "steady": _steady,
    "batches": _batches,
    "openings": _openings,
}
WAYS, BATCH, OPENED = ENGINES[SPEC["engine"]]()


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


_say({"pid": os.getpid(), "ways": list(WAYS), "python": sys.version.split()[0]})
for line in sys.stdin:
    command, *arguments = json.loads(line)
    _say(COMMANDS[command](*arguments))
