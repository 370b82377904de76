"""least_onnxruntime.py with a clock between its parts; prints the readings, in ns of the system-wide clock."""

from time import monotonic_ns

STAMPS = [monotonic_ns()]

# ruff: noqa: E402 - the order of the imports is what is measured
import sys

import numpy as np

STAMPS.append(monotonic_ns())

import onnxruntime as ort

STAMPS.append(monotonic_ns())
session = ort.InferenceSession(sys.argv[1])
STAMPS.append(monotonic_ns())
session.run(None, {"image": np.zeros((1, 28, 28), np.uint8)})[0].argmax()
STAMPS.append(monotonic_ns())
import json

sys.stdout.write(json.dumps({"stamps": STAMPS, "session_ns": STAMPS[3] - STAMPS[2]}))
