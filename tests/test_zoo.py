"""The models of the zoo learned something, and are the same after a turn through each kind of file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.zoo import ZOO
from toolkit.keras_model import open_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zoo.example import Example


@pytest.mark.zoo
@pytest.mark.parametrize("name", list(ZOO))
def test_a_model_of_the_zoo(zoo: Callable[[str], Example], tmp_path: Path, name: str) -> None:
    example = zoo(name)
    source = open_model(example.model)
    assert [spec.name for spec in source.inputs] == list(example.test) == list(example.calibration)
    assert all(len(array) >= 64 for array in (*example.test.values(), *example.calibration.values()))
    answers = source.answers(example.test, batch_size=250)
    assert all(np.isfinite(answer).all() for answer in answers.values())
    assert all(answer.std() > 0 for answer in answers.values())
    if example.labels is not None:
        (answer,) = answers.values()
        most_common = np.bincount(example.labels).max() / len(example.labels)
        assert (answer.argmax(axis=1) == example.labels).mean() > most_common + 0.2
    # Keras' own reader serves .keras files; that of .h5 files is ours.
    for suffix in ("keras", "h5") if name in ("normalization", "nested", "bidirectional") else ("h5",):
        example.model.save(tmp_path / f"m.{suffix}")
        again = open_model(tmp_path / f"m.{suffix}")
        assert (again.inputs, again.layers) == (source.inputs, source.layers)
        few = {key: array[:64] for key, array in example.test.items()}
        for (key, found), wanted in zip(again.answers(few).items(), answers.values(), strict=True):
            np.testing.assert_allclose(found, wanted[:64], rtol=1e-5, atol=1e-6, err_msg=f"{suffix} {key}")
