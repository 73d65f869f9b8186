"""Property tests: whatever lies in a .npz, a CSV or a folder, `load` either gives a sound data set
or one sentence that names the file; nothing below it shows, and nothing that it holds is run.
"""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import labkit
from labkit import data


def examples(count):
    """So many examples, without a deadline; the files of one example overwrite the last one's."""
    health = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, suppress_health_check=health)


def load_or_sentence(path, **options):
    """The data set, checked, or the error, checked: exactly one of both is not None."""
    try:
        loaded = labkit.load(path, **options)
    except ValueError as error:
        assert_sentence(error, path)
        return None, error
    for part in (loaded.train, loaded.val, loaded.test):
        if part is not None:
            assert part.images.dtype == torch.uint8
            assert part.images.shape == (len(part.labels), *loaded.shape)
            assert len(part) > 0
            assert loaded.shape[0] in (1, 3)
            assert part.labels.min() >= 0
            assert part.labels.max() < len(loaded.classes)
    assert set(loaded.train.labels.tolist()) == set(range(len(loaded.classes)))
    assert all(np.isfinite(loaded.mean))
    assert all(np.array(loaded.std) > 0)
    return loaded, None


def assert_sentence(error, path):
    """One sentence that names the file, with nothing from below hanging on to it."""
    message = str(error)
    assert path.stem in message
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"\. [A-Z]", message)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def sentence(path, **options):
    """The sentence that refuses a file."""
    loaded, error = load_or_sentence(path, **options)
    assert loaded is None, f"{loaded} was expected to be refused"
    return str(error)


