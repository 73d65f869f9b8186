"""Augmentations: each does what it says, draws anew for each image, and repeats with its seed."""

import json
import math

import numpy as np
import pytest
import torch

from labkit import augment
from labkit.augment import Crop, Erasing, Flip, Rotation

ALL = [Crop(), Flip(), Rotation(), Erasing(p=1.0)]


def draw(transform, images, seed=0):
    return transform(images, torch.Generator().manual_seed(seed))


def chi_square(counts, expected):
    return ((counts - expected) ** 2 / expected).sum().item()


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(16, 3, 32, 32), (1, 1, 28, 28), (5, 3, 20, 36)])
def test_shape_dtype_and_input_stay_and_a_seed_repeats_the_draws(transform, dtype, shape):
    images = torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = images.clone()
    first, second, other = (draw(transform, images, seed) for seed in (0, 0, 1))
    assert first.shape == images.shape
    assert first.dtype == dtype
    assert torch.equal(first, second)
    assert shape[0] == 1 or not torch.equal(first, other)
    assert torch.equal(images, before)


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_an_empty_batch_stays_empty(transform):
    images = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
    assert draw(transform, images).shape == images.shape


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_how_the_images_lie_in_memory_does_not_matter(transform):
    images = torch.randint(1, 256, (8, 3, 20, 36), generator=torch.Generator().manual_seed(1))
    expected = draw(transform, images)
    strided = torch.stack((images, images), dim=-1)[..., 0]
    for other in (images.to(memory_format=torch.channels_last), strided):
        assert torch.equal(draw(transform, other), expected)


def test_crop_cuts_each_image_out_of_its_padded_self():
    images = torch.randint(1, 256, (200, 2, 6, 9), generator=torch.Generator().manual_seed(1))
    for image, cut in zip(images, draw(Crop(padding=3), images), strict=True):
        padded = torch.nn.functional.pad(image, [3] * 4)
        windows = padded.unfold(1, 6, 1).unfold(2, 9, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert (windows == cut).flatten(1).all(1).any()


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_each_image_has_its_own_draw(transform):
    one = torch.randint(1, 256, (3, 32, 32), generator=torch.Generator().manual_seed(1))
    changed = draw(transform, one.to(torch.uint8).repeat(64, 1, 1, 1))
    assert len({image.numpy().tobytes() for image in changed}) >= (2 if transform == Flip() else 30)


def test_crop_is_a_shift_and_every_offset_is_equally_likely():
    marked = torch.zeros(20_000, 1, 16, 16, dtype=torch.uint8)
    marked[:, :, 8, 8] = 1
    moved = draw(Crop(padding=2), marked)
    where = moved.flatten(1).argmax(1)
    rows, columns = where // 16 - 8, where % 16 - 8
    assert moved.sum() == len(marked)  # a dot in the middle never leaves the picture
    counts = torch.bincount((rows + 2) * 5 + columns + 2, minlength=25).double()
    # 24 degrees of freedom: 51.2 is exceeded once in a thousand seeds, and the seed is fixed.
    assert chi_square(counts, len(marked) / 25) < 51.2


def test_crop_moves_all_channels_together_and_fills_with_black():
    images = torch.full((50, 3, 8, 8), 9, dtype=torch.uint8)
    moved = draw(Crop(padding=3), images)
    assert torch.equal(moved[:, 0], moved[:, 2])
    assert set(moved.unique().tolist()) == {0, 9}


def test_flip_mirrors_columns_for_its_share_of_the_images():
    images = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3).repeat(10_000, 1, 1, 1)
    flipped = draw(Flip(p=0.3), images)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    same = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ same).all()
    assert abs(mirrored.double().mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 10_000)


def test_rotation_turns_by_uniform_angles_up_to_its_limit():
    y, x = torch.meshgrid(torch.arange(81) - 40.0, torch.arange(81) - 40.0, indexing="ij")
    # A broad spot: its centre is known to a fraction of a pixel, though pixels move as a whole.
    spot = torch.exp(-((x - 24) ** 2 + y**2) / 32).expand(3_000, 1, 81, 81)
    turned = draw(Rotation(degrees=30), spot)
    weight = turned.sum((1, 2, 3))
    angle = torch.atan2((turned * y).sum((1, 2, 3)) / weight, (turned * x).sum((1, 2, 3)) / weight)
    degrees = angle.rad2deg()
    assert degrees.abs().max() < 30.5
    counts = torch.histc(degrees, bins=10, min=-30, max=30).double()
    # 9 degrees of freedom, one in a thousand: 27.9.
    assert chi_square(counts, len(spot) / 10) < 27.9


def test_rotation_keeps_distances_in_images_that_are_not_square():
    y, x = torch.meshgrid(torch.arange(21) - 10.0, torch.arange(41) - 20.0, indexing="ij")
    dot = torch.exp(-((x - 8) ** 2 + y**2) / 2).double().expand(500, 1, 21, 41)
    turned = draw(Rotation(degrees=60), dot)
    weight = turned.sum((1, 2, 3))
    radius = torch.hypot((turned * y).sum((1, 2, 3)) / weight, (turned * x).sum((1, 2, 3)) / weight)
    assert (radius - 8).abs().max() < 0.2


