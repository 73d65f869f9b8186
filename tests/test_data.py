"""`labkit.load`: parts, order, fingerprint, named sets, downloads and the stand-in.

No test here needs the network or the real data; those at the end use real data where it lies.
"""

import dataclasses
import gzip
import hashlib
import http.server
import os
import pickle
import socket
import threading
import urllib.error
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import labkit
from labkit import data
from labkit.data import files, named, shapes, split

REAL = os.environ.get("LABKIT_DATA")
RESOLVE = socket.getaddrinfo


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """An empty data folder, and no network."""

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(shapes, "COUNTS", (1_000, 200))  # drawing them all takes a second
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def some(shape=(28, 28), train=60, test=20, seed=0, classes=10):
    """Random images in Keras' layout."""
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": np.arange(train) % classes,
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": np.arange(test) % classes,
    }


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write_mnist(root, arrays, name="MNIST"):
    for ours, theirs in (("train", "train"), ("test", "t10k")):
        write_idx(root / name / "raw" / f"{theirs}-images-idx3-ubyte", arrays[f"x_{ours}"])
        write_idx(root / name / "raw" / f"{theirs}-labels-idx1-ubyte", arrays[f"y_{ours}"])


def same(first, second):
    """Whether two splits hold the same images with the same labels in the same order."""
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


def pixels(part):
    return {image.numpy().tobytes() for image in part.images}


# --- parts -------------------------------------------------------------------------------------


def test_a_split_holds_images_labels_and_the_training_statistics(folder):
    np.savez(folder / "mnist.npz", **some())
    mnist = labkit.load("mnist")
    assert [len(part) for part in (mnist.train, mnist.val, mnist.test)] == [54, 6, 20]
    assert mnist.shape == (1, 28, 28)
    for part, name in ((mnist.train, "train"), (mnist.val, "val"), (mnist.test, "test")):
        assert part.images.dtype == torch.uint8
        assert part.images.is_contiguous()
        assert part.labels.dtype == torch.int64
        assert part.name == f"mnist {name}"
        assert part.mean == mnist.mean
        assert part.std == mnist.std
        assert part.classes == mnist.classes == tuple("0123456789")
    scaled = mnist.train.images.double() / 255
    assert mnist.mean[0] == pytest.approx(scaled.mean().item(), abs=1e-12)
    assert mnist.std[0] == pytest.approx(scaled.std(correction=0).item(), abs=1e-12)
    assert not mnist.stand_in
    assert "54 train, 6 val, 20 test; images 1 x 28 x 28, 10 classes" in repr(mnist)
    assert repr(mnist.test) == "<mnist test: 20 images 1 x 28 x 28, 10 classes>"


def test_statistics_are_those_of_each_channel_by_hand():
    images = torch.tensor([[[[0, 255]], [[51, 51]]]], dtype=torch.uint8)
    mean, std = split.statistics(images)
    assert mean == pytest.approx((0.5, 0.2))
    assert std == pytest.approx((0.5, 1.0))  # a constant channel: divided by 1, not by 0


def test_subset_and_to_keep_the_rest(folder):
    test = labkit.load("shapes", limit=100).test
    odd = test.subset([1, 3, 5])
    assert same(odd, test.subset(torch.tensor([1, 3, 5])))
    assert same(odd, test.subset(slice(1, 6, 2)))
    assert torch.equal(odd.images, test.images[[1, 3, 5]])
    assert len(test.subset(test.labels == 3)) == 10
    assert (odd.name, odd.mean, odd.classes) == (test.name, test.mean, test.classes)
    assert test.to("meta").images.device.type == "meta"
    assert test.to("meta").labels.device.type == "meta"


def test_parts_are_disjoint_and_together_are_everything(folder):
    arrays = some(train=103, test=31)
    np.savez(folder / "mnist.npz", **arrays)
    mnist = labkit.load("mnist", val_fraction=0.3)
    train, val, test = pixels(mnist.train), pixels(mnist.val), pixels(mnist.test)
    assert train | val == {image.tobytes() for image in arrays["x_train"]}
    assert test == {image.tobytes() for image in arrays["x_test"]}
    assert not train & val


