"""Golden vectors: some rows with what the exported files must answer to them, so that a device can tell by itself.

They are written at export, after every gate held, as ``golden.npz``: a zip of .npy files that ``numpy.load`` reads
without pickle. Its members:

- ``input/NAME``: rows as the files take them, (n, ...) of the input's dtype;
- ``keras/OUTPUT``: Keras' answers, (n, ...) float32; where a file gives logits that Keras does not, those of the
  probabilities behind them, as in verification;
- ``label``: Keras' labels, int64 (n,), of a classifier; absent elsewhere;
- ``FILE/TENSOR``: what the file gave on the machine that made it, (n, ...), each row in a run of its own;
- ``facts``: JSON text, see `dump`.

The same vectors are the same bytes: no time is written, and the members have a fixed order.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import CorruptArtifactError
from toolkit.predictor import LOGITS, PROBABILITIES, Predictor
from toolkit.verification.cpus import largest_difference
from toolkit.verification.gates import Limits
from toolkit.verification.parity import DECISIONS, decisions, margins, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.manifest_records import TensorContract

__all__ = ["FORMAT", "SURE", "FileVectors", "GoldenVectors", "dump", "load", "make_golden", "on_outputs", "reduced"]

FORMAT = 1
ROWS, LEAST_ROWS = 32, 2
ROW_BYTES = 48_000  # of all rows' inputs, or of one file's outputs
SURE = 0.2
"""Keras' margin on a row that is taken: whatever an int8 file loses, it is to give Keras' label there, on any CPU."""

_FACTS, _LABEL = "facts", "label"
_MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


@dataclass(frozen=True, eq=False)
class FileVectors:
    """What one exported file gave.

    Attributes:
        tensors: by output name, the tensor to compare: what goes into the softmax or sigmoid at the output's end where
            ``exact``, and the output itself elsewhere.
        values: by tensor name, (n, ...).
        exact: every CPU must give the same bits of these tensors (see `toolkit.conversion.logits`).
        tolerance: largest difference of a value where it is not exact, times the output's `GoldenVectors.scales`; the
            limit that other CPUs are judged by. 0 where exact.
    """

    tensors: dict[str, str]
    values: dict[str, NDArray[Any]]
    exact: bool
    tolerance: float


@dataclass(frozen=True, eq=False)
class GoldenVectors:
    """Rows, and what is to come out.

    Attributes:
        inputs: by input name, (n, ...) of the input's dtype.
        keras: Keras' answers by output name, (n, ...).
        labels: Keras' labels, int64 (n,); None where the files are no classifiers, or Keras is sure of no random row.
        files: by file name.
        scales: by output name, what differences are relative to (see `toolkit.verification.parity.scale_of`, over all
            test rows): one number, or one a column.
        random: the rows are random numbers.
    """

    inputs: dict[str, NDArray[Any]]
    keras: dict[str, NDArray[Any]]
    labels: NDArray[np.int64] | None
    files: dict[str, FileVectors]
    scales: dict[str, list[float]]
    random: bool

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def dump(golden: GoldenVectors) -> bytes:
    """What golden.npz holds.

    Its facts are {"format", "random", "scales", "files": {NAME: {"tensors", "exact", "tolerance"}}}, each as the
    dataclasses say.
    """
    facts = {
        "format": FORMAT,
        "random": golden.random,
        "scales": golden.scales,
        "files": {
            name: {"tensors": file.tensors, "exact": file.exact, "tolerance": file.tolerance}
            for name, file in golden.files.items()
        },
    }
    members = {
        **{f"input/{name}": array for name, array in golden.inputs.items()},
        **{f"keras/{name}": array for name, array in golden.keras.items()},
        **({} if golden.labels is None else {_LABEL: golden.labels}),
        **{f"{name}/{of}": array for name, file in golden.files.items() for of, array in file.values.items()},
        _FACTS: np.array(json.dumps(facts, allow_nan=False)),
    }
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in members.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _MOMENT)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, else it would say what it was written on
            archive.writestr(entry, data.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return whole.getvalue()


def load(data: bytes, name: str) -> GoldenVectors:
    """Golden vectors from the bytes of a golden.npz.

    Args:
        data: the file's bytes.
        name: the file's, for errors.

    Raises:
        CorruptArtifactError: they are damaged, or of another format.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        facts = json.loads(str(arrays[_FACTS][()]))
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}, this version reads {FORMAT}")
        files = {
            key: FileVectors(
                dict(entry["tensors"]),
                {tensor: arrays[f"{key}/{tensor}"] for tensor in entry["tensors"].values()},
                bool(entry["exact"]),
                float(entry["tolerance"]),
            )
            for key, entry in facts["files"].items()
        }
        inputs, keras = (_below(arrays, part) for part in ("input/", "keras/"))
        golden = GoldenVectors(inputs, keras, arrays.get(_LABEL), files, facts["scales"], bool(facts["random"]))
        parts = [
            *inputs.values(),
            *keras.values(),
            *(array for file in files.values() for array in file.values.values()),
        ]
        if not inputs or len({len(array) for array in (*parts, *_given(golden.labels))}) != 1:
            raise ValueError("its arrays have no common number of rows")
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptArtifactError(f"{name} holds no golden vectors ({reason}); copy or export it again") from error
    return golden


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _given(labels: NDArray[np.int64] | None) -> Sequence[NDArray[Any]]:
    return () if labels is None else (labels,)


