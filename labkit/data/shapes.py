"""The built-in data set: ten shapes drawn by code, in any size, grey or in colour.

Position, size, rotation and colours vary from image to image; small blobs lie around the shape and
a line across it, the background runs from one colour to another, and every pixel carries noise.

Pixels are computed with + - * / and square roots only, which round alike on every processor;
sines and cosines, which do not, are rounded to four digits. So the same images come out everywhere.
"""

from collections.abc import Callable

import numpy as np

from labkit.data.files import Source

COUNTS = (10_000, 2_000)  # training and test images
_SEED = 1
_PIXELS = 25_000  # drawn at a time: the arrays stay within the processor's cache

Array = np.ndarray

# Each shape is a signed distance: negative inside, in a frame where the shape fills the unit
# circle. (Inigo Quilez derives such functions: https://iquilezles.org/articles/distfunctions2d)


def _circle(x: Array, y: Array) -> Array:
    return _length(x, y) - 0.85


def _square(x: Array, y: Array) -> Array:
    return np.maximum(abs(x), abs(y)) - 0.7


def _triangle(x: Array, y: Array) -> Array:
    return np.maximum(0.866 * abs(x) - 0.5 * y, y) - 0.5


def _hexagon(x: Array, y: Array) -> Array:
    return np.maximum(0.866 * abs(x) + 0.5 * abs(y), abs(y)) - 0.8


def _star(x: Array, y: Array) -> Array:
    # Two reflections fold the five points onto one, whose edge is a straight line.
    x = abs(x)
    for along, across in ((0.809, -0.588), (-0.809, -0.588)):
        beyond = 2 * np.maximum(along * x + across * y, 0)
        x, y = x - beyond * along, y - beyond * across
    return 0.78 * abs(x) + 0.62 * (y - 1)


def _cross(x: Array, y: Array) -> Array:
    x, y = abs(x), abs(y)
    return np.maximum(np.maximum(x, y) - 0.95, np.minimum(x, y) - 0.28)


def _ring(x: Array, y: Array) -> Array:
    return abs(_length(x, y) - 0.68) - 0.22


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(_length(x, y) - 0.9, 0.75 - _length(x - 0.5, y))


def _heart(x: Array, y: Array) -> Array:
    # A square standing on its corner, and a disc on each of its upper edges.
    x, y = abs(x), y - 0.15
    square = 0.7071 * (x + abs(y)) - 0.5
    return np.minimum(square, _length(x - 0.3536, y + 0.3536) - 0.5)


def _arrow(x: Array, y: Array) -> Array:
    y = abs(y)
    shaft = np.maximum(abs(x + 0.4) - 0.55, y - 0.2)
    head = np.maximum(0.7071 * (x + y) - 0.67, -x)
    return np.minimum(shaft, head)


SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "hexagon": _hexagon,
    "arrow": _arrow,
}
CLASSES = tuple(SHAPES)


def draw(shape: tuple[int, int, int], train: int, test: int) -> Source:
    """Draw `train` + `test` images of the given shape (C, H, W), the same in every call."""
    labels = np.arange(train + test, dtype=np.int64) % len(CLASSES)
    images = np.empty((len(labels), *shape), np.uint8)
    chunk = max(1, _PIXELS // (shape[1] * shape[2]))

    rng = np.random.default_rng(_SEED)
    for label, distance in enumerate(SHAPES.values()):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), chunk):
            some = members[start : start + chunk]
            images[some] = _pictures(distance, len(some), shape, rng)
    return Source((images[:train], labels[:train]), (images[train:], labels[train:]), CLASSES)


def _pictures(
    distance: Callable[[Array, Array], Array],
    count: int,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> Array:
    """`count` images of one shape, uint8 N x C x H x W."""
    channels, height, width = shape

    def uniform(low: float, high: float, channels: int = 1) -> Array:
        return rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32)

    # The frame of the image: the shorter side runs from -1 to 1.
    half = min(height, width) / 2
    y = ((np.arange(height) + 0.5 - height / 2) / half).astype(np.float32)[:, None]
    x = ((np.arange(width) + 0.5 - width / 2) / half).astype(np.float32)

    def frame(shift: float, turn: float, scale: Array | float = 1) -> tuple[Array, Array]:
        """Coordinates in a frame that is moved, turned and scaled at random."""
        angle = rng.uniform(-turn, turn, (count, 1, 1, 1))
        cos, sin = (part(angle).round(4).astype(np.float32) / scale for part in (np.cos, np.sin))
        u, v = x - uniform(-shift, shift), y - uniform(-shift, shift)
        return cos * u + sin * v, cos * v - sin * u

    def paint(distance: Array, colour: Array) -> None:
        """Colour what lies inside, and in part the pixels that the border runs through."""
        nonlocal canvas
        inside = 0.5 - distance * np.float32(half)
        np.clip(inside, 0, 1, out=inside)
        difference = colour - canvas
        difference *= inside
        canvas += difference

    background = uniform(25, 230, channels)
    slope_x, slope_y = uniform(-40, 40, channels), uniform(-40, 40, channels)
    canvas = background + slope_x * x + slope_y * y
    for _ in range(2):  # blobs behind the shape
        u, v = frame(1, 0)
        paint(_length(u, v) - uniform(0.06, 0.2), uniform(0, 255, channels))
    # Most shapes are brighter than what lies around them: enough for a linear model to learn from.
    brighter = np.where(uniform(0, 1) < 0.9, np.float32(1), np.float32(-1))
    scale = uniform(0.45, 0.75)
    colour = background + brighter * uniform(65, 180, channels)
    paint(distance(*frame(0.25, 0.45, scale)) * scale, colour)
    u, v = frame(1, np.pi)  # a line across it
    line = np.maximum(abs(u) - uniform(0.2, 0.7), abs(v) - uniform(0.01, 0.06))
    paint(line, uniform(0, 255, channels))
    grain = np.frombuffer(rng.bytes(canvas.size), np.uint8).astype(np.float32)
    grain *= np.float32(60 / 255)
    grain -= np.float32(30)
    canvas += grain.reshape(canvas.shape)
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def _length(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y)
