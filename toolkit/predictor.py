"""The device runtime in one file: copy it beside an artifact and it works with numpy and onnxruntime alone.

    from toolkit.predictor import Predictor      # or: from predictor import Predictor
    predictor = Predictor("exported/fashion-mnist")
    predictor.predict(image).class_name          # image: uint8 array of shape (28, 28), raw pixels

Everything that a device must know is in the artifact: the graph holds the preprocessing, ``manifest.json`` the
hashes and the class names. A file that is not what the manifest says is refused before the runtime sees it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

# Every import at the top is paid by each start on the device: pathlib, dataclasses, json and hashlib would double
# what this module costs, so the first two are done without and the others wait until a file is opened.
if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnxruntime as ort
    from numpy.typing import NDArray

__all__ = [
    "Predictor",
    "Prediction",
    "PredictionBatch",
    "ToolkitError",
    "UsageError",
    "InputError",
    "ModelError",
    "MissingError",
    "CorruptArtifactError",
]

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 2
PROBABILITIES, LOGITS = "probabilities", "logits"
_KINDS = ("int8", "int4", "float16", "float32")  # the first that an artifact has is preferred
_DTYPES: dict[str, np.dtype[Any]] = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class ToolkitError(Exception):
    """Base of every error that a person can do something about; ``exit_code`` is what the command line exits with."""

    exit_code = 1


class UsageError(ToolkitError, ValueError):
    """An option or a path that makes no sense."""

    exit_code = 2


class InputError(ToolkitError, ValueError):
    """An image or array with the wrong dtype, shape, range, or NaN in it."""

    exit_code = 2


class ModelError(ToolkitError, ValueError):
    """A file that is no model, or a model that this version cannot serve."""

    exit_code = 2


class MissingError(ToolkitError, FileNotFoundError):
    """Something that is needed is not there."""

    exit_code = 3


class CorruptArtifactError(ToolkitError, ValueError):
    """A file of an artifact is damaged, or is not the one that the manifest describes."""

    exit_code = 4


class Prediction(NamedTuple):
    """What the model says of one image.

    Attributes:
        label: index of the most probable class.
        class_name: its name, or None where the model carries no class names.
        probability: its probability, 0 to 1.
        probabilities: all of them, float32 of shape (classes,); the caller's own copy.
        logits: what went into the softmax, float32 of shape (classes,), or None where the file does not give it.
    """

    label: int
    class_name: str | None
    probability: float
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None


class PredictionBatch:
    """Predictions for many images: list-like, one `Prediction` an image, with the arrays at hand.

    Attributes:
        labels: int64 of shape (n,).
        probabilities: float32 of shape (n, classes).
        class_names: one name a class, or None.
        logits: float32 of shape (n, classes), or None where the file does not give them.
    """

    def __init__(
        self,
        probabilities: NDArray[np.float32] | None,
        class_names: tuple[str, ...] | None,
        logits: NDArray[np.float32] | None = None,
    ) -> None:
        scores = logits if probabilities is None else probabilities
        if scores is None:
            raise ValueError("neither probabilities nor logits were given")
        self.labels: NDArray[np.int64] = scores.argmax(axis=1)
        self.probabilities = _softmax(scores) if probabilities is None else probabilities
        self.logits = logits
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        logits = None if self.logits is None else self.logits[index].copy()
        return _prediction(int(self.labels[index]), self.probabilities[index].copy(), logits, self.class_names)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))


def _prediction(
    label: int, row: NDArray[np.float32], logits: NDArray[np.float32] | None, class_names: tuple[str, ...] | None
) -> Prediction:
    return Prediction(label, class_names[label] if class_names else None, float(row[label]), row, logits)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]  # numpy's sum is Any


class ModelFile(NamedTuple):
    """One model file of an artifact, as the manifest describes it (or as found, for a lone file: sha256 is None)."""

    path: str
    kind: str
    sha256: str | None

    def read(self) -> bytes:
        """The file's bytes, whole and as described.

        Raises:
            CorruptArtifactError: the sha256 differs from the manifest's, or the file is missing.
            ModelError: the bytes are no ONNX model, or keep weights outside the file.
        """
        data = read_checked(self.path, self.sha256)
        _check_onnx(data, self.path)
        return data


def read_checked(path: str, sha256: str | None) -> bytes:
    """A file's bytes, if they are the ones that the manifest describes (sha256 None: whatever they are).

    Raises:
        CorruptArtifactError: the file is missing or is another.
        UsageError: it cannot be read.
    """
    import hashlib

    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise CorruptArtifactError(
            f"{path} is named by {MANIFEST_NAME} but is missing; copy the artifact again as a whole"
        ) from error
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise CorruptArtifactError(
            f"{path} was changed or damaged: its sha256 begins {found[:12]}, {MANIFEST_NAME} says {sha256[:12]}; "
            "copy the artifact again or export it anew"
        )
    return data


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def read_manifest(folder: str, *, older: bool = False) -> dict[str, Any]:
    """The manifest of an artifact folder.

    Args:
        folder: its path.
        older: formats of earlier versions are accepted too, by who only asks whether it is an artifact.

    Raises:
        ModelError: the folder has no manifest of this toolkit, so it is no artifact.
        CorruptArtifactError: it cannot be parsed, or is of a format that this code does not know.
    """
    import json

    path = os.path.join(folder, MANIFEST_NAME)
    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} is no artifact: it holds no {MANIFEST_NAME}; give a folder made by 'toolkit export'"
        ) from error
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptArtifactError(f"{path} is damaged ({error}); copy or export the artifact again") from error
    if not isinstance(manifest, dict) or "format" not in manifest or "versions" not in manifest:
        raise ModelError(f"{folder} is no artifact: its {MANIFEST_NAME} is not this toolkit's; give another folder")
    found = manifest["format"]
    if found != MANIFEST_FORMAT and not (older and type(found) is int and 0 < found < MANIFEST_FORMAT):
        raise CorruptArtifactError(
            f"{path} has format {found!r}, this version reads {MANIFEST_FORMAT}; export its model.keras again, "
            "or use the toolkit version that wrote it"
        )
    return manifest


def model_files(path: str | os.PathLike[str]) -> list[ModelFile]:
    """The ONNX files behind a path, the quantized one first: all of an artifact folder's, or the one that is named.

    Raises:
        MissingError: nothing is there.
        ModelError: the folder holds no exported model.
        CorruptArtifactError: its manifest is damaged.
    """
    target = os.fspath(path)
    if os.path.isdir(target):
        if files := _described(target):
            return files
        raise ModelError(f"{target} holds no ONNX model yet; run: toolkit export {target} --quantize")
    if not os.path.exists(target):
        raise MissingError(f"{target} does not exist; give an artifact folder or an .onnx file")
    folder, name = os.path.split(target)
    if os.path.isfile(os.path.join(folder, MANIFEST_NAME)):
        try:
            described = _described(folder)
        except ModelError:  # a manifest.json of something else
            described = []
        for file in described:
            if os.path.basename(file.path) == name:
                return [file]
    return [ModelFile(target, next((kind for kind in _KINDS if f".{kind}." in name), "float32"), None)]


def _described(folder: str) -> list[ModelFile]:
    manifest = read_manifest(folder)
    try:
        entries = {n: e for n, e in manifest["files"].items() if n.endswith(".onnx")}
        files = [ModelFile(os.path.join(folder, n), e["kind"], str(e["sha256"])) for n, e in entries.items()]
        files.sort(key=lambda f: (_KINDS.index(f.kind), f.path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        path = os.path.join(folder, MANIFEST_NAME)
        raise CorruptArtifactError(f"{path} is incomplete ({error}); copy or export the artifact again") from error
    for name in entries:
        if os.path.basename(name) != name:
            raise CorruptArtifactError(f"{folder} names a model outside its folder: {name!r}; copy it again")
    return files


class Predictor:
    """Runs an exported image classifier on the CPU.

    One session serves all threads; each thread binds its own buffers once, so a single-image call converts and
    allocates nothing of the image. It can be pickled (it opens again on the other side) and used after a fork.

    Args:
        path: an artifact folder, or an ``.onnx`` file (checked against the manifest beside it, if there is one).
        kind: "int8", "int4", "float16" or "float32"; by default the quantized one where the artifact has it.
        threads: threads that one run may use. 1 is fastest for small models and spares the device's other work.

    Raises:
        MissingError, ModelError, CorruptArtifactError: see `model_files` and `ModelFile.read`.
    """

    def __init__(self, path: str | os.PathLike[str], *, kind: str | None = None, threads: int = 1) -> None:
        if threads < 1:
            raise UsageError(f"threads is {threads}; give 1 or more")
        files = model_files(path)
        chosen = [f for f in files if kind in (None, f.kind)]
        if not chosen:
            raise ModelError(f"{path} has no {kind} model, only {', '.join(f.kind for f in files)}")
        # Absolute, so that a change of the current folder does not matter to a copy in another process.
        self._arguments = (os.path.abspath(path), kind, threads)
        self._threads = threads
        self.file = chosen[0]._replace(path=os.path.abspath(chosen[0].path))
        self._session: ort.InferenceSession | None = None
        self._opening = threading.Lock()
        self._local = threading.local()
        self._read_contract(self._open())
        _LIVE.add(self)

    def _open(self) -> ort.InferenceSession:
        """The session, opened once; with the settings that suit a small board."""
        with self._opening:
            if self._session is not None:
                return self._session
            import hashlib

            data = self.file.read()
            if self.file.sha256 is None:  # what is opened again later (after a fork) must be the same file
                self.file = self.file._replace(sha256=hashlib.sha256(data).hexdigest())
            # The runtime's wheels report usage unless this is set before the import (its docs/Privacy.md).
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            try:
                import onnxruntime as ort
            except ImportError as error:
                raise MissingError(f"onnxruntime cannot be imported ({error}); run: pip install onnxruntime") from error
            options = ort.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.enable_cpu_mem_arena = False  # it only ever grows; onnxruntime#11627
            options.log_severity_level = 3
            try:
                self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:200]
                raise ModelError(
                    f"{self.file.path} cannot be run by onnxruntime {ort.__version__}: {reason}; "
                    "export it again, or use a newer onnxruntime"
                ) from error
            return self._session

    def _read_contract(self, session: ort.InferenceSession) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        names = [answer.name for answer in outputs]
        if len(inputs) != 1 or (len(outputs) != 1 and sorted(names) != [LOGITS, PROBABILITIES]):
            raise ModelError(
                f"{self.file.path} has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each, or "
                f"the outputs {PROBABILITIES} and {LOGITS}"
            )
        given = inputs[0]
        fixed = [d for d in given.shape[1:] if isinstance(d, int)]
        if given.type not in _DTYPES or len(fixed) != len(given.shape) - 1 or isinstance(given.shape[0], int):
            raise ModelError(
                f"{self.file.path} takes {given.type} of shape {given.shape}; "
                "expected uint8 or float32 with a free batch dimension only"
            )
        for answer in outputs:
            if answer.type != "tensor(float)" or len(answer.shape) != 2 or not isinstance(answer.shape[1], int):
                raise ModelError(
                    f"{self.file.path} gives {answer.type} of shape {answer.shape}; expected float32 [batch, classes]"
                )
        self.input_name = given.name
        # Labels are taken from the first: the probabilities if they are there.
        self.output_names = sorted(names, reverse=True)
        self._gives_logits, self._gives_probabilities = LOGITS in names, names != [LOGITS]
        self.input_dtype = _DTYPES[given.type]
        self.input_shape: tuple[int, ...] = tuple(fixed)
        self.classes: int = outputs[0].shape[1]
        import json

        try:
            facts = session.get_modelmeta().custom_metadata_map
            names = json.loads(facts.get("toolkit.class_names", "null"))
            contract = json.loads(facts.get("toolkit.contract", "{}"))
            ranges = {entry["name"]: entry["range"] for entry in contract.get("inputs", [])}
            self._range: list[float] | None = ranges.get(given.name)
            self.class_names = None if names is None else tuple(map(str, names))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CorruptArtifactError(f"{self.file.path} carries unreadable metadata; export it again") from error
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise CorruptArtifactError(
                f"{self.file.path} names {len(self.class_names)} classes but answers for {self.classes}; "
                "export it again"
            )
        # Dynamic quantization takes one scale from the whole batch, so an image's answer would depend on the others.
        self._one_by_one = facts.get("toolkit.quantization") == "dynamic"

    def classify(self, image: NDArray[Any]) -> int:
        """The label of one image, by the shortest path.

        Args:
            image: the model's input dtype (uint8 raw pixels by default), shape `input_shape`.

        Raises:
            InputError: wrong dtype, shape, range or NaN.
        """
        return int(self._run_one(image).scores.argmax())

    def predict(self, image: NDArray[Any]) -> Prediction:
        """The label, its name and all probabilities of one image (as for `classify`)."""
        bound = self._run_one(image)
        logits = bound.outputs[-1].copy() if self._gives_logits else None
        probabilities = bound.scores.copy() if self._gives_probabilities else _softmax(bound.scores)
        return _prediction(int(bound.scores.argmax()), probabilities, logits, self.class_names)

    def predict_batch(self, images: NDArray[Any]) -> PredictionBatch:
        """Predictions for images of shape (n, *input_shape); n may be 0.

        They are made in one run, or one by one where the file is quantized dynamically, so that each answer is the
        image's own.

        Raises:
            InputError: wrong dtype, shape, range or NaN.
        """
        self._check(images, batch=True)
        if len(images) == 0:
            answers = [np.empty((0, self.classes), np.float32) for _ in self.output_names]
        elif self._one_by_one:
            rows = [[answer.copy() for answer in self._run_one(image).outputs] for image in images]
            answers = [np.stack(column) for column in zip(*rows, strict=True)]
        else:
            answers = self._open().run(self.output_names, {self.input_name: np.ascontiguousarray(images)})
        return PredictionBatch(
            answers[0] if self._gives_probabilities else None,
            self.class_names,
            answers[-1] if self._gives_logits else None,
        )

    def _run_one(self, image: NDArray[Any]) -> _Bound:
        """This thread's own buffers, with the answers to one image in them."""
        try:
            bound = self._local.bound
        except AttributeError:
            bound = self._local.bound = _Bound(self, self._open())
        # The fast path of _check: exact type and contract, and nothing that could be NaN or out of range.
        if (
            type(image) is not np.ndarray
            or image.dtype != bound.dtype
            or image.shape != self.input_shape
            or bound.look_at_values
        ):
            self._check(image, batch=False)
        bound.image[...] = image
        bound.run(bound.binding)
        return bound  # type: ignore[no-any-return]  # threading.local is untyped

    def _check(self, images: object, *, batch: bool) -> None:
        what, shape = ("images", ("n", *self.input_shape)) if batch else ("image", self.input_shape)
        wanted = f"expected {self.input_dtype} of shape ({', '.join(map(str, shape))})"
        if type(images) is not np.ndarray:
            raise InputError(f"{what}: got {type(images).__name__}, {wanted}; pass a plain numpy array")
        found = images.shape[1:] if batch and images.ndim else images.shape
        if found != self.input_shape or images.ndim != len(shape):
            raise InputError(f"{what}: got shape {images.shape}, {wanted}; resize or reshape first")
        number = images.dtype.kind in "biuf"
        if number and images.dtype.kind == "f" and not np.isfinite(images).all():
            raise InputError(f"{what}: contains NaN or infinity, {wanted}; check where the pixels come from")
        if images.dtype != self.input_dtype:
            low, high = (images.min(), images.max()) if number and images.size else (0, 0)
            hint = "convert with image.astype(numpy.uint8)"
            if low < 0 or high > 255:
                hint = f"values run from {low} to {high} but pixels run from 0 to 255; check the scaling"
            elif images.dtype.kind == "f" and high <= 1:
                hint = "undo the division by 255: the model takes raw pixels and scales them itself"
            if self.input_dtype != np.uint8:
                hint = f"convert with image.astype(numpy.{self.input_dtype})"
            raise InputError(f"{what}: got dtype {images.dtype}, {wanted}; {hint}")
        if self._range and images.dtype.kind == "f" and images.size:
            low, high = float(images.min()), float(images.max())
            if low < self._range[0] or high > self._range[1]:
                raise InputError(
                    f"{what}: values run from {low:g} to {high:g}, {wanted} with values from {self._range[0]:g} to "
                    f"{self._range[1]:g}; check the scaling"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._arguments

    def _after_fork(self) -> None:
        """In a forked child: a session of several threads has lost them, so the next call opens another."""
        self._opening = threading.Lock()
        if self._threads > 1:
            import ctypes

            # Never freed: its destructor would wait for the lost threads, even at the child's exit.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None
            self._local = threading.local()


class _Bound:
    """One thread's input and output buffers, bound to the session once."""

    __slots__ = ("binding", "dtype", "image", "look_at_values", "outputs", "run", "scores")

    def __init__(self, predictor: Predictor, session: ort.InferenceSession) -> None:
        image = np.zeros((1, *predictor.input_shape), predictor.input_dtype)
        self.outputs = []
        self.binding = session.io_binding()
        self.binding.bind_input(
            predictor.input_name, "cpu", 0, predictor.input_dtype.type, image.shape, image.ctypes.data
        )
        for name in predictor.output_names:
            answer = np.zeros((1, predictor.classes), np.float32)
            self.binding.bind_output(name, "cpu", 0, np.float32, answer.shape, answer.ctypes.data)
            self.outputs.append(answer[0])
        self.run = session.run_with_iobinding
        self.image, self.scores = image[0], self.outputs[0]
        self.dtype = predictor.input_dtype
        self.look_at_values = predictor.input_dtype.kind == "f"  # every uint8 is a pixel


# Predictors of this process, so that a forked child can open its own sessions.
_LIVE: weakref.WeakSet[Predictor] = weakref.WeakSet()


def _reset_in_child() -> None:
    for predictor in _LIVE:
        predictor._after_fork()  # noqa: SLF001 - same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)


def _reopen(path: str, kind: str | None, threads: int) -> Predictor:
    return Predictor(path, kind=kind, threads=threads)


# Where a tensor can hide in a model: {message: {field number: message of that field}}. Numbers from onnx.proto3.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}


class _ExternalDataError(Exception):
    pass


def _check_onnx(data: bytes, path: str) -> None:
    """Refuse what is no ONNX model, or one that keeps weights outside the file, before the runtime opens it."""
    try:
        if not {7, 8} <= _walk(memoryview(data), "model"):  # graph and opset_import
            raise ValueError("it holds no graph")
    except _ExternalDataError:
        raise ModelError(f"{path} keeps weights outside the file, which is refused; export it as one file") from None
    except (ValueError, IndexError, RecursionError) as error:
        raise ModelError(
            f"{path} is no ONNX model ({len(data)} bytes): {error}; "
            "it may be cut short, or a Git LFS pointer; copy or export it again"
        ) from error


def _walk(data: memoryview, message: str) -> set[int]:
    """Step over a protobuf message's fields, into those that may hold tensors; the numbers of its fields."""
    seen, at = set(), 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        seen.add(number)
        inner = _FIELDS[message].get(number)
        if inner == "external data":
            raise _ExternalDataError
        if wire == 2:
            size, at = _varint(data, at)
        elif wire == 0:
            size, at = 0, _varint(data, at)[1]
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at + size > len(data):
            raise ValueError("it ends too early")
        if wire == 2 and inner:
            _walk(data[at : at + size], inner)
        at += size
    return seen


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
