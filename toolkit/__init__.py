"""Train a small Keras model, export it to ONNX and int8, prove it equal, and run it on a CPU device.

Importing this package costs nothing: every part is imported from its own module.
"""

__version__ = "0.1.0"