def arrays(**changes):
    rng = np.random.default_rng(0)
    sound = {
        "x_train": rng.integers(0, 256, (30, 4, 5), dtype=np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": rng.integers(0, 256, (9, 4, 5), dtype=np.uint8),
        "y_test": np.arange(9) % 3,
    }
    return {key: array for key, array in (sound | changes).items() if array is not None}


# --- .npz --------------------------------------------------------------------------------------

anything = hnp.arrays(
    dtype=hnp.scalar_dtypes() | st.sampled_from(["u1", "i8", "f4", "?", "U3", "c8"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
)


@examples(100)
@given(key=st.sampled_from(["x_train", "y_train", "x_test", "y_test"]), array=anything)
def test_an_npz_with_any_array_in_any_place(tmp_path, key, array):
    np.savez(tmp_path / "any.npz", **arrays(**{key: array}))
    load_or_sentence(tmp_path / "any.npz")


@examples(60)
@given(
    shape=st.sampled_from([(), (1,), (3,)]).flatmap(
        lambda c: st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda hw: (*hw, *c))
    ),
    dtype=st.sampled_from(["u1", "i2", ">i4", "i8", "u8"]),
    train=st.integers(10, 40),
    column=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_sound_npz_is_read_as_it_was_written(tmp_path, shape, dtype, train, column, seed):
    images = np.random.default_rng(seed).integers(0, 256, (train, *shape)).astype(dtype)
    labels = np.arange(train).reshape(-1, 1) % 2 if column else np.arange(train) % 2
    sound = {"x_train": images, "y_train": labels, "x_test": images[:5], "y_test": labels[:5]}
    np.savez_compressed(tmp_path / "sound.npz", **sound)
    loaded = labkit.load(tmp_path / "sound.npz", val_fraction=0, seed=seed)
    as_written = images.reshape(train, *shape[:2], -1).transpose(0, 3, 1, 2)
    assert loaded.shape == as_written.shape[1:]
    assert loaded.classes == ("0", "1")
    pairs = zip(loaded.train.images.numpy(), loaded.train.labels.tolist(), strict=True)
    read = sorted((image.tobytes(), label) for image, label in pairs)
    pairs = zip(as_written.astype("u1"), labels.ravel().tolist(), strict=True)
    assert read == sorted((image.tobytes(), label) for image, label in pairs)


def test_channels_first_is_understood_where_it_is_not_ambiguous(tmp_path):
    images = arrays()["x_train"].repeat(3, 0).reshape(30, 3, 4, 5)
    np.savez(tmp_path / "first.npz", **arrays(x_train=images, x_test=images[:9]))
    assert labkit.load(tmp_path / "first.npz").shape == (3, 4, 5)
    images = images.reshape(30, 3, 20, 1)  # both could be channels: Keras puts them last
    np.savez(tmp_path / "last.npz", **arrays(x_train=images, x_test=images[:9]))
    assert labkit.load(tmp_path / "last.npz").shape == (1, 3, 20)


SOUND = arrays()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_test": None}, "has no x_test: a .npz needs Keras' keys"),
        (dict.fromkeys(SOUND), "has no x_train: .*this one holds nothing"),
        ({"x_train": SOUND["x_train"] / 255}, r"x_train holds float64 numbers; .*\(x \* 255\)"),
        ({"x_train": SOUND["x_train"] > 9}, "x_train holds bool values"),
        ({"x_train": SOUND["x_train"].astype(int) + 1000}, "x_train holds values from 1000 to"),
        ({"x_train": SOUND["x_train"].astype(int) - 300}, "x_train holds values from -"),
        ({"x_train": np.zeros((30, 4, 5, 2), "u1")}, "x_train has the shape 30 x 4 x 5 x 2"),
        ({"x_train": np.zeros((30, 20), "u1")}, "x_train has the shape 30 x 20; expected images"),
        ({"x_train": np.uint8(1)}, "x_train has the shape a single number"),
        ({"x_train": np.zeros((0, 4, 5), "u1")}, "x_train is empty"),
        ({"x_train": SOUND["x_train"][:29]}, "y_train has the shape 30 for 29 images"),
        ({"x_test": np.zeros((9, 5, 5), "u1")}, "1 x 4 x 5 and those of x_test 1 x 5 x 5"),
        ({"y_train": np.eye(3, dtype=int)[SOUND["y_train"]]}, r"one-hot rows, save argmax\(1\)"),
        ({"y_train": SOUND["y_train"] + 0.0}, "y_train holds float64 values"),
        ({"y_train": SOUND["y_train"] + 1}, r"3 different labels from 1 to 3; expected 0\.\.2"),
        ({"y_train": SOUND["y_train"] * 2}, "3 different labels from 0 to 4"),
        ({"y_train": SOUND["y_train"] - 1}, "3 different labels from -1 to 1"),
        ({"y_train": SOUND["y_train"] * 0}, r"one label only \(0\)"),
        ({"y_test": SOUND["y_test"] + 1}, r"y_test holds the label 3; expected 0\.\.2"),
    ],
)
def test_an_unsound_npz_is_refused_for_what_is_wrong_with_it(tmp_path, changes, says):
    np.savez(tmp_path / "bad.npz", **arrays(**changes))
    assert re.search(says, sentence(tmp_path / "bad.npz"))


@examples(60)
@given(share=st.floats(0, 1, exclude_max=True), compressed=st.booleans())
def test_a_cut_off_npz_is_always_noticed(tmp_path, share, compressed):
    path = tmp_path / "cut.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cut.npz cannot be read as a .npz archive" in sentence(path)


@examples(100)
@given(place=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=8))
def test_an_npz_with_flipped_bytes_is_read_or_refused(tmp_path, place, junk):
    path = tmp_path / "flipped.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + len(junk)] = junk
    path.write_bytes(content)
    load_or_sentence(path)


@examples(40)
@given(content=st.binary(max_size=300))
def test_a_file_of_random_bytes_is_not_an_npz(tmp_path, content):
    (tmp_path / "noise.npz").write_bytes(content)
    assert "noise.npz cannot be read" in sentence(tmp_path / "noise.npz")


