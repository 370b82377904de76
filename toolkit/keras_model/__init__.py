"""Keras models as people bring them: opened without running code that they carry, whatever Keras wrote them."""

from toolkit.keras_model.opening import load_keras, open_model
from toolkit.keras_model.runtime import import_keras, import_tensorflow
from toolkit.keras_model.source import SourceModel, TensorSpec

__all__ = ["SourceModel", "TensorSpec", "import_keras", "import_tensorflow", "load_keras", "open_model"]
