"""The installed command in a process that has TensorFlow already: forked from one that imported it once.

Every command that opens a Keras model spends four seconds of CPU importing libraries that few tests are about. So one
process a worker imports these, no more: the command itself, with all modules of ours, is still read and run from
its first line on in a process of its own, with its own arguments, folder, environment, streams and exit code.
Nothing here has started a thread of TensorFlow or onnxruntime before the fork, which would not survive it.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["Warm"]

_MOST = 1_000_000
"""Bytes that a request may have: arguments and environment."""

_FREE = ("COLUMNS", "HOME", "PYTEST_CURRENT_TEST", "TOOLKIT_", "XDG_", "TMPDIR")
"""Variables that no library reads while it is imported, or their beginnings."""


_SET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "ORT_DISABLE_TELEMETRY": "1"}
"""What commands themselves set before they import: the third keeps onnxruntime from starting a thread."""


class Warm:
    """The process that has imported what takes long; it ends when this one does."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # Python's streams are then those of a pipe, as commands have them
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_SET},
            )

    def fits(self, environment: dict[str, str]) -> bool:
        """Whether a process with that environment would have imported the same in the same way."""
        differing = {name for name, _ in environment.items() ^ self._environment.items()}
        return all(name.startswith(_FREE) for name in differing)

    def run(
        self, arguments: list[str], folder: Path, environment: dict[str, str], seconds: float
    ) -> tuple[int, bytes, bytes]:
        """Exit code (negative: the signal that ended it), stdout and stderr of a Python script with its arguments."""
        request = json.dumps({"arguments": arguments, "folder": str(folder), "environment": environment}).encode()
        ours, theirs = socket.socketpair()
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        said: dict[int, bytes] = {}

        def read(descriptor: int) -> None:
            with open(descriptor, "rb") as stream:
                said[descriptor] = stream.read()

        with ours:
            with theirs:
                socket.send_fds(self._control, [request], [out_end, err_end, theirs.fileno()])
            os.close(out_end)
            os.close(err_end)
            readers = [threading.Thread(target=read, args=(descriptor,), daemon=True) for descriptor in (out, err)]
            for reader in readers:
                reader.start()
            ours.settimeout(seconds)
            with ours.makefile("r") as answers:
                pid = int(answers.readline())
                try:
                    status = int(answers.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise
            for reader in readers:
                reader.join()
        return os.waitstatus_to_exitcode(status), said[out], said[err]


def _serve(control: socket.socket) -> None:
    """Fork a process for each request, until there is nobody left to ask; returns only in these processes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for the command is forked too, and waited for by nobody
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _MOST, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            out, err, answers = descriptors
            if pid := os.fork():
                os.close(out)
                os.close(err)
                os.write(answers, f"{pid}\n".encode())
                os.write(answers, f"{os.waitpid(pid, 0)[1]}\n".encode())
                os._exit(0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            for descriptor in descriptors:
                os.close(descriptor)
            asked = json.loads(request)
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            sys.argv = asked["arguments"]
            sys.path.insert(0, str(Path(sys.argv[0]).parent))  # as Python does for a script
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _import() -> None:
    """What commands import of others, and what takes no thread with it."""
    import keras  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import tensorflow as tf  # noqa: F401
    import tf2onnx  # noqa: F401
    import typer  # noqa: F401


if __name__ == "__main__":
    _import()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
