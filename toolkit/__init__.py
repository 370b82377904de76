"""Train a small Keras model, export it to ONNX and int8, prove it equal, and run it on a CPU device.

Importing this package costs nothing: every part is imported from its own module. `toolkit.export_model` is
`toolkit.api.export_model`, imported when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "export_model":
        return importlib.import_module("toolkit.api").export_model
    raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
