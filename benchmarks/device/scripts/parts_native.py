"""with_native.py with a clock between its parts; prints the readings, in ns of the system-wide clock.

Opening the library, its golden vectors included, is timed by itself, as opening a session is elsewhere.
"""

from time import monotonic_ns

STAMPS = [monotonic_ns()]

# ruff: noqa: E402 - the order of the imports is what is measured
import sys

import numpy as np

STAMPS.append(monotonic_ns())

import native  # type: ignore[import-not-found]  # they stand alone in a folder on the path
import predictor  # type: ignore[import-not-found]

STAMPS.append(monotonic_ns())

session_ns: list[int] = []
real = native.open_library


def timed(*arguments: object) -> object:
    """Opens a library, and keeps how long that took."""
    start = monotonic_ns()
    session = real(*arguments)
    session_ns.append(monotonic_ns() - start)
    return session


native.open_library = timed
opened = predictor.Predictor(sys.argv[1], backend="native")
STAMPS.append(monotonic_ns())
opened.classify(np.zeros((28, 28), np.uint8))
STAMPS.append(monotonic_ns())
import json

sys.stdout.write(json.dumps({"stamps": STAMPS, "session_ns": session_ns[0]}))
