"""What to blame in an artifact's files, layer by layer: conversion opens the graphs, verification judges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import ONNX, QUANTIZED
from toolkit.predictor import read_checked
from toolkit.verification.divergence import Divergence, find_divergence
from toolkit.verification.layers import LayerReport, diagnose

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.artifact import Manifest
    from toolkit.keras_model import SourceModel
    from toolkit.progress import Step

__all__ = ["error_by_layer", "first_divergence"]

ROWS = 1000
ROWS_DYNAMIC = 250  # these run one at a time
ROWS_COMPARED = 16  # every inner tensor of theirs is kept


def error_by_layer(
    folder: Path,
    layers: Sequence[str],
    manifest: Manifest,
    rows: Mapping[str, NDArray[Any]],
    step: Step,
    outputs: Collection[str] | None = None,
) -> LayerReport:
    """Where the int8 file loses what it loses, on a seeded choice of test rows; no error leaves this function.

    Args:
        folder: the artifact, or the staging folder that is to become one.
        layers: the Keras model's layers.
        manifest: of the folder.
        rows: the test rows as the files take them, by input name.
        step: told of the progress.
        outputs: the files' outputs to judge layers by (``failing`` of the file's report); None: all.

    Returns:
        The report; where the files do not allow one, it says why (``unknown``).
    """
    try:
        from toolkit.conversion.layer_activations import LayerProbe

        float32, int8 = (
            read_checked(str(folder / name), manifest.files[name].sha256) for name in (ONNX, QUANTIZED["int8"])
        )
        probe = LayerProbe(float32, int8, layers)
        chosen = _chosen(rows, ROWS_DYNAMIC if probe.dynamic else ROWS)
        recipe = manifest.quantization.recipe if manifest.quantization else {}
        calibration = None if probe.dynamic else recipe.get("calibration_images")
        tasks = [
            str(output.task or "classification") if outputs is None or output.name in outputs else None
            for output in manifest.outputs
        ]
        batch = next((i.shape[0] for i in manifest.inputs if i.shape and isinstance(i.shape[0], int)), None)
        return diagnose(probe, chosen, step, calibration, tasks=tasks, batch=batch)
    except Exception as error:  # noqa: BLE001 - the verdict stands without it, and must not be lost for it
        return LayerReport(0, [], None, unknown=_reason(error))


def first_divergence(
    source: SourceModel,
    path: Path,
    sha256: str | None,
    keras_rows: Mapping[str, NDArray[Any]],
    rows: Mapping[str, NDArray[Any]],
    worst: Sequence[int] = (),
) -> Divergence:
    """The first layer whose output a float32 file does not have; no error leaves this function.

    Args:
        source: the Keras model.
        path: the float32 file.
        sha256: of it.
        keras_rows: test rows as Keras takes them, by its input names; 16 of them are looked at.
        rows: the same as the file takes them, by its input names.
        worst: rows to look at in any case (``worst_row`` of each output's parity), before the first ones.
    """
    try:
        from toolkit.conversion.divergence import all_layers, all_tensors

        total, count = len(next(iter(rows.values()))), source.batch or ROWS_COMPARED
        chosen = list(dict.fromkeys([*worst, *range(min(count, total))]))[:count]
        chosen += chosen[-1:] * ((source.batch or 0) - len(chosen))
        graph = all_tensors(read_checked(str(path), sha256), {name: array[chosen] for name, array in rows.items()})
        layers = all_layers(source, {name: array[chosen] for name, array in keras_rows.items()})
        return find_divergence(layers, graph)
    except Exception as error:  # noqa: BLE001 - as above
        return Divergence(None, None, [], 0, unknown=_reason(error))


def _chosen(rows: Mapping[str, NDArray[Any]], most: int) -> dict[str, NDArray[Any]]:
    total = len(next(iter(rows.values())))
    chosen = np.sort(np.random.default_rng(0).permutation(total)[: min(most, total)])
    return {name: array[chosen] for name, array in rows.items()}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