def test_erasing_blackens_one_rectangle_of_the_wanted_size_at_a_uniform_place():
    images = torch.ones(20_000, 1, 24, 24, dtype=torch.uint8)
    erased = draw(Erasing(p=1.0, area=(0.0625, 0.0625), ratio=(1.0, 1.0)), images)
    black = erased[:, 0] == 0
    assert (black.sum((1, 2)) == 36).all()  # 1/16 of 24 x 24: a square of 6 x 6
    top, left = black.any(2).int().argmax(1), black.any(1).int().argmax(1)
    assert (black.any(2).sum(1) == 6).all()
    for start in (top, left):
        counts = torch.bincount(start, minlength=19).double()
        # 18 degrees of freedom, one in a thousand: 42.3.
        assert chi_square(counts, len(images) / 19) < 42.3


def test_erasing_draws_its_area_uniformly_and_leaves_the_other_images_alone():
    images = torch.ones(20_000, 1, 64, 64, dtype=torch.uint8)
    erased = draw(Erasing(p=0.5, area=(0.1, 0.3), ratio=(0.5, 2.0)), images)
    share = (erased == 0).double().mean((1, 2, 3))
    touched = share > 0
    assert abs(touched.double().mean() - 0.5) < 4 * math.sqrt(0.25 / 20_000)
    counts = torch.histc(share[touched], bins=8, min=0.1, max=0.3).double()[1:-1]
    # The rounding of the sides blurs the two outer bins; six are left, 5 degrees of freedom.
    assert chi_square(counts, counts.mean()) < 20.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Crop(padding=0), r"Crop\(padding=0\)"),
        (lambda: Crop(padding=1.5), r"Crop\(padding=1.5\)"),
        (lambda: Flip(p=2), r"Flip\(p=2\)"),
        (lambda: Rotation(degrees=0), r"Rotation\(degrees=0\)"),
        (lambda: Erasing(p=-1), r"Erasing\(p=-1\)"),
        (lambda: Erasing(area=(0.5, 0.1)), r"Erasing\(area="),
        (lambda: Erasing(ratio=(0, 1)), r"Erasing\(ratio="),
        (lambda: augment.build("crop"), r"tuple of names"),
        (lambda: augment.build(["zoom"]), r"no augmentation 'zoom'; there are crop, flip"),
        (lambda: augment.build([3]), r"no augmentation 3"),
        (lambda: augment.build([["crop", "flip"]]), r"no augmentation \['crop', 'flip'\]"),
        (lambda: augment.build([{"name": "crop", "pad": 4}]), r"crop has no 'pad'; it has padding"),
        (lambda: Crop(padding=True), r"Crop\(padding=True\)"),
        (lambda: Flip("0.5"), r"Flip\(p='0.5'\)"),
        (lambda: Rotation("15"), r"Rotation\(degrees='15'\)"),
        (lambda: Erasing(area=0.1), r"Erasing\(area=0\.1\)"),
        (lambda: Erasing(area=("0.1", "0.2")), r"Erasing\(area=\('0\.1', '0\.2'\)\)"),
        (lambda: Erasing(ratio="12"), r"Erasing\(ratio='12'\)"),
        (lambda: Erasing(ratio=(1, 2, 3)), r"Erasing\(ratio=\(1, 2, 3\)\)"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_numbers_of_numpy_become_plain_ones():
    one = np.float32(0.5)
    transforms = Crop(np.int64(4)), Flip(one), Rotation(one), Erasing(one, (one, one), [one, one])
    assert transforms == (Crop(4), Flip(0.5), Rotation(0.5), Erasing(0.5, (0.5, 0.5), (0.5, 0.5)))
    json.dumps([augment.to_dict(transform) for transform in transforms])


def test_names_objects_and_dicts_build_the_same_transforms():
    built = augment.build(("crop", Flip(0.2), {"name": "erasing", "area": [0.1, 0.2]}))
    assert built == (Crop(), Flip(0.2), Erasing(area=(0.1, 0.2)))
    assert augment.build(map(augment.to_dict, built)) == built


@pytest.mark.parametrize("shape", [(16, 3, 12, 14), (1, 1, 8, 8)])
def test_both_ways_to_cut_give_the_same_pixels(shape):
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(1, 256, shape, generator=generator)
    height, width = shape[2] - 4, shape[3] - 4
    first, last = torch.zeros(2, shape[0]).long(), torch.full((2, shape[0]), 4)
    for top, left in (first, last, torch.randint(0, 5, first.shape, generator=generator)):
        corners = zip(images, top, left, strict=True)
        expected = torch.stack([x[:, i : i + height, j : j + width] for x, i, j in corners])
        for cut in (augment._cut_rows, augment._cut_pixels):
            assert torch.equal(cut(images, top, left, height, width), expected)