def test_every_part_has_its_share_of_every_class(folder):
    arrays = some(train=200, classes=4)
    arrays["y_train"] = np.repeat([0, 1, 2, 3], [100, 60, 30, 10])
    np.savez(folder / "uneven.npz", **arrays)
    uneven = labkit.load(folder / "uneven.npz", val_fraction=0.1, limit=100)
    assert torch.bincount(uneven.val.labels).tolist() == [5, 3, 2]  # of 5, 3, 1.5, 0.5
    assert torch.bincount(uneven.train.labels).tolist() == [45, 27, 13, 5]


def test_labels_stay_with_their_images(folder):
    arrays = some()
    np.savez(folder / "mnist.npz", **arrays)
    label_of = {
        image.tobytes(): label
        for image, label in zip(arrays["x_train"], arrays["y_train"], strict=True)
    }
    train = labkit.load("mnist").train
    for image, label in zip(train.images, train.labels, strict=True):
        assert label_of[image.numpy().tobytes()] == label


def test_a_seed_draws_the_validation_images_and_nothing_else(folder):
    np.savez(folder / "mnist.npz", **some(train=200))
    first, again, other = (labkit.load("mnist", seed=seed) for seed in (1, 1, 2))
    assert same(first.val, again.val)
    assert same(first.train, again.train)
    assert not same(first.val, other.val)
    assert same(first.test, other.test)
    assert first.fingerprint == other.fingerprint


def test_without_a_validation_fraction_there_is_no_validation_part(folder):
    np.savez(folder / "mnist.npz", **some())
    mnist = labkit.load("mnist", val_fraction=0)
    assert mnist.val is None
    assert len(mnist.train) == 60
    assert "60 train, 20 test" in repr(mnist)


def test_a_limit_keeps_the_same_images_first(folder):
    np.savez(folder / "mnist.npz", **some(train=400, test=100))
    small, large = (labkit.load("mnist", limit=limit, val_fraction=0) for limit in (50, 200))
    assert pixels(small.train) < pixels(large.train)
    assert pixels(small.test) < pixels(large.test)
    assert [len(large.train), len(large.test)] == [200, 100]
    assert torch.bincount(small.train.labels).tolist() == [5] * 10


def test_a_test_part_is_set_aside_where_the_source_has_none(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (100, 9))
    rows = [f"{i % 2}," + ",".join(map(str, row)) for i, row in enumerate(x)]
    header = "label," + ",".join(f"pixel{i + 1}" for i in range(9))
    (tmp_path / "letters.csv").write_text("\n".join([header, *rows]))
    letters = labkit.load(tmp_path / "letters.csv", test_fraction=0.3, seed=5)
    assert [len(part) for part in (letters.train, letters.val, letters.test)] == [63, 7, 30]
    assert not pixels(letters.train) & pixels(letters.test)
    assert same(letters.test, labkit.load(tmp_path / "letters.csv", test_fraction=0.3).test)
    assert letters.name == "letters"


# --- order and fingerprint ---------------------------------------------------------------------


def test_neither_splits_nor_fingerprint_depend_on_the_order_of_the_source(folder):
    arrays = some(train=200)
    np.savez(folder / "mnist.npz", **arrays)
    first = labkit.load("mnist", seed=3)
    shuffle = np.random.default_rng(9).permutation(200)
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][shuffle], arrays["y_train"][shuffle]
    np.savez(folder / "mnist.npz", **arrays)
    second = labkit.load("mnist", seed=3)
    assert same(first.train, second.train)
    assert same(first.val, second.val)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("change", ["a pixel", "a label", "a missing image", "test for train"])
def test_the_fingerprint_tells_different_data_apart(folder, change):
    arrays = some(train=40, test=40)
    np.savez(folder / "mnist.npz", **arrays)
    before = labkit.load("mnist").fingerprint
    if change == "a pixel":
        arrays["x_train"][3, 4, 5] ^= 1
    elif change == "a label":
        arrays["y_test"][7] = 0
    elif change == "a missing image":
        arrays = {key: array[:-1] for key, array in arrays.items()}
    else:
        arrays["x_train"], arrays["x_test"] = arrays["x_test"], arrays["x_train"]
    np.savez(folder / "mnist.npz", **arrays)
    assert labkit.load("mnist").fingerprint != before


