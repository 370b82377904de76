"""Models on pictures: Fashion-MNIST, the real one."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from tests.zoo.example import Array, Builder, Example, Split, keras_and_layers, split, trained
from toolkit.data import load

_TRAIN, _TEST = 3000, 1000
_CROSS_ENTROPY = "sparse_categorical_crossentropy"


@cache
def _pixels() -> tuple[Array, Array]:
    """The first training images, then the first test images, uint8, and their labels."""
    data = load()
    images = np.concatenate([data.train_images[:_TRAIN], data.test_images[:_TEST]])
    return images, np.concatenate([data.train_labels[:_TRAIN], data.test_labels[:_TEST]]).astype(np.int64)


def _split(*, channel: bool = True, scale: float = 1 / 255) -> Split:
    images, labels = _pixels()
    scaled = images.astype(np.float32) * np.float32(scale)
    return split({"image": scaled[..., None] if channel else scaled}, labels, _TRAIN)


def _classifier(body: Any, *, channel: bool = True, scale: float = 1 / 255, **fit: Any) -> Example:
    keras, layers = keras_and_layers(1)
    image = keras.Input((28, 28, 1) if channel else (28, 28), name="image")
    out = layers.Dense(10, activation="softmax", name="probabilities")(body(layers, image))
    return trained(
        keras.Model(image, out), _split(channel=channel, scale=scale), "classification", _CROSS_ENTROPY, **fit
    )


def dense_batch_norm() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Flatten()(x)
        for units in (128, 64):
            x = layers.Dense(units, use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.Activation("relu")(x)
        return x

    return _classifier(body, channel=False)


def dropout() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
        x = layers.GaussianNoise(0.1)(layers.Dropout(0.3)(x))
        return layers.Dropout(0.3)(layers.Dense(64, activation="relu")(x))

    return _classifier(body, channel=False)


def _activation(name: str) -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Dense(64, activation=name)(layers.Flatten()(x))
        return layers.Dense(32, activation=name)(x)

    return _classifier(body, channel=False)


def cnn_pooling() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
        x = layers.AveragePooling2D(2)(layers.Conv2D(16, 3, padding="same", activation="relu")(x))
        return layers.Dense(32, activation="relu")(layers.Flatten()(x))

    return _classifier(body)


def _separable_block(layers: Any, x: Any, filters: int, strides: int = 1) -> Any:
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Conv2D(filters, 1, use_bias=False)(x)
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))


def depthwise_separable() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
        x = _separable_block(layers, _separable_block(layers, x, 32, 2), 64)
        return layers.GlobalAveragePooling2D()(x)

    return _classifier(body)


def residual() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
        for _ in range(2):
            y = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
            y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
            y = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(16, 3, padding="same", use_bias=False)(y))
            x = layers.ReLU()(layers.Add()([x, y]))
        return layers.GlobalAveragePooling2D()(x)

    return _classifier(body)


def concatenation() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
        branches = [
            layers.Conv2D(8, 1, activation="relu")(x),
            layers.Conv2D(8, 5, padding="same", activation="relu")(x),
            layers.MaxPooling2D(3, strides=1, padding="same")(x),
        ]
        return layers.Flatten()(layers.MaxPooling2D()(layers.Concatenate()(branches)))

    return _classifier(body)


def global_pooling() -> Example:
    def body(layers: Any, x: Any) -> Any:
        x = layers.Conv2D(16, 3, strides=2, activation="relu")(x)
        x = layers.Conv2D(24, 3, activation="relu")(x)
        return layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])

    return _classifier(body)


def rows_lstm() -> Example:
    return _classifier(lambda layers, x: layers.LSTM(32)(x), channel=False)


def rescaling() -> Example:
    """Takes pixels as they are, 0 to 255 in float32."""

    def body(layers: Any, x: Any) -> Any:
        x = layers.Rescaling(1 / 127.5, offset=-1)(x)
        x = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
        return layers.Flatten()(x)

    return _classifier(body, scale=1.0)


def uint8_input() -> Example:
    keras, layers = keras_and_layers(1)
    images, labels = _pixels()
    image = keras.Input((28, 28), dtype="uint8", name="image")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    out = layers.Dense(10, activation="softmax", name="probabilities")(layers.Dense(64, activation="relu")(x))
    data = split({"image": images}, labels, _TRAIN)
    return trained(keras.Model(image, out), data, "classification", _CROSS_ENTROPY)


def two_inputs_two_outputs() -> Example:
    """The image and a table of its row sums with noise; its class and its brightness."""
    keras, layers = keras_and_layers(2)
    pixels, labels = _pixels()
    images = pixels.astype(np.float32) / 255
    rows = images.mean(axis=2) + np.random.default_rng(2).normal(0, 0.02, (len(images), 28))
    image, table = keras.Input((28, 28, 1), name="image"), keras.Input((28,), name="rows")
    x = layers.Flatten()(layers.Conv2D(8, 3, strides=2, activation="relu")(image))
    x = layers.Concatenate()([layers.Dense(32, activation="relu")(x), layers.Dense(16, activation="relu")(table)])
    outputs = {
        "kind": layers.Dense(10, activation="softmax", name="kind")(x),
        "brightness": layers.Dense(1, name="brightness")(x),
    }
    inputs = {"image": images[..., None], "rows": rows.astype(np.float32)}
    targets = {"kind": labels[:_TRAIN], "brightness": images[:_TRAIN].mean(axis=(1, 2))[:, None]}
    data = split(inputs, labels, _TRAIN, targets)
    example = trained(
        keras.Model([image, table], outputs), data, "several", {"kind": _CROSS_ENTROPY, "brightness": "mse"}
    )
    return Example(example.model, example.calibration, example.test, None, "several")


def autoencoder() -> Example:
    """Dense with batch normalization after each layer, as in MLPerf Tiny's anomaly detector."""
    keras, layers = keras_and_layers(3)
    flat = _pixels()[0].reshape(-1, 784).astype(np.float32) / 255
    pixels = x = keras.Input((784,), name="pixels")
    for units in (64, 64, 8, 64, 64):
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(layers.Dense(units)(x)))
    data = Split({"pixels": flat[:_TRAIN]}, flat[:_TRAIN], {"pixels": flat[_TRAIN:]}, None)
    out = layers.Dense(784, name="reconstruction")(x)
    return trained(keras.Model(pixels, out), data, "autoencoder", "mse", epochs=5)


