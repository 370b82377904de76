"""Models on tables of numbers, with units as sensors give them."""

from __future__ import annotations

import numpy as np

from tests.zoo.example import Array, Builder, Example, Split, keras_and_layers, trained

_TRAIN, _ALL = 2000, 3000


def _air() -> tuple[Array, Array]:
    """Temperature (C), humidity (%), pressure (hPa), wind (m/s), and the temperature that it feels like, with noise."""
    random = np.random.default_rng(21)
    temperature, humidity = random.uniform(-10, 35, _ALL), random.uniform(20, 100, _ALL)
    pressure, wind = random.normal(1013, 12, _ALL), random.gamma(2, 2, _ALL)
    vapour = humidity / 100 * 6.105 * np.exp(17.27 * temperature / (237.7 + temperature))
    feels = temperature + 0.33 * vapour - 0.7 * wind - 4 + random.normal(0, 0.2, _ALL)
    table = np.stack([temperature, humidity, pressure, wind], axis=1).astype(np.float32)
    return table, feels[:, None].astype(np.float32)


def regression() -> Example:
    """Takes numbers that were brought to mean 0 and deviation 1 before."""
    keras, layers = keras_and_layers(21)
    table, feels = _air()
    table = (table - table[:_TRAIN].mean(axis=0)) / table[:_TRAIN].std(axis=0)
    given = keras.Input((4,), name="air")
    x = layers.Dense(32, activation="relu")(layers.Dense(32, activation="relu")(given))
    data = Split({"air": table[:_TRAIN]}, feels[:_TRAIN], {"air": table[_TRAIN:]}, None)
    return trained(
        keras.Model(given, layers.Dense(1, name="feels_like")(x)), data, "regression", "mse", epochs=8, rate=1e-2
    )


def normalization() -> Example:
    """Takes the numbers in their own units; the model knows how to scale them."""
    keras, layers = keras_and_layers(22)
    table, feels = _air()
    scale = layers.Normalization()
    scale.adapt(table[:_TRAIN])
    given = keras.Input((4,), name="air")
    x = layers.Dense(32, activation="swish")(scale(given))
    data = Split({"air": table[:_TRAIN]}, feels[:_TRAIN], {"air": table[_TRAIN:]}, None)
    return trained(
        keras.Model(given, layers.Dense(1, name="feels_like")(x)), data, "regression", "mse", epochs=8, rate=1e-2
    )


BUILDERS: dict[str, Builder] = {"regression": regression, "normalization": normalization}
