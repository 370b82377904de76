"""What is worth trying."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.conversion.recipe import QuantizationRecipe

__all__ = ["first_candidates", "rescue_candidates"]


def first_candidates(keep_float: Sequence[str], calibration_images: int, seed: int) -> list[QuantizationRecipe | None]:
    """Every form that the runtime has on a CPU, simplest first; None is float32 as it is.

    A plain list: the space is small, and each candidate is made and judged in about a second.

    Args:
        keep_float: Keras layers that stay in float in all of them.
        calibration_images: what static calibration sees.
        seed: which images.
    """
    from toolkit.conversion.recipe import CALIBRATIONS, QuantizationRecipe

    kept = tuple(keep_float)
    static = QuantizationRecipe(keep_float=kept, calibration_images=calibration_images, seed=seed)
    forms = [replace(static, calibration=calibration) for calibration in CALIBRATIONS]
    forms.append(QuantizationRecipe(method="dynamic", keep_float=kept))
    forms.append(replace(static, portable=False, reduce_range=True))
    forms.append(replace(static, portable=False))
    found: list[QuantizationRecipe | None] = [None]
    found += [replace(form, per_channel=per_channel) for form in forms for per_channel in (False, True)]
    found += [QuantizationRecipe(method=method, keep_float=kept) for method in ("int4", "float16")]
    return found


def rescue_candidates(
    layers: Sequence[str], keep_float: Sequence[str], calibration_images: int, seed: int
) -> list[QuantizationRecipe | None]:
    """For a model that no int8 form serves: each layer in turn left in float.

    Args:
        layers: Keras layers that can be quantized.
        keep_float: those that stay in float anyway.
        calibration_images: as in `first_candidates`.
        seed: as in `first_candidates`.
    """
    from toolkit.conversion.recipe import QuantizationRecipe

    left = [layer for layer in layers if layer not in keep_float]
    if len(left) < 2:
        return []
    return [
        QuantizationRecipe(
            per_channel=True, keep_float=(*keep_float, layer), calibration_images=calibration_images, seed=seed
        )
        for layer in left
    ]
