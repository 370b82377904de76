"""The hand-written limit: the int8 file's numbers in a C kernel of about 80 lines, built by gcc for this CPU.

    python -m benchmarks.peers.convert.by_hand FOLDER

writes ``layers.h`` and ``kernel.so``, and refuses a kernel whose logits are not onnxruntime's, bit for bit, on all test
images. The file has to be what `toolkit export --quantize` makes of three dense layers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.shared.common import REFERENCE
from toolkit.errors import MissingError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FLAGS", "TIMED", "build", "compiled", "file_logits", "kernel_logits", "shared_library"]

SOURCE, TIMED = (Path(__file__).with_name(name) for name in ("kernel.c", "timed.c"))
FLAGS = ("-O3", "-march=native", "-fopenmp", "-ffp-contract=off", "-shared", "-fPIC")
LINE, SIDE = 64, 4


class Layer(NamedTuple):
    """One dense layer: int8 weights (neurons, inputs), int32 biases, and what each neuron's sum is multiplied with."""

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    scales: NDArray[np.float32]


def build(model: Path, folder: Path) -> Path:
    """The kernel of an int8 file as a shared library.

    Raises:
        MissingError: no gcc.
        ModelError: the file is of another kind, or gcc refuses the source.
    """
    (folder / "layers.h").write_text(_header(_layers(model)), encoding="utf-8")
    return compiled(folder)


def compiled(folder: Path) -> Path:
    """The kernel with the numbers of ``layers.h`` in a folder, built there.

    Raises:
        MissingError: no gcc.
        ModelError: gcc refuses the source.
    """
    return shared_library([*FLAGS, f"-I{folder}"], [SOURCE, TIMED], folder / "kernel.so")


def shared_library(options: Sequence[str], sources: Sequence[Path], target: Path) -> Path:
    """What gcc makes of some sources.

    Raises:
        MissingError: no gcc.
        ModelError: gcc refuses them.
    """
    if not shutil.which("gcc"):
        raise MissingError("a kernel in C needs gcc, and there is none; install it")
    command = ["gcc", *options, *map(str, sources), "-o", str(target), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1]
        raise ModelError(f"gcc refuses {sources[0].name}: {said}; see {target.parent}")
    return target


def _layers(model: Path) -> list[Layer]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    dense = [node for node in graph.node if node.op_type == "Gemm"]
    quantized = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    if len(dense) != 3 or len(quantized) != 2 or any(values[node.input[2]].any() for node in quantized):
        raise ModelError(f"{model} is not three dense layers in int8, with ReLU between; give the reference model")
    layers = []
    for node, then in zip(dense, [*quantized, None], strict=True):
        given, weights, bias = (maker[name].input for name in node.input)
        if values[given[2]].any() or values[weights[2]].any():
            raise ModelError(f"{node.name} of {model} has zero points; give the reference model")
        scales = np.float32(values[given[1]]) * values[weights[1]].reshape(-1).astype(np.float32)
        if then is not None:  # onnxruntime divides by the output's scale in float32 too
            scales = scales / np.float32(values[then.input[1]])
        neurons = values[weights[0]].shape[1]
        layers.append(Layer(values[weights[0]].T, values[bias[0]], np.broadcast_to(scales, neurons)))
    return layers


def _header(layers: list[Layer]) -> str:
    lines = [f"#define INPUTS {layers[0].weights.shape[1]}"]
    for number, (weights, bias, scales) in enumerate(layers, 1):
        neurons, inputs = weights.shape
        rows, width = -(-neurons // SIDE) * SIDE, -(-inputs // LINE) * LINE
        padded = np.zeros((rows, width), np.int8)
        padded[:neurons, :inputs] = weights
        biases = np.zeros(rows, np.int32)
        biases[:neurons] = bias
        for name, value in (("NEURONS", neurons), ("ROWS", rows), ("WIDTH", width)):
            lines.append(f"#define {name}_{number} {value}")
        lines.append(f"static const float scale_{number}[] = {{{','.join(f'{float(v).hex()}f' for v in scales)}}};")
        lines.append(_array("int32_t", f"bias_{number}", biases))
        lines.append(_array("int8_t", f"weights_{number}", padded))
    return "\n".join(lines) + "\n"


def _array(kind: str, name: str, values: NDArray[Any]) -> str:
    return f"static const {kind} {name}[] __attribute__((aligned({LINE}))) = {{{','.join(map(str, values.ravel()))}}};"


def kernel_logits(library: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the kernel gives for raw images (n, 28, 28): float32 of shape (n, 10)."""
    import ctypes

    given, answers = np.ascontiguousarray(images), np.zeros((len(images), 10), np.float32)
    run = ctypes.CDLL(str(library)).all_logits
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p], None
    run(given.ctypes.data, len(given), answers.ctypes.data)
    return answers


def file_logits(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What onnxruntime gives in front of the softmax: float32 of shape (n, 10)."""
    import onnxruntime

    from toolkit.conversion.logits import with_logits

    copy = with_logits(model.read_bytes(), model.name)
    session = onnxruntime.InferenceSession(copy.data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([copy.output], {"image": images})[0], np.float32)


def main() -> None:
    """Build and compare."""
    folder, model = Path(sys.argv[1]), REFERENCE / "model.int8.onnx"
    images = np.load(folder / "test.npy")
    library = build(model, folder)
    differ = int((kernel_logits(library, images).view(np.int32) != file_logits(model, images).view(np.int32)).sum())
    if differ:
        raise ModelError(f"{differ:,} logits of the kernel are not onnxruntime's; {SOURCE.name} has to do what it does")


if __name__ == "__main__":
    main()