def test_other_things_under_the_name_of_an_npz_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    buffer = io.BytesIO()
    np.save(buffer, SOUND["x_train"])
    path.write_bytes(buffer.getvalue())
    assert "cannot be read as a .npz" in sentence(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': print()}")
    assert "cannot be read as a .npz" in sentence(path)
    path.unlink()
    path.mkdir()
    assert "holds 0 class folders" in sentence(path)


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_trap_of_the_next_test_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("key", sorted(SOUND))
def test_pickled_objects_are_refused_and_not_run(tmp_path, key):
    trap = np.array([Trap(tmp_path / "sprung")] * len(SOUND[key]))
    np.savez(tmp_path / "trap.npz", **arrays(**{key: trap}))
    assert "holds pickled Python objects" in sentence(tmp_path / "trap.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(trap))
    assert "cannot be read as a .npz" in sentence(tmp_path / "raw.npz")
    assert not (tmp_path / "sprung").exists()


# --- CSV ---------------------------------------------------------------------------------------


def csv(pixels=4, rows=20, header=None):
    """A sound file: its header and its rows, as lists of text."""
    rng = np.random.default_rng(0)
    header = header or ["label", *(f"pixel{i + 1}" for i in range(pixels))]
    lines = [[str(i % 2), *map(str, rng.integers(0, 256, pixels))] for i in range(rows)]
    return [header, *lines]


def write_csv(path, lines):
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return path


@examples(40)
@given(
    side=st.integers(1, 6),
    rows=st.integers(10, 40),
    first=st.sampled_from([0, 1]),
    shuffled=st.randoms(use_true_random=False),
)
def test_every_sound_csv_is_read_whatever_the_order_of_its_columns(
    tmp_path, side, rows, first, shuffled
):
    header = ["label", *(f"pixel{i + first}" for i in range(side * side))]
    lines = csv(side * side, rows, header)
    columns = list(range(len(header)))
    shuffled.shuffle(columns)
    path = write_csv(tmp_path / "sound.csv", [[line[i] for i in columns] for line in lines])
    images, labels = data.read_csv(path)
    assert images.dtype == torch.uint8
    assert images.flatten(1).tolist() == [[int(text) for text in line[1:]] for line in lines[1:]]
    assert labels.tolist() == [int(line[0]) for line in lines[1:]]
    assert images.shape == (rows, 1, side, side)
    assert labkit.load(path, val_fraction=0).shape == (1, side, side)


def test_a_test_file_without_labels_gives_images_in_the_order_of_its_rows(tmp_path):
    lines = [line[1:] for line in csv()]
    path = write_csv(tmp_path / "test.csv", lines)
    images, labels = data.read_csv(path)
    assert labels is None
    assert images[3].flatten().tolist() == [int(text) for text in lines[4]]
    assert "has no column label" in sentence(path)


@examples(80)
@given(
    row=st.integers(0, 20),
    column=st.integers(0, 4),
    text=st.sampled_from(["", " ", "-1", "256", "3.5", "nan", "x", "1e3", "99999999999999999999"])
    | st.text(max_size=6),
)
def test_a_csv_with_any_text_in_any_cell(tmp_path, row, column, text):
    lines = csv()
    lines[row][column] = text
    path = tmp_path / "any.csv"
    path.write_text("\n".join(",".join(line) for line in lines), encoding="utf-8", errors="replace")
    load_or_sentence(path)


@examples(40)
@given(missing=st.integers(1, 4))
def test_a_csv_without_one_of_its_columns_names_it_or_the_number_left(tmp_path, missing):
    lines = [line[:missing] + line[missing + 1 :] for line in csv()]
    says = sentence(write_csv(tmp_path / "gap.csv", lines))
    assert f"no column pixel{missing}" in says or "3 pixel columns, which is not a square" in says


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([["label", "pixel1"], ["0", "300"]], "holds values from 300 to 300"),
        ([["label", "pixel1"], ["0", "-1"]], "holds values from -1 to -1"),
        ([["label", "pixel1"], ["0", "0.5"]], "the column pixel1 holds something other than"),
        ([["label", "pixel1"], ["0", ""]], "the column pixel1 holds something other than"),
        ([["label", "pixel1"], ["cat", "5"]], "the column label holds something other than"),
        ([["label", "pixel1"], ["1", "5"], ["2", "6"]], "2 different labels from 1 to 2"),
        ([["label", "pixel1"], ["0", "5"], ["0", "6"]], r"one label only \(0\)"),
        ([["label", "pixel1"]], "has no rows below its header"),
        ([["label", "pixel1"], ["0", "5", "6"]], "rows that are longer than its header"),
        ([["label", "pixel1"], ["0", "5"], ["0", "5", "6"]], "cannot be read as a CSV file"),
        ([["label", "pixel1", "id"], ["0", "5", "6"]], "has an extra column 'id'"),
        ([["label", "pixel1", "pixel1"], ["0", "5", "6"]], "has an extra column 'pixel1.1'"),
        ([["label"], ["0"]], "has no pixel columns"),
        ([["0", "17"], ["1", "5"]], "has an extra column '0'"),
        (
            [["label", "pixel1", "pixel2"], ["0", "5", "6"]],
            "2 pixel columns, which is not a square",
        ),
        ([["label", "pixel2"], ["0", "5"]], "has no column pixel1"),
        ([], "cannot be read as a CSV file"),
    ],
)
def test_an_unsound_csv_is_refused_for_what_is_wrong_with_it(tmp_path, lines, says):
    assert re.search(says, sentence(write_csv(tmp_path / "bad.csv", lines)))


