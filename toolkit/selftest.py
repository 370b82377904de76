"""Proves on the device itself that a bundle is whole, that the device can run it, and that it answers as it should.

    python predictor.py --selftest [--json]

It stands beside ``predictor.py`` in a bundle and needs what that needs. One line says the verdict; the exit code is 0
all is well, 1 an answer is another than it was when the model was verified, 2 bad usage, 3 this device lacks something
(a CPU feature, numpy, a newer onnxruntime), 4 a file is damaged or was changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.predictor import Predictor

__all__ = ["main"]

REPORT_FORMAT = 1
GOLDEN = "golden.npz"
GATE, USAGE, MISSING, CORRUPT = 1, 2, 3, 4  # exit codes
WARM_UP, CALLS = 50, 300  # of the latency figure: some milliseconds
# Numbers of the element types in onnx.proto3, TensorProto.DataType, by numpy's name.
_ELEMENT_TYPES = {"float32": 1, "float16": 10, "float64": 11}
_USAGE = "usage: python predictor.py --selftest [--json]   (to predict, import it: from predictor import Predictor)"


class _Check(NamedTuple):
    name: str
    detail: str


class _FailedError(Exception):
    def __init__(self, check: str, reason: str, code: int) -> None:
        super().__init__(reason)
        self.check, self.code = check, code


def main(arguments: Sequence[str]) -> int:
    """Run the self-test of the folder that this file is in.

    Args:
        arguments: "--selftest", and "--json" for a report on standard output instead of the line.

    Returns:
        The exit code.
    """
    if "--selftest" not in arguments or set(arguments) - {"--selftest", "--json"}:
        sys.stderr.write(f"{_USAGE}\n")
        return USAGE
    folder = Path(__file__).absolute().parent
    report: dict[str, Any] = {"format": REPORT_FORMAT, "verdict": "passed", "exit_code": 0, "error": None}
    checks: list[_Check] = []
    try:
        _run(folder, report, checks)
    except _FailedError as error:
        report |= {"verdict": "failed", "exit_code": error.code, "error": f"{error.check}: {error}"}
    report["checks"] = [check._asdict() for check in checks]
    if "--json" in arguments:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
    elif report["error"]:
        sys.stderr.write(f"error: the self-test failed: {report['error']}\n")
    else:
        sys.stdout.write(f"passed: {'; '.join(check.detail for check in checks)}\n")
    return int(report["exit_code"])


def _run(folder: Path, report: dict[str, Any], checks: list[_Check]) -> None:
    _check_code(folder)
    manifest = _manifest(folder)
    checks.append(_Check("platform", _platform(manifest["bundle"])))
    try:
        import numpy as np

        from toolkit import predictor as device
    except ImportError as error:
        raise _FailedError(
            "numpy",
            f"it cannot be imported ({_brief(error)}); run: pip install --require-hashes -r requirements.txt",
            MISSING,
        ) from error
    except RuntimeError as error:  # numpy's own word, where /proc/cpuinfo did not tell
        raise _FailedError(
            "platform",
            f"numpy does not run on this CPU ({_brief(error)}); use versions that are built for this device",
            MISSING,
        ) from error
    try:
        sums = device.check_bundle(str(folder))
        name = str(manifest["bundle"]["model"])
        checks.append(_Check("files", f"{len(sums)} files are whole"))
        predictor = device.Predictor(folder)
    except device.ToolkitError as error:
        raise _FailedError("files" if error.exit_code == CORRUPT else "runtime", str(error), error.exit_code) from error
    import onnxruntime as ort

    report["bundle"] = {"name": manifest["name"], "model": name, "sha256": sums[name]}
    report["versions"] = {
        "python": platform.python_version(), "numpy": np.__version__, "onnxruntime": ort.__version__,
        "machine": platform.machine(), "libc": " ".join(_libc()),
    }  # fmt: skip
    record = manifest["files"][name]
    needs = f"opset {record['opset']}, IR version {record['ir_version']}, {record['onnxruntime']} or newer"
    checks.append(_Check("runtime", f"onnxruntime {ort.__version__} runs {name} ({needs})"))
    try:
        with np.load(folder / GOLDEN, allow_pickle=False) as stored:
            golden = {key: stored[key] for key in stored.files}
        facts = json.loads(str(golden["facts"]))
        checks += _golden(predictor, golden, {"scales": facts["scales"], **facts["files"][name]}, name)
    except (KeyError, ValueError, OSError) as error:  # its hash is right, so it was made wrong
        raise _FailedError(
            "golden", f"{GOLDEN} has no answers of {name} ({_brief(error)}); bundle it anew", CORRUPT
        ) from error
    except device.ToolkitError as error:
        raise _FailedError("golden", str(error), GATE) from error
    times = _latency(predictor, golden)
    report["latency_us"] = times
    checks.append(_Check("latency", f"{times['p50']:.1f} us a row (p50)"))


def _check_code(folder: Path) -> None:
    """The hashes of what is about to be imported and read: a damaged predictor.py must not be what judges itself."""
    again = "copy the bundle again as a whole"
    try:
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        sums = {line[66:]: line[:64] for line in lines}
        for name in ("manifest.json", "predictor.py", "selftest.py"):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sums.get(name):
                raise _FailedError("files", f"{folder / name} was changed or damaged; {again}", CORRUPT)
    except (OSError, ValueError) as error:
        raise _FailedError("files", f"a file of {folder} cannot be read ({_brief(error)}); {again}", CORRUPT) from error


def _manifest(folder: Path) -> Any:
    """The manifest, read without numpy."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(manifest["bundle"], dict) and isinstance(manifest["files"], dict)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _FailedError(
            "files", f"{path} is missing or damaged ({_brief(error)}); copy the bundle again as a whole", CORRUPT
        ) from error
    if not known:
        raise _FailedError("files", f"{path} is not that of a bundle; copy the bundle again as a whole", CORRUPT)
    return manifest


