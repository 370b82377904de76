"""What the tests of the data do to files and to Keras."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.data_sources import FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from toolkit.data import FashionMnist

TRAIN, TRAIN_LABELS, TEST, TEST_LABELS = FILES


def no_network() -> Any:
    raise Exception("URL fetch failure on https://server.example/a.gz: None -- unreachable")  # noqa: TRY002


def stand_in_for_keras(monkeypatch: pytest.MonkeyPatch, load_data: Callable[[], Any]) -> None:
    keras: Any = types.ModuleType("keras")
    keras.datasets = types.SimpleNamespace(fashion_mnist=types.SimpleNamespace(load_data=load_data))
    monkeypatch.setitem(sys.modules, "keras", keras)


def replace(path: Path, payload: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(payload)


def flipped(payload: bytes) -> bytes:
    changed = bytearray(payload)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


def equal(one: FashionMnist, other: FashionMnist) -> bool:
    return all(
        np.array_equal(getattr(one, f"{part}_{what}"), getattr(other, f"{part}_{what}"))
        for part in ("train", "validation", "test")
        for what in ("images", "labels")
    )


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)