def test_the_fingerprint_tells_a_limit_and_a_shape_apart(folder, tmp_path):
    np.savez(folder / "mnist.npz", **some(train=100))
    assert labkit.load("mnist").fingerprint != labkit.load("mnist", limit=80).fingerprint
    arrays = some((4, 9))
    np.savez(tmp_path / "wide.npz", **arrays)
    for part in ("x_train", "x_test"):
        arrays[part] = arrays[part].reshape(-1, 6, 6)
    np.savez(tmp_path / "square.npz", **arrays)
    wide, square = (labkit.load(tmp_path / name) for name in ("wide.npz", "square.npz"))
    assert wide.fingerprint != square.fingerprint


def test_identical_images_with_two_labels_have_one_order(folder):
    arrays = some(train=40)
    arrays["x_train"][:] = 7
    arrays["y_train"] = np.arange(40) % 10
    np.savez(folder / "mnist.npz", **arrays)
    first = labkit.load("mnist")
    arrays["y_train"] = arrays["y_train"][::-1]
    np.savez(folder / "mnist.npz", **arrays)
    assert same(first.train, labkit.load("mnist").train)


# --- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1}, "val_fraction=1 must"),
        ({"val_fraction": -0.1}, "val_fraction=-0.1 must"),
        ({"val_fraction": float("nan")}, "val_fraction=nan must"),
        ({"val_fraction": "0.1"}, "val_fraction='0.1' must"),
        ({"val_fraction": False}, "val_fraction=False must"),
        ({"test_fraction": 0}, "test_fraction=0 must"),
        ({"test_fraction": 1.0}, "test_fraction=1.0 must"),
        ({"seed": -1}, "seed=-1 must"),
        ({"seed": 1.5}, "seed=1.5 must"),
        ({"seed": True}, "seed=True must"),
        ({"limit": 0}, "limit=0 must"),
        ({"limit": 10.0}, "limit=10.0 must"),
        ({"size": 2}, "size=2 must"),
        ({"size": 32.0}, "size=32.0 must"),
        ({"size": "32"}, "size='32' must"),
        ({"size": (32, 32)}, r"size=\(32, 32\) must"),
        ({"size": (2, 32, 32)}, r"size=\(2, 32, 32\) must"),
        ({"limit": 5}, "shapes: the class '.+' would have no training image"),
        ({"limit": 20, "val_fraction": 0.01}, "shapes: the val part would be empty"),
    ],
)
def test_an_impossible_option_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        labkit.load("shapes", **options)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"load\(None\): give the name of a data set, or a path"):
        labkit.load(None)


def test_size_is_refused_where_the_images_have_one():
    with pytest.raises(ValueError, match="mnist has its own size"):
        labkit.load("mnist", size=32)


def test_an_unknown_name_brings_the_list_of_names(tmp_path):
    for call in (labkit.load, data.describe):
        with pytest.raises(ValueError, match="unknown data set 'mnits'; labkit has mnist, fashion"):
            call("mnits")
    with pytest.raises(ValueError, match=r"there is no file .*gone\.npz"):
        labkit.load(tmp_path / "gone.npz")


# --- named sets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "theirs"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_torchvisions_files_and_an_npz_give_the_same_splits(folder, name, theirs):
    arrays = some(train=80)
    write_mnist(folder, arrays, theirs)
    from_torchvision = labkit.load(name, seed=4)
    assert data.describe(name).found == folder / theirs
    shuffle = np.random.default_rng(1).permutation(80)
    arrays["x_train"], arrays["y_train"] = arrays["x_train"][shuffle], arrays["y_train"][shuffle]
    np.savez(folder / f"{name}.npz", **arrays)
    from_npz = labkit.load(name, seed=4)
    assert data.describe(name).found == folder / f"{name}.npz"  # the first place that is looked at
    assert same(from_torchvision.train, from_npz.train)
    assert same(from_torchvision.val, from_npz.val)
    assert from_torchvision.fingerprint == from_npz.fingerprint
    assert from_torchvision.classes == from_npz.classes == named.NAMED[name].classes


