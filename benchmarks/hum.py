"""Rows for an autoencoder of machine sounds such as MLPerf Tiny's ad01, whose recordings are not ours to ship.

    python -m benchmarks.hum MODEL FOLDER        writes calibration.npz and test.npz

Made-up machine hum (harmonics that beat, and noise) goes the way of the benchmark's features: 16 kHz, frames of 1,024
samples every 512, 128 mel bands in dB, five frames side by side, 640 numbers. That is not the sound the model learned,
so it is sent through the model twice: what comes out is what the model takes for normal, and reconstructs within some
dB. A little noise is added, so that no row is one of its own answers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.keras_model import open_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE, FRAME, STEP, BANDS, SIDE = 16_000, 1024, 512, 128, 5
CLIPS, SECONDS, CALIBRATION, TEST = 12, 10, 1500, 1000
NOISE_DB = 2.0


def main() -> None:
    """Make the rows and write them."""
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    source = open_model(model)
    (given,), (answer,) = source.inputs, source.outputs
    random = np.random.default_rng(0)
    rows = np.concatenate([features(hum(random)) for _ in range(CLIPS)])
    rows = rows[random.permutation(len(rows))[: CALIBRATION + TEST]]
    for _ in range(2):
        rows = source.answers({given.name: rows})[answer.name]
    rows = (rows + random.normal(0, NOISE_DB, rows.shape)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "calibration.npz", x=rows[:CALIBRATION])
    np.savez(folder / "test.npz", x=rows[CALIBRATION:])


def hum(random: np.random.Generator) -> NDArray[np.float64]:
    """Some seconds of a machine: 24 harmonics of a slow note, each with a beat of its own, and noise."""
    time = np.arange(SECONDS * RATE) / RATE
    note = random.uniform(40, 120)
    sound = np.zeros_like(time)
    for number in range(1, 25):
        beat = 1 + 0.3 * np.sin(2 * np.pi * random.uniform(0.5, 4) * time)
        sound += random.gamma(1) / number * beat * np.sin(2 * np.pi * number * note * time + random.uniform(0, 6.28))
    return 0.02 * sound + random.normal(0, 0.004 * random.gamma(2), len(time))


def features(sound: NDArray[np.float64]) -> NDArray[np.float32]:
    """Log-mel frames, five side by side: float32 of shape (n, 640)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::STEP] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2
    bands: NDArray[Any] = 10 * np.log10(power @ _mel().T + 1e-12)
    count = len(bands) - SIDE + 1
    return np.concatenate([bands[at : at + count] for at in range(SIDE)], axis=1).astype(np.float32)


def _mel() -> NDArray[np.float64]:
    """Triangles of equal width on the mel scale (2595 log10(1 + f / 700)), shape (bands, frequencies)."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    at = np.linspace(0, RATE / 2, FRAME // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (at - low) / (middle - low), (high - at) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


if __name__ == "__main__":
    main()
