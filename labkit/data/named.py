"""The named data sets: where their files lie, and how they get there."""

import os
import sys
import tempfile
import threading
import urllib.request
import warnings
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from labkit.data.files import Source, check_labels, decode, image_paths, read_idx, read_npz, times

PROBE_SECONDS = 3.0  # how long a host may take to answer before it counts as unreachable
IMAGES_PER_CLASS = 600
_IMAGENETTE_SIZE = (3, 64, 64)
_DIGITS = tuple("0123456789")


class DataUnavailable(ValueError):
    """A named data set is neither on this machine nor to be had from the network.

    name: the data set.  reason: why it cannot be had; the message adds the ways out.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return (
            f"{self.reason}: put {self.name}.npz or torchvision's files there (LABKIT_DATA names "
            f"the folder), or connect and run `labkit data {self.name}`, or, outside of a study, "
            "pass stand_in=True to labkit.load to work on drawn shapes instead."
        )


@dataclass(frozen=True)
class Named:
    """What is known of a named data set before it is there."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: tuple[int, int]
    torchvision_class: str
    folder: str
    url: str
    megabytes: int


NAMED = {
    "mnist": Named(
        classes=_DIGITS,
        shape=(1, 28, 28),
        counts=(60_000, 10_000),
        torchvision_class="MNIST",
        folder="MNIST",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        megabytes=12,
    ),
    "fashion_mnist": Named(
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        shape=(1, 28, 28),
        counts=(60_000, 10_000),
        torchvision_class="FashionMNIST",
        folder="FashionMNIST",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
        megabytes=31,
    ),
    "cifar10": Named(
        classes=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
        shape=(3, 32, 32),
        counts=(50_000, 10_000),
        torchvision_class="CIFAR10",
        folder="cifar-10-batches-py",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        megabytes=170,
    ),
    "imagenette": Named(
        classes=(
            "tench",
            "English springer",
            "cassette player",
            "chain saw",
            "church",
            "French horn",
            "garbage truck",
            "gas pump",
            "golf ball",
            "parachute",
        ),
        shape=_IMAGENETTE_SIZE,
        counts=(4_800, 1_200),
        torchvision_class="Imagenette",
        folder="imagenette2-160",
        url="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
        megabytes=99,
    ),
}