def reduced(golden: GoldenVectors, file: str, name: str | None = None) -> GoldenVectors:
    """The same rows with one file's part alone.

    Args:
        golden: of an artifact.
        file: which file's part stays.
        name: what it is called from now on; None: as before.

    Raises:
        CorruptArtifactError: there is no part of that file.
    """
    if file not in golden.files:
        found = ", ".join(golden.files) or "none"
        raise CorruptArtifactError(f"the golden vectors know {found}, not {file}; export the artifact again")
    return dataclasses.replace(golden, files={name or file: golden.files[file]})


def on_outputs(golden: GoldenVectors, file: str, path: Path) -> GoldenVectors:
    """The same with a file's outputs to compare in place of what goes into their softmax.

    For a form of the file that nothing can be read from but its outputs. Where these are exact already, nothing
    changes; else the softmax rounds, and they may be as far off as on another CPU.

    Args:
        golden: of an artifact.
        file: which file's part changes.
        path: of that file, which gives the outputs.
    """
    vectors = golden.files[file]
    if all(name == tensor for name, tensor in vectors.tensors.items()):
        return golden
    predictor = Predictor(path)
    decides = any(task in DECISIONS for task in predictor.task_of.values())
    tolerance = largest_difference(predictor.file.kind, Limits(), exact=vectors.exact, decides=decides)
    names = {name: name for name in predictor.task_of}
    changed = FileVectors(names, _one_by_one(predictor, golden.inputs), exact=False, tolerance=tolerance)
    return dataclasses.replace(golden, files={**golden.files, file: changed})


