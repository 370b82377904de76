"""Train a small Keras model, export it to ONNX and int8, prove it equal, and run it on a CPU device.

Importing this package costs nothing: every part is imported from its own module. `toolkit.export_model` is
`toolkit.api.export_model`, imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own takes a while to import, in which Ctrl-C would still end in a traceback
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "export_model":
        import importlib

        return importlib.import_module("toolkit.api").export_model
    raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
