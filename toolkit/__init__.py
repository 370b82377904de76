"""Train a small Keras model, export it to ONNX and int8, prove it equal, and run it on a CPU device.

Importing this package costs nothing: every part is imported from its own module, `export_model` when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.api import export_model as export_model

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "export_model":
        from toolkit.api import export_model

        return export_model
    raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
