"""The native backend of the predictor: the model as a library compiled from C, in the place of an onnxruntime session.

A device has this file beside predictor.py, which imports it where it is asked for. It takes numpy and ctypes alone, and
answers to the few calls that the predictor makes of a session.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["LIBRARY", "NativeRefusedError", "NativeSession", "cpu_features", "misfit", "native_logits", "open_library"]

LIBRARY = "model.so"
_TYPES = {"uint8": "tensor(uint8)", "int8": "tensor(int8)", "float32": "tensor(float)"}


class NativeRefusedError(Exception):
    """Why a library is not used, in one line.

    Attributes:
        damaged: it is not what the manifest describes; else it only does not fit here, or is not there.
    """

    def __init__(self, reason: str, *, damaged: bool = False) -> None:
        super().__init__(reason)
        self.damaged = damaged


class _Tensor:  # a NamedTuple would take longer to make than all tensors
    def __init__(self, described: Mapping[str, Any]) -> None:
        self.name, self.type, self.shape = described["name"], _TYPES[described["dtype"]], list(described["shape"])


class _Meta:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.custom_metadata_map = facts


def cpu_features() -> set[str]:
    """What this CPU can do, as Linux calls it; empty where it does not say."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib costs 3 ms
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features", "features"):  # x86, ARM, IBM Z
                    return set(value.split())
    except OSError:
        pass
    return set()


def misfit(record: Mapping[str, Any]) -> str | None:
    """Why a library that was built as a manifest's ``native`` says cannot run on this CPU; None if it can."""
    machine = os.uname().machine
    if record["machine"] != machine:
        return f"it was built for {record['machine']}, and this is {machine}"
    here = cpu_features()
    if missing := [name for name in record["cpu_features"] if name not in here]:
        return f"it was built for a CPU with {', '.join(missing)}, which this one lacks"
    return None


def open_library(path: str, manifest: Mapping[str, Any], model_sha256: str | None) -> NativeSession:
    """A library, once it is known to run here and to answer rightly.

    Args:
        path: of the library, whose sha256 was checked.
        manifest: of the artifact.
        model_sha256: of the int8 file whose answers it is to give.

    Raises:
        NativeRefusedError: it is for another CPU, does not load, is of another model, or fails its golden vectors.
    """
    record = manifest.get("native")
    if not isinstance(record, dict):
        raise NativeRefusedError(f"{path} is not described by the manifest", damaged=True)
    try:
        reason = misfit(record)
    except (KeyError, TypeError) as error:
        raise NativeRefusedError(f"the manifest does not say which CPUs {path} is for", damaged=True) from error
    if reason:
        raise NativeRefusedError(f"{path} does not run here: {reason}")
    try:
        library = ctypes.CDLL(path)
        source = (ctypes.c_char * 64).in_dll(library, "toolkit_native_source").value
        check = library.toolkit_native_check
    except (OSError, AttributeError, ValueError) as error:
        raise NativeRefusedError(f"{path} cannot be loaded ({error})", damaged=True) from error
    if source.decode("ascii", "replace") != model_sha256:
        raise NativeRefusedError(f"{path} is of another model than the int8 file beside it", damaged=True)
    if wrong := check():
        raise NativeRefusedError(f"{path} gives {wrong} of its golden vectors another answer", damaged=True)
    try:
        return NativeSession(library, manifest)
    except (KeyError, TypeError) as error:
        raise NativeRefusedError(f"the manifest does not say what {path} takes and gives", damaged=True) from error


def native_logits(path: str, rows: Array, outputs: int) -> NDArray[np.float32]:
    """The values in front of a softmax or sigmoid, (n, outputs), of a library that runs here; for rows (n, ...)."""
    function = ctypes.CDLL(path).toolkit_native_logits
    return _each(function, rows, (outputs,))


class NativeSession:
    """A library where the predictor expects an onnxruntime session: of one input and one output, a row at a time."""

    def __init__(self, library: Any, manifest: Mapping[str, Any]) -> None:
        self._library = library
        self._inputs, self._outputs = ([_Tensor(t) for t in manifest[which]] for which in ("inputs", "outputs"))
        self._meta = _Meta(
            {
                "toolkit.contract": {"inputs": manifest["inputs"], "outputs": manifest["outputs"]},
                "toolkit.class_names": manifest["class_names"],
            }
        )
        self._run: Any = library.toolkit_native_run
        self._run.restype = None
        self._call: Any = library.toolkit_native_call
        self._call.restype = None

    def get_inputs(self) -> list[_Tensor]:
        """The one input."""
        return self._inputs

    def get_outputs(self) -> list[_Tensor]:
        """The one output."""
        return self._outputs

    def get_modelmeta(self) -> _Meta:
        """What an ONNX file has in its metadata, but not as text."""
        return self._meta

    def direct(self, row: Array, answer: Array) -> tuple[Callable[..., Any], Any, Array, Any]:
        """For a thread's own buffers: a function, its first argument, the label that it leaves, and what has to stay.

        The label is int32 of shape (), of a classifier; the function's second argument is of no use.
        """
        label = np.zeros((), np.int32)
        buffers = (ctypes.c_void_p * 3)(_address(row), _address(answer), _address(label))
        return self._call, ctypes.c_void_p(ctypes.addressof(buffers)), label, buffers

    def run(self, names: Sequence[str], rows: Mapping[str, Array]) -> list[Array]:  # noqa: ARG002 - a session's form
        """Answers (n, ...) to rows (n, ...), one after another."""
        (given,) = rows.values()
        return [_each(self._run, given, tuple(self._outputs[0].shape[1:]))]


def _each(function: Callable[..., Any], rows: Array, shape: tuple[int, ...]) -> NDArray[np.float32]:
    rows = np.ascontiguousarray(rows)
    found = np.empty((len(rows), *shape), np.float32)
    start, step, to, wide = _address(rows), rows[:1].nbytes, _address(found), found[:1].nbytes
    for at in range(len(rows)):
        function(ctypes.c_void_p(start + at * step), ctypes.c_void_p(to + at * wide))
    return found


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
