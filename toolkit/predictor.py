"""The device runtime in one file: copy it beside an artifact and it works with numpy and onnxruntime alone.

    from toolkit.predictor import Predictor      # or: from predictor import Predictor
    predictor = Predictor("exported/fashion-mnist")
    predictor.predict(image).class_name          # image: uint8 array of shape (28, 28), raw pixels
    predictor.predict({"image": image, "rows": rows}).outputs["brightness"]  # several inputs and outputs: by name

Everything that a device must know is in the artifact: the graph holds the preprocessing, its metadata the class names
and what each output means, ``manifest.json`` the hashes. A file that is not what the manifest says is refused before
the runtime sees it.
"""

from __future__ import annotations

import sys

if (
    __name__ == "__main__"
):  # before numpy is imported: that it is missing, or needs a newer CPU, is the self-test's to say
    try:
        from selftest import main  # type: ignore[import-not-found]  # beside this file in a bundle
    except ImportError:
        sys.stderr.write("error: selftest.py is not beside predictor.py; copy the bundle as a whole\n")
        sys.exit(3)
    sys.exit(main(sys.argv[1:]))

import atexit
import os
import time
import weakref
from _thread import _local, allocate_lock, get_ident
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

# Every import at the top is paid by each start on the device: pathlib, dataclasses, json, hashlib and threading would
# triple what this module costs, so they are done without.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnxruntime as ort
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = ["Predictor", "RuntimeSettings", "Prediction", "PredictionBatch", "TensorInfo", "UNSURE"]
__all__ += ["ToolkitError", "UsageError", "InputError", "ModelError", "MissingError", "CorruptArtifactError"]

UNSURE = -1
"""The label of an answer below ``min_confidence``; its class name is "unsure"."""

MANIFEST_NAME, SUMS_NAME, SETTINGS_NAME = "manifest.json", "SHA256SUMS", "settings.json"
MANIFEST_FORMAT, BUNDLE_FORMAT = 3, 1
PROBABILITIES, LOGITS = "probabilities", "logits"
CLASSIFICATION, BINARY, MULTILABEL, VALUES = TASKS = ("classification", "binary", "multilabel", "values")
"""What an output means; see `Predictor.task_of`."""
MODEL_SUFFIXES = (".onnx", ".ort")
ONNXRUNTIME, NATIVE, AUTO = BACKENDS = ("onnxruntime", "native", "auto")
_RUN_ROWS, _RUN_BYTES, _RUN_STEP = 256, 8_000_000, 16  # more rows in a run are no faster, and take more memory
_SHAPES_KEPT = 8
_KINDS = ("int8", "int4", "float16", "float32")  # the first that an artifact has is preferred
_ORT_MARK = b"ORTM"  # a file in the runtime's own format (a flatbuffer) has it at byte 4; it can hold no outside data
_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    **{f"tensor({n})": np.dtype(n) for n in ("float16", "bool", "int8", "int16", "int32", "int64")},
    **{f"tensor({n})": np.dtype(n) for n in ("uint8", "uint16", "uint32", "uint64")},
}


class ToolkitError(Exception):
    """Base of every error that a person can do something about; ``exit_code`` is what the command line exits with."""

    exit_code = 1


class UsageError(ToolkitError, ValueError):
    """An option or a path that makes no sense."""

    exit_code = 2


class InputError(ToolkitError, ValueError):
    """Rows with the wrong names, dtype, shape, range, or NaN in them; or on which the model fails."""

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


class RuntimeSettings(NamedTuple):
    """How the runtime is set up; what is given by default suits a small board (``benchmarks/DEVICE.md`` measures each).

    Attributes:
        threads: threads that one run may use. 1 is fastest for small models and spares the device's other work.
        spinning: idle threads wait for work by spinning, which takes a whole core each; of no use with one thread.
        arena: the runtime keeps the memory that it once took.
        memory_pattern: the runtime remembers the layout of its buffers for each shape of input: some per cent faster,
            and memory for each shape it meets. None: where all shapes but the batch are fixed, as there are few then
            (`Predictor.predict_batch` sees to that).
        optimization: of the graph when it is opened: "all", "extended", "basic" or "none".
        batch_rows: rows of one run; None: up to 256, fewer where they are large.
    """

    threads: int = 1
    spinning: bool = False
    arena: bool = False
    memory_pattern: bool | None = None
    optimization: str = "all"
    batch_rows: int | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: naming the setting.
        """
        if type(self.threads) is not int or self.threads < 1:
            raise UsageError(f"threads is {self.threads}; give 1 or more")
        if self.batch_rows is not None and (type(self.batch_rows) is not int or self.batch_rows < 1):
            raise UsageError(f"batch_rows is {self.batch_rows}; give 1 or more, or None")
        if self.optimization not in _LEVELS:
            raise UsageError(f"optimization is {self.optimization!r}; give one of {', '.join(_LEVELS)}")
        if self.spinning and self.threads == 1:
            raise UsageError("spinning does nothing with one thread; leave it out or give more threads")


_LIBRARY = "model.so"  # native.LIBRARY, which may not be there to ask
_LEVELS = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC",
           "none": "ORT_DISABLE_ALL"}  # fmt: skip


class TensorInfo(NamedTuple):
    """An input or output: its name, dtype, and the shape of one row, without the batch; None is a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def zeros(self, n: int) -> Array:
        """Rows of zeros; each free dimension is of size 1."""
        return np.zeros((n, *(1 if size is None else size for size in self.shape)), self.dtype)

    def wanted(self, *, batch: bool) -> str:
        """What it takes, for people."""
        sizes = [*(["n"] if batch else []), *("any" if size is None else str(size) for size in self.shape)]
        return f"{self.dtype} of shape ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


class Prediction(NamedTuple):
    """What the model says of one row. Every array is the caller's own copy.

    The first four, and the margin, are None where the file names no classes.

    Attributes:
        label: index of the most probable class; of a binary output 1 from a probability of 0.5 on, else 0. `UNSURE`
            where its probability is below the predictor's ``min_confidence``.
        class_name: its name; "unsure" likewise.
        confidence: probability of the most probable class, 0 to 1.
        probabilities: all of them, of shape (classes,); of a binary output those of both classes, no and yes.
        logits: what went into the softmax, of shape (classes,), or None where the file does not give it.
        outputs: everything that the file gives, by the output's name, without the batch.
    """

    # Any and no None: who serves a classifier knows that it is one, and would have to tell a type checker at each use.
    label: Any
    class_name: str | None
    confidence: Any
    probabilities: Any
    logits: Array | None
    outputs: dict[str, Array]

    @property
    def margin(self) -> Any:
        """Probability of the most probable class minus that of the second, 0 to 1."""
        return None if self.class_name is None else float(_margins(self.probabilities))