def multilabel() -> Example:
    """Three questions of a picture, each answered by a sigmoid: worn on the feet? has sleeves? covers the legs?"""
    keras, layers = keras_and_layers(4)
    yes = ({5, 7, 9}, {0, 2, 3, 4, 6}, {1, 3})
    data = _split()
    targets = np.array([[label in group for group in yes] for label in data.targets], np.float32)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(image))
    out = layers.Dense(3, activation="sigmoid", name="answers")(layers.Flatten()(x))
    return trained(
        keras.Model(image, out),
        Split(data.train, targets, data.test, None),
        "multilabel",
        "binary_crossentropy",
    )


def logits() -> Example:
    """A classifier whose last layer is linear."""
    keras, layers = keras_and_layers(5)
    image = keras.Input((28, 28), name="image")
    x = layers.Dense(64, activation="relu")(layers.Flatten()(image))
    model = keras.Model(image, layers.Dense(10, name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return trained(model, _split(channel=False), "classification", loss)


def nested() -> Example:
    """A functional model inside a sequential one inside a functional one."""
    keras, layers = keras_and_layers(6)
    inner_in = keras.Input((14, 14, 8))
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(inner_in)
    inner = keras.Model(inner_in, layers.Add()([inner_in, y]), name="block")
    features = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            inner,
            layers.MaxPooling2D(),
            layers.Flatten(),
        ],
        name="features",
    )
    image = keras.Input((28, 28, 1), name="image")
    out = layers.Dense(10, activation="softmax", name="probabilities")(features(image))
    return trained(keras.Model(image, out), _split(), "classification", _CROSS_ENTROPY)