def test_fashion_mnist_has_its_class_names(folder):
    write_mnist(folder, some(), "FashionMNIST")
    assert labkit.load("fashion_mnist").classes[:2] == ("T-shirt/top", "Trouser")


@pytest.mark.parametrize("part", ["train-images-idx3", "t10k-images-idx3", "train-labels-idx1"])
def test_a_cut_off_idx_file_is_named(folder, part):
    write_mnist(folder, some())
    path = folder / "MNIST" / "raw" / f"{part}-ubyte"
    content = path.read_bytes()
    for length in (0, 3, 10, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{part}-ubyte is damaged or was cut off"):
            labkit.load("mnist")


def test_torchvisions_files_are_refused_when_they_do_not_belong_together(folder):
    raw = folder / "MNIST" / "raw"
    write_mnist(folder, some())
    write_idx(raw / "train-labels-idx1-ubyte", np.arange(59) % 10)
    with pytest.raises(ValueError, match="train-labels.* holds 59 labels for 60 images"):
        labkit.load("mnist")
    write_idx(raw / "train-labels-idx1-ubyte", np.arange(60) % 11)
    with pytest.raises(ValueError, match=r"train-labels.* holds the label 10; expected 0\.\.9"):
        labkit.load("mnist")
    (raw / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte is missing"):
        labkit.load("mnist")


def test_a_named_npz_must_hold_that_data_set(folder):
    np.savez(folder / "mnist.npz", **some((32, 32)))
    with pytest.raises(ValueError, match=r"mnist\.npz holds images of 1 x 32 x 32"):
        labkit.load("mnist")
    arrays = some()
    arrays["y_test"][0] = 10
    np.savez(folder / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=r"mnist\.npz: y_test holds the label 10"):
        labkit.load("mnist")


def test_cifar10_batches_are_read_once_their_md5_sums_are_right(folder, monkeypatch):
    cifar10 = data.import_torchvision().datasets.CIFAR10
    arrays = some((32, 32, 3), train=50, test=20)
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()

    def write(name, content):
        (batches / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((batches / name).read_bytes()).hexdigest()]

    def batch(part):
        flat = arrays[f"x_{part}"].transpose(0, 3, 1, 2).reshape(-1, 3072)
        return {"data": flat, "labels": arrays[f"y_{part}"].tolist()}

    monkeypatch.setattr(cifar10, "train_list", [write("data_batch_1", batch("train"))])
    monkeypatch.setattr(cifar10, "test_list", [write("test_batch", batch("test"))])
    meta = write("batches.meta", {"label_names": list(named.NAMED["cifar10"].classes)})
    monkeypatch.setitem(cifar10.meta, "md5", meta[1])
    from_batches = labkit.load("cifar10")
    assert from_batches.shape == (3, 32, 32)

    (batches / "data_batch_1").write_bytes(b"altered")  # never unpickled
    with pytest.raises(ValueError, match="cifar-10-batches-py is incomplete or damaged"):
        labkit.load("cifar10")

    np.savez(folder / "cifar10.npz", **arrays)
    from_npz = labkit.load("cifar10")
    assert same(from_batches.train, from_npz.train)
    assert from_batches.fingerprint == from_npz.fingerprint


# --- imagenette --------------------------------------------------------------------------------

WNIDS = [f"n{number:08}" for number in range(10)]


@pytest.fixture
def imagenette(folder, monkeypatch):
    """Imagenette's folders with ten small JPEGs a class, of which eight are taken."""
    monkeypatch.setattr(named, "IMAGES_PER_CLASS", 8)
    rng = np.random.default_rng(0)
    root = folder / "imagenette2-160"
    for number in range(100):
        part = "val" if number % 3 else "train"
        path = root / part / WNIDS[number // 10] / f"{number % 10}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (80, 70 + number % 5) if number % 4 == 0 else (70 + number % 5, 90, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return root


def caches(folder):
    return sorted(folder.glob("*decoded*"))


def test_imagenette_takes_both_folders_together_and_splits_them_3_1_1(imagenette):
    loaded = labkit.load("imagenette")
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [48, 16, 16]
    assert loaded.shape == (3, 64, 64)
    assert loaded.classes[0] == "tench"
    assert loaded.classes[-1] == "parachute"
    assert torch.bincount(loaded.test.labels).tolist()[0] in (1, 2)


def test_imagenette_takes_the_first_images_by_file_name(imagenette):
    before = labkit.load("imagenette").fingerprint
    for path in [*imagenette.glob("*/*/8.JPEG"), *imagenette.glob("*/*/9.JPEG")]:
        path.unlink()  # the last two of the ten are not among the first eight
    assert labkit.load("imagenette").fingerprint == before


def test_the_second_load_of_imagenette_decodes_nothing(imagenette, folder, monkeypatch):
    first = labkit.load("imagenette")
    assert len(caches(folder)) == 1
    monkeypatch.setattr(named, "decode", None)
    assert same(first.train, labkit.load("imagenette").train)


def test_a_damaged_cache_is_decoded_anew(imagenette, folder):
    first = labkit.load("imagenette")
    [cache] = caches(folder)
    cache.write_bytes(cache.read_bytes()[:-1000])
    assert labkit.load("imagenette").fingerprint == first.fingerprint
    assert labkit.load("imagenette").fingerprint == first.fingerprint


class Trap:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_cache_with_a_pickled_object_is_decoded_anew_and_not_unpickled(imagenette, folder):
    first = labkit.load("imagenette")
    [cache] = caches(folder)
    trap = np.array([Trap(folder / "sprung")], dtype=object)
    np.savez(cache, images=trap, labels=trap)
    assert labkit.load("imagenette").fingerprint == first.fingerprint
    assert not (folder / "sprung").exists()


def test_other_images_are_not_taken_from_an_old_cache(imagenette, folder):
    first = labkit.load("imagenette")
    Image.new("RGB", (64, 64)).save(next(imagenette.glob(f"*/{WNIDS[0]}/0.JPEG")))
    assert labkit.load("imagenette").fingerprint != first.fingerprint


def test_a_read_only_folder_only_means_that_there_is_no_cache(imagenette, folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(named.tempfile, "TemporaryDirectory", refuse)
    assert len(labkit.load("imagenette").train) == 48
    assert not caches(folder)


def test_a_broken_jpeg_is_named_and_left_out(imagenette, folder):
    broken = next(imagenette.glob(f"*/{WNIDS[3]}/0.JPEG"))
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.warns(UserWarning, match=rf"1 of 80 images are left out: .*{WNIDS[3]}.*0\.JPEG"):
        loaded = labkit.load("imagenette")
    assert sum(len(part) for part in (loaded.train, loaded.val, loaded.test)) == 79
    assert not caches(folder)  # so that the next call warns too


def test_an_incomplete_imagenette_is_refused(imagenette):
    for path in imagenette.glob(f"*/{WNIDS[2]}/*"):
        path.write_bytes(b"") if path.stem == "0" else path.unlink()
    with pytest.raises(ValueError, match=rf"{WNIDS[2]} \(cassette player\) has 1 of 8 images"):
        labkit.load("imagenette")
    for path in imagenette.glob("*/*/*"):
        path.unlink()
    for path in imagenette.glob(f"*/{WNIDS[2]}"):
        path.rmdir()
    with pytest.raises(ValueError, match="holds 9 class folders"):
        labkit.load("imagenette")


def test_an_imagenette_without_a_readable_image_is_refused(imagenette):
    for path in imagenette.glob("*/*/*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.JPEG is not a readable image"):
        labkit.load("imagenette")


def test_a_postscript_program_that_is_called_a_picture_is_not_run(tmp_path, monkeypatch):
    ran = tmp_path / "ran"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {ran}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    [error] = files.decode([tmp_path / "x.png"])
    assert "not a readable image" in str(error)
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP"])
def test_a_picture_that_is_called_jpg_and_is_of_another_kind_is_read(tmp_path, kind):
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "x.jpg", format=kind)
    [image] = files.decode([tmp_path / "x.jpg"])
    assert image.shape[:2] == (8, 8)


def test_images_are_cropped_around_their_centre_and_resized(tmp_path):
    image = np.zeros((20, 60), np.uint8)
    image[:, 20:40] = 200  # the centre square
    Image.fromarray(image).save(tmp_path / "wide.png")
    [decoded] = files.decode([tmp_path / "wide.png"], (3, 10, 10))
    assert decoded.shape == (10, 10, 3)
    assert (decoded == 200).all()


def test_resizing_averages_instead_of_skipping_pixels(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    [decoded] = files.decode([tmp_path / "stripes.png"], (1, 8, 8))
    assert abs(decoded.astype(int) - 127).max() <= 8


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    image = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 8, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    [decoded] = files.decode([tmp_path / "turned.jpg"])
    assert decoded.shape == (2, 8)
    assert decoded[0].mean() < 30
    assert decoded[1].mean() > 225


# --- where the data lies -----------------------------------------------------------------------


def test_the_data_folder_is_the_variable_then_the_checkout_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_DATA", "~/sets")
    assert data.data_folder() == Path.home() / "sets"
    monkeypatch.delenv("LABKIT_DATA")
    root = tmp_path / "checkout"
    (root / "labkit" / "data").mkdir(parents=True)
    monkeypatch.setattr(named, "__file__", str(root / "labkit" / "data" / "named.py"))
    assert data.data_folder() == Path.home() / ".cache" / "labkit"
    (root / "pyproject.toml").touch()
    assert data.data_folder() == root / "data" / "downloads"


def test_describe_says_what_is_here_and_what_it_takes_to_fetch_the_rest(folder):
    assert data.available() == ("mnist", "fashion_mnist", "cifar10", "imagenette", "shapes")
    cifar10 = data.describe("cifar10")
    assert (cifar10.shape, cifar10.counts) == ((3, 32, 32), (50_000, 10_000))
    assert cifar10.found is None
    assert cifar10.megabytes == 170
    (folder / "cifar10.npz").touch()
    assert data.describe("cifar10").found == folder / "cifar10.npz"
    drawn, loaded = data.describe("shapes"), labkit.load("shapes", val_fraction=0)
    assert drawn.counts == (len(loaded.train), len(loaded.test))
    assert (drawn.shape, drawn.classes) == (loaded.shape, loaded.classes)


def test_the_addresses_that_are_asked_are_those_that_torchvision_downloads_from():
    datasets = data.import_torchvision().datasets
    for known in named.NAMED.values():
        theirs = getattr(datasets, known.torchvision_class)
        if hasattr(theirs, "mirrors"):
            urls = [mirror + file for mirror in theirs.mirrors for file, _ in theirs.resources]
        else:
            urls = [theirs.url] if hasattr(theirs, "url") else [theirs._ARCHIVES["160px"][0]]
        assert known.url in urls


def test_torchvision_is_imported_once_and_only_when_needed():
    torchvision = data.import_torchvision()
    assert data.import_torchvision() is torchvision
    assert torchvision.models.resnet18(num_classes=10).fc.out_features == 10


# --- downloads ---------------------------------------------------------------------------------


@pytest.fixture
def torchvision_with(monkeypatch):
    """Replace torchvision's MNIST by a function that writes into its first argument."""

    def replace(download):
        def dataset(root, download_=download, **options):
            assert options.pop("download") is True
            download_(Path(root), **options)

        names = ("MNIST", "Imagenette")
        fake = SimpleNamespace(datasets=SimpleNamespace(**dict.fromkeys(names, dataset)))
        monkeypatch.setattr(named, "import_torchvision", lambda: fake)
        monkeypatch.setattr(named, "unreachable", lambda url, seconds: None)

    return replace


def test_a_download_ends_in_the_data_folder_and_is_not_repeated(folder, torchvision_with):
    calls = []

    def download(root):
        calls.append(root)
        write_mnist(root, some())

    folder.rmdir()  # it is made when it is needed
    torchvision_with(download)
    assert len(labkit.load("mnist").train) == 54
    assert len(labkit.load("mnist").train) == 54
    assert len(calls) == 1
    assert [path.name for path in folder.iterdir()] == ["MNIST"]


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), urllib.error.URLError("reset"), RuntimeError("File corrupted.")]
)
def test_an_interrupted_download_is_not_mistaken_for_a_complete_one(folder, torchvision_with, stop):
    def download(root):
        write_mnist(root, some())
        (root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
        raise stop

    torchvision_with(download)
    expected = KeyboardInterrupt if isinstance(stop, KeyboardInterrupt) else data.DataUnavailable
    with pytest.raises(expected) as raised:
        labkit.load("mnist")
    if expected is data.DataUnavailable:
        assert "its download failed (" in str(raised.value)
    assert list(folder.iterdir()) == []
    write_mnist(folder / "mnist.partial-x", some())  # what kill -9 leaves behind
    assert data.describe("mnist").found is None
    torchvision_with(lambda root: write_mnist(root, some()))
    assert len(labkit.load("mnist").train) == 54


def test_a_download_that_another_process_finished_first_is_used(folder, torchvision_with):
    def download(root):
        write_mnist(root, some(seed=1))
        write_mnist(folder, some(seed=2))

    torchvision_with(download)
    first = labkit.load("mnist").fingerprint
    assert labkit.load("mnist").fingerprint == first


def test_imagenette_is_downloaded_in_its_160_pixel_version(folder, torchvision_with):
    def download(root, size):
        assert size == "160px"
        (root / "imagenette2-160").mkdir()

    torchvision_with(download)
    with pytest.raises(ValueError, match="imagenette2-160 holds 0 class folders"):
        labkit.load("imagenette")


def test_the_network_is_not_asked_for_what_is_here(folder, monkeypatch):
    monkeypatch.setattr(named, "unreachable", None)
    np.savez(folder / "mnist.npz", **some())
    labkit.load("mnist")


# --- no network --------------------------------------------------------------------------------


@pytest.fixture
def hanging(monkeypatch):
    """A resolver that does not answer, as behind some firewalls."""
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answer.wait())
    monkeypatch.setattr(named, "PROBE_SECONDS", 0.05)
    yield
    answer.set()


def test_without_network_the_error_names_the_three_ways_out(folder):
    with pytest.raises(data.DataUnavailable) as raised:
        labkit.load("cifar10")
    message = str(raised.value)
    assert isinstance(raised.value, ValueError)
    assert message.startswith(f"cifar10 is not in {folder} and www.cs.toronto.edu cannot be")
    assert "Name or service not known" in message
    for way_out in ("LABKIT_DATA", "`labkit data cifar10`", "stand_in=True"):
        assert way_out in message
    assert "\n" not in message
    assert raised.value.__cause__ is None


def test_a_resolver_that_hangs_is_not_waited_for(hanging):
    with pytest.raises(data.DataUnavailable, match=r"no answer within 0\.05 seconds"):
        labkit.load("cifar10")


@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mnist", (1, 28, 28)),
        ("cifar10", (3, 32, 32)),
        ("imagenette", (3, 64, 64)),
    ],
)
def test_a_stand_in_has_the_size_of_what_it_stands_in_for_and_says_so(name, shape):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = labkit.load(name, stand_in=True)
    assert [warning.category for warning in caught] == [data.StandInWarning]
    assert caught[0].filename == __file__
    assert f"shapes (stand-in for {name}): {name} is not in" in str(caught[0].message)
    assert loaded.stand_in
    assert loaded.name == f"shapes (stand-in for {name})"
    assert loaded.test.name == f"shapes (stand-in for {name}) test"
    assert loaded.shape == shape
    assert (len(loaded.train) + len(loaded.val), len(loaded.test)) == (1_000, 200)
    assert loaded.classes == labkit.load("shapes", limit=100).classes


