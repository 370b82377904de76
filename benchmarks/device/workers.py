"""The parent's side of `worker.py`: starts one, hands it commands, looks at it from outside."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.shared.asking import Asked

__all__ = ["Spec", "Worker"]

SCRIPT = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Spec:
    """What a worker runs.

    Attributes:
        python: of the environment.
        engine: predictor, onnxruntime or litert.
        model: the file, or an artifact folder.
        images: an .npy of raw images.
        code: the folder of predictor.py.
        settings: of the engine: fields of `RuntimeSettings`, attributes of onnxruntime's SessionOptions, or arguments
            of LiteRT's Interpreter.
    """

    python: str
    engine: str
    model: Path
    images: Path
    code: Path
    settings: dict[str, Any] = field(default_factory=dict)


class Worker(Asked):
    """A running worker, as a context; at its end it is told to stop by the end of its input.

    Attributes:
        ways: names of the ways that it can be asked by.
    """

    def __init__(self, spec: Spec) -> None:
        told = {
            "engine": spec.engine,
            "model": str(spec.model),
            "images": str(spec.images),
            "code": str(spec.code),
            "settings": spec.settings,
        }
        name = f"{spec.engine} worker ({spec.model.name}, {spec.settings})"
        super().__init__(name, [spec.python, "-P", str(SCRIPT), json.dumps(told)])
        self.ways = list(self.said["ways"])

    def cpu_ns(self) -> int:
        """CPU time of all its threads so far, to the nanosecond.

        The number of another process's CPU clock is made as clock_getcpuclockid(3) of Linux makes it.
        """
        return time.clock_gettime_ns(~self.pid << 3 | 2)

    def switches(self) -> int:
        """How often its threads have gone to sleep by themselves (voluntary context switches)."""
        total = 0
        for file in Path(f"/proc/{self.pid}/task").glob("*/status"):
            lines = file.read_text(encoding="ascii", errors="replace").splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
        return total

    def threads(self) -> int:
        """How many it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))
