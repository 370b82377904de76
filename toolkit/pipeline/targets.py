"""What is known to be right, in the form that an output's task takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.keras_model.source import TensorSpec

__all__ = ["targets_for"]


def targets_for(task: str, array: NDArray[Any], spec: TensorSpec, source: str) -> NDArray[Any]:
    """Targets that a file held for an output, as its task takes them.

    Args:
        task: of the output.
        array: as `toolkit.datasets.Rows` has targets.
        spec: the output.
        source: how errors call the file.

    Returns:
        int64 (n,) for classification, int64 of 0 and 1 for binary (n, 1) and multilabel (n, k), float32 of the
        output's shape for values.

    Raises:
        DataError: they are of another kind.
    """
    whole = array.dtype.kind in "iu"
    if task == "values":
        # One 1 a row was read as the number of a class; such rows are values too.
        one_hot = array.ndim == 1 and len(spec.shape) == 2 and (spec.shape[1] or 1) > 1
        return (np.eye(spec.shape[1] or 1)[array] if one_hot else array).astype(np.float32)
    if task == "classification":
        if array.ndim == 1:
            return array
        got = "several classes, or none, in a row" if whole else f"{array.dtype} of shape {array.shape}"
        wanted = "the number of one class for each row"
        other = f"--task {spec.name}={'multilabel' if whole else 'values'}"
    elif whole:
        return np.eye(spec.shape[1] or 1, dtype=np.int64)[array] if array.ndim == 1 else array
    else:
        got = f"values from {array.min():g} to {array.max():g}"
        wanted, other = "0 or 1 for no or yes", f"--task {spec.name}=values"
    raise DataError(
        f"{source}: the targets of '{spec.name}' are {got}, expected {wanted} ({task}); save them so, or give {other}"
    )
