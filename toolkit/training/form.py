"""The form of what is trained here: Fashion-MNIST's pictures, and their classes."""

__all__ = ["CLASSES", "IMAGE_SHAPE"]

IMAGE_SHAPE = (28, 28)
CLASSES = 10
