"""Random changes to a whole batch of training images at once.

Each transform is a small frozen dataclass that is called as ``transform(images, generator)``:
``images`` is a batch N x C x H x W, uint8 or floating point, on any device, and so is the
result. Every image gets its own draw, all draws come from ``generator`` (on the batch's
device), and nothing waits for the device.
"""

import math
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from labkit.settings import as_plain_numbers, check, is_number, is_whole


def _uniform(n: int, low: float, high: float, like: Tensor, generator: Generator) -> Tensor:
    draws = torch.rand(n, generator=generator, device=like.device)
    return low + (high - low) * draws


def _offsets(room: Tensor, like: Tensor, generator: Generator) -> Tensor:
    """Whole numbers, each uniform in 0..room (both included), for a tensor of rooms."""
    draws = torch.rand(len(room), generator=generator, device=like.device)
    # float32 draws can round up to the bound itself; the minimum keeps them inside.
    return torch.minimum((draws * (room + 1)).long(), room)


@dataclass(frozen=True)
class Crop:
    """Pad by `padding` black pixels on every side, then cut out H x W at a random place.

    The picture moves by up to `padding` pixels each way, every offset equally likely.
    """

    padding: int = 4

    def __post_init__(self):
        as_plain_numbers(self)
        fine = is_whole(self.padding) and self.padding > 0
        check(self, "padding", fine, "a whole number of pixels, 1 or more")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        room = torch.full((len(images),), 2 * self.padding, device=images.device)
        top, left = (_offsets(room, images, generator) for _ in range(2))
        padded = F.pad(images, (self.padding,) * 4)
        cut = _cut_rows if images.device.type == "cpu" else _cut_pixels
        return cut(padded, top, left, *images.shape[2:])


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self):
        as_plain_numbers(self)
        _check_probability(self)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        chosen = _uniform(len(images), 0, 1, images, generator) < self.p
        both = torch.cat((images, images.flip(-1)))
        return both.index_select(0, _range(len(images), images) + len(images) * chosen)


@dataclass(frozen=True)
class Rotation:
    """Rotate about the centre by an angle uniform in [-degrees, degrees]; corners turn black.

    Each pixel takes the nearest one, as in torchvision's RandomRotation.
    """

    degrees: float = 15.0

    def __post_init__(self):
        as_plain_numbers(self)
        fine = is_number(self.degrees) and 0 < self.degrees <= 180
        check(self, "degrees", fine, "an angle above 0 and up to 180")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        n, _, height, width = images.shape
        limit = math.radians(self.degrees)
        angle = _uniform(n, -limit, limit, images, generator)[:, None, None]
        cos, sin = angle.cos(), angle.sin()
        y = (_range(height, images) - (height - 1) / 2)[:, None]
        x = _range(width, images) - (width - 1) / 2
        row = (sin * x + cos * y + (height - 1) / 2).round()
        column = (cos * x - sin * y + (width - 1) / 2).round()
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        # Behind the last pixel lies a black one, for everything that comes from outside.
        black = F.pad(images.flatten(2), (0, 1))[:, :, None]
        return _take(black, torch.where(inside, row * width + column, height * width).long())


@dataclass(frozen=True)
class Erasing:
    """Blacken a rectangle at a random place with probability `p`.

    Its area is uniform in `area` (as a fraction of the image), the logarithm of its
    proportions height/width uniform in `ratio`; a side is cut at the image's own.
    Source: Zhong et al. 2020, Random Erasing Data Augmentation.
    """

    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self):
        as_plain_numbers(self)
        _check_probability(self)
        for name in ("area", "ratio"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):  # a list, as JSON has it, can't be hashed
                plain = (v.item() if isinstance(v, np.generic) else v for v in value)
                object.__setattr__(self, name, tuple(plain))
        fine = _is_pair(self.area) and 0 < self.area[0] <= self.area[1] <= 1
        check(self, "area", fine, "two fractions, 0 < low <= high <= 1")
        fine = _is_pair(self.ratio) and 0 < self.ratio[0] <= self.ratio[1] < math.inf
        check(self, "ratio", fine, "two numbers, 0 < low <= high")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        n, _, height, width = images.shape
        chosen = _uniform(n, 0, 1, images, generator) < self.p
        area = _uniform(n, *self.area, images, generator) * height * width
        log_ratio = _uniform(n, *map(math.log, self.ratio), images, generator)
        tall = (area * log_ratio.exp()).sqrt().round().clamp(1, height).long()
        wide = (area / log_ratio.exp()).sqrt().round().clamp(1, width).long()
        rows = _inside(_offsets(height - tall, images, generator), tall, height)
        columns = _inside(_offsets(width - wide, images, generator), wide, width)
        rectangle = rows[:, None, :, None] & columns[:, None, None, :]
        return images.masked_fill(rectangle & chosen[:, None, None, None], 0)


