"""Keras itself, imported quietly."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["import_keras", "import_tensorflow"]


def import_keras() -> Any:
    """The keras module on the TensorFlow backend, imported without TensorFlow's start-up chatter.

    Raises:
        MissingError: it is not installed.
    """
    # Native code logs notes about itself as errors; what really fails comes as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _quiet_stderr(), _without_matplotlib():
            import keras
            import tensorflow as tf

            tf.config.list_logical_devices()  # looks for accelerators now, and complains of none unheard
    except ImportError as error:
        raise MissingError(
            f"this needs Keras and TensorFlow ({error}); install the extra 'train': "
            "pip install '.[train]' in the project"
        ) from error
    return keras


def import_tensorflow() -> Any:
    """The tensorflow module, imported as quietly.

    Raises:
        MissingError: it is not installed.
    """
    import_keras()
    import tensorflow as tf

    return tf


@contextmanager
def _without_matplotlib() -> Iterator[None]:
    """Hide matplotlib from Keras, which imports all of it for pictures that no command draws: a sixth of the start.

    Only where the process is the command: in a person's own, Keras keeps its pictures. What wants matplotlib later
    imports it as ever.
    """
    name = "matplotlib"
    if "toolkit.cli.app" not in sys.modules or name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # so that importing it fails as if it were not installed
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what native code writes to stderr; it is shown after all if the block fails."""
    try:
        real = os.dup(2)
    except OSError:  # closed by whoever started us
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
