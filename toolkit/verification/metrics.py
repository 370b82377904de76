"""Figures of merit that the user names for outputs: of Keras, of an exported file, and how far the two are apart."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UsageError
from toolkit.user_code import import_named
from toolkit.verification.parity import VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["BUILT_IN", "Metric", "MetricChange", "applicable", "evaluate", "metrics_from", "targets_of"]


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        name: as the user gave it.
        function: from (targets, answers), both by the rows of one output, to a float. One with a parameter named
            ``inputs`` gets the file's inputs there as well: a dict of arrays by name.
        output: the output that it is for; None for every output of values that has targets.
        better: "less", "more", or "" if that is not known.
    """

    name: str
    function: Callable[..., float]
    output: str | None = None
    better: str = ""


@dataclass(frozen=True)
class MetricChange:
    """A metric of one output.

    Attributes:
        name: of the metric.
        keras: its value for Keras' answers.
        exported: its value for the exported file's.
        change: (exported - keras) / |keras|; infinite where Keras' is 0 and the file's is not.
        judged: what the limit is held against: the change for the worse, or either way where it is not known which way
            is better. NaN where the file's value is none.
    """

    name: str
    keras: float
    exported: float
    change: float
    judged: float


def _mae(targets: NDArray[Any], answers: NDArray[Any]) -> float:
    return float(np.abs(answers - targets).mean())


def _mse(targets: NDArray[Any], answers: NDArray[Any]) -> float:
    return float(np.square(answers - targets).mean())


def _r2(targets: NDArray[Any], answers: NDArray[Any]) -> float:
    spread = float(np.square(targets - targets.mean(axis=0)).sum())
    if spread == 0:
        raise ValueError("all targets are the same, so r2 is not defined")
    return 1 - float(np.square(answers - targets).sum()) / spread


BUILT_IN: dict[str, tuple[Callable[..., float], str]] = {
    "mae": (_mae, "less"),
    "mse": (_mse, "less"),
    "rmse": (lambda targets, answers: math.sqrt(_mse(targets, answers)), "less"),
    "r2": (_r2, "more"),
}
"""By name: mean absolute error, mean squared error, its root, and the share of the targets' variance explained; each
over all values of an output, in float64."""


def metrics_from(texts: Sequence[str]) -> list[Metric]:
    """What ``--metric`` names: mae, mse, rmse, r2, or module:function; each may have OUTPUT= in front.

    Raises:
        UsageError: a name of another form, or one that is given twice.
        MissingError: no such module, or no such function in it.
    """
    found = []
    for text in texts:
        output, equals, name = text.rpartition("=")
        if name in BUILT_IN:
            function, better = BUILT_IN[name]
        elif ":" in name:
            function, better = import_named("--metric", name), ""
        else:
            raise UsageError(
                f"--metric is {text!r}, expected {', '.join(BUILT_IN)} or module:function, with OUTPUT= in front for "
                "one output"
            )
        found.append(Metric(name, function, output if equals else None, better))
    if len({(metric.output, metric.name) for metric in found}) < len(found):
        raise UsageError("--metric names the same metric twice; drop one of them")
    return found


def targets_of(
    targets: Mapping[str, NDArray[Any]],
    tasks: Mapping[str, str],
    reference: Mapping[str, NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """The targets that metrics are taken with: those given, and for an autoencoder its own input.

    A model is taken for an autoencoder if it has one floating-point input and one output, of values and of the same
    shape, and no targets were given.
    """
    if targets or len(inputs) != 1 or list(tasks.values()) != [VALUES]:
        return dict(targets)
    (given,), (name,) = inputs.values(), tasks
    if given.dtype.kind == "f" and given.shape == reference[name].shape:
        return {name: given}
    return {}


def applicable(
    metrics: Sequence[Metric], targets: Mapping[str, NDArray[Any]], tasks: Mapping[str, str]
) -> dict[str, list[Metric]]:
    """The metrics of each output, by its name.

    Raises:
        UsageError: one applies to no output, or the targets that it needs are not known.
    """
    found: dict[str, list[Metric]] = {name: [] for name in tasks}
    for metric in metrics:
        if metric.output is not None and metric.output not in tasks:
            raise UsageError(
                f"--metric {metric.output}={metric.name}: the model has no output {metric.output!r}, only "
                f"{', '.join(tasks)}"
            )
        outputs = [metric.output] if metric.output else [name for name, task in tasks.items() if task == VALUES]
        if not outputs:
            raise UsageError(
                f"--metric {metric.name}: no output of the model is one of values; to use it for another, name that: "
                f"--metric {next(iter(tasks))}={metric.name}"
            )
        known = [name for name in outputs if name in targets]
        if not known:
            raise UsageError(
                f"--metric {metric.name} needs targets of the output {' or '.join(outputs)}, and the test set has "
                "none; add them to it under that name, or drop the option"
            )
        for name in known:
            found[name].append(metric)
    return found


def evaluate(
    metric: Metric,
    targets: NDArray[Any],
    keras: NDArray[Any],
    exported: NDArray[Any],
    inputs: Mapping[str, NDArray[Any]],
) -> MetricChange:
    """One metric of one output, for Keras and for an exported file.

    Raises:
        UsageError: the function fails, or gives no finite number for Keras' answers.
    """
    theirs = value_of(metric, targets, keras, inputs)
    ours = value_of(metric, targets, exported, inputs) if np.isfinite(exported).all() else math.nan
    change = 0.0 if theirs == ours else (ours - theirs) / abs(theirs) if theirs else math.copysign(math.inf, ours)
    worse = {"less": change, "more": -change}.get(metric.better, abs(change))
    return MetricChange(metric.name, theirs, ours, change, worse)


def value_of(metric: Metric, targets: NDArray[Any], answers: NDArray[Any], inputs: Mapping[str, NDArray[Any]]) -> float:
    """A metric's value.

    Raises:
        UsageError: the function fails, or gives no finite number.
    """
    if metric.name in BUILT_IN:
        if targets.size != answers.size or len(targets) != len(answers):
            raise UsageError(
                f"--metric {metric.name}: the targets have the shape {targets.shape}, the answers {answers.shape}; "
                "give one target a value, or name a function of your own: --metric module:function"
            )
        targets = targets.reshape(answers.shape).astype(np.float64)
        answers = answers.astype(np.float64)
    try:
        more = {"inputs": dict(inputs)} if "inputs" in inspect.signature(metric.function).parameters else {}
        value = float(metric.function(targets, answers, **more))
    except Exception as error:  # the user's own code may raise anything
        reason = " ".join(str(error).split())[:200] or "no reason given"
        raise UsageError(f"--metric {metric.name} fails with {type(error).__name__}: {reason}") from error
    if not math.isfinite(value):
        raise UsageError(f"--metric {metric.name} gives {value}, expected a number")
    return value
