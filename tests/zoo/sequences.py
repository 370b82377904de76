"""Models on signals and on tokens: made up, with a relation that can be learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.zoo.example import Builder, Example, keras_and_layers, split, trained, waves

_TRAIN, _ALL = 2000, 3000
_CROSS_ENTROPY = "sparse_categorical_crossentropy"


def _wave_classifier(body: Any, length: int | None = 64, **fit: Any) -> Example:
    keras, layers = keras_and_layers(11)
    signal, labels = waves(_ALL, 64, seed=11)
    given = keras.Input((length, 1), name="signal")
    out = layers.Dense(4, activation="softmax", name="probabilities")(body(layers, given))
    data = split({"signal": signal}, labels, _TRAIN)
    return trained(keras.Model(given, out), data, "classification", _CROSS_ENTROPY, **fit)


def conv1d() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.MaxPooling1D()(layers.Conv1D(16, 5, activation="relu")(x))
        x = layers.Conv1D(24, 5, strides=2, padding="causal", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        return layers.Flatten()(x)

    return _wave_classifier(body)


def conv1d_free_length() -> Example:
    """Takes signals of any length."""

    def body(layers: Any, x: Any) -> Any:
        x = layers.Conv1D(24, 7, activation="relu", dilation_rate=2)(layers.Conv1D(16, 5, activation="relu")(x))
        return layers.GlobalMaxPooling1D()(x)

    return _wave_classifier(body, None)


def gru() -> Example:
    return _wave_classifier(
        lambda layers, x: layers.GRU(24)(layers.Conv1D(12, 8, strides=4, activation="relu")(x)), epochs=6
    )


def bidirectional() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Conv1D(12, 8, strides=4, activation="relu")(x)
        return layers.Bidirectional(layers.LSTM(12))(layers.LSTM(16, return_sequences=True)(x))

    return _wave_classifier(body, epochs=4)


def embedding() -> Example:
    """Twenty tokens of fifty; of the three groups of tokens, which one weighs most?"""
    keras, layers = keras_and_layers(12)
    random = np.random.default_rng(12)
    tokens = random.integers(0, 50, (_ALL, 20)).astype(np.int32)
    weight = random.uniform(0.5, 2, 50)
    group = np.arange(50) % 3
    labels = np.stack([(weight[tokens] * (group[tokens] == g)).sum(axis=1) for g in range(3)], axis=1).argmax(axis=1)
    given = keras.Input((20,), dtype="int32", name="tokens")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(50, 8)(given))
    out = layers.Dense(3, activation="softmax", name="probabilities")(layers.Dense(24, activation="relu")(x))
    data = split({"tokens": tokens}, labels, _TRAIN)
    return trained(keras.Model(given, out), data, "classification", _CROSS_ENTROPY, epochs=6, rate=1e-2)


def keyword_spotter() -> Example:
    """The DS-CNN of MLPerf Tiny (49 frames of 10 coefficients, twelve words) on made-up words.

    A word is a path through the coefficients over time, at a random place, loudness and speed.
    """
    keras, layers = keras_and_layers(13)
    random = np.random.default_rng(13)
    count, train = 1200, 800
    labels = random.integers(0, 12, count)
    corners = random.uniform(0, 9, (12, 4))
    time = np.linspace(0, 3, 30)
    frames = random.normal(0, 0.3, (count, 49, 10))
    for i, label in enumerate(labels):
        path = np.interp(time, np.arange(4), corners[label]) + random.normal(0, 0.3)
        start = random.integers(0, 19)
        hill = np.exp(-((np.arange(10)[None] - path[:, None]) ** 2))
        frames[i, start : start + 30] += random.uniform(2, 4) * hill
    given = keras.Input((49, 10, 1), name="features")
    x = layers.Conv2D(64, (10, 4), strides=2, padding="same", use_bias=False)(given)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dropout(0.2)(x)
    for _ in range(4):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.Conv2D(64, 1, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(layers.Dropout(0.4)(x)))
    out = layers.Dense(12, activation="softmax", name="probabilities")(x)
    data = split({"features": frames[..., None].astype(np.float32)}, labels, train)
    return trained(keras.Model(given, out), data, "classification", _CROSS_ENTROPY, epochs=4, batch_size=32)


BUILDERS: dict[str, Builder] = {
    "conv1d": conv1d,
    "conv1d_free_length": conv1d_free_length,
    "gru": gru,
    "bidirectional": bidirectional,
    "embedding": embedding,
    "keyword_spotter": keyword_spotter,
}
