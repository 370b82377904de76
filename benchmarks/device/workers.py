"""The parent's side of `worker.py`: starts one, hands it commands, looks at it from outside."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.device.common import clean_environment
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from types import TracebackType

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


class Worker:
    """A running worker, as a context; at its end it is told to stop by the end of its input.

    Attributes:
        pid: of its process.
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
        self._name = f"{spec.engine} worker ({spec.model.name}, {spec.settings})"
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads could fill up
        self._process = subprocess.Popen(
            [spec.python, "-P", str(SCRIPT), json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=clean_environment(),
        )
        facts = self._read()
        self.pid, self.ways = int(facts["pid"]), list(facts["ways"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def ask(self, command: str, *arguments: Any) -> Any:
        """Have something measured; nothing else happens meanwhile.

        Raises:
            ToolkitError: the worker failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._end()
            raise ToolkitError(f"the {self._name} ended: {said[-1] if said else 'it said nothing'}")
        return json.loads(line)

    def _end(self) -> list[str]:
        """Wait for its end; what it said beside its answers."""
        self._process.communicate(timeout=60)
        with self._said:
            self._said.seek(0)
            return self._said.read().strip().splitlines()

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