def _platform(bundle: Mapping[str, Any]) -> str:
    """What this device is.

    Whether it is enough shows in whether numpy and onnxruntime can be imported, which is tried in another process where
    something is lacking: a CPU that lacks an instruction ends a process without a word.
    """
    lacks = []
    wanted = str(bundle.get("python", ""))
    if _number(platform.python_version()) < _number(wanted):
        raise _FailedError(
            "platform", f"Python {platform.python_version()} is older than {wanted}; use a newer one", MISSING
        )
    machine = platform.machine()
    needs = bundle.get("cpu_features")
    features = _cpu_features()
    if features and isinstance(needs, dict):
        lacks += [f"the CPU has no {feature}" for feature in needs.get(machine, ()) if feature not in features]
    kind, version = _libc()
    glibc = str(bundle.get("glibc", ""))
    if kind != "glibc":
        lacks.append(f"the C library is {kind or 'unknown'}, not glibc")
    elif _number(version) < _number(glibc):
        lacks.append(f"glibc {version} is older than {glibc}")
    if lacks:
        tried = subprocess.run(
            [sys.executable, "-c", "import numpy, onnxruntime"], stderr=subprocess.PIPE, check=False, text=True
        )
        if tried.returncode:
            ended = (
                f"signal {-tried.returncode}" if tried.returncode < 0 else (tried.stderr.split("\n")[-2:] or [""])[0]
            )
            raise _FailedError(
                "platform",
                f"numpy and onnxruntime do not run here ({ended}), and the pinned ones need more than there is: "
                f"{', '.join(lacks)}; use versions that are built for this device",
                MISSING,
            )
    return f"{machine}, {kind} {version}, Python {platform.python_version()}"


