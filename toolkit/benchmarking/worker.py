"""The process that measures one model: it takes one JSON request a line and answers each with one line.

A model that crashes or hangs takes this process with it and no other. What is asked for:

    {"do": "open", "path": ..., "settings": {...}, "free": ..., "seed": ..., "factory": ...}
    {"do": "warm-up"}
    {"do": "NAME OF A SCENARIO", ...}: see the ``take`` of its module in toolkit.benchmarking.scenarios

each with "limit": seconds after which the process ends itself. The answer is {"given": ...}, or
{"error": CLASS, "message": ...} for an error that a person can act on.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from dataclasses import asdict
from time import perf_counter_ns
from typing import Any

from toolkit.benchmarking.opened import Opened
from toolkit.errors import ToolkitError

__all__ = ["main"]


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not get in between
    opened: Opened | None = None
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("do")
        # Its default action ends the process even within the runtime's own code, and if nobody is there to do it.
        signal.setitimer(signal.ITIMER_REAL, request.pop("limit"))
        try:
            if what == "open":
                opened, given = _open(opened, request)
            else:
                assert opened is not None
                given = asdict(opened.warm_up()) if what == "warm-up" else _take(what, opened, request)
            answer: dict[str, Any] = {"given": given}
        except ToolkitError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _open(before: Opened | None, request: dict[str, Any]) -> tuple[Opened, dict[str, Any]]:
    if before is not None:
        before.predictor.close()
    start = perf_counter_ns()
    opened = Opened(**request)
    took = perf_counter_ns() - start
    given = {
        "open_ns": took,
        "call": opened.call_name,
        "inputs": [asdict(fed) for fed in opened.inputs],
        "sha256": opened.predictor.file.sha256,
        "bytes": os.path.getsize(opened.predictor.file.path),  # noqa: PTH202 - one call
        **opened.look(),
    }
    return opened, given


def _take(name: str, opened: Opened, request: dict[str, Any]) -> dict[str, Any]:
    place = "probe" if name == "probe" else f"scenarios.{name.replace('-', '_')}"
    module = importlib.import_module(f"toolkit.benchmarking.{place}")
    return dict(module.take(opened, **request))


if __name__ == "__main__":
    main()