def data_folder() -> Path:
    """The folder that data sets are read from and downloaded into.

    LABKIT_DATA where it is set; else data/downloads of the checkout that labkit runs from; else
    ~/.cache/labkit.
    """
    chosen = os.environ.get("LABKIT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "data" / "downloads"
    return Path.home() / ".cache" / "labkit"


def locate(name: str) -> Path | None:
    """Where the files of a named data set lie, or None: NAME.npz first, then torchvision's."""
    for path in (data_folder() / f"{name}.npz", data_folder() / NAMED[name].folder):
        if path.exists():
            return path
    return None


def read(name: str) -> Source:
    """Read a named data set, downloading it first where it is not there.

    Raises DataUnavailable where it has to be downloaded and cannot be.
    """
    path = locate(name) or _download(name)
    named = NAMED[name]
    if path.suffix == ".npz":
        source = read_npz(path, named.classes)
    elif name == "imagenette":
        source = _read_imagenette(path)
    elif name == "cifar10":
        source = _read_cifar10(path)
    else:
        source = _read_mnist(path, named.classes)
    shape = source.train[0].shape[1:]
    if shape != named.shape:
        raise ValueError(
            f"{path} holds images of {times(shape)}, but those of {name} are {times(named.shape)}; "
            "rename or replace it."
        )
    return source


def _read_mnist(folder: Path, classes: tuple[str, ...]) -> Source:
    parts = []
    for part in ("train", "t10k"):
        pair = []
        for kind, dimensions in (("images", 3), ("labels", 1)):
            path = folder / "raw" / f"{part}-{kind}-idx{dimensions}-ubyte"
            if not path.is_file():
                raise ValueError(f"{path} is missing; delete {folder} and fetch the data again.")
            pair.append(read_idx(path, dimensions))
        images, labels = pair
        if len(images) != len(labels):
            raise ValueError(
                f"{path} holds {len(labels)} labels for {len(images)} images; "
                f"delete {folder} and fetch the data again."
            )
        check_labels(labels, len(classes), str(path))
        parts.append((images[:, None], labels.astype(np.int64)))
    return Source(parts[0], parts[1], classes)


def _read_cifar10(folder: Path) -> Source:
    # The batches are pickles: torchvision opens them only after checking their MD5 sums.
    cifar10 = import_torchvision().datasets.CIFAR10
    parts = []
    for train in (True, False):
        try:
            part = cifar10(folder.parent, train=train)
        except RuntimeError:
            raise ValueError(
                f"{folder} is incomplete or damaged (its MD5 sums differ from the original's); "
                "delete it and run `labkit data cifar10`."
            ) from None
        parts.append((part.data.transpose(0, 3, 1, 2), np.array(part.targets)))
    return Source(parts[0], parts[1], NAMED["cifar10"].classes)


def _read_imagenette(folder: Path) -> Source:
    classes = NAMED["imagenette"].classes
    wnids = sorted({path.name for part in ("train", "val") for path in folder.glob(f"{part}/n*")})
    if len(wnids) != len(classes):
        raise ValueError(
            f"{folder} holds {len(wnids)} class folders (train/n01440764, ...) instead of "
            f"{len(classes)}; delete it and run `labkit data imagenette`."
        )
    paths, labels = [], []
    for label, wnid in enumerate(wnids):
        found = [*image_paths(folder / "train" / wnid), *image_paths(folder / "val" / wnid)]
        if len(found) < IMAGES_PER_CLASS:
            raise ValueError(
                f"{folder} is incomplete: its class {wnid} ({classes[label]}) has {len(found)} of "
                f"{IMAGES_PER_CLASS} images; delete it and run `labkit data imagenette`."
            )
        paths += sorted(found, key=lambda path: path.name)[:IMAGES_PER_CLASS]
        labels += [label] * IMAGES_PER_CLASS
    images, labels = _decoded(paths, np.array(labels), folder)
    return Source((images, labels), None, classes)


def _decoded(paths: list[Path], labels: np.ndarray, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Imagenette's images and labels, from the cache beside `folder` or decoded anew."""
    listing = "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in paths)
    cache = folder.with_name(f"{folder.name}-decoded-{zlib.crc32(listing.encode()):08x}.npz")
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            return arrays["images"], arrays["labels"]
    except Exception:  # not there, or cut off: decode again
        pass
    decoded = list(decode(paths, _IMAGENETTE_SIZE))
    broken = [image for image in decoded if isinstance(image, ValueError)]
    if len(broken) == len(paths):
        raise broken[0]
    if broken:
        named = " ".join(map(str, broken[:3]))
        warnings.warn(f"{len(broken)} of {len(paths)} images are left out: {named}", stacklevel=5)
    readable = np.array([not isinstance(image, ValueError) for image in decoded])
    images = np.stack([image for image in decoded if not isinstance(image, ValueError)])
    images, labels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels[readable]
    if not broken:
        _save(cache, images=images, labels=labels)
    return images, labels


def _save(path: Path, **arrays: np.ndarray) -> None:
    """Write a .npz so that it is there whole or not at all; a read-only folder stays as it is."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"{path.stem}.partial-", dir=path.parent) as folder:
            np.savez(Path(folder) / path.name, **arrays)
            os.replace(Path(folder) / path.name, path)
    except OSError:
        pass


def _download(name: str) -> Path:
    """Fetch a data set with torchvision, and move it into place once it is whole."""
    named, folder = NAMED[name], data_folder()
    problem = unreachable(named.url, PROBE_SECONDS)
    if problem:
        host = urlsplit(named.url).hostname
        raise DataUnavailable(
            name, f"{name} is not in {folder} and {host} cannot be reached ({problem})"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A download that is interrupted leaves nothing where `locate` looks.
        with tempfile.TemporaryDirectory(prefix=f"{name}.partial-", dir=folder) as partial:
            dataset = getattr(import_torchvision().datasets, named.torchvision_class)
            options = {"size": "160px"} if name == "imagenette" else {}
            dataset(partial, download=True, **options)
            try:
                os.rename(Path(partial) / named.folder, folder / named.folder)
            except OSError:  # another process may have been faster
                if not (folder / named.folder).exists():
                    raise
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataUnavailable(
            name, f"{name} is not in {folder} and its download failed ({_first_line(error)})"
        ) from None
    return folder / named.folder


def unreachable(url: str, seconds: float) -> str | None:
    """Why a URL does not answer within `seconds`, or None where it does (proxies are honoured)."""
    answers: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.build_opener().open(request, timeout=seconds).close()
            answers.append(None)
        except Exception as error:
            answers.append(_first_line(getattr(error, "reason", error)))

    # Looking up a name knows no deadline, so it happens in a thread that may be left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:g} seconds"


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":")


def import_torchvision():
    """Import torchvision, also where its CUDA build lies beside a CPU-only torch.

    There its compiled operators cannot be loaded, and the import stops because the schemas of
    nms and qnms are missing. Once they are declared, everything but detection works.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", schema)
        import torchvision
    return torchvision
