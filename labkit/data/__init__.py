"""Data sets in memory: `load(name)` gives the training, validation and test images of a data set.

data = labkit.load("fashion_mnist", val_fraction=0.1, seed=42)
data.train.images    # uint8 N x C x H x W
data.train.labels    # int64 N, in 0..len(data.classes) - 1
"""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labkit.data import files, shapes
from labkit.data.files import Source
from labkit.data.named import (
    NAMED,
    DataUnavailable,
    data_folder,
    import_torchvision,
    locate,
    read,
)
from labkit.data.split import Pool, fingerprint, statistics
from labkit.settings import is_number, is_whole

__all__ = [
    "DataUnavailable",
    "Split",
    "Splits",
    "StandInWarning",
    "available",
    "data_folder",
    "describe",
    "import_torchvision",
    "load",
    "read_csv",
]


class StandInWarning(UserWarning):
    """Drawn shapes stand in for a data set that could not be had."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set, in memory.

    images: uint8 N x C x H x W.  labels: int64 N, in 0..len(classes) - 1.
    name: the data set and the part, "fashion_mnist test"; a stand-in says that it is one.
    mean, std: per channel, of the *training* images scaled to [0, 1], the same in every part.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.images.shape[1:]))
        return f"<{self.name}: {len(self):,} images {size}, {len(self.classes)} classes>"

    def to(self, device: str | torch.device) -> "Split":
        """The same split with its tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices) -> "Split":
        """The images at `indices` (a sequence, a slice, an index tensor or a mask)."""
        if not isinstance(indices, slice):
            indices = torch.as_tensor(indices, device=self.labels.device)
            indices = indices if len(indices) else slice(0)  # an empty list has no whole numbers
        return replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set in its parts; `val` is None where val_fraction = 0.

    fingerprint: 16 hex digits that tell whether two runs saw the same images with the same
    labels; it does not depend on their order, on where the files came from, or on the seed.
    """

    name: str
    train: Split
    val: Split | None
    test: Split
    fingerprint: str
    stand_in: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.train.classes

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training images scaled to [0, 1]."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training images scaled to [0, 1]."""
        return self.train.std

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return tuple(self.train.images.shape[1:])

    def __repr__(self) -> str:
        parts = [f"{len(self.train):,} train", f"{len(self.test):,} test"]
        if self.val is not None:
            parts.insert(1, f"{len(self.val):,} val")
        size = " x ".join(map(str, self.shape))
        return (
            f"<{self.name}: {', '.join(parts)}; images {size}, {len(self.classes)} classes, "
            f"fingerprint {self.fingerprint}>"
        )


@dataclass(frozen=True)
class Description:
    """What `labkit data --list` says of a data set; `found` is None where it is not here yet."""

    name: str
    shape: tuple[int, int, int]
    counts: tuple[int, int]
    classes: tuple[str, ...]
    found: Path | None
    megabytes: int


def available() -> tuple[str, ...]:
    """The names that `load` knows."""
    return (*NAMED, "shapes")


def describe(name: str) -> Description:
    """Describe a named data set without loading it: size, counts, where it is, how big to fetch."""
    if name == "shapes":
        return Description(name, (3, 32, 32), shapes.COUNTS, shapes.CLASSES, None, 0)
    if name not in NAMED:
        raise _unknown(name)
    known = NAMED[name]
    return Description(
        name, known.shape, known.counts, known.classes, locate(name), known.megabytes
    )


def load(
    name: str | Path,
    *,
    val_fraction: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    stand_in: bool = False,
    size: int | tuple[int, int, int] | None = None,
) -> Splits:
    """Load a data set and split it into training, validation and test images.

    name: "mnist", "fashion_mnist", "cifar10", "imagenette", "shapes", or the path of a .npz with
        Keras' keys, of a CSV label,pixel1..pixelN, or of a folder of class folders.
    val_fraction: the share of the training part that is set aside for validation; 0.1 unless
        given (0.25 for imagenette, which makes its parts 3:1:1).
    test_fraction: the share that becomes the test part where the source has none of its own.
    seed: draws the validation images, class by class; the test part does not depend on it.
    limit: keep at most so many images of the training part (with validation) and of the test
        part, class by class; which ones does not depend on the seed.
    stand_in: where a named set cannot be had, warn and give "shapes" in its size instead.
    size: of "shapes" and of a folder's images: a side in pixels, or (channels, height, width).

    The same data, seed and options give the same splits wherever the files came from: images are
    kept in the order of a hash of their pixels. Raises ValueError (DataUnavailable where a
    download is needed and impossible) in one sentence that says what to do.

        load("cifar10", val_fraction=0.1, seed=42, stand_in=True)
        load("shapes", size=(1, 28, 28))
        load("flowers/", size=64)
    """
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"load({name!r}): give the name of a data set, or a path")
    # A Path is never the name of a set, also where it is called "shapes".
    name = name if isinstance(name, str) else str(Path(name).absolute())
    _check_options(val_fraction, test_fraction, seed, limit)
    if val_fraction is None:
        val_fraction = 0.25 if name == "imagenette" else 0.1
    title, is_stand_in = name, False
    if size is not None and (name in NAMED or name.endswith((".npz", ".csv"))):
        raise ValueError(f'size={size} is for "shapes" and for folders; {name} has its own size.')
    size = _check_size(size)
    if name == "shapes":
        channels, height, width = size or (3, 32, 32)
        source = shapes.draw((channels or 3, height, width), *shapes.COUNTS)
    elif name in NAMED:
        with ThreadPoolExecutor(1) as background:
            # Drawn while the network is asked: the wait for both must not add up.
            wanted = stand_in and not locate(name)
            drawn = background.submit(_draw_stand_in, name) if wanted else None
            try:
                source = read(name)
            except DataUnavailable as error:
                if drawn is None:
                    raise
                title, is_stand_in = f"shapes (stand-in for {name})", True
                warnings.warn(f"this is {title}: {error.reason}.", StandInWarning, stacklevel=2)
                source = drawn.result()
    else:
        source = _read_path(Path(name), size)
        path = Path(name).resolve()
        title = path.name if path.is_dir() else path.stem
    return _split(source, title, is_stand_in, val_fraction, test_fraction, seed, limit)


