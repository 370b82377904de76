"""Models and rows of a person's own, made in no time, and the command on them without a new process for each."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.conftest import Finished
from toolkit.keras_model import import_keras

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CUSTOM = '''
import keras
import tensorflow as tf


class Twice(keras.layers.Layer):
    def call(self, x):
        return x * 2


class Singular(keras.layers.Layer):
    def call(self, x):
        return tf.linalg.svd(tf.reshape(x, (-1, 2, 4)), compute_uv=False)


class OffMean(keras.layers.Layer):
    """Takes the mean of the batch away."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Logarithm(keras.layers.Layer):
    def call(self, x):
        return keras.ops.log(x - 1000.0)


def squared(targets, answers):
    return float(((answers - targets) ** 2).mean())


def fails(targets, answers):
    raise RuntimeError("no\\nway")


def no_number(targets, answers):
    return float("nan")
'''
"""A module of the person's own, `own_layers`; a test writes it where it starts the command."""


def command(*arguments: object, cwd: Path) -> Finished:
    """Run what the installed ``toolkit`` command starts, in this process: TensorFlow takes seconds to import."""
    (entry,) = metadata.entry_points(group="console_scripts", name="toolkit")
    before, out, err, code = sys.argv, io.StringIO(), io.StringIO(), 0
    sys.argv = ["toolkit", *map(str, arguments)]
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            entry.load()()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.argv = before
    return Finished(code, out.getvalue(), err.getvalue())


def fails(code: int, *arguments: object, cwd: Path) -> str:
    """The error line of a command that ends with this code and leaves nothing behind."""
    before = _files(cwd)
    done = command(*arguments, cwd=cwd)
    assert done.code == code, done.err
    assert _files(cwd) == before
    return done.error_line


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def rows(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def settled(model: Any, seed: int = 0) -> Any:
    """A model whose weights are large enough for it to be sure of most of its answers."""
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(0, 0.7, weight.shape) for weight in model.get_weights()])
    return model


def layers() -> tuple[Any, Any]:
    keras = import_keras()
    return keras, keras.layers


def tabular(*heads: tuple[str, int, str | None], size: int = 8) -> Any:
    """A dense model on tables "sensor" with some heads: name, units, activation."""
    keras, kinds = layers()
    given = keras.Input((size,), name="sensor")
    hidden = kinds.Dense(16, activation="relu", name="hidden")(given)
    ends = [kinds.Dense(units, activation=activation, name=name)(hidden) for name, units, activation in heads]
    return settled(keras.Model(given, ends[0] if len(ends) == 1 else ends))


def mostly(labels: NDArray[Any], count: int) -> NDArray[Any]:
    """Labels of which every tenth is another one, as those of real data are."""
    wrong = np.arange(len(labels)) % 10 == 0
    return np.where(wrong, (labels + 1) % count, labels)