def make_golden(
    paths: Sequence[Path],
    inputs: Mapping[str, NDArray[Any]],
    keras: Mapping[str, NDArray[Any]],
    outputs: Sequence[TensorContract],
    limits: Limits,
    *,
    random: bool = False,
) -> GoldenVectors | None:
    """Golden vectors of an artifact's exported files.

    Of a classifier these are rows of which Keras is sure and to which every file gives Keras' label, spread over the
    classes; of any other model, or where Keras is sure of no random row, the first.

    Args:
        paths: the files; the predictor opens them as a device would.
        inputs: test rows by input name, as the files take them.
        keras: Keras' answers to them by output name, as verification has them.
        outputs: what the files give.
        limits: what is accepted on other CPUs.
        random: the rows are random numbers.

    Returns:
        None if no row of a classifier's own qualifies.

    Raises:
        ModelError: a file's logits cannot be read.
    """
    files = [_File(path) for path in paths]
    count = len(next(iter(inputs.values())))
    size = max(_row_bytes(inputs), _row_bytes(keras), 1)
    most = min(count, ROWS, max(LEAST_ROWS, ROW_BYTES // size))
    scores, labels = _scores(files[0].predictor, keras, outputs), None
    which = np.arange(most)
    if scores is not None:
        found: list[int] = []
        for row in _spread(*scores):
            if len(found) == most:
                break
            given = {name: array[row] for name, array in inputs.items()}
            if all(file.predictor.classify(given) == scores[1][row] for file in files):
                found.append(row)
        if not found and not random:
            return None
        if found:
            which, labels = np.sort(found), scores[1][np.sort(found)]
    rows = {name: np.ascontiguousarray(array[which]) for name, array in inputs.items()}
    tasks = files[0].predictor.task_of
    return GoldenVectors(
        inputs=rows,
        keras={name: _plain(array[which]) for name, array in keras.items()},
        labels=labels,
        files={file.path.name: file.vectors(rows, limits) for file in files},
        scales={name: scale_of(task, keras[_of(name, keras)]).reshape(-1).tolist() for name, task in tasks.items()},
        random=random,
    )


def _row_bytes(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(array[:1].nbytes for array in arrays.values())


def _plain(answers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(answers.astype(np.float32) if answers.dtype.kind == "f" else answers)


def _of(name: str, keras: Mapping[str, NDArray[Any]]) -> str:
    """Which of Keras' answers a file's output is held against."""
    return PROBABILITIES if name == LOGITS and LOGITS not in keras else name


def _scores(
    predictor: Predictor, keras: Mapping[str, NDArray[Any]], outputs: Sequence[TensorContract]
) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """How sure Keras is of each row, and its labels, each (n,); None if the model is no classifier."""
    if predictor.classes is None:
        return None
    name = predictor.output_names[0]
    of = _of(name, keras)
    answers = keras[of].astype(np.float64)
    task = predictor.task_of[name]
    labels = decisions(task, answers)[:, 0]
    if of == name and any(each.name == name and each.range is None for each in outputs):  # Keras gives logits itself
        answers = np.exp(answers - answers.max(axis=1, keepdims=True))
        answers /= answers.sum(axis=1, keepdims=True)
    return margins(task, answers)[:, 0], labels


def _spread(sure: NDArray[Any], labels: NDArray[np.int64]) -> Iterator[int]:
    """Rows of which Keras is sure: the first of each class, then the second of each, and so on."""
    chosen = np.flatnonzero(sure > SURE)
    turn = np.zeros(len(chosen), np.int64)
    for label in np.unique(labels[chosen]):
        same = labels[chosen] == label
        turn[same] = np.arange(same.sum())
    yield from chosen[np.lexsort((labels[chosen], turn))].tolist()


class _File:
    """An exported file that is asked for its vectors."""

    def __init__(self, path: Path) -> None:
        self.path, self.predictor = path, Predictor(path)

    def vectors(self, rows: Mapping[str, NDArray[Any]], limits: Limits) -> FileVectors:
        """What it gives for some rows.

        Raises:
            ModelError: its logits cannot be read.
        """
        from toolkit.conversion.logits import check_copy, with_logits

        tasks, kind = self.predictor.task_of, self.predictor.file.kind
        answers = _one_by_one(self.predictor, rows)
        if kind == "int8":  # no other promises to be the same everywhere
            data = self.path.read_bytes()
            copy = with_logits(data, str(self.path))
            if copy.exact:
                found = answers
                if copy.data is not data:
                    with tempfile.TemporaryDirectory() as folder:
                        beside = Path(folder) / self.path.name
                        beside.write_bytes(copy.data)
                        found = _one_by_one(Predictor(beside), rows)
                    check_copy(str(self.path), answers, found)
                return FileVectors(
                    copy.inner, {name: found[name] for name in copy.inner.values()}, exact=True, tolerance=0.0
                )
        decides = any(task in DECISIONS for task in tasks.values())
        tolerance = largest_difference(kind, limits, exact=False, decides=decides)
        return FileVectors({name: name for name in tasks}, answers, exact=False, tolerance=tolerance)


def _one_by_one(predictor: Predictor, rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every output by name, each row in a run of its own."""
    count = len(next(iter(rows.values())))
    found = [predictor.predict({name: array[i] for name, array in rows.items()}).outputs for i in range(count)]
    return {name: np.stack([answer[name] for answer in found]) for name in found[0]}
