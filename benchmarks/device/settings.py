"""What each of `RuntimeSettings` does, and what a process costs that only waits: each in a process of its own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.device.common import Plan, target
from benchmarks.device.workers import Spec, Worker
from benchmarks.shared.common import figures, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["batches", "idle", "settings", "steady"]

OURS = "ours (defaults)"
PLAIN = "onnxruntime, default options"
SETTINGS: dict[str, dict[str, Any]] = {
    OURS: {},
    "threads 2": {"threads": 2},
    "threads 2, spinning": {"threads": 2, "spinning": True},
    "arena": {"arena": True},
    "memory_pattern off": {"memory_pattern": False},
    "memory_pattern on": {"memory_pattern": True},
    "optimization none": {"optimization": "none"},
    "optimization basic": {"optimization": "basic"},
    "optimization extended": {"optimization": "extended"},
}
PAGES, BOOKKEEPING = 65_536, 1_000
"""Bytes that do not count as growth: some pages that the measuring itself touches first, and its own few objects."""

PAUSE = 0.01
"""Seconds after each paced call: a camera's 100 images a second."""


def _specs(ours: Spec, chosen: Mapping[str, dict[str, Any]]) -> dict[str, Spec]:
    return {name: replace(ours, settings=settings) for name, settings in chosen.items()}


def _way(spec: Spec) -> str:
    return {"predictor": "classify", "onnxruntime": "run", "litert": "set_tensor"}[spec.engine]


def settings(ours: Spec, plan: Plan) -> dict[str, Any]:
    """Latency, CPU time of a call, and time to open, in interleaved rounds; ratios to the defaults."""
    specs = _specs(ours, SETTINGS) | {PLAIN: replace(ours, engine="onnxruntime", settings={})}
    samples: dict[str, list[list[int]]] = {name: [] for name in specs}
    cpu: dict[str, list[float]] = {name: [] for name in specs}
    opened: dict[str, list[list[int]]] = {name: [] for name in specs}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(spec)) for name, spec in specs.items()}
        for number in range(plan.rounds + 1):
            for name in list(workers) if number % 2 else reversed(workers):
                found = workers[name].ask("times", _way(specs[name]), plan.calls)
                openings = workers[name].ask("openings", plan.openings)
                if number:  # the first round is warm-up
                    samples[name].append(found["samples"])
                    cpu[name].append(found["cpu_ns"] / plan.calls)
                    opened[name].append(openings)
    return {
        name: {
            **figures(samples[name]),
            "latency_ratio": ratio(samples[name], samples[OURS]),
            "cpu_us_a_call": sorted(cpu[name])[len(cpu[name]) // 2] / 1000,
            "open_ms": figures(opened[name])["p50_us"] / 1000,
            "open_ratio": ratio(opened[name], opened[OURS]),
        }
        for name in specs
    }


def idle(ours: Spec, others: Mapping[str, Spec], plan: Plan) -> dict[str, Any]:
    """What waiting costs: CPU time and wake-ups of a process left alone, and CPU time of calls with pauses between."""
    chosen = {name: SETTINGS[name] for name in (OURS, "threads 2", "threads 2, spinning")}
    plain = {PLAIN: replace(ours, engine="onnxruntime", settings={})}
    specs = {**_specs(ours, chosen), **plain, **others}
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(spec)) for name, spec in specs.items()}
        for name, worker in workers.items():
            worker.ask("times", _way(specs[name]), 200)
            paced = worker.ask("paced", _way(specs[name]), plan.paced_calls, PAUSE)
            found[name] = {"paced_cpu_us_a_call": paced / plan.paced_calls / 1000, "threads": worker.threads()}
        time.sleep(0.5)  # who spins stops by then: what is left is what goes on for ever
        before = {name: (worker.cpu_ns(), worker.switches()) for name, worker in workers.items()}
        time.sleep(plan.idle_seconds)
        for name, worker in workers.items():
            cpu, switches = before[name]
            found[name] |= {"idle_cpu_us": (worker.cpu_ns() - cpu) / 1000, "wake_ups": worker.switches() - switches}
    return {
        "seconds": plan.idle_seconds,
        "paced_calls": plan.paced_calls,
        "pause_ms": PAUSE * 1000,
        "processes": found,
        "targets": [
            target(f"CPU time of {plan.idle_seconds:g} s of waiting", found[OURS]["idle_cpu_us"], 0, "us"),
            target("wake-ups in that time", found[OURS]["wake_ups"], 0),
        ],
    }


def steady(ours: Spec, plan: Plan) -> dict[str, Any]:
    """Memory over many single calls."""
    found: dict[str, Any] = {}
    for way in ("classify", "predict"):
        with Worker(ours) as worker:
            found[way] = worker.ask("steady", way, plan.steady_calls, plan.traced_calls)
    one = found["classify"]
    what = f"over {plan.steady_calls:,} calls of classify"
    return {
        "calls": plan.steady_calls,
        "traced_calls": plan.traced_calls,
        "ways": found,
        "targets": [
            target(f"growth of resident memory, {what}", one["resident_bytes"], PAGES, "bytes"),
            target(f"more blocks of Python's allocator, {what}", one["blocks"], 0),
            target(f"growth by tracemalloc, over {plan.traced_calls:,}", one["traced_bytes"], BOOKKEEPING, "bytes"),
        ],
    }


def batches(ours: Spec, plan: Plan) -> dict[str, Any]:
    """Resident memory over batches of random sizes, the same for all."""
    chosen: dict[str, dict[str, Any]] = {
        OURS: {},
        "memory_pattern off": {"memory_pattern": False},
        "arena": {"arena": True},
        "arena, memory_pattern off": {"arena": True, "memory_pattern": False},
        "batch_rows 32": {"batch_rows": 32},
    }
    specs = _specs(ours, chosen)
    specs |= {
        PLAIN: replace(ours, engine="onnxruntime", settings={}),
        "onnxruntime, without arena": replace(ours, engine="onnxruntime", settings={"enable_cpu_mem_arena": False}),
    }
    found = {}
    for name, spec in specs.items():
        with Worker(spec) as worker:
            found[name] = worker.ask("batches", plan.batches, plan.largest_batch)
    return {"batches": plan.batches, "largest": plan.largest_batch, "processes": found}
