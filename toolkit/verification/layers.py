"""Where an int8 file loses accuracy: error by layer, worst first, with the reason in words.

Error builds up along a model, so the layer whose output is furthest off need not be the one to blame. Layers are
therefore ranked by what each does alone: at the model's output, with this one layer quantized and all others float. It
also sees what no figure taken at the layer itself can: a layer of which one output is a thousand times the others has
a splendid ratio of signal to noise even when all the others are lost.

A classifier is judged by its decisions (labels), so those come first: a range that clips can shrink all logits alike,
which is much noise and few changed labels. Where a layer alone changes less than 1 % of them, a sample cannot tell it
from the next by labels, and signal to noise ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from toolkit.verification.layer_reasons import Layer, input_reason, per_channel_helps, weights_reason
from toolkit.verification.noise import InputRange, NoiseRatio
from toolkit.verification.parity import COLUMNS, DECISIONS, VALUES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.progress import Step

__all__ = ["LayerError", "LayerReport", "Probe", "diagnose"]

_BATCH = 250
_BATCH_BYTES = 8_000_000  # of a batch's inputs: a run holds every inner tensor of its rows
_MANY = 0.01
"""Share of labels changed by one layer from which on labels rank it, if it is ten images at least."""
_POOR_DB = 25.0
"""Where there are no labels, a layer that alone does worse needs something done about it: noise of 6 % of the answers.
On the reference model 27 dB changed 2 % of the labels."""


class Probe(Protocol):
    """Runs the float32 and the int8 file layer by layer; see `toolkit.conversion.layer_activations`."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The quantized layers."""

    @property
    def dynamic(self) -> bool:
        """Scales depend on the input, so it takes one image at a time."""

    @property
    def classifies(self) -> bool:
        """It has one answer a row, of shape (n, k)."""

    def answers(
        self, feeds: Mapping[str, NDArray[Any]], *, inputs: Collection[int] = (), weights: Collection[int] = ()
    ) -> list[NDArray[np.float32]]:
        """The float32 model's answers before softmax, with inputs or weights of some layers rounded."""

    def float32_tensors(
        self, feeds: Mapping[str, NDArray[Any]]
    ) -> tuple[list[list[NDArray[np.float32]]], list[NDArray[np.float32] | None]]:
        """Inputs and output of each layer in the float32 model."""

    def int8_tensors(
        self, feeds: Mapping[str, NDArray[Any]]
    ) -> tuple[list[NDArray[np.float32] | None], list[NDArray[np.float32]]]:
        """Output of each layer in the int8 file, and its answers before softmax."""


@dataclass(frozen=True)
class LayerError:
    """What one layer of an int8 file does to the answers. None where a figure does not apply.

    Attributes:
        layer: the Keras layer, as `--keep-float` takes it.
        operator: as in the int8 file.
        own_labels_changed: share of rows decided otherwise with only this layer quantized; None where no output is of
            decisions.
        own_sqnr_db: SQNR at the model's output (before softmax or sigmoid) with only this layer quantized; of several
            outputs, or columns of an output of up to 16 values, the lowest.
        own_weights_db: the same with only its weights and bias quantized.
        own_input_db: the same with only its input quantized.
        sqnr_db: SQNR of the layer's output in the int8 file, with all that went wrong before it.
        weight_sqnr_db: SQNR of its weights.
        weights_zeroed: share of its weights that became 0 and were not.
        range_used: share of its input's quantized range that the middle unit spans; None for a dynamic scale.
        clipped: share of its input's values that do not fit into the range; None for a dynamic scale.
        saturation_load: what two paired weights come to; None if the layer's sums are not of that kind.
        saturation_limit: the most that cannot saturate on x86 without VNNI.
        reason: in words, where its own error comes from.
        cause: "weights", "range" (of its input), "clipping", or "mismatch" (its weights are not the float32 file's).
        per_channel_helps: one weight scale an output would give the middle output at least 6 dB (one bit) more.
    """

    layer: str
    operator: str
    own_labels_changed: float | None
    own_sqnr_db: float
    own_weights_db: float | None
    own_input_db: float
    sqnr_db: float | None
    weight_sqnr_db: float | None
    weights_zeroed: float | None
    range_used: float | None
    clipped: float | None
    saturation_load: int | None
    saturation_limit: int | None
    reason: str
    cause: str
    per_channel_helps: bool


@dataclass(frozen=True)
class LayerReport:
    """Error by layer of one int8 file.

    Attributes:
        images: how many test images it is taken from.
        layers: worst first.
        output_sqnr_db: SQNR of the whole int8 file at its output (before softmax); None if not known.
        advice: what to add to ``toolkit export --quantize`` next; empty if nothing is known to help.
        unknown: why error by layer is not known for this file; None if it is.
    """

    images: int
    layers: list[LayerError]
    output_sqnr_db: float | None
    advice: str = ""
    unknown: str | None = None

    @property
    def finding(self) -> str:
        """One line on the worst layer, or why none can be named."""
        if self.unknown is not None or not self.layers:
            return f"error by layer is not known: {self.unknown or 'it has no quantized layers'}"
        worst = self.layers[0]
        return f"worst int8 layer {worst.layer}: {worst.reason}"