def _cpu_features() -> set[str]:
    """The flags in /proc/cpuinfo, empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = (line.partition(":") for line in text.splitlines())
    return next((set(value.split()) for key, _, value in lines if key.strip() in ("flags", "Features")), set())


def _libc() -> tuple[str, str]:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError, AttributeError):  # another C library, or no such call
        name, version = platform.libc_ver()
    return name, version


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _golden(
    predictor: Predictor, golden: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], name: str
) -> list[_Check]:
    """Hold the answers to the golden rows against those of the machine that verified the model."""
    import numpy as np

    rows = {info.name: golden[f"input/{info.name}"] for info in predictor.inputs}
    count = len(next(iter(rows.values())))
    whole = predictor.predict_batch(rows)
    alone = [predictor.predict({key: array[at, ...] for key, array in rows.items()}) for at in range(count)]
    found: list[_Check] = []
    if "label" in golden and predictor.classes is not None:
        said = [predictor.classify({key: array[at, ...] for key, array in rows.items()}) for at in range(count)]
        both = np.array(said) if whole.labels is None else np.where(whole.labels == said, whole.labels, -1)
        wrong = np.flatnonzero(both != golden["label"])
        if len(wrong):
            at = int(wrong[0])
            raise _FailedError(
                "golden",
                f"{len(wrong)} of {count} labels are not Keras' (row {at}: {int(both[at])}, expected "
                f"{int(golden['label'][at])}); {_OTHERWISE}",
                GATE,
            )
        found.append(_Check("labels", f"{count} of {count} labels as Keras"))
    exact, tolerance = bool(facts["exact"]), float(facts["tolerance"])
    # By tensor, what a difference is relative to: 1 for probabilities, the size of an output of values.
    tensors = {str(tensor): np.array(facts["scales"][output]) for output, tensor in facts["tensors"].items()}
    batch = _values(predictor, rows, {t: golden[f"{name}/{t}"] for t in tensors}) if exact else whole.outputs
    values = sum(golden[f"{name}/{tensor}"].size for tensor in tensors)
    for tensor in sorted(tensors):
        expected = golden[f"{name}/{tensor}"]
        both_ways = [batch[tensor]]
        if tensor in whole.outputs:
            both_ways.append(np.stack([answer.outputs[tensor] for answer in alone]))
        for got in both_ways:
            # A comparison that a NaN fails.
            if exact and got.tobytes() != expected.tobytes():
                differ = int((got != expected).sum())
                raise _FailedError(
                    "golden", f"{differ} of {expected.size} values of {tensor} have other bits; {_OTHERWISE}", GATE
                )
            off = np.abs(got.astype(np.float64) - expected) / tensors[tensor]
            if not exact and not (off <= tolerance).all():
                reason = f"{tensor} differs by up to {off.max():.2g} of its size, limit {tolerance:.2g}; {_OTHERWISE}"
                raise _FailedError("golden", reason, GATE)
    found.append(_Check("values", f"{values} values {'bit for bit' if exact else f'within {tolerance:.2g}'}"))
    return found


_OTHERWISE = "this device computes otherwise than the one that verified the model: use another onnxruntime"


def _values(
    predictor: Predictor, rows: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Tensors inside the model for some rows, from a copy of it that gives them as well."""
    import numpy as np
    import onnxruntime as ort

    data = predictor.file.read()
    given = {info.name for info in predictor.outputs}
    for tensor, values in expected.items():
        if tensor not in given:
            data += _one_more_output(tensor, _ELEMENT_TYPES[str(values.dtype)])
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    count = len(next(iter(rows.values())))
    size, names = predictor.batch or count, list(expected)
    parts = []
    for start in range(0, count, size):
        which = np.minimum(np.arange(start, start + size), count - 1)  # a fixed batch is filled up with the last row
        parts.append(session.run(names, {name: array[which] for name, array in rows.items()}))
    return {name: np.concatenate([part[at] for part in parts])[:count] for at, name in enumerate(names)}


def _one_more_output(tensor: str, element_type: int) -> bytes:
    """Bytes that, behind a model's own, make a tensor one of its outputs.

    Protobuf merges a message that comes twice, so a second ModelProto.graph (field 7) that holds but an output (field
    12, a ValueInfoProto of name 1 and type 2, whose tensor_type 1 has elem_type 1) adds that one: numbers from
    onnx.proto3, merging from protobuf's encoding guide, "Last One Wins".
    """

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 0x7F:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    kind = field(1, bytes([1 << 3, element_type]))
    return field(7, field(12, field(1, tensor.encode()) + field(2, kind)))


def _latency(predictor: Predictor, golden: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """How long one row takes here, in microseconds: a short look, no benchmark."""
    rows = {info.name: golden[f"input/{info.name}"][0, ...] for info in predictor.inputs}
    row: Any = rows if len(rows) > 1 else rows[predictor.input_name]
    ask = predictor.predict if predictor.classes is None else predictor.classify
    times = []
    for _ in range(WARM_UP + CALLS):
        start = time.perf_counter_ns()
        ask(row)
        times.append(time.perf_counter_ns() - start)
    times = sorted(times[WARM_UP:])
    return {"n": CALLS, "p50": times[CALLS // 2] / 1000, "p90": times[CALLS * 9 // 10] / 1000}


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