@examples(60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_off_csv_is_noticed_unless_the_cut_is_at_the_end_of_a_row(tmp_path, share):
    path = write_csv(tmp_path / "cut.csv", csv())
    content = path.read_text()
    kept = content[: int(share * len(content))]
    path.write_text(kept)
    loaded, _ = load_or_sentence(path)
    if loaded is not None:
        assert len(kept.rstrip("\n").rsplit("\n", 1)[-1].split(",")) == 5


@examples(40)
@given(content=st.binary(max_size=300))
def test_a_file_of_random_bytes_is_not_a_csv(tmp_path, content):
    (tmp_path / "noise.csv").write_bytes(content)
    sentence(tmp_path / "noise.csv")


def test_a_csv_that_is_not_there_is_named(tmp_path):
    for read in (data.read_csv, labkit.load):
        with pytest.raises(ValueError, match=r"there is no file .*gone\.csv"):
            read(tmp_path / "gone.csv")


# --- folders -----------------------------------------------------------------------------------


def write_images(folder, classes=("cat", "dog"), count=10, size=(6, 5), mode="RGB", suffix=".png"):
    """Class folders of random images, H x W."""
    rng = np.random.default_rng(len(str(folder)))
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
            pixels = rng.integers(0, 256, (*size, *channels), dtype=np.uint8)
            Image.fromarray(pixels, mode).save(folder / name / f"{number}{suffix}")
    return folder


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_folder_of_class_folders(tmp_path, suffix, mode, channels):
    pets = labkit.load(write_images(tmp_path / "pets.v2", suffix=suffix, mode=mode))
    assert pets.name == "pets.v2"
    assert pets.classes == ("cat", "dog")
    assert pets.shape == (channels, 6, 5)
    assert [len(part) for part in (pets.train, pets.val, pets.test)] == [14, 2, 4]
    assert torch.bincount(pets.test.labels).tolist() == [2, 2]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_dropped(tmp_path, mode):
    pets = labkit.load(write_images(tmp_path / "pets", mode=mode))
    assert pets.shape == (len(mode) - 1, 6, 5)


def test_train_val_and_test_folders_are_respected(tmp_path):
    root = tmp_path / "pets"
    write_images(root / "train", count=20)
    write_images(root / "test", count=5)
    pets = labkit.load(root)
    assert [len(part) for part in (pets.train, pets.val, pets.test)] == [36, 4, 10]
    first = next((root / "test" / "dog").iterdir())
    pixels = torch.from_numpy(np.array(Image.open(first))).permute(2, 0, 1)
    assert any(torch.equal(pixels, image) for image in pets.test.images[pets.test.labels == 1])
    write_images(root / "val", count=10)  # pooled with train, and split again
    pets = labkit.load(root)
    assert [len(part) for part in (pets.train, pets.val, pets.test)] == [54, 6, 10]


def test_a_class_may_be_called_train(tmp_path):
    vehicles = labkit.load(write_images(tmp_path / "vehicles", classes=("car", "test", "train")))
    assert vehicles.classes == ("car", "test", "train")


def test_one_image_in_colour_makes_all_of_them_colour(tmp_path):
    write_images(tmp_path / "pets", classes=("cat",), mode="L")
    grey = labkit.load(write_images(tmp_path / "pets", classes=("dog",), mode="L"))
    mixed = labkit.load(write_images(tmp_path / "pets", classes=("dog",), mode="RGB"))
    assert (grey.shape, mixed.shape) == ((1, 6, 5), (3, 6, 5))
    cats = mixed.train.images[mixed.train.labels == 0]
    assert torch.equal(cats[:, 0], cats[:, 2])


def test_hidden_folders_and_other_files_are_not_classes(tmp_path):
    write_images(tmp_path / "pets")
    (tmp_path / "pets" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "pets" / "readme.txt").write_text("pets")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("cats")
    assert labkit.load(tmp_path / "pets").classes == ("cat", "dog")


def test_size_resizes_and_is_needed_where_sizes_differ(tmp_path):
    root = write_images(tmp_path / "pets", classes=("cat",), size=(6, 5))
    write_images(root, classes=("dog",), size=(9, 7), mode="L")
    assert re.search(r"has 9 x 7 pixels and .* 6 x 5; pass size= to resize", sentence(root))
    assert labkit.load(root, size=4).shape == (3, 4, 4)
    assert labkit.load(root, size=(1, 8, 12)).shape == (1, 8, 12)


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    root = tmp_path / "pets"
    root.mkdir()
    assert "holds 0 class folders" in sentence(root)
    write_images(root, classes=("cat",))
    assert "holds 1 class folders" in sentence(root)
    (root / "dog").mkdir()
    assert re.search(r"dog holds no images \(\.png, \.jpg\)", sentence(root))
    write_images(tmp_path / "split" / "train")
    write_images(tmp_path / "split" / "test", classes=("cat",))
    assert re.search(r"test.dog holds no images", sentence(tmp_path / "split"))
    (root / "dog" / "0.png").mkdir()
    assert re.search(r"0\.png is not a readable image", sentence(root))


def test_images_of_sixteen_bits_are_refused(tmp_path):
    root = write_images(tmp_path / "pets")
    Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save(root / "cat" / "0.png")
    assert re.search(r"cat.0\.png has more than 8 bits a pixel", sentence(root))


@examples(40)
@given(share=st.floats(0, 0.95), suffix=st.sampled_from([".png", ".jpg"]))
def test_a_cut_off_image_is_named(tmp_path, share, suffix):
    root = write_images(tmp_path / f"pets{suffix}", count=3, size=(30, 30), suffix=suffix)
    path = root / "dog" / f"1{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert re.search(rf"dog.1{suffix} is not a readable image", sentence(root))


@examples(40)
@given(content=st.binary(max_size=200))
def test_random_bytes_in_place_of_an_image(tmp_path, content):
    root = write_images(tmp_path / "pets", count=3)
    (root / "cat" / "1.png").write_bytes(content)
    assert "is not a readable image" in sentence(root)


def test_what_macos_leaves_beside_an_image_is_no_image(tmp_path):
    write_images(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "._0.png").write_bytes(b"resource fork")
    assert len(labkit.load(tmp_path / "pets", val_fraction=0).train) > 0


def test_a_folder_beside_train_is_not_dropped_without_a_word(tmp_path):
    write_images(tmp_path / "pets" / "train")
    write_images(tmp_path / "pets" / "valid")
    with pytest.raises(ValueError, match="holds valid beside train; expected train, val and test"):
        labkit.load(tmp_path / "pets")


def test_a_path_that_is_called_like_a_set_is_a_path(tmp_path, monkeypatch):
    write_images(tmp_path / "shapes")
    monkeypatch.chdir(tmp_path)
    assert labkit.load(Path("shapes")).classes == ("cat", "dog")
    assert labkit.load("shapes").classes != ("cat", "dog")


def test_a_subset_may_be_empty():
    assert len(labkit.load("shapes", limit=40).train.subset([])) == 0
