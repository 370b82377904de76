"""Fresh processes: how long to the first answer and to the end, where that time goes, and the most memory they took."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.shared.common import clean_environment, ratio
from toolkit.benchmarking.footprint import START_TIMEOUT
from toolkit.benchmarking.rounds import Measurement, run_rounds
from toolkit.errors import ToolkitError
from toolkit.progress import silent_step

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Start", "parts", "peaks", "starts"]

SCRIPTS = Path(__file__).with_name("scripts")
MEMORY_STARTS = 5


@dataclass(frozen=True)
class Start:
    """One kind of process.

    Attributes:
        name: for people.
        python: of the environment.
        script: one of `SCRIPTS`.
        target: what it opens.
        code: the folder of predictor.py, for those that use it.
        answers: it runs the model; False: what it writes is no label.
    """

    name: str
    python: str
    script: str
    target: Path
    code: Path
    answers: bool = True


TIMES = ("first_answer", "exit", "cpu")


def starts(
    kinds: Sequence[Start], count: int, pairs: Sequence[tuple[str, str]] = ()
) -> tuple[dict[str, Any], dict[str, dict[str, dict[str, float]]]]:
    """Milliseconds from spawn to the first answer and to the exit, and CPU time of it all, in turn.

    Args:
        kinds: the first of them is what the others are compared with.
        count: processes of each.
        pairs: names of kinds that are also compared with one another: the first with the second.

    Returns:
        By name of a kind its times with their ratios to the first kind; by pair ("a / b") the ratios.
    """
    measured = [Measurement(partial(_once, kind)) for kind in kinds]
    run_rounds(measured, count, silent_step)
    together = zip(kinds, measured, strict=True)
    labels = {kind.name: {result[-1] for result in m.results} for kind, m in together if kind.answers}
    if len({frozenset(found) for found in labels.values()}) != 1:
        raise ToolkitError(f"they do not answer alike: {labels}; compare the same models")
    taken = {
        kind.name: {what: [result[at] for result in it.results] for at, what in enumerate(TIMES)}
        for kind, it in zip(kinds, measured, strict=True)
    }
    base = taken[kinds[0].name]
    found = {
        name: {
            what: {"median_ms": statistics.median(times[what]) / 1e6, **ratio(times[what], base[what])}
            for what in TIMES
        }
        for name, times in taken.items()
    }
    compared = {f"{a} / {b}": {what: ratio(taken[a][what], taken[b][what]) for what in TIMES} for a, b in pairs}
    return found, compared


def peaks(kinds: Sequence[Start]) -> dict[str, int]:
    """The most resident memory (VmHWM) that each took until its first answer: the median of some starts, in bytes."""
    found: dict[str, list[int]] = {kind.name: [] for kind in kinds}
    for _ in range(MEMORY_STARTS):
        for kind in kinds:
            found[kind.name].append(_peak(kind))
    return {name: int(statistics.median(values)) for name, values in found.items()}


def parts(kinds: Sequence[tuple[Start, Sequence[str]]], count: int) -> dict[str, dict[str, float]]:
    """Medians of where the time of a start goes, in ms.

    Args:
        kinds: each with the names of its parts, from the interpreter on. The part named "session" is taken out of the
            one in front of it, as the script times it by itself.
        count: processes of each.
    """
    measured = [Measurement(partial(_stamps, kind, names)) for kind, names in kinds]
    run_rounds(measured, count, silent_step)
    return {
        kind.name: {name: statistics.median(result[name] for result in it.results) / 1e6 for name in names}
        for (kind, names), it in zip(kinds, measured, strict=True)
    }


def _spawn(kind: Start, stdin: int) -> tuple[subprocess.Popen[bytes], int, int]:
    """The process, where its label comes from, and when it was spawned."""
    reading, writing = os.pipe()
    command = [kind.python, "-P", str(SCRIPTS / kind.script), str(kind.target), str(writing)]
    environment = clean_environment() | {"PYTHONPATH": str(kind.code)}
    spawned = time.monotonic_ns()
    process = subprocess.Popen(
        command, stdin=stdin, stderr=subprocess.DEVNULL, pass_fds=[writing], env=environment, close_fds=True
    )
    os.close(writing)
    return process, reading, spawned


def _label(process: subprocess.Popen[bytes], reading: int, kind: Start) -> int:
    ready, _, _ = select.select([reading], [], [], START_TIMEOUT)
    label = os.read(reading, 1) if ready else b""
    if not label:
        process.kill()
        raise ToolkitError(f"{kind.name}: {kind.script} gave no answer; run it by hand to see why")
    return label[0]


def _once(kind: Start) -> tuple[int, int, int, int]:
    """Nanoseconds to the first answer and to the exit, CPU time of all threads, and the label."""
    process, reading, spawned = _spawn(kind, subprocess.DEVNULL)
    label = _label(process, reading, kind)
    answered = time.monotonic_ns()
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.monotonic_ns()
    process.returncode = os.waitstatus_to_exitcode(status)  # subprocess need not wait for it any more
    os.close(reading)
    if process.returncode:
        raise ToolkitError(f"{kind.name}: {kind.script} ended with {process.returncode}; run it by hand to see why")
    return answered - spawned, ended - spawned, round((usage.ru_utime + usage.ru_stime) * 1e9), label


def _peak(kind: Start) -> int:
    process, reading, _ = _spawn(kind, subprocess.PIPE)
    _label(process, reading, kind)
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
    process.communicate(timeout=START_TIMEOUT)
    os.close(reading)
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))


def _stamps(kind: Start, names: Sequence[str]) -> dict[str, int]:
    spawned = time.monotonic_ns()
    command = [kind.python, "-P", str(SCRIPTS / kind.script), str(kind.target)]
    environment = clean_environment() | {"PYTHONPATH": str(kind.code)}
    done = subprocess.run(command, check=True, capture_output=True, timeout=START_TIMEOUT, env=environment)
    answer = json.loads(done.stdout)
    times = [b - a for a, b in pairwise([spawned, *answer["stamps"]])]
    at = names.index("session")
    if len(times) == len(names) - 1:  # it is within the part in front of it
        times[at - 1 : at] = [times[at - 1] - answer["session_ns"], answer["session_ns"]]
    return dict(zip(names, times, strict=True))
