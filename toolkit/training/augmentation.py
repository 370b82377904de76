"""Augmentation: mirror, move, scale and erase, drawn by a seed and applied to a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkit.keras_model import import_tensorflow

__all__ = ["Augmentation", "Drawn", "augment", "draw", "view_of"]

tf = import_tensorflow()

SIDE = 28

# Of an erased rectangle: its share of the image, and its height to width (Zhong et al. 2017, arXiv:1708.04896).
ERASED_AREA, ERASED_RATIO = (0.02, 0.25), (0.3, 3.3)


@dataclass(frozen=True)
class Augmentation:
    """What may be done to an image; nothing by default.

    Attributes:
        flip: mirror half of the images.
        shift: move by up to so many whole pixels in each direction; zeros come in.
        scale: enlarge or shrink around the middle by up to this share.
        erase: share of images of which a random rectangle becomes zero.
    """

    flip: bool = False
    shift: int = 0
    scale: float = 0.0
    erase: float = 0.0

    def view(self, drawn: Drawn) -> Any:
        """Which of the shifted and flipped views each image became: int32 (batch,)."""
        side = 2 * self.shift + 1
        view = (drawn.down + self.shift) * side + drawn.right + self.shift
        return view + tf.cast(drawn.flip, tf.int32) * side * side

    @property
    def views(self) -> list[tuple[bool, int, int]]:
        """Every view as (flip, down, right), at the place that `view` gives it."""
        around = range(-self.shift, self.shift + 1)
        return [(flip, down, right) for flip in (False, True)[: 1 + self.flip] for down in around for right in around]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn for a batch: bool flip, int32 down and right, float32 size (1 is as it was), each (batch,).

    Attributes:
        erased: top, left, height and width of a rectangle, int32 (batch, 4); height 0 erases nothing.
    """

    flip: Any
    down: Any
    right: Any
    size: Any
    erased: Any


def draw(augmentation: Augmentation, count: Any, seed: Any) -> Drawn:
    """Draw for a batch, by a stateless generator.

    Args:
        augmentation: what may be done.
        count: images in the batch.
        seed: two integers.
    """
    uniform = tf.random.stateless_uniform([9, count], seed=seed)
    reach = 2 * augmentation.shift + 1
    down, right = (
        tf.minimum(tf.cast(uniform[row] * reach, tf.int32), reach - 1) - augmentation.shift for row in (1, 2)
    )
    flip = (uniform[0] < 0.5) if augmentation.flip else tf.zeros([count], tf.bool)
    size = 1 + (2 * uniform[3] - 1) * augmentation.scale
    area = SIDE * SIDE * (ERASED_AREA[0] + uniform[5] * (ERASED_AREA[1] - ERASED_AREA[0]))
    ratio = ERASED_RATIO[0] * (ERASED_RATIO[1] / ERASED_RATIO[0]) ** uniform[6]
    height = tf.minimum(tf.sqrt(area * ratio), SIDE)
    width = tf.minimum(tf.sqrt(area / ratio), SIDE)
    top, left = uniform[7] * (SIDE - height), uniform[8] * (SIDE - width)
    height = tf.where(uniform[4] < augmentation.erase, height, 0.0)
    erased = tf.cast(tf.round(tf.stack([top, left, height, width], axis=1)), tf.int32)
    return Drawn(flip, down, right, size, erased)


def augment(images: Any, augmentation: Augmentation, drawn: Drawn) -> Any:
    """The images of a batch as drawn, uint8 (batch, 28, 28)."""
    if augmentation.scale:
        images = _mapped(images, drawn)
    elif augmentation.flip or augmentation.shift:
        images = _moved(images, drawn, augmentation.shift)
    if augmentation.erase:
        images = tf.where(_inside(drawn.erased), tf.zeros([], images.dtype), images)
    return images


def view_of(images: Any, flip: bool, down: int, right: int) -> Any:
    """All images in one view, uint8 (n, 28, 28)."""
    count = tf.shape(images)[0]
    none = tf.zeros([count, 4], tf.int32)
    drawn = Drawn(
        tf.fill([count], flip), tf.fill([count], down), tf.fill([count], right), tf.ones([count], tf.float32), none
    )
    return _moved(images, drawn, max(abs(down), abs(right)))


def _moved(images: Any, drawn: Drawn, reach: int) -> Any:
    """Mirrored, then moved by up to `reach` pixels: image by image, those that go the same way at a time.

    Whole rows are copied so; fetching each pixel from its place takes three times as long.
    """
    side = 2 * reach + 1
    way = (tf.cast(drawn.flip, tf.int32) * side + drawn.down + reach) * side + drawn.right + reach
    ways = 2 * side * side
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), way, ways)
    moved = []
    for number, part in enumerate(tf.dynamic_partition(images, way, ways)):
        rest, right = divmod(number, side)
        flip, down = divmod(rest, side)
        down, right = down - reach, right - reach
        kept = (tf.reverse(part, [2]) if flip else part)[
            :, max(-down, 0) : SIDE - max(down, 0), max(-right, 0) : SIDE - max(right, 0)
        ]
        moved.append(tf.pad(kept, [[0, 0], [max(down, 0), max(-down, 0)], [max(right, 0), max(-right, 0)]]))
    return tf.reshape(tf.dynamic_stitch(places, moved), [-1, SIDE, SIDE])


def _mapped(images: Any, drawn: Drawn) -> Any:
    """Mirrored, then scaled around the middle, then moved; what comes in from outside is 0.

    One affine map from output to input pixels: x_in = a (x - right) + b, where mirrored a = -1/size.
    """
    middle = (SIDE - 1) / 2
    across = tf.where(drawn.flip, -1 / drawn.size, 1 / drawn.size)
    along = 1 / drawn.size
    right, down = tf.cast(drawn.right, tf.float32), tf.cast(drawn.down, tf.float32)
    zero = tf.zeros_like(across)
    transform = tf.stack(
        [across, zero, middle - across * (middle + right), zero, along, middle - along * (middle + down), zero, zero],
        axis=1,
    )
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=images[..., tf.newaxis],
        transforms=transform,
        output_shape=[SIDE, SIDE],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return moved[..., 0]


def _inside(erased: Any) -> Any:
    places = tf.range(SIDE)[tf.newaxis, :]
    top, left, height, width = (erased[:, part : part + 1] for part in range(4))
    rows = (places >= top) & (places < top + height)
    columns = (places >= left) & (places < left + width)
    return rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]