def read_csv(path: str | Path) -> tuple[Tensor, Tensor | None]:
    """Read a CSV label,pixel1..pixelN in the order of its rows: (images, labels).

    Images are uint8 N x 1 x H x W and square; labels are int64 N, or None where the file has no
    such column, as the test file of a competition. Raises ValueError for anything else.
    """
    images, labels = files.read_csv(Path(path))
    return torch.from_numpy(images), None if labels is None else torch.from_numpy(labels)


def _draw_stand_in(name: str) -> Source:
    """Shapes in the size of a named data set, and no more of them than that has images."""
    known = NAMED[name]
    return shapes.draw(known.shape, *map(min, shapes.COUNTS, known.counts))


def _read_path(path: Path, size: tuple[int | None, int, int] | None) -> Source:
    if path.is_dir():
        return files.read_folder(path, size)
    if path.suffix not in (".npz", ".csv"):
        raise _unknown(str(path))
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    return files.read_npz(path) if path.suffix == ".npz" else files.read_labelled_csv(path)


def _unknown(name: str) -> ValueError:
    return ValueError(
        f"unknown data set {name!r}; labkit has {', '.join(available())}, or takes the path of a "
        ".npz, a .csv or a folder of class folders."
    )


def _check_options(val_fraction, test_fraction, seed, limit) -> None:
    if val_fraction is not None and not (is_number(val_fraction) and 0 <= val_fraction < 1):
        raise ValueError(f"val_fraction={val_fraction!r} must be a number from 0 to below 1.")
    if not (is_number(test_fraction) and 0 < test_fraction < 1):
        raise ValueError(f"test_fraction={test_fraction!r} must be a number between 0 and 1.")
    if not is_whole(seed) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or larger.")
    if limit is not None and (not is_whole(limit) or limit < 1):
        raise ValueError(f"limit={limit!r} must be a whole number, 1 or larger, or None.")


def _check_size(size) -> tuple[int | None, int, int] | None:
    """(channels or None, height, width), or None."""
    if size is None:
        return None
    triple = tuple(size) if isinstance(size, (tuple, list)) else (None, size, size)
    if (
        len(triple) != 3
        or triple[0] not in (None, 1, 3)
        or not all(is_whole(side) and 4 <= side <= 1024 for side in triple[1:])
    ):
        raise ValueError(
            f"size={size!r} must be a side of 4 to 1024 pixels, or (channels, height, width) "
            "with 1 or 3 channels."
        )
    return triple


def _split(
    source: Source,
    name: str,
    stand_in: bool,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    limit: int | None,
) -> Splits:
    pool = Pool.of(*source.train)
    if source.test is not None:
        test = Pool.of(*source.test)
    else:
        test, pool = pool.divide(round(test_fraction * len(pool)))
    if limit is not None:
        pool, test = (part.divide(limit)[0] for part in (pool, test))
    val, train = pool.divide(round(val_fraction * len(pool)), seed)
    parts = {"train": train, "val": val, "test": test}
    if not val_fraction:
        del parts["val"]
    tensors = {part: chosen.tensors() for part, chosen in parts.items()}
    present = np.unique(tensors["train"][1])
    absent = [label for label in range(len(source.classes)) if label not in present]
    if absent:
        raise ValueError(
            f"{name}: the class {source.classes[absent[0]]!r} would have no training image; use "
            "more images, a larger limit, or smaller fractions."
        )
    for part, (_, labels) in tensors.items():
        if not len(labels):
            raise ValueError(
                f"{name}: the {part} part would be empty; use more images, a larger limit, or "
                "other fractions."
            )
    mean, std = statistics(tensors["train"][0])
    splits = {
        part: Split(images, labels, source.classes, f"{name} {part}", mean, std)
        for part, (images, labels) in tensors.items()
    }
    return Splits(
        name=name,
        train=splits["train"],
        val=splits.get("val"),
        test=splits["test"],
        fingerprint=fingerprint(pool, test),
        stand_in=stand_in,
    )