def test_a_stand_in_has_no_more_images_than_what_it_stands_in_for(monkeypatch):
    small = dataclasses.replace(named.NAMED["imagenette"], counts=(480, 120))
    monkeypatch.setitem(named.NAMED, "imagenette", small)
    with pytest.warns(data.StandInWarning):
        loaded = labkit.load("imagenette", stand_in=True)
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [360, 120, 120]


def test_a_stand_in_is_not_used_where_the_data_is_there(folder, recwarn):
    np.savez(folder / "mnist.npz", **some())
    mnist = labkit.load("mnist", stand_in=True)
    assert (mnist.name, mnist.stand_in) == ("mnist", False)
    assert not recwarn.list


def test_a_stand_in_does_not_hide_damaged_data(folder):
    (folder / "mnist.npz").write_bytes(b"half an arch")
    with pytest.raises(ValueError, match=r"mnist\.npz cannot be read"):
        labkit.load("mnist", stand_in=True)


@pytest.fixture
def server(monkeypatch):
    """A local web server: its address, the files that it serves, and what it was asked for."""
    files_, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            content = files_.get(self.path.rsplit("/", 1)[-1])
            self.send_response(403 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content

        def do_GET(self):
            self.wfile.write(self.do_HEAD() or b"")

        def log_message(self, *args):
            pass

    monkeypatch.setattr(socket, "getaddrinfo", RESOLVE)
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield SimpleNamespace(address=f"http://127.0.0.1:{web.server_port}", files=files_, asked=asked)
    web.shutdown()
    web.server_close()


def test_a_host_is_reachable_only_if_it_has_the_file(server):
    server.files["here.gz"] = b"here"
    assert named.unreachable(f"{server.address}/here.gz", 5) is None
    assert named.unreachable(f"{server.address}/forbidden.gz", 5) == "Forbidden"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert "refused" in named.unreachable(f"{address}/here.gz", 5)


def test_a_proxy_is_honoured(server, monkeypatch):
    server.files["here.gz"] = b"here"
    monkeypatch.setenv("http_proxy", server.address)
    assert named.unreachable("http://data.invalid/here.gz", 5) is None
    assert server.asked == ["http://data.invalid/here.gz"]


def test_torchvision_downloads_verifies_and_only_then_the_files_are_here(
    server, folder, monkeypatch, tmp_path
):
    arrays = some()
    write_mnist(tmp_path, arrays)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        server.files[f"{path.name}.gz"] = gzip.compress(path.read_bytes())
    checksums = [(name, hashlib.md5(file).hexdigest()) for name, file in server.files.items()]
    mnist = data.import_torchvision().datasets.MNIST
    monkeypatch.setattr(mnist, "mirrors", [f"{server.address}/"])
    monkeypatch.setattr(mnist, "resources", checksums)
    url = f"{server.address}/train-images-idx3-ubyte.gz"
    here = dataclasses.replace(named.NAMED["mnist"], url=url)
    monkeypatch.setitem(named.NAMED, "mnist", here)

    whole = server.files["t10k-labels-idx1-ubyte.gz"]
    server.files["t10k-labels-idx1-ubyte.gz"] = whole[:-5]
    why = "Error downloading t10k|File not found or corrupted"  # torchvision's, today and in 0.21
    with pytest.raises(data.DataUnavailable, match=rf"its download failed \(({why})"):
        labkit.load("mnist")
    assert list(folder.iterdir()) == []

    server.files["t10k-labels-idx1-ubyte.gz"] = whole
    downloaded = labkit.load("mnist")
    np.savez(folder / "mnist.npz", **arrays)
    assert downloaded.fingerprint == labkit.load("mnist").fingerprint


# --- real data ---------------------------------------------------------------------------------


def real(name):
    place = named.NAMED[name].folder
    there = REAL and any((Path(REAL) / file).exists() for file in (f"{name}.npz", place))
    return pytest.mark.skipif(not there, reason=f"{name} is not in LABKIT_DATA")


@pytest.mark.parametrize(
    ("name", "counts", "mean"),
    [
        pytest.param("mnist", (54_000, 6_000, 10_000), (0.1307,), marks=real("mnist")),
        pytest.param(
            "fashion_mnist", (54_000, 6_000, 10_000), (0.2860,), marks=real("fashion_mnist")
        ),
        pytest.param(
            "cifar10", (45_000, 5_000, 10_000), (0.4914, 0.4822, 0.4465), marks=real("cifar10")
        ),
        pytest.param("imagenette", (3_600, 1_200, 1_200), None, marks=real("imagenette")),
    ],
)
def test_the_real_data_has_the_published_sizes_and_means(monkeypatch, name, counts, mean):
    monkeypatch.setenv("LABKIT_DATA", REAL)
    loaded = labkit.load(name)
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == counts
    assert loaded.shape == named.NAMED[name].shape
    assert set(torch.bincount(loaded.test.labels).tolist()) <= set(range(800, 1200)) | {120}
    if mean:
        assert loaded.mean == pytest.approx(mean, abs=1e-3)