def shared_layers() -> Example:
    """Two pictures through the same layers: are they of one class?"""
    keras, layers = keras_and_layers(7)
    images, labels = _pixels()
    random = np.random.default_rng(7)
    partner = np.arange(len(labels))
    for label in range(10):  # a partner of the same class for about half of them
        for part in (slice(0, _TRAIN), slice(_TRAIN, None)):
            alike = np.arange(len(labels))[part][labels[part] == label]
            partner[alike] = random.permutation(alike)
    lonely = random.random(len(labels)) < 0.5
    partner[:_TRAIN][lonely[:_TRAIN]] = random.integers(0, _TRAIN, int(lonely[:_TRAIN].sum()))
    partner[_TRAIN:][lonely[_TRAIN:]] = random.integers(_TRAIN, len(labels), int(lonely[_TRAIN:].sum()))
    scaled = images.astype(np.float32) / 255
    left, right = keras.Input((28, 28), name="left"), keras.Input((28, 28), name="right")
    flatten, hidden = layers.Flatten(), layers.Dense(64, activation="relu", name="shared")
    difference = layers.Subtract()([hidden(flatten(left)), hidden(flatten(right))])
    x = layers.Dense(32, activation="relu")(layers.Multiply()([difference, difference]))
    out = layers.Dense(1, activation="sigmoid", name="same")(x)
    same = (labels == labels[partner]).astype(np.float32)[:, None]
    data = split({"left": scaled, "right": scaled[partner]}, labels, _TRAIN, same[:_TRAIN])
    example = trained(keras.Model([left, right], out), data, "multilabel", "binary_crossentropy")
    return Example(example.model, example.calibration, example.test, None, "multilabel")


def fixed_batch() -> Example:
    """Takes four pictures at a time and no other number."""
    keras, layers = keras_and_layers(8)
    image = keras.Input(batch_shape=(4, 28, 28), name="image")
    x = layers.Dense(64, activation="relu")(layers.Flatten()(image))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="probabilities")(x))
    return trained(model, _split(channel=False), "classification", _CROSS_ENTROPY, batch_size=4, epochs=1, rate=1e-3)


def mobilenet() -> Example:
    """MobileNet at a quarter of its width on 96 x 96 x 3, as MLPerf Tiny's person detector: is it worn on the feet?"""
    keras, layers = keras_and_layers(9)
    images, labels = _pixels()
    chosen = np.r_[0:512, _TRAIN : _TRAIN + 256]
    large = np.pad(images[chosen].repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (6, 6), (6, 6)))
    coloured = np.stack([large] * 3, axis=-1).astype(np.float32) / 127.5 - 1
    image = keras.Input((96, 96, 3), name="image")
    base = keras.applications.MobileNet(input_tensor=image, alpha=0.25, weights=None, include_top=False, pooling="avg")
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.8  # few steps, and they are all that the moving averages see
    shoes = np.isin(labels[chosen], (5, 7, 9)).astype(np.int64)
    model = keras.Model(image, layers.Dense(2, activation="softmax", name="probabilities")(base.output))
    data = split({"image": coloured}, shoes, 512)
    return trained(model, data, "classification", _CROSS_ENTROPY, epochs=2, batch_size=32, calibration=128)


BUILDERS: dict[str, Builder] = {
    "dense_batch_norm": dense_batch_norm,
    "dropout": dropout,
    **{
        f"activation_{name}": partial(_activation, name)
        for name in ("relu", "relu6", "elu", "gelu", "swish", "sigmoid", "tanh")
    },
    "cnn_pooling": cnn_pooling,
    "depthwise_separable": depthwise_separable,
    "residual": residual,
    "concatenation": concatenation,
    "global_pooling": global_pooling,
    "lstm": rows_lstm,
    "rescaling": rescaling,
    "uint8_input": uint8_input,
    "two_inputs_two_outputs": two_inputs_two_outputs,
    "autoencoder": autoencoder,
    "multilabel": multilabel,
    "logits": logits,
    "nested": nested,
    "shared_layers": shared_layers,
    "fixed_batch": fixed_batch,
    "mobilenet": mobilenet,
}
