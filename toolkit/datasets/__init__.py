"""Users' own rows for calibration and test: arrays, pictures and saved TensorFlow datasets, matched to a model."""

from toolkit.datasets.class_names import read_class_names
from toolkit.datasets.reading import read_rows
from toolkit.datasets.rows import Rows

__all__ = ["Rows", "read_class_names", "read_rows"]
