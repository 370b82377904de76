"""An exported file through the device's own predictor, over the whole test set, held against Keras' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import ModelError
from toolkit.predictor import LOGITS, PROBABILITIES, Predictor
from toolkit.verification.gates import BatchCheck, Limits, judge, small_set_notes
from toolkit.verification.metrics import applicable, evaluate, targets_of
from toolkit.verification.parity import VALUES, compare, decisions, margins, scale_of
from toolkit.verification.report import FileReport, OutputReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.progress import Step
    from toolkit.verification.metrics import Metric

__all__ = ["verify"]

BATCH_SIZES = (1, 7)
# A run holds every inner tensor of its rows at once; for convolutions these are some ten times their input.
_RUN_BYTES = 32_000_000

Arrays = dict[str, "NDArray[Any]"]


def verify(
    path: Path,
    kind: str,
    sha256: str,
    reference: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    targets: Mapping[str, NDArray[Any]],
    tasks: Mapping[str, str],
    limits: Limits,
    metrics: Sequence[Metric],
    step: Step,
) -> FileReport:
    """Run all rows through the predictor and hold the answers against Keras'.

    They are run in one batch (in several, where they take more than 32 MB), one by one, and by sevens; a file of a
    fixed batch size only in that and one by one.

    A file may give "logits" of which Keras gives only "probabilities": their softmax is held against these.

    Args:
        path: the exported file; the predictor opens it as a device would.
        kind: "float32", or how it is quantized.
        sha256: of the file, for the report.
        reference: Keras' answers by output name, each (n, ...).
        inputs: what the exported file takes, by input name, each (n, ...).
        targets: what is known to be right, by output name (see `toolkit.verification.parity.compare`); may be empty.
            Those of values are only for metrics; an autoencoder's are its input unless given.
        tasks: of each output of ``reference``.
        limits: what is accepted.
        metrics: further figures that the user wants.
        step: told how many rows are done, of three times n.

    Raises:
        InputError: the file does not take the rows.
        ModelError: Keras' answers are no numbers, or the file gives other outputs or shapes.
        UsageError: a metric applies to no output, fails, or needs targets that are not known.
    """
    for name, expected in reference.items():
        if not np.isfinite(expected).all():
            raise ModelError(
                f"the Keras model answers NaN or infinity in '{name}' on the test rows; train the model again"
            )
    known = targets_of(targets, tasks, reference, inputs)
    wanted = applicable(metrics, known, tasks)
    predictor = Predictor(path)
    count = len(next(iter(inputs.values())))
    sizes = [size for size in BATCH_SIZES if size == 1 or predictor.batch is None]
    total = count * (1 + len(sizes))
    row_bytes = sum(array[:1].nbytes for array in inputs.values())
    whole = _run(predictor, inputs, max(1, min(count, _RUN_BYTES // max(row_bytes, 1))))
    step(count, total, path.name)
    paired = _paired(whole, reference, path)
    answers = {name: _shaped(whole[name], reference[of], name, of, path) for name, of in paired.items()}
    batches: dict[str, list[BatchCheck]] = {name: [] for name in paired}
    for number, size in enumerate(sizes, 2):
        again = _run(predictor, inputs, size)
        for name, of in paired.items():
            found = _shaped(again[name], reference[of], name, of, path)
            batches[name].append(_batch_check(size, tasks[of], answers[name], found, limits))
        step(count * number, total, path.name)
    outputs, gates = [], []
    for name, of in paired.items():
        task = tasks[of]
        parity = compare(task, reference[of], answers[name], targets.get(of) if task != VALUES else None)
        changes = [evaluate(each, known[of], reference[of], answers[name], inputs) for each in wanted[of]]
        notes = small_set_notes(kind, parity, limits)
        outputs.append(OutputReport(name, of, task, parity, batches[name], changes, notes))
        gates += judge(kind, parity, batches[name], limits, changes, f"{name}: " if len(paired) > 1 else "")
    return FileReport(path.name, kind, sha256, outputs, gates)


def _run(predictor: Predictor, inputs: Mapping[str, NDArray[Any]], size: int) -> Arrays:
    """Every output over all rows, in batches of a size; 1 takes the path of a single row."""
    count = len(next(iter(inputs.values())))
    parts: dict[str, list[NDArray[Any]]] = {}
    for start in range(0, count, size):
        if size == 1:
            alone = predictor.predict({name: array[start] for name, array in inputs.items()})
            found = {name: np.asarray(value)[None] for name, value in alone.outputs.items()}
        else:
            found = predictor.predict_batch(
                {name: array[start : start + size] for name, array in inputs.items()}
            ).outputs
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _paired(outputs: Arrays, reference: Mapping[str, NDArray[Any]], path: Path) -> dict[str, str]:
    """Which of Keras' outputs each of the file's is held against; they must cover all."""
    paired = {}
    for name in outputs:
        of = PROBABILITIES if name == LOGITS and LOGITS not in reference else name
        if of not in reference:
            raise ModelError(
                f"{path} gives an output {name!r} that the Keras model does not ({', '.join(reference)}); export it "
                "again"
            )
        paired[name] = of
    if missing := reference.keys() - set(paired.values()):
        raise ModelError(f"{path} does not give the Keras model's output {min(missing)!r}; export it again")
    return paired


def _shaped(found: NDArray[Any], reference: NDArray[Any], name: str, of: str, path: Path) -> NDArray[Any]:
    if found.shape != reference.shape:
        raise ModelError(
            f"{path} gives {name!r} of shape {found.shape}, Keras gives {reference.shape}; export it again"
        )
    if name == of:
        return found
    with np.errstate(invalid="ignore"):  # of what is no number, the gate tells
        exponentials = np.exp(found.astype(np.float64) - found.max(axis=-1, keepdims=True))
        softmax: NDArray[Any] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return softmax


def _batch_check(size: int, task: str, whole: NDArray[Any], again: NDArray[Any], limits: Limits) -> BatchCheck:
    finite = np.isfinite(whole) & np.isfinite(again)
    scale = scale_of(task, np.where(np.isfinite(whole), whole, 0))
    with np.errstate(invalid="ignore"):
        largest = np.where(finite, np.abs(again.astype(np.float64) - whole) / scale, 1.0).max()
    differ = None
    if task != VALUES:
        sure = ~(margins(task, whole) <= 2 * limits.float32_max_abs * scale)  # see `judge` on ties
        differ = int((sure & (decisions(task, again) != decisions(task, whole))).sum())
    return BatchCheck(size, differ, float(largest))