def _advice(layers: Sequence[LayerError], images: int, calibration_images: int | None) -> str:
    """What helps the worst layer and all others that are poor."""
    poor = [layers[0], *(layer for layer in layers[1:] if _is_poor(layer, images))]
    causes = {layer.cause for layer in poor}
    if "mismatch" in causes:
        return ""
    weighted = {layer.layer for layer in layers if layer.weight_sqnr_db is not None}
    names = [name for name in dict.fromkeys(layer.layer for layer in poor) if name in weighted]
    if not names or weighted <= set(names):  # only layers with weights can be kept, and something must be left
        return ""
    keep = " ".join(f"--keep-float {name}" for name in names)
    if causes == {"clipping"} and calibration_images is not None and calibration_images < _PLENTY:
        return f"--calibration-images {_PLENTY}, or {keep}"
    if causes == {"weights"} and all(layer.per_channel_helps for layer in poor):
        return f"--per-channel, or {keep}"
    return keep


def _is_poor(layer: LayerError, images: int) -> bool:
    changed = layer.own_labels_changed
    return layer.own_sqnr_db < _POOR_DB if changed is None else _are_many(changed, images)


_PLENTY = 2000
"""Calibration images beyond which more of them are not what is missing."""


class _Change:
    """What quantizing a part of the model does to its answers.

    Args:
        tasks: of each answer; None for one that does not count.
    """

    def __init__(self, tasks: Sequence[str | None]) -> None:
        # The noise of a small answer must not drown in the signal of a large one.
        self.ratios: list[NoiseRatio] = []
        self._tasks = tasks
        self._changed = self._images = 0

    def add(self, exact: Sequence[NDArray[Any]], quantized: Sequence[NDArray[Any]], images: int) -> None:
        changed = np.zeros(images, bool)
        parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for task, *answers in zip(self._tasks, exact, quantized, strict=True):  # flat arrays
            if task is None:
                continue
            one, other = (each.reshape(images, -1) for each in answers)
            if task in DECISIONS:
                changed |= (_labels(task, one) != _labels(task, other)).any(axis=1)
            by_column = task == VALUES and one.shape[1] <= COLUMNS
            parts += zip(one.T, other.T, strict=True) if by_column else [(one, other)]
        self.ratios = self.ratios or [NoiseRatio() for _ in parts]
        for ratio, part in zip(self.ratios, parts, strict=True):
            ratio.add(*part)
        self._changed += int(changed.sum())
        self._images += images

    @property
    def db(self) -> float:
        """Of the answer (or column of values) that suffers most; NaN if a value was none."""
        found = [ratio.db for ratio in self.ratios]
        return math.nan if any(map(math.isnan, found)) else min(found)

    @property
    def changed(self) -> float | None:
        """Share of the rows that are decided otherwise, in whichever answer; None if none is of decisions."""
        return self._changed / self._images if set(self._tasks) & set(DECISIONS) else None

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is worse."""
        return _rank(self.changed, self.db, self._images)


def _labels(task: str, answers: NDArray[Any]) -> NDArray[Any]:
    """What answers before their softmax or sigmoid decide: a probability of 0.5 is 0 there."""
    return answers.argmax(axis=1)[:, None] if task == "classification" else answers >= 0


def _tasks(tasks: Sequence[str | None] | None, answers: int, *, classifies: bool) -> list[str | None]:
    """The task of each answer. Probabilities and the logits behind them are two outputs and one answer."""
    if tasks is None:
        return [DECISIONS[0] if classifies else VALUES] * answers
    if len(tasks) == answers:
        return list(tasks)
    named = {task for task in tasks if task is not None}
    return [named.pop() if len(named) == 1 else VALUES] * answers


def _rank(changed: float | None, db: float, images: int) -> tuple[float, float]:
    return (-changed if changed is not None and _are_many(changed, images) else 0.0, db)


def _are_many(changed: float, images: int) -> bool:
    return changed >= _MANY and round(changed * images) >= 10


def diagnose(
    probe: Probe,
    feeds: Mapping[str, NDArray[Any]],
    step: Step,
    calibration_images: int | None = None,
    *,
    tasks: Sequence[str | None] | None = None,
    batch: int | None = None,
) -> LayerReport:
    """Error by layer of an int8 file, worst first; memory does not grow with the number of rows.

    Args:
        probe: the two files.
        feeds: each input by name, the rows along its first dimension.
        step: told of the rows done, of rows times runs.
        calibration_images: how many the file's ranges were taken from; None if there were none or it is not known.
        tasks: of the files' outputs (see `toolkit.verification.parity`), None for one that layers are not judged by;
            None: classes, if the probe says so.
        batch: the files' batch size, if it is fixed; rows that do not fill one are left out.

    Raises:
        ValueError: a value is no number, or the layers do not explain what the int8 file answers, or the rows do not
            fill a batch.
    """
    count, size = len(next(iter(feeds.values()))), batch or (1 if probe.dynamic else _batch_size(feeds))
    if batch is not None:
        count -= count % batch
        if not count:
            raise ValueError(f"it takes {batch} rows at a time, and there are fewer")
        feeds = {name: array[:count] for name, array in feeds.items()}
    runs = 2 + 3 * len(probe.layers)
    everything = range(len(probe.layers))
    answered = len(probe.answers({name: array[: min(size, count)] for name, array in feeds.items()}))
    kinds = _tasks(tasks, answered, classifies=probe.classifies)
    own = [[_Change(kinds) for _ in range(3)] for _ in probe.layers]
    outputs = [NoiseRatio() for _ in probe.layers]
    ranges = [
        [None if i.scale is None else InputRange(i.scale, int(i.zero_point or 0), str(i.dtype)) for i in layer.inputs]
        for layer in probe.layers
    ]
    whole, unexplained = (_Change(kinds) for _ in range(2))
    compared = [False] * len(probe.layers)
    for start in range(0, count, size):
        given = {name: array[start : start + size] for name, array in feeds.items()}
        n = min(size, count - start)
        exact = probe.answers(given)
        inputs, exact_outputs = probe.float32_tensors(given)
        found_outputs, answers = probe.int8_tensors(given)
        whole.add(exact, answers, n)
        unexplained.add(answers, probe.answers(given, inputs=everything, weights=everything), n)
        for index, changes in enumerate(own):
            one = {index}
            changes[0].add(exact, probe.answers(given, inputs=one, weights=one), n)
            changes[1].add(exact, probe.answers(given, weights=one), n)
            changes[2].add(exact, probe.answers(given, inputs=one), n)
            for each, values in zip(ranges[index], inputs[index], strict=True):
                if each is not None:
                    each.add(values.reshape(n if values.size % n == 0 else 1, -1))
            expected, found = exact_outputs[index], found_outputs[index]
            if expected is not None and found is not None:
                outputs[index].add(expected, found)
                compared[index] = True
        step((start + n) * runs, count * runs, "error by layer")
    if any(math.isnan(change.db) for change in (whole, *(each[0] for each in own))):
        raise ValueError("some of its values are no numbers")
    # Rounding on a tie can go either way in float and integer arithmetic; more than that has another cause.
    if any(
        left.noise > max(0.25 * all_of_it.noise, 2.0**-40 * all_of_it.signal)
        for left, all_of_it in zip(unexplained.ratios, whole.ratios, strict=True)
    ):
        raise ValueError("its layers do not account for its answers, so it computes something else as well")
    layers = [
        _layer_error(layer, changes, output.db if known else None, used)
        for layer, changes, output, known, used in zip(probe.layers, own, outputs, compared, ranges, strict=True)
    ]
    layers.sort(key=lambda layer: _rank(layer.own_labels_changed, layer.own_sqnr_db, count))
    return LayerReport(count, layers, whole.db, _advice(layers, count, calibration_images))


def _batch_size(feeds: Mapping[str, NDArray[Any]]) -> int:
    row = sum(array[:1].nbytes for array in feeds.values())
    return max(1, min(_BATCH, _BATCH_BYTES // max(row, 1)))


def _layer_error(
    layer: Layer, own: Sequence[_Change], output_db: float | None, ranges: Sequence[InputRange | None]
) -> LayerError:
    both, weights, inputs = own
    known = [each for each in ranges if each is not None]
    weight_ratio = NoiseRatio()
    zeroed = None
    if layer.weights is not None and layer.rounded is not None:
        weight_ratio.add(layer.weights, layer.rounded)
        zeroed = float(((layer.rounded == 0) & (layer.weights != 0)).mean())
    by_weights = layer.weights is not None and weights.rank < inputs.rank
    cause, reason = weights_reason(layer, zeroed or 0.0) if by_weights else input_reason(layer, ranges)
    return LayerError(
        layer=layer.layer,
        operator=layer.operator,
        own_labels_changed=both.changed,
        own_sqnr_db=both.db,
        own_weights_db=weights.db if layer.weights is not None else None,
        own_input_db=inputs.db,
        sqnr_db=output_db,
        weight_sqnr_db=weight_ratio.db if layer.weights is not None else None,
        weights_zeroed=zeroed,
        range_used=min(each.used for each in known) if known else None,
        clipped=max(each.clipped for each in known) if known else None,
        saturation_load=layer.load,
        saturation_limit=layer.load_limit,
        reason=reason,
        cause=cause,
        per_channel_helps=per_channel_helps(layer),
    )
