"""with_predictor.py with a clock between its parts; prints the readings, in ns of the system-wide clock."""

from time import monotonic_ns

STAMPS = [monotonic_ns()]

# ruff: noqa: E402 - the order of the imports is what is measured
import os
import sys

import numpy as np

STAMPS.append(monotonic_ns())

import predictor  # type: ignore[import-not-found]  # it stands alone in a folder on the path

STAMPS.append(monotonic_ns())

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as the predictor does before this import
import onnxruntime as ort

STAMPS.append(monotonic_ns())

session_ns: list[int] = []
real = ort.InferenceSession


def timed(*arguments: object, **options: object) -> object:
    """Opens a session, and keeps how long that took."""
    start = monotonic_ns()
    session = real(*arguments, **options)
    session_ns.append(monotonic_ns() - start)
    return session


ort.InferenceSession = timed
opened = predictor.Predictor(sys.argv[1])
STAMPS.append(monotonic_ns())
opened.classify(np.zeros((28, 28), np.uint8))
STAMPS.append(monotonic_ns())
import json

sys.stdout.write(json.dumps({"stamps": STAMPS, "session_ns": session_ns[0]}))
