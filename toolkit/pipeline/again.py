"""The options of ``toolkit export`` that made an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.artifact import C_FILES
from toolkit.pipeline.line import contract_of

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.artifact import Manifest

__all__ = ["export_options"]


def export_options(folder: Path, manifest: Manifest, test: str | None) -> list[str]:
    """What to give ``toolkit export`` for the same files again.

    Args:
        folder: the artifact.
        manifest: of the artifact.
        test: the file of the test rows; None for Fashion-MNIST, or where there were none.
    """
    from toolkit.conversion.recipe import QuantizationRecipe

    recipe = manifest.quantization.recipe if manifest.quantization else {}
    options = QuantizationRecipe(**{**recipe, "keep_float": tuple(recipe.get("keep_float", ()))}).options()
    input_dtype, gives = contract_of(folder)
    if test is None and (manifest.data is None or manifest.data.fashion_mnist):
        options += [f"--input={input_dtype}"] if input_dtype == "float32" else []
    else:
        known = manifest.data is not None and manifest.data.calibration is not None
        options += [f"--calibration={manifest.data.calibration}"] if known and manifest.data else []
        options += [] if test is None else [f"--test={test}"]
        for scaling in manifest.conversion.scaling.values() if manifest.conversion else ():
            options += [f"--input={scaling['dtype']}", f"--input-scale={scaling['scale']!r}"]
            options += [f"--input-offset={scaling['offset']!r}"] if scaling["offset"] else []
    options += ["--native"] if manifest.native is not None else []
    options += ["--c"] if C_FILES[0] in manifest.files else []
    return options + ([f"--output={gives}"] if gives != "probabilities" else [])