def _range(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, device=like.device)


def _take(images: Tensor, index: Tensor) -> Tensor:
    """N x C x H x W: in each image the pixels at `index`, N x H x W, of its flattened H x W."""
    n, height, width = index.shape
    channels = images.shape[1]
    index = index.view(n, 1, height * width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view(n, channels, height, width)


def _cut_pixels(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """N x C x height x width: from each image the rectangle whose corner is at top, left."""
    rows = top[:, None, None] + _range(height, images)[:, None]
    columns = left[:, None, None] + _range(width, images)
    return _take(images, rows * images.shape[3] + columns)


def _cut_rows(images: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """The same, several times as fast on a CPU: copies rows, from where each starts in memory."""
    n, channels, rows, columns = images.shape
    row = images.contiguous().as_strided((max(images.numel() - width + 1, 0), width), (1, 1))
    plane = _range(n * channels, images).view(n, channels, 1) * rows * columns
    corner = plane + (top * columns + left)[:, None, None]
    start = corner + _range(height, images) * columns
    return row.index_select(0, start.flatten()).view(n, channels, height, width)


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """N x size: which of 0..size-1 lie in [start, start + length), a row an image."""
    position = _range(size, start)
    return (position >= start[:, None]) & (position < (start + length)[:, None])


def _check_probability(transform) -> None:
    fine = is_number(transform.p) and 0 <= transform.p <= 1
    check(transform, "p", fine, "a probability from 0 to 1")


def _is_pair(value) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_number, value))


NAMES = {"crop": Crop, "flip": Flip, "rotation": Rotation, "erasing": Erasing}


def build(transforms) -> tuple:
    """The transforms for a sequence of names, transforms or their `to_dict` forms.

    `build(("crop", "flip"))` gives the defaults, `build((Crop(2), "flip"))` mixes both.
    Raises ValueError for a name, or an option, that does not exist.
    """
    if isinstance(transforms, str):
        raise ValueError(f'augment={transforms!r}: give a tuple of names, as in ("{transforms}",)')
    if transforms is None:
        raise ValueError("augment=None: give a tuple of names, () for none")
    return tuple(_build_one(transform) for transform in transforms)


def _build_one(transform):
    if isinstance(transform, tuple(NAMES.values())):
        return transform
    name = transform.get("name") if isinstance(transform, dict) else transform
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(f"There is no augmentation {name!r}; there are {', '.join(NAMES)}")
    given = {} if isinstance(transform, str) else transform
    options = {key: value for key, value in given.items() if key != "name"}
    known = [item.name for item in fields(NAMES[name])]
    for key in options:
        if key not in known:
            raise ValueError(f"{name} has no {key!r}; it has {', '.join(known)}")
    return NAMES[name](**options)


def to_dict(transform) -> dict:
    """A transform as plain values that JSON can hold; `build` reads them back."""
    name = next(name for name, kind in NAMES.items() if type(transform) is kind)
    return {"name": name, **asdict(transform)}


def apply(transforms, images: Tensor, generator: Generator) -> Tensor:
    """The batch after all transforms, one after another."""
    for transform in transforms:
        images = transform(images, generator)
    return images
