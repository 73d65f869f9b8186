"""Read images and labels from the files that people have: .npz, .csv, folders, idx.

Every reader gives uint8 images N x C x H x W with int64 labels, executes nothing that a file
contains, and answers a bad file with a ValueError of one sentence that names it.
"""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = {".png", ".jpg", ".jpeg"}
# What such a file may really hold. Pillow knows more, EPS among them: a program for Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Source:
    """Images and labels in the order of their source, not yet sorted or split.

    `train` and `test` are pairs of images (uint8 N x C x H x W) and labels (int64 N); `test` is
    None where the source has no test part of its own.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray] | None
    classes: tuple[str, ...]


def read_npz(path: Path, classes: tuple[str, ...] | None = None) -> Source:
    """Read a .npz with Keras' keys x_train, y_train, x_test, y_test.

    Images are N x H x W, N x H x W x C or N x C x H x W with C = 1 or 3 (where both readings fit,
    Keras' N x H x W x C), of whole numbers in 0..255; labels are N or N x 1.
    Without `classes` the class names are "0" to "C-1", and every class must occur.
    """
    arrays = _npz_arrays(path)
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"{path} has no {missing[0]}: a .npz needs Keras' keys {', '.join(KEYS)}, "
            f"and this one holds {', '.join(arrays) or 'nothing'}."
        )
    parts = []
    for part in ("train", "test"):
        images = _as_images(arrays[f"x_{part}"], f"{path}: x_{part}")
        labels = _as_labels(arrays[f"y_{part}"], len(images), f"{path}: y_{part}")
        parts.append((images, labels))
    (train, test) = parts
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{path}: the images of x_train are {times(train[0].shape[1:])} and those of x_test "
            f"{times(test[0].shape[1:])}; both parts need one size (C x H x W)."
        )
    if classes is None:
        classes = _numbered(train[1], f"{path}: y_train")
    for key, (_, labels) in zip(("y_train", "y_test"), parts, strict=True):
        check_labels(labels, len(classes), f"{path}: {key}")
    return Source(train, test, classes)


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    # A damaged archive fails in a dozen ways (zip, zlib, header, memory): each means one thing.
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key in KEYS}
    except Exception as error:
        if str(error).startswith("Object arrays"):
            raise ValueError(
                f"{path} holds pickled Python objects, which can run code when they are loaded; "
                "save plain arrays of numbers with numpy.savez."
            ) from None
        raise ValueError(
            f"{path} cannot be read as a .npz archive (truncated or not one); "
            "write it again with numpy.savez, or copy it again."
        ) from None


def _as_images(array: np.ndarray, where: str) -> np.ndarray:
    """Check an array of images and bring it to uint8 N x C x H x W."""
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise ValueError(
            f"{where} has the shape {times(array.shape)}; expected images N x H x W (grey) "
            "or N x H x W x C with C = 1 or 3."
        )
    if array.size == 0:
        raise ValueError(f"{where} is empty (shape {times(array.shape)}); it needs images.")
    if array.dtype.kind == "f":
        raise ValueError(
            f"{where} holds {array.dtype} numbers; expected whole numbers in 0..255: save "
            "(x * 255).round().astype('uint8') if they lie in [0, 1], x.astype('uint8') if not."
        )
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{where} holds {array.dtype} values; expected whole numbers in 0..255 (uint8)."
        )
    if array.dtype != np.uint8:
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ValueError(
                f"{where} holds values from {low} to {high}; expected whole numbers in 0..255, "
                "so rescale them and save uint8."
            )
    return array.astype(np.uint8, copy=False)


def _as_labels(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """Check the shape and type of labels and bring them to int64 N."""
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{where} holds {array.dtype} values; expected whole numbers 0..C-1, one an image."
        )
    if array.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"{where} has the shape {times(array.shape)} for {count} images; expected one whole "
            "number an image (of one-hot rows, save argmax(1))."
        )
    return array.reshape(-1).astype(np.int64)


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Refuse labels outside 0..num_classes-1."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"{where} holds the label {wrong[0]}; expected 0..{num_classes - 1} "
            f"for {num_classes} classes."
        )


def _numbered(labels: np.ndarray, where: str) -> tuple[str, ...]:
    """Class names "0".."C-1" for labels that are exactly these numbers."""
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(
            f"{where} holds one label only ({found[0]}); expected two or more classes."
        )
    if not np.array_equal(found, np.arange(len(found))):
        raise ValueError(
            f"{where} holds {len(found)} different labels from {found[0]} to {found[-1]}; expected "
            f"0..{len(found) - 1} without a gap, so renumber them "
            "(numpy.unique(labels, return_inverse=True)[1])."
        )
    return tuple(str(label) for label in found)


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a CSV label,pixel1..pixelN, one grey image a row: (images, labels or None).

    The pixels may be counted from 0 or from 1, in any order of columns.
    """
    import pandas

    try:
        table = pandas.read_csv(path, low_memory=False)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}.") from None
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).strip().splitlines()[0].split("C error: ")[-1].rstrip(".")
        raise ValueError(
            f"{path} cannot be read as a CSV file ({reason}); expected the columns "
            "label,pixel1..pixelN."
        ) from None
    names = [str(name).strip() for name in table.columns]
    table.columns = names
    pixels = [name for name in names if re.fullmatch(r"pixel\d+", name)]
    others = [name for name in names if name not in pixels and name != "label"]
    if others or not pixels:
        found = f"an extra column {others[0]!r}" if others else "no pixel columns"
        raise ValueError(f"{path} has {found}; expected the columns label,pixel1..pixelN.")
    first = 0 if "pixel0" in pixels else 1
    for number in range(first, first + len(pixels)):
        if f"pixel{number}" not in pixels:
            raise ValueError(
                f"{path} has no column pixel{number}, but {len(pixels)} pixel columns; "
                "expected pixel1..pixelN without a gap."
            )
    side = round(len(pixels) ** 0.5)
    if side * side != len(pixels):
        raise ValueError(
            f"{path} has {len(pixels)} pixel columns, which is not a square; expected grey "
            "H x H images (for others save a .npz)."
        )
    if table.empty:
        raise ValueError(f"{path} has no rows below its header; it needs one row an image.")
    if not isinstance(table.index, pandas.RangeIndex):
        raise ValueError(f"{path} has rows that are longer than its header; name every column.")
    for name, kind in table.dtypes.items():
        if kind.kind not in "iu":
            raise ValueError(
                f"{path}: the column {name} holds something other than whole numbers (an empty "
                "cell, text or a decimal point); expected 0..255 (a cut-off last line does this)."
            )
    order = [f"pixel{number}" for number in range(first, first + len(pixels))]
    images = _as_images(table[order].to_numpy().reshape(-1, side, side), str(path))
    if "label" not in names:
        return images, None
    return images, _as_labels(table["label"].to_numpy(), len(images), f"{path}: label")