class PredictionBatch:
    """Predictions for many rows: list-like, one `Prediction` a row, with the arrays at hand.

    Attributes:
        outputs: everything that the file gives, by the output's name, each of n rows.
        labels: int64 of shape (n,), `UNSURE` where that applies; or None where the file names no classes.
        probabilities: of shape (n, classes), or None likewise.
        logits: of shape (n, classes), or None where the file does not give them.
        class_names: one name a class, or None.
    """

    def __init__(
        self,
        outputs: dict[str, Array],
        labels: Any = None,
        probabilities: Any = None,
        logits: Array | None = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self.outputs, self.labels, self.probabilities = outputs, labels, probabilities
        self.logits, self.class_names = logits, class_names

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        outputs = {name: answers[index, ...].copy() for name, answers in self.outputs.items()}
        logits = None if self.logits is None else self.logits[index].copy()
        if self.class_names is None:
            return Prediction(None, None, None, None, logits, outputs)
        label, row = int(self.labels[index]), self.probabilities[index].copy()
        name = "unsure" if label == UNSURE else self.class_names[label]
        return Prediction(label, name, float(row.max()), row, logits, outputs)

    @property
    def confidences(self) -> Any:
        """Probability of each row's most probable class, float32 of shape (n,), or None likewise."""
        return None if self.class_names is None else self.probabilities.max(axis=-1)

    @property
    def margins(self) -> Any:
        """Each row's probability of the most probable class minus that of the second, of shape (n,), or None."""
        return None if self.class_names is None else _margins(self.probabilities)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    @classmethod
    def joined(cls, parts: Sequence[PredictionBatch]) -> PredictionBatch:
        """The rows of some batches of one predictor, one batch at least, in one."""

        def join(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)

        outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs}
        return cls(outputs, join("labels"), join("probabilities"), join("logits"), parts[0].class_names)


def _softmax(logits: Array) -> NDArray[np.float32]:
    exponentials = np.exp((logits - logits.max(axis=-1, keepdims=True)).astype(np.float32, copy=False))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]  # numpy's sum is Any


def _margins(probabilities: Array) -> Any:
    two = np.partition(probabilities, -2, axis=-1)
    return two[..., -1] - two[..., -2]


class ModelFile(NamedTuple):
    """One model file of an artifact, as the manifest describes it (or as found, for a lone file: sha256 is None).

    Attributes:
        path: where it is.
        kind: "int8", "int4", "float16" or "float32".
        sha256: of its bytes, in hex.
        onnxruntime: the first release that runs it as it was verified, where that is known.
    """

    path: str
    kind: str
    sha256: str | None
    onnxruntime: str | None = None

    def read(self) -> bytes:
        """The file's bytes, whole and as described.

        Raises:
            CorruptArtifactError: the sha256 differs from the manifest's, or the file is missing.
            ModelError: the bytes are no model, or keep weights outside the file.
        """
        data = read_checked(self.path, self.sha256)
        if data[4:8] != _ORT_MARK:
            _check_onnx(data, self.path)
        return data


def read_checked(path: str, sha256: str | None) -> bytes:
    """A file's bytes, if they are the ones that the manifest describes (sha256 None: whatever they are).

    Raises:
        CorruptArtifactError: the file is missing or is another.
        UsageError: it cannot be read.
    """
    try:
        data = _read(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CorruptArtifactError(
            f"{path} is named by {MANIFEST_NAME} but is missing; copy the artifact again as a whole"
        ) from error
    if sha256 is not None and (found := _sha256(data)) != sha256:
        raise CorruptArtifactError(
            f"{path} was changed or damaged: its sha256 begins {found[:12]}, {MANIFEST_NAME} says {sha256[:12]}; "
            "copy the artifact again or export it anew"
        )
    return data


def _sha256(data: bytes) -> str:
    # hashlib brings OpenSSL: 3 ms and 3.6 MB of a fresh process, and hashes 1 MB in 0.8 ms. Python's own takes 4 ms
    # for that, so it is the better one below a megabyte (measured on x86-64 with SHA instructions).
    if len(data) < 1_000_000 and "hashlib" not in sys.modules:
        import importlib

        try:
            own = importlib.import_module("_sha2" if sys.version_info >= (3, 12) else "_sha256")
            return str(own.sha256(data).hexdigest())
        except (ImportError, AttributeError):  # another Python than CPython
            pass
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        raise
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _parsed(data: bytes | str) -> Any:
    """What json.loads makes of a text, mostly without that package, which compiles regular expressions for 2 ms.

    CPython's parser is used by itself; what it does not read to the end is left to json.loads, and so are its errors.
    """
    if "json" not in sys.modules:
        try:
            from _json import make_scanner

            text = (data if isinstance(data, str) else data.decode("utf-8")).strip(" \t\n\r")
            value, end = make_scanner(_Json)(text, 0)  # type: ignore[arg-type]  # its stub asks for what it makes
            if end == len(text):
                return value
        except (ImportError, AttributeError, TypeError, ValueError, StopIteration, SystemError):
            pass  # SystemError: it raises the json package's error, and that is not there
    import json

    return json.loads(data)


class _Json:
    """What that parser asks a decoder for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def _fact(facts: Mapping[str, Any], name: str, otherwise: str) -> Any:
    """A value of a file's metadata, which is JSON; of a native library it is there already."""
    value = facts.get(name, otherwise)
    return _parsed(value) if isinstance(value, str) else value


def check_bundle(folder: str, *, models: bool = True) -> dict[str, str]:
    """Hold every file of a bundle against its SHA256SUMS.

    Args:
        folder: of the bundle.
        models: the model file too; False: its bytes are checked when they are read.

    Returns:
        The sha256 of each file, by its name.

    Raises:
        CorruptArtifactError: a file is changed, missing, or a link that leads out of the folder; or SHA256SUMS is not
            what a bundle's is: one line "HASH  NAME" a file, sorted by name.
        UsageError: a file cannot be read.
    """
    again = "copy the bundle again as a whole"
    path = os.path.join(folder, SUMS_NAME)
    try:
        lines = _read(path).decode("utf-8").split("\n")
    except (FileNotFoundError, ValueError) as error:
        raise CorruptArtifactError(f"{path} is missing or damaged; {again}") from error
    sums = {line[66:]: line[:64] for line in lines[:-1]}
    written = [f"{sums[name]}  {name}" for name in sorted(sums)]
    plain = all(name and not name.startswith(".") and not set(name) & set("/\\\r\0") for name in sums)
    if [*written, ""] != lines or not plain or MANIFEST_NAME not in sums:
        raise CorruptArtifactError(f"{path} is damaged; {again}")
    for name, value in sums.items():
        file = os.path.join(folder, name)
        if os.path.islink(file) and not _is_inside(file, folder):
            raise CorruptArtifactError(f"{file} leads out of its folder; {again}")
        try:
            found = _sha256(_read(file)) if models or not name.endswith(MODEL_SUFFIXES) else value
        except FileNotFoundError as error:
            raise CorruptArtifactError(f"{file} is named by {SUMS_NAME} but is missing; {again}") from error
        if found != value:
            raise CorruptArtifactError(f"{file} was changed or damaged: its sha256 is not that of {SUMS_NAME}; {again}")
    return sums


def _is_bundle(folder: str) -> bool:
    try:
        text = _read(os.path.join(folder, SUMS_NAME))
    except FileNotFoundError:
        return False
    # Either will do, so that damage in one of them does not make it someone else's file.
    return MANIFEST_NAME.encode() in text or b"predictor.py" in text


def _is_inside(path: str, folder: str) -> bool:
    return os.path.dirname(os.path.realpath(path)) == os.path.realpath(folder)


def read_manifest(folder: str, *, older: bool = False) -> dict[str, Any]:
    """The manifest of an artifact folder.

    Args:
        folder: its path.
        older: formats of earlier versions are accepted too, by who only asks whether it is an artifact.

    Raises:
        ModelError: the folder has no manifest of this toolkit, so it is no artifact.
        CorruptArtifactError: it cannot be parsed, or is of a format that this code does not know.
    """
    path = os.path.join(folder, MANIFEST_NAME)
    try:
        data = _read(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} is no artifact: it holds no {MANIFEST_NAME}; give a folder made by 'toolkit export'"
        ) from error
    try:
        manifest = _parsed(data)
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
    """The model files behind a path, the quantized one first: all of an artifact folder's, or the one that is named.

    Of a bundle every other file is checked here.

    Raises:
        MissingError: nothing is there.
        ModelError: the folder holds no exported model.
        CorruptArtifactError: its manifest, or another file of a bundle, is damaged.
    """
    return _found(os.fspath(path))[0]


