"""Conversion: a Keras model to ONNX, and ONNX float32 to int8."""
