"""What networks are multiplied in while they are trained."""

from __future__ import annotations

from toolkit.native import cpu_features

__all__ = ["policy_of"]

# As Linux calls the instructions that multiply bfloat16 and add up in float32. Elsewhere bfloat16 is emulated.
BFLOAT16 = {"amx_bf16", "avx512_bf16"}


def policy_of(precision: str) -> str:
    """Keras' dtype policy of a recipe's precision on this CPU: "float32" or "mixed_bfloat16"."""
    if precision != "auto":
        return precision
    return "mixed_bfloat16" if BFLOAT16 & cpu_features() else "float32"