def _found(target: str) -> tuple[list[ModelFile], dict[str, Any], dict[str, str]]:
    """`model_files`, the manifest that describes them (or an empty one), and what `check_bundle` gave (or nothing)."""
    if os.path.isdir(target):
        files, manifest, sums = _described(target)
        if files:
            return files, manifest, sums
        raise ModelError(f"{target} holds no ONNX model yet; run: toolkit export {target} --quantize")
    if not os.path.exists(target):
        raise MissingError(f"{target} does not exist; give an artifact folder or an .onnx file")
    folder, name = os.path.split(target)
    manifest, sums = {}, {}
    if os.path.isfile(os.path.join(folder, MANIFEST_NAME)) or _is_bundle(folder):
        try:
            described, manifest, sums = _described(folder)
        except ModelError:  # a manifest.json of something else
            described = []
        for file in described:
            if os.path.basename(file.path) == name:
                return [file], manifest, sums
    lone = ModelFile(target, next((kind for kind in _KINDS if f".{kind}." in name), "float32"), None)
    return [lone], manifest, sums


def _described(folder: str) -> tuple[list[ModelFile], dict[str, Any], dict[str, str]]:
    sums = check_bundle(folder, models=False) if _is_bundle(folder) else None
    manifest = read_manifest(folder)
    where = os.path.join(folder, MANIFEST_NAME)
    try:
        entries = {n: e for n, e in manifest["files"].items() if n.endswith(MODEL_SUFFIXES)}
        files = [
            ModelFile(os.path.join(folder, n), e["kind"], str(e["sha256"]), e.get("onnxruntime"))
            for n, e in entries.items()
        ]
        files.sort(key=lambda f: (_KINDS.index(f.kind), f.path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptArtifactError(f"{where} is incomplete ({error}); copy or export the artifact again") from error
    for name in entries:
        if os.path.basename(name) != name:
            raise CorruptArtifactError(f"{folder} names a model outside its folder: {name!r}; copy it again")
        if not _is_inside(os.path.join(folder, name), folder):
            raise CorruptArtifactError(f"{os.path.join(folder, name)} leads out of its folder; copy it again")
    bundle = manifest.get("bundle")
    if bundle is not None or sums is not None:
        if not isinstance(bundle, dict) or len(files) != 1 or bundle.get("model") not in entries:
            raise CorruptArtifactError(f"{where} is not that of a bundle of one model; copy the bundle again")
        if bundle.get("format") != BUNDLE_FORMAT:
            raise CorruptArtifactError(
                f"{where} is of bundle format {bundle.get('format')!r}, this predictor reads {BUNDLE_FORMAT}; use the "
                "predictor.py beside it"
            )
        sums = sums or check_bundle(folder, models=False)
        if sums.get(bundle["model"]) != files[0].sha256:
            raise CorruptArtifactError(f"{where} describes another {bundle['model']}; copy the bundle again")
    return files, manifest, sums or {}


def saved_settings(file: ModelFile) -> RuntimeSettings | None:
    """The settings that a benchmark chose for a file and left beside it, or None where it left none for this one.

    Raises:
        CorruptArtifactError: settings.json is damaged, or says something that makes no sense.
    """
    path = os.path.join(os.path.dirname(file.path), SETTINGS_NAME)
    try:
        data = _read(path)
    except FileNotFoundError:
        return None
    try:
        found = _parsed(data)
        settings = RuntimeSettings(*[found[name] for name in RuntimeSettings._fields])
        settings.check()
        return settings if found["sha256"] == file.sha256 else None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptArtifactError(
            f"{path} is damaged ({error}); remove it, or make it again with: toolkit bench --save-settings"
        ) from error


class Predictor:
    """Runs an exported model on the CPU: any number of inputs and outputs, of numbers of any shape.

    One session serves all threads; each thread binds its own buffers once for each shape, so a call with one row
    converts and allocates nothing of it. It can be pickled (it opens the same file again on the other side), used after
    a fork, and closed, by hand or by ``with``.

    A row is an array for a model of one input, or a dict of arrays by input name (which is always taken). A model of a
    fixed batch size takes single rows and batches of any size like any other: they are filled up.

    Args:
        path: an artifact folder, a bundle, or an ``.onnx`` or ``.ort`` file (checked against the manifest beside it, if
            there is one). The file of someone else works too, by what its graph says.
        kind: "int8", "int4", "float16" or "float32"; by default the quantized one where the artifact has it.
        settings: of the runtime; None: those that ``toolkit bench --save-settings`` left in the artifact for this file
            (settings.json), else the defaults.
        min_confidence: 0 to 1. Where the most probable class is less probable than this, the label is `UNSURE` and the
            class name "unsure". None: there is always a label.
        backend: "onnxruntime"; "native": the int8 model as a library that ``toolkit export --native`` compiled, which
            gives the same answers (onnxruntime is not imported then); "auto": that where it is there, fits this CPU and
            passes its golden vectors, else onnxruntime.

    Attributes:
        backend: the one that runs, "onnxruntime" or "native".
        file: what was opened.
        settings, min_confidence: as given; settings that were saved if none were.
        inputs, outputs: one `TensorInfo` each, in the file's order.
        batch: the fixed batch size, or None.
        task_of: what an output means, by its name: "classification" (one class a row), "binary" (a sigmoid's answer:
            class 1 from 0.5 on), "multilabel" (the same for several questions) or "values" (anything else, and
            whatever a file says nothing about).
        classes: how many `classify` tells apart; None: the model is no classifier.
        class_names: one name a class, or None where the file carries none.
        ranges: (lowest, highest) value that an input takes, by its name, where the file says so.
        input_name, input_dtype, input_shape: those of the first input.
        output_names: names of all outputs, the one that labels are taken from in front.

    Raises:
        MissingError, ModelError, CorruptArtifactError: see `model_files` and `ModelFile.read`; or onnxruntime is not
            installed, or older than the file needs.
        UsageError: settings that make no sense, or min_confidence for a model without class names.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        kind: str | None = None,
        settings: RuntimeSettings | None = None,
        min_confidence: float | None = None,
        backend: str = ONNXRUNTIME,
    ) -> None:
        if settings is not None:
            settings.check()
        if sys.is_finalizing():
            raise UsageError(f"Python is shutting down, so {path} cannot be opened any more; open it earlier")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence is {min_confidence}; give a probability, from 0 to 1")
        files, manifest, sums = _found(os.fspath(path))
        chosen = [f for f in files if kind in (None, f.kind)]
        if not chosen:
            raise ModelError(f"{path} has no {kind} model, only {', '.join(f.kind for f in files)}")
        if settings is None:
            settings = saved_settings(chosen[0]) or RuntimeSettings()
        self.settings, self.min_confidence = settings, min_confidence
        # Absolute, so that a change of the current folder does not matter to a copy in another process.
        self._path = os.path.abspath(path)
        self.file = chosen[0]._replace(path=os.path.abspath(chosen[0].path))
        self._session: ort.InferenceSession | None = None
        self._closed = False
        self._opening = allocate_lock()
        self._local = _local()
        self._classify: Callable[..., Any]
        self.backend = self._choose(backend, manifest, sums)
        self._read_contract(self._open())
        if min_confidence is not None and self.class_names is None:
            raise UsageError(
                f"min_confidence is of no use: {self.file.path} names no classes; leave it out, or export a classifier "
                "with --classes"
            )
        if min_confidence is not None and self.classes is not None:
            self._classify = self._label_if_sure
        elif self.backend == NATIVE and self.classes is not None:
            self._classify = np.ndarray.item  # the library says the label itself
        _LIVE.add(self)

    def _open(self) -> ort.InferenceSession:
        """The session, opened once; with the settings that suit a small board."""
        if _EXITING and (threading := sys.modules.get("threading")) and threading.current_thread().daemon:
            threading.Event().wait()  # for ever; see _before_exit
        with self._opening:
            if self._closed:
                raise UsageError(f"this predictor of {self.file.path} was closed; open another")
            if self._session is None and self.backend == NATIVE:
                self._session = self._native(read_manifest(os.path.dirname(self.file.path)), {}, needed=True)
            elif self._session is None:
                data = self.file.read()
                if self.file.sha256 is None:  # what is opened again later (after a fork) must be the same file
                    self.file = self.file._replace(sha256=_sha256(data))
                self._session = self._start(data)
            return self._session

    def _start(self, data: bytes) -> ort.InferenceSession:
        # The runtime's wheels report usage unless this is set before the import (its docs/Privacy.md).
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise MissingError(f"onnxruntime cannot be imported ({error}); run: pip install onnxruntime") from error
        floor = self.file.onnxruntime
        if floor and _release(ort.__version__) < _release(floor):
            raise MissingError(
                f"onnxruntime {ort.__version__} is older than {floor}, the first that runs {self.file.path} as it was "
                f"verified; run: pip install 'onnxruntime>={floor}'"
            )
        settings = self.settings

        def session(*, memory_pattern: bool) -> ort.InferenceSession:
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
            options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
            options.enable_cpu_mem_arena = settings.arena  # keeps what it took (onnxruntime#11627), 2 % slower a call
            options.enable_mem_pattern = memory_pattern
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[settings.optimization])
            options.log_severity_level = 4  # what goes wrong is raised; said once is enough
            self._new_options = ort.RunOptions
            try:
                return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                reason = str(error).strip().splitlines()[0][:200]
                raise ModelError(
                    f"{self.file.path} cannot be run by onnxruntime {ort.__version__}: {reason}; "
                    "export it again, or use a newer onnxruntime"
                ) from error

        wanted = settings.memory_pattern
        opened = session(memory_pattern=wanted is not False)
        if wanted is None and any(type(size) is not int for tensor in opened.get_inputs() for size in tensor.shape[1:]):
            opened = session(memory_pattern=False)
        return opened

    def _choose(self, backend: str, manifest: dict[str, Any], sums: dict[str, str]) -> str:
        """The backend that runs, opened already where it is the native one."""
        if backend not in BACKENDS:
            raise UsageError(f"backend is {backend!r}, expected one of {', '.join(BACKENDS)}")
        if backend != ONNXRUNTIME:
            self._session = self._native(manifest, sums, needed=backend == NATIVE)
        return ONNXRUNTIME if self._session is None else NATIVE

    def _native(self, manifest: dict[str, Any], sums: dict[str, str], *, needed: bool) -> Any:
        """The library beside the file in a session's place; None where there is none for this CPU, if it may be so.

        Its hash is not taken again where it is among the sums of a bundle that was just checked.
        """
        folder = os.path.dirname(self.file.path)
        files = manifest.get("files")
        if self.file.kind != "int8" or not isinstance(files, dict) or _LIBRARY not in files:
            return self._no_native(
                f"{folder} has no {_LIBRARY}; make it with: toolkit export {folder} --native", needed
            )
        try:
            try:
                from .native import NativeRefusedError, open_library  # noqa: TID252 - in whatever package this is
            except ImportError:
                from native import NativeRefusedError, open_library  # type: ignore[import-not-found,no-redef]
        except ImportError as error:
            return self._no_native(
                f"{_LIBRARY} needs native.py beside predictor.py ({error}); copy it from a bundle made with --native",
                needed,
            )
        path = os.path.join(folder, _LIBRARY)
        entry = files[_LIBRARY]
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise CorruptArtifactError(f"{folder}: {MANIFEST_NAME} does not describe {_LIBRARY}; export it again")
        try:
            if sums.get(_LIBRARY) != entry["sha256"]:
                read_checked(path, entry["sha256"])
            return open_library(path, manifest, self.file.sha256)
        except NativeRefusedError as error:
            if not needed:
                return None
            if error.damaged:
                raise CorruptArtifactError(f"{error}; export it again with --native") from error
            return self._no_native(str(error), needed)

    def _no_native(self, why: str, needed: bool) -> None:
        if needed:
            raise MissingError(f"{why}; or use backend='onnxruntime'")

    def close(self) -> None:
        """Give the session's memory back; further calls are refused. Calls under way in other threads still finish."""
        with self._opening:
            self._closed, self._session, self._local = True, None, _local()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_contract(self, session: ort.InferenceSession) -> None:
        self.inputs = tuple(self._info(tensor, "takes") for tensor in session.get_inputs())
        self.outputs = tuple(self._info(tensor, "gives") for tensor in session.get_outputs())
        if not self.inputs:
            raise ModelError(f"{self.file.path} takes no input, expected one or more; export a model that does")
        sizes = {tensor.shape[0] for tensor in session.get_inputs() if isinstance(tensor.shape[0], int)}
        self.batch: int | None = min(sizes, default=None)
        for tensor in session.get_outputs():
            if isinstance(tensor.shape[0], int):
                sizes.add(tensor.shape[0] if self.batch else 0)
        if len(sizes) > 1 or 0 in sizes:
            shapes = ", ".join(f"{t.name} {t.shape}" for t in (*session.get_inputs(), *session.get_outputs()))
            raise ModelError(
                f"{self.file.path} has no common batch axis: {shapes}; expected it in front of every shape"
            )
        self.input_name, self.input_dtype, self.input_shape = self.inputs[0]
        self._fixed = all(None not in tensor.shape for tensor in (*self.inputs, *self.outputs))
        facts = session.get_modelmeta().custom_metadata_map
        try:
            names = _fact(facts, "toolkit.class_names", "null")
            self.class_names = None if names is None else tuple(map(str, names))
            contract = _fact(facts, "toolkit.contract", "{}")
            ranges = {entry["name"]: entry["range"] for entry in contract.get("inputs", []) if entry["range"]}
            bounds = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
            given = {entry["name"]: entry for entry in contract.get("outputs", [])}
            tasks = {name: entry["task"] for name, entry in given.items() if "task" in entry}
            if not set(tasks.values()) <= set(TASKS):
                raise ValueError("a task that is not known")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, IndexError) as error:
            raise CorruptArtifactError(f"{self.file.path} carries unreadable metadata; export it again") from error
        self._read_tasks(tasks, {name for name, entry in given.items() if entry.get("range") is None})
        self.ranges = {tensor.name: bounds[tensor.name] for tensor in self.inputs if tensor.name in bounds}
        # A range that the dtype cannot leave needs no look.
        dtypes = {tensor.name: tensor.dtype for tensor in self.inputs}
        self._ranges = {name: r for name, r in self.ranges.items() if not _covers(r, dtypes[name])}
        # Dynamic quantization takes one scale from the whole batch, so a row's answer would depend on the others.
        self._one_by_one = facts.get("toolkit.quantization") == "dynamic"

    def _info(self, tensor: Any, verb: str) -> TensorInfo:
        dtype = _DTYPES.get(tensor.type)
        if dtype is None or not tensor.shape:
            shape = f" of shape {tensor.shape}" if dtype else ""
            raise ModelError(
                f"{self.file.path} {verb} '{tensor.name}', {tensor.type}{shape}; expected a tensor of numbers with the "
                "batch as its first axis; export a model without it"
            )
        row = tuple(size if isinstance(size, int) and size > 0 else None for size in tensor.shape[1:])
        return TensorInfo(tensor.name, dtype, row)

    def _read_tasks(self, tasks: dict[str, str], no_range: set[str]) -> None:
        """Find the output that labels are taken from, if there is one: `_scores` and how to read it."""
        width = {o.name: o.shape[0] for o in self.outputs if o.dtype.kind == "f" and len(o.shape) == 1 and o.shape[0]}
        self._logits: str | None = None
        several = [name for name, size in width.items() if size > 1]
        # Files without tasks are older ones, or someone else's.
        older = {name: CLASSIFICATION for name in several if name in (PROBABILITIES, LOGITS)}
        self.task_of = {o.name: tasks.get(o.name, older.get(o.name, VALUES)) for o in self.outputs}
        for name, task in self.task_of.items():
            if (task == CLASSIFICATION and name not in several) or (task == BINARY and width.get(name) != 1):
                raise CorruptArtifactError(f"{self.file.path}: '{name}' has no shape of a {task}; export it again")
        found = [n for task in (CLASSIFICATION, BINARY) for n in self.task_of if self.task_of[n] == task]
        if not found and not tasks and len(self.outputs) == 1:
            found = several
        if set(found) == {PROBABILITIES, LOGITS}:  # two forms of one answer
            found, no_range, self._logits = [PROBABILITIES], set(), LOGITS
        name = self._scores = found[0] if found else ""
        binary = self.task_of.get(name) == BINARY
        is_logits = not binary and (name in no_range or (name == LOGITS and name not in tasks))
        if is_logits:
            self._logits = name
        self._convert = _both if binary else _softmax if is_logits else None  # into probabilities
        self._decide: Callable[..., Any] = _is_yes if binary else np.ndarray.argmax
        self._classify = self._decide if len(found) == 1 else self._refusal()
        count = 2 if binary else width.get(name)
        self.classes: int | None = count if len(found) == 1 else None
        self.output_names = sorted(self.task_of, key=lambda other: other != name)
        if self.class_names is not None and len(self.class_names) != count:
            raise CorruptArtifactError(
                f"{self.file.path} names {len(self.class_names)} classes but answers for {count or 'none'}; "
                "export it again"
            )

    def _refusal(self) -> Callable[..., Any]:
        given = ", ".join(f"'{o.name}' ({self.task_of[o.name]}, {o.wanted(batch=True)})" for o in self.outputs)
        message = f"{self.file.path} gives {given}, expected one output of classes to classify by; use predict"

        def refuse(_: Array) -> Any:
            raise ModelError(message)

        return refuse

    def classify(self, row: Array | Mapping[str, Array]) -> int:
        """The label of one row, by the shortest path.

        Args:
            row: an array of `input_dtype` (uint8 raw pixels by default) and `input_shape`; or arrays by input name.

        Raises:
            InputError: wrong names, dtype, shape, range or NaN.
            ModelError: the model has no output of classes, or several.
            UsageError: the predictor was closed.
        """
        return int(self._classify(self._run_one(row).scores))

    def predict(self, row: Array | Mapping[str, Array]) -> Prediction:
        """All that the model says of one row (as for `classify`), with label and class name where it names classes."""
        bound = self._run_one(row)
        outputs = {}
        for name, answer in bound.outputs.items():  # not a comprehension, which is a call before Python 3.12
            outputs[name] = answer.copy()
        logits = outputs[self._logits] if self._logits else None
        if self.class_names is None:
            return Prediction(None, None, None, None, logits, outputs)
        scores = outputs[self._scores]
        shares = scores if self._convert is None else self._convert(scores)
        label = int(self._decide(scores))
        confidence = float(shares[label])
        if self.min_confidence is not None and not confidence >= self.min_confidence:  # nor a NaN
            return Prediction(UNSURE, "unsure", confidence, shares, logits, outputs)
        return Prediction(label, self.class_names[label], confidence, shares, logits, outputs)

    def _label_if_sure(self, scores: Array) -> int:
        shares = scores if self._convert is None else self._convert(scores)
        return int(self._decide(scores)) if shares.max() >= self.min_confidence else UNSURE

    @overload
    def predict_batch(self, rows: Array | Mapping[str, Array]) -> PredictionBatch: ...
    @overload
    def predict_batch(self, rows: Iterator[Array | Mapping[str, Array]]) -> Iterator[PredictionBatch]: ...
    def predict_batch(
        self, rows: Array | Mapping[str, Array] | Iterator[Array | Mapping[str, Array]]
    ) -> PredictionBatch | Iterator[PredictionBatch]:
        """Predictions for rows of shape (n, *input_shape), or for such arrays by input name; n may be 0.

        They are made in runs of at most ``settings.batch_rows`` rows, or of the fixed batch size, or one by one where
        the file is quantized dynamically, so that each answer is the row's own. Memory is taken for the answers, but
        not for a copy of the rows (which may be a ``numpy.memmap``).

        Args:
            rows: the rows; or an iterator of such blocks (an array of one row counts as a block of it), for which an
                iterator is returned that takes the next block only when its predictions are asked for.

        Raises:
            InputError: wrong names, dtype, shape, range or NaN, or inputs with different numbers of rows.
            UsageError: the predictor was closed.
        """
        if isinstance(rows, Iterator):
            return map(self._predict_block, rows)
        return self._predict_rows(rows)

    def _predict_block(self, block: Array | Mapping[str, Array]) -> PredictionBatch:
        if isinstance(block, np.ndarray) and block.ndim == len(self.input_shape):
            block = block[np.newaxis]
        return self._predict_rows(block)

    def _predict_rows(self, rows: Array | Mapping[str, Array]) -> PredictionBatch:
        given = self._check(rows, batch=True)
        outputs = self._run_rows(given, len(given[self.input_name]))
        logits = outputs[self._logits] if self._logits else None
        if self.class_names is None:
            return PredictionBatch(outputs, logits=logits)
        scores = outputs[self._scores]
        shares = scores if self._convert is None else self._convert(scores)
        labels = self._decide(scores, -1)
        if self.min_confidence is not None:
            labels[~(shares.max(axis=-1) >= self.min_confidence)] = UNSURE
        return PredictionBatch(outputs, labels, shares, logits, self.class_names)

    def _run_rows(self, given: dict[str, Array], count: int) -> dict[str, Array]:
        """The answers to count rows, by output name."""
        if count == 0:
            self._open()  # refuses where it was closed
            return {o.name: np.empty((0, *(size or 0 for size in o.shape)), o.dtype) for o in self.outputs}
        size = self._rows_of_a_run(given, count)
        whole: dict[str, Array] = {}
        for start in range(0, count, size):
            block = {name: array[start : start + size] for name, array in given.items()}
            for info in self.inputs:
                self._check_values(block[info.name], info, batch=True)
            answers = self._run_block(block, min(size, count - start))
            for name, answer in answers.items():
                if len(answer) == count:
                    whole[name] = answer
                    continue
                if name not in whole:
                    whole[name] = np.empty((count, *answer.shape[1:]), answer.dtype)
                if whole[name].shape[1:] != answer.shape[1:]:
                    raise ModelError(
                        f"{self.file.path} gives '{name}' of shape {answer.shape} after {whole[name].shape}; predict "
                        "such rows one by one"
                    )
                whole[name][start : start + size] = answer
        return whole

    def _rows_of_a_run(self, given: dict[str, Array], count: int) -> int:
        if self._one_by_one:
            return 1
        if self.batch:
            return self.batch
        row_bytes = sum(array.nbytes for array in given.values()) // count
        return min(count, self.settings.batch_rows or max(1, min(_RUN_ROWS, _RUN_BYTES // max(row_bytes, 1))))

    def _run_block(self, block: dict[str, Array], count: int) -> dict[str, Array]:
        """The answers to the rows of one run."""
        if self._one_by_one:
            bound = self._bound()
            bound.fill({name: array[0, ...] for name, array in block.items()})
            self._run(bound)
            return {name: answer[np.newaxis].copy() for name, answer in bound.outputs.items()}
        # Sizes come in steps, so that the runtime meets few shapes and remembers (memory_pattern) no more.
        step = 1 if count <= _RUN_STEP or not self._fixed else _RUN_STEP
        size = self.batch or -(-count // step) * step
        session = self._open()
        try:
            answers = session.run(self.output_names, {name: _filled(array, size) for name, array in block.items()})
        except Exception as error:
            raise self._failed(error) from error
        for name, answer in zip(self.output_names, answers):
            if len(answer) != size:
                raise ModelError(
                    f"{self.file.path} gives {len(answer)} rows of '{name}' for {size}, expected one each; "
                    "export a model with the batch as the first axis of its outputs"
                )
        cut = answers if size == count else [answer[:count] for answer in answers]
        return dict(zip(self.output_names, cut))

    def _failed(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[-200:]
        return InputError(
            f"{self.file.path} fails on what it was given, although dtype and shape are right: {reason}; "
            "check the values (such as indices) and the size of free dimensions"
        )

    def _bound(self) -> _Bound | _Free:
        """This thread's own buffers."""
        try:
            return self._local.bound  # type: ignore[no-any-return]  # a thread's own values are untyped
        except AttributeError:
            session = self._open()
            shapes = {info.name: info.shape for info in (*self.inputs, *self.outputs)}
            bound = self._local.bound = _Bound(self, session, shapes) if self._fixed else _Free(self, session)
            return bound

    def _run_one(self, row: Array | Mapping[str, Array]) -> _Bound | _Free:
        """This thread's own buffers, with the answers to one row in them."""
        try:
            bound = self._local.bound
        except AttributeError:
            bound = self._bound()
        # The fast path of _check: one array of the exact type and contract, and nothing that could be NaN or out of
        # range (else bound.shape is None).
        if type(row) is not np.ndarray or row.shape != bound.shape or row.dtype != bound.dtype:
            bound.fill(self._check(row, batch=False))
        else:
            bound.row[...] = row
        try:
            bound.run(bound.binding, bound.options)
        except Exception:  # noqa: BLE001 - whatever it was, the public way decides
            self._run(bound)
        return bound  # type: ignore[no-any-return]  # a thread's own values are untyped

    def _run(self, bound: _Bound | _Free) -> None:
        try:
            bound.run_publicly()
        except Exception as error:
            raise self._failed(error) from error

    def _check(self, rows: object, *, batch: bool) -> dict[str, Array]:
        """What was given, as arrays by input name."""
        if type(rows) is np.ndarray or not isinstance(rows, Mapping):
            if len(self.inputs) == 1:
                return {self.input_name: self._checked(rows, self.inputs[0], batch=batch)}
            got = f"one array of shape {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
            wanted = ", ".join(f"'{info.name}': {info.wanted(batch=batch)}" for info in self.inputs)
            raise InputError(f"got {got}, expected a dict of {len(self.inputs)} arrays by input name: {{{wanted}}}")
        names = [info.name for info in self.inputs]
        if rows.keys() != set(names):
            got = " and ".join(
                [f"no {n!r}" for n in names if n not in rows] + [f"{n!r}" for n in rows if n not in names]
            )
            raise InputError(f"got {got}; expected the inputs {', '.join(map(repr, names))} and no other")
        given = {info.name: self._checked(rows[info.name], info, batch=batch) for info in self.inputs}
        if batch and len({len(array) for array in given.values()}) > 1:
            counts = ", ".join(f"{len(array)} of '{name}'" for name, array in given.items())
            raise InputError(f"got {counts}, expected as many rows of each input; cut them to the same rows")
        return given

    def _checked(self, array: Any, info: TensorInfo, *, batch: bool) -> Array:
        what = f"input '{info.name}'"
        if isinstance(array, np.generic) and not info.shape and not batch:  # what indexing a row of one number gives
            array = np.asarray(array)
        if type(array) is np.memmap:
            array = array.view(np.ndarray)
        if type(array) is not np.ndarray:
            wanted = info.wanted(batch=batch)
            raise InputError(f"{what}: got {type(array).__name__}, expected {wanted}; pass a plain numpy array")
        found = array.shape[1:] if batch else array.shape
        if (batch and not array.ndim) or (found != info.shape and not _fits(found, info.shape)):
            wanted = info.wanted(batch=batch)
            raise InputError(f"{what}: got shape {array.shape}, expected {wanted}; resize or reshape first")
        if array.dtype != info.dtype:
            raise InputError(f"{what}: {self._complaint(array, info, batch=batch)}")
        if not batch:  # rows are looked at a run at a time
            self._check_values(array, info, batch=batch)
        return array

    def _check_values(self, array: Array, info: TensorInfo, *, batch: bool) -> None:
        bounds = self._ranges.get(info.name)
        if not array.size or (not bounds and (array.dtype.kind != "f" or np.isfinite(array).all())):
            return
        if bounds and array.min() >= bounds[0] and array.max() <= bounds[1]:  # false for a NaN
            return
        raise InputError(f"input '{info.name}': {self._complaint(array, info, batch=batch)}")

    def _complaint(self, array: Array, info: TensorInfo, *, batch: bool) -> str:
        """What is wrong with an array of the right shape."""
        wanted, number = info.wanted(batch=batch), array.dtype.kind in "biuf"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"contains NaN or infinity, expected {wanted}; check where the values come from"
        low, high = (array.min(), array.max()) if number and array.size else (0, 0)
        if array.dtype == info.dtype:
            bounds = self._ranges[info.name]
            return (
                f"values run from {low:g} to {high:g}, expected {wanted} with values from {bounds[0]:g} to "
                f"{bounds[1]:g}; check the scaling"
            )
        hint = f"convert with array.astype(numpy.{info.dtype})"
        limits = np.iinfo(info.dtype) if info.dtype.kind in "iu" else None
        if limits is not None and (low < limits.min or high > limits.max):
            hint = (
                f"values run from {low} to {high} but {info.dtype} runs from {limits.min} to {limits.max}: "
                "check the scaling"
            )
        elif info.dtype == np.uint8 and array.dtype.kind == "f" and high <= 1:
            hint = "undo the division by 255: the model takes raw pixels and scales them itself"
        return f"got dtype {array.dtype}, expected {wanted}; {hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed:
            raise UsageError(f"this predictor of {self.file.path} was closed, so it cannot be pickled; open another")
        return _reopen, (self._path, self.file, tuple(self.settings), self.min_confidence, self.backend)

    def _after_fork(self) -> None:
        """In a forked child: a session of several threads has lost them, so the next call opens another."""
        self._opening = allocate_lock()
        if self.settings.threads > 1 and self._session is not None:
            import ctypes

            # Never freed: its destructor would wait for the lost threads, even at the child's exit.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None
            self._local = _local()


def _both(yes: Array) -> Array:
    return np.concatenate([1 - yes, yes], axis=-1)


def _is_yes(scores: Array, axis: int = -1) -> Any:
    return (scores >= 0.5).any(axis=axis).astype(np.int64)


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, to be compared."""
    numbers = ["".join(c for c in part if c.isdigit()) for part in version.split(".")[:2]]
    return tuple(int(number or 0) for number in numbers)


def _covers(bounds: tuple[float, float], dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and bounds[0] <= np.iinfo(dtype).min and bounds[1] >= np.iinfo(dtype).max


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(found) == len(shape) and all(size in (None, found[at]) for at, size in enumerate(shape))


def _filled(rows: Array, size: int) -> Array:
    """Some rows as the runtime takes them, filled up with the last one to the number that it takes."""
    if len(rows) < size:
        rows = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
    return np.ascontiguousarray(rows)


def _address(array: Array) -> int:
    # Not array.ctypes, which imports ctypes: 2 ms of a start, and not to be had while the interpreter shuts down.
    return int(array.__array_interface__["data"][0])


class _Bound:
    """One thread's input and output buffers, bound to the session once; of a fixed batch, one row fills it all."""

    __slots__ = ("_public", "binding", "buffers", "dtype", "options", "outputs", "row", "rows", "run", "scores",
                 "shape")  # fmt: skip

    def __init__(
        self, predictor: Predictor, session: ort.InferenceSession, shapes: Mapping[str, tuple[Any, ...]]
    ) -> None:
        native = predictor.backend == NATIVE
        binding = None if native else session.io_binding()
        size = predictor.batch or 1
        self.buffers = []  # what the runtime writes into has to stay
        self.rows, self.outputs = {}, {}
        for info in predictor.inputs:
            array = np.zeros((size, *shapes[info.name]), info.dtype)
            if binding is not None:
                binding.bind_input(info.name, "cpu", 0, info.dtype.type, array.shape, _address(array))
            self.buffers.append(array)
            self.rows[info.name] = array if size > 1 else array[0, ...]
        for info in predictor.outputs:
            array = np.zeros((size, *shapes[info.name]), info.dtype)
            if binding is not None:
                binding.bind_output(info.name, "cpu", 0, info.dtype.type, array.shape, _address(array))
            self.buffers.append(array)
            self.outputs[info.name] = array[0, ...]
        self.scores: Any = self.outputs.get(predictor._scores)  # noqa: SLF001 - same module
        first = predictor.inputs[0]
        self.row, self.dtype = self.rows[first.name], first.dtype
        looked_at = first.dtype.kind == "f" or first.name in predictor._ranges  # noqa: SLF001 - same module
        self.shape = first.shape if len(self.rows) == 1 and not looked_at else None
        self._public = session, binding
        if native:
            self.run, self.binding, label, kept = session.direct(*self.buffers)
            self.options = None
            self.buffers.append(kept)
            if predictor._classify is np.ndarray.item:  # noqa: SLF001 - same module
                self.scores = label
            return
        self.options = predictor._new_options()  # noqa: SLF001 - same module; without, the runtime makes one at each call: 6 % of a 10 us model
        # What run_with_iobinding(binding) calls after a look at its arguments, which a 10 us model pays with 4 %. Both
        # attributes have been there from onnxruntime 1.7 to 1.31; without them, or if they change, the public way is
        # taken (see Predictor._run_one).
        self.run = getattr(getattr(session, "_sess", None), "run_with_iobinding", None) or self._not_there
        self.binding = getattr(binding, "_iobinding", None)

    def _not_there(self, *_: object) -> None:
        raise AttributeError

    def run_publicly(self) -> None:
        session, binding = self._public
        if binding is None:
            self.run(self.binding, self.options)
            return
        session.run_with_iobinding(binding)  # no options: the public way looks at them for 40 us at each call

    def fill(self, given: dict[str, Array]) -> None:
        for name, array in given.items():
            self.rows[name][...] = array


class _Free:
    """The same for a model whose inputs or outputs have no fixed size: buffers for each shape that was met.

    What comes out is only known after a run, so the first row of a shape goes without. Only the last few shapes are
    kept.
    """

    dtype = shape = row = binding = options = None

    def __init__(self, predictor: Predictor, session: ort.InferenceSession) -> None:
        self._session, self._names, self._size = session, predictor.output_names, predictor.batch or 1
        self._scores = predictor._scores  # noqa: SLF001 - same module
        self._predictor = weakref.proxy(predictor)  # which holds this
        self._known: dict[tuple[tuple[int, ...], ...], _Bound] = {}
        self._at: tuple[tuple[int, ...], ...] = ()
        self._given: dict[str, Array] = {}
        self._bindable = True
        self.outputs: dict[str, Array] = {}
        self.scores: Any = None

    def fill(self, given: dict[str, Array]) -> None:
        self._at = tuple(array.shape for array in given.values())
        self._given = given
        if bound := self._known.get(self._at):
            bound.fill(given)

    def run(self, *_: object) -> None:
        if bound := self._known.get(self._at):
            try:
                bound.run_publicly()
            except Exception:  # noqa: BLE001 - its outputs have another shape than last time, or it fails anyway
                self._bindable = False
                self._known.clear()
            else:
                self.outputs, self.scores = bound.outputs, bound.scores
                return
        self.run_publicly()

    def run_publicly(self) -> None:
        rows = {name: _filled(array[np.newaxis], self._size) for name, array in self._given.items()}
        answers = self._session.run(self._names, rows)
        self.outputs = {name: answers[at][0, ...] for at, name in enumerate(self._names)}
        self.scores = self.outputs.get(self._scores)
        if self._bindable:
            shapes = {name: array.shape for name, array in (*self._given.items(), *self.outputs.items())}
            while len(self._known) >= _SHAPES_KEPT:
                del self._known[next(iter(self._known))]
            try:
                self._known[self._at] = _Bound(self._predictor, self._session, shapes)
            except Exception:  # noqa: BLE001 - a type or an empty shape that cannot be bound; it goes without
                self._bindable = False


# Predictors of this process, so that a forked child can open its own sessions.
_LIVE: weakref.WeakSet[Predictor] = weakref.WeakSet()


def _reset_in_child() -> None:
    for predictor in _LIVE:
        predictor._after_fork()  # noqa: SLF001 - same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_child)

_EXITING = False
_WAIT_FOR_CALLS = 5.0  # seconds


def _before_exit() -> None:
    """Keep daemon threads out of the runtime while the interpreter shuts down.

    A daemon thread that comes back from a run then is ended by Python (before 3.14) within the runtime's C++ code,
    which aborts the process. So their next call waits for ever, and calls under way are waited for.
    """
    global _EXITING  # noqa: PLW0603 - the interpreter ends once
    _EXITING = True
    for predictor in list(_LIVE):
        predictor._local = _local()  # noqa: SLF001 - same module
    end = time.monotonic() + _WAIT_FOR_CALLS
    mine, files = get_ident(), ("predictor.py", "onnxruntime_inference_collection.py")
    while time.monotonic() < end:
        tops = [frame.f_code.co_filename for at, frame in sys._current_frames().items() if at != mine]  # noqa: SLF001
        if not any(name.endswith(files) for name in tops):
            return
        time.sleep(0.001)


atexit.register(_before_exit)


def _reopen(
    path: str, file: ModelFile, settings: tuple[Any, ...], min_confidence: float | None, backend: str
) -> Predictor:
    """A pickled predictor on the other side, of the very same file."""
    given = RuntimeSettings(*settings)
    opened = Predictor(path, kind=file.kind, settings=given, min_confidence=min_confidence, backend=backend)
    if opened.file.sha256 != file.sha256:
        raise CorruptArtifactError(f"{path} is another file by now than the one that was pickled; open it anew")
    return opened


# Where a tensor can hide in a model: {message: {field number: message of that field}}. Numbers from onnx.proto3.
_FIELDS: dict[str, dict[int, str]] = {
    "file": {},
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
    # Without the key "location" (TensorProto.external_data) nothing can be outside, and the walk through every node and
    # tensor, a millisecond of each start, is left out.
    deep = b"location" in data
    try:
        if not {7, 8} <= _walk(memoryview(data), "model" if deep else "file"):  # graph and opset_import
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
