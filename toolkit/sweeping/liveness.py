"""Which trials are still being run by someone: a process on this machine is looked up, others give signs of life."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BEAT", "GRACE", "beating", "is_alive", "this_process"]

BEAT = 30.0  # seconds between two signs of life
GRACE = 600.0  # without one, on another machine, whose clock may be some minutes off


def this_process() -> dict[str, Any]:
    """What tells this process from every other, here and elsewhere, as JSON values."""
    return {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "start": _start_of(os.getpid())}


def is_alive(process: dict[str, Any], beat: float, now: float) -> bool:
    """Whether a process still runs, as far as can be told from here.

    Args:
        process: what it said of itself by `this_process`.
        beat: its last sign of life, seconds since the epoch.
        now: the same of this moment.
    """
    if (machine := _machine()) is not None and process["machine"] == machine:
        return process["start"] is not None and process["start"] == _start_of(process["pid"])
    return now - beat < GRACE


@contextmanager
def beating(beat: Callable[[float], None], every: float = BEAT) -> Iterator[None]:
    """Gives signs of life from a thread until the block ends: the time, in seconds since the epoch."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every):
            beat(time.time())

    beat(time.time())
    thread = threading.Thread(target=run, daemon=True, name="signs of life")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _machine() -> str | None:
    """A name for where process numbers mean the same: this boot of the kernel, and the namespace; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return None


def _start_of(pid: int) -> str | None:
    """When a process of this machine began, in the kernel's ticks; None if there is none or it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # proc(5): the name before it may hold anything
    return None if state in "ZX" else fields[18]