def read_labelled_csv(path: Path) -> Source:
    """Read a training CSV; classes are "0".."C-1"."""
    images, labels = read_csv(path)
    if labels is None:
        raise ValueError(
            f"{path} has no column label; to train it is needed, and unlabelled images are read "
            "by labkit.data.read_csv."
        )
    return Source((images, labels), None, _numbered(labels, f"{path}: label"))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read one uint8 array in MNIST's idx format (http://yann.lecun.com/exdb/mnist/)."""
    content = np.fromfile(path, np.uint8)
    head = 4 + 4 * dimensions
    if len(content) >= head and tuple(content[:4]) == (0, 0, 8, dimensions):
        shape = tuple(int(size) for size in content[4:head].view(">u4"))
        if len(content) == head + np.prod(shape, dtype=object):
            return content[head:].reshape(shape)
    raise ValueError(
        f"{path} is damaged or was cut off ({len(content):,} bytes do not fit its header); "
        "delete it and fetch it again."
    )


def read_folder(folder: Path, size: tuple[int | None, int, int] | None = None) -> Source:
    """Read FOLDER/CLASS/*.png|jpg, or FOLDER/{train,val,test}/CLASS/*.

    `train` and `val` are pooled (`load` splits them again); classes are the sorted folder names.
    `size` (C, H, W) converts and resizes; without it all images must have one size, and they are
    grey (C = 1) only if all of them are.
    """
    parts = [folder / part for part in ("train", "val", "test")]
    parts = [part for part in parts if any(_subfolders(part))]
    if folder / "train" not in parts:
        parts = [folder]
    elif others := sorted({part.name for part in _subfolders(folder)} - {"train", "val", "test"}):
        raise ValueError(
            f"{folder} holds {others[0]} beside train; expected train, val and test only, so "
            "rename it or move it away."
        )
    classes = sorted({sub.name for part in parts for sub in _subfolders(part)})
    if len(classes) < 2:
        raise ValueError(
            f"{folder} holds {len(classes)} class folders; expected two or more, as in "
            "FOLDER/CLASS/image.png or FOLDER/train/CLASS/image.png."
        )
    paths, labels, is_test = [], [], []
    for part in parts:
        for label, name in enumerate(classes):
            found = image_paths(part / name)
            if not found:
                raise ValueError(
                    f"{part / name} holds no images (.png, .jpg); add some or delete the class."
                )
            paths += found
            labels += [label] * len(found)
            is_test += [part.name == "test" and part != folder] * len(found)
    images = _stack(paths, list(decode(paths, size)))
    labels, is_test = np.array(labels), np.array(is_test)
    test = (images[is_test], labels[is_test]) if is_test.any() else None
    return Source((images[~is_test], labels[~is_test]), test, tuple(classes))


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def image_paths(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def decode(
    paths: Iterable[Path], size: tuple[int | None, int, int] | None = None
) -> Iterable[np.ndarray | ValueError]:
    """Decode images in parallel threads: uint8 H x W (grey) or H x W x 3, or what went wrong.

    With `size` (C, H, W) each image is cropped to H : W around its centre and resized
    (antialiased); C = None keeps grey images grey and colour ones in colour.
    """

    def one(path: Path) -> np.ndarray | ValueError:
        # A damaged file can raise almost anything below; each means that it cannot be read.
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.mode.startswith(("I", "F")):
                    return ValueError(f"{path} has more than 8 bits a pixel; save it with 8.")
                image = ImageOps.exif_transpose(image)
                grey = image.mode in ("1", "L", "LA") if not size or not size[0] else size[0] == 1
                image = image.convert("L" if grey else "RGB")
                if size:
                    image = _fit(image, *size[1:])
                return np.asarray(image)
        except Exception:
            return ValueError(f"{path} is not a readable image (damaged or cut off); replace it.")

    with ThreadPoolExecutor() as pool:
        yield from pool.map(one, paths)


def _fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """The centre of an image, cut out in the proportions asked for and resized (antialiased)."""
    zoom = min(image.width / width, image.height / height)
    across, down = round(zoom * width), round(zoom * height)
    left, top = (image.width - across) // 2, (image.height - down) // 2
    image = image.crop((left, top, left + across, top + down))
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _stack(paths: list[Path], images: list[np.ndarray | ValueError]) -> np.ndarray:
    """One uint8 array N x C x H x W; raises what could not be decoded."""
    for image in images:
        if isinstance(image, ValueError):
            raise image
    first = images[0].shape[:2]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != first:
            raise ValueError(
                f"{path} has {times(image.shape[:2])} pixels and {paths[0]} {times(first)}; "
                "pass size= to resize all images alike."
            )
    grey = all(image.ndim == 2 for image in images)
    if not grey:
        images = [np.dstack([image] * 3) if image.ndim == 2 else image for image in images]
    return _as_images(np.stack(images), str(paths[0].parent))


def times(shape: Iterable[int]) -> str:
    return " x ".join(str(size) for size in shape) or "a single number"
