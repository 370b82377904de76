"""Error by layer of an artifact's int8 file: conversion runs the layers, verification judges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import ONNX, QUANTIZED
from toolkit.errors import ModelError
from toolkit.predictor import read_checked
from toolkit.verification.layers import LayerReport, diagnose

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.artifact import Manifest
    from toolkit.data import FashionMnist
    from toolkit.progress import Step

__all__ = ["error_by_layer"]

IMAGES = 1000
IMAGES_DYNAMIC = 250  # these run one at a time


def error_by_layer(folder: Path, model: Any, manifest: Manifest, data: FashionMnist, step: Step) -> LayerReport:
    """Where the int8 file loses what it loses, on a seeded choice of test images; no error leaves this function.

    Args:
        folder: the artifact, or the staging folder that is to become one.
        model: the Keras model, for the names of its layers.
        manifest: of the folder.
        data: the test images are taken from it.
        step: told of the progress.

    Returns:
        The report; where the files do not allow one, it says why (``unknown``).
    """
    try:
        from toolkit.conversion.layer_activations import LayerProbe

        float32, int8 = (
            read_checked(str(folder / name), manifest.files[name].sha256) for name in (ONNX, QUANTIZED["int8"])
        )
        probe = LayerProbe(float32, int8, [layer.name for layer in model.layers])
        if len(manifest.inputs) != 1:
            raise ModelError("the manifest does not say what the files take; export the model again")
        (contract,) = manifest.inputs
        count = min(IMAGES_DYNAMIC if probe.dynamic else IMAGES, len(data.test_images))
        images = data.test_images[np.sort(np.random.default_rng(0).permutation(len(data.test_images))[:count])]
        given = images if contract.dtype == "uint8" else images.astype(np.float32) / np.float32(255)
        recipe = manifest.quantization.recipe if manifest.quantization else {}
        calibration = None if probe.dynamic else recipe.get("calibration_images")
        return diagnose(probe, {contract.name: given}, step, calibration)
    except Exception as error:  # noqa: BLE001 - the verdict stands without it, and must not be lost for it
        return LayerReport(0, [], None, unknown=" ".join(str(error).split())[:200] or type(error).__name__)
