"""How large a model's file may be, in one place."""

from toolkit.errors import ModelError

__all__ = ["CONFIG_LIMIT", "WEIGHTS_LIMIT", "check_weight_bytes"]

WEIGHTS_LIMIT = 2_000_000_000
"""Bytes of weights. An ONNX file is one protobuf message, which ends at 2**31 - 1 bytes, its graph included."""

CONFIG_LIMIT = 64_000_000
"""Bytes of a model's configuration in JSON; those of real models have some thousands a layer."""


def check_weight_bytes(count: int, shown: object) -> None:
    """Refuse a model whose weights no ONNX file could hold, before any of them is read.

    Args:
        count: bytes that the file's own records say the weights have.
        shown: how errors call the file.

    Raises:
        ModelError: they are more than `WEIGHTS_LIMIT`.
    """
    if count > WEIGHTS_LIMIT:
        raise ModelError(
            f"{shown} declares {count / 1e9:.1f} GB of weights, expected {WEIGHTS_LIMIT / 1e9:.0f} GB at most (an ONNX "
            "file in one piece holds no more); give a smaller model"
        )
