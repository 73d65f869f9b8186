"""The graders of lab 05 accept what is right, and name the likeliest mistakes of each exercise."""

import math

import pytest
import torch

from labkit import checks

# -------------------------------------------------------------------------------- crop box


def crop_box(height, width, up=False):
    side = min(height, width)
    left, top = (width - side + up) // 2, (height - side + up) // 2
    return left, top, left + side, top + side


def rounded_up(height, width):
    return crop_box(height, width, up=True)


def y_first(height, width):
    left, top, right, bottom = crop_box(height, width)
    return top, left, bottom, right


def with_sizes(height, width):
    left, top, right, bottom = crop_box(height, width)
    return left, top, right - left, bottom - top


def upper_left(height, width):
    return 0, 0, min(height, width), min(height, width)


def floats(height, width):
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def longer_side(height, width):
    side = max(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def off_centre(height, width):
    left, top, right, bottom = crop_box(height, width)
    return (0, top, right - left, bottom) if width > height else (left, top, right, bottom)


def smaller(height, width):
    left, top, right, bottom = crop_box(height, width)
    return left + 1, top + 1, right - 1, bottom - 1


@pytest.mark.parametrize("right", [crop_box, rounded_up, lambda h, w: list(crop_box(h, w))])
def test_the_middle_square_passes_to_either_side_of_half_a_pixel(right, capsys):
    checks.lab05_crop_box(right)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (y_first, "Pillow wants the x"),
        (with_sizes, "not the width and the height"),
        (upper_left, "not the middle"),
        (floats, "pixels are whole"),
        (longer_side, "reaches out of the picture"),
        (off_centre, "not the middle"),
        (lambda h, w: (0, 0, w, h), "largest square has a side"),
        (smaller, "largest square has a side"),
        (lambda h, w: (w - min(h, w), h - min(h, w), w, h), "both sides must lose the same"),
        (lambda h, w: None, "return the four numbers"),
        (lambda h, w: (0, h, w), "return the four numbers"),
    ],
)
def test_another_box_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab05_crop_box(wrong)


# ---------------------------------------------------------------------------------- wilson


def parts(hits, n, z):
    p, shrink = hits / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    return p, shrink, middle, math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))


def wilson(hits, n, z=1.96):
    _, shrink, middle, root = parts(hits, n, z)
    return middle - z / shrink * root, middle + z / shrink * root


def simple(hits, n, z=1.96):
    p = hits / n
    half = z * math.sqrt(p * (1 - p) / n)
    return p - half, p + half


def middle_and_half(hits, n, z=1.96):
    low, high = wilson(hits, n, z)
    return (low + high) / 2, (high - low) / 2


def around_the_share(hits, n, z=1.96):
    p, shrink, _, root = parts(hits, n, z)
    return p - z / shrink * root, p + z / shrink * root


def not_shrunk(hits, n, z=1.96):
    *_, middle, root = parts(hits, n, z)
    return middle - z * root, middle + z * root


def middle_not_shrunk(hits, n, z=1.96):
    _, shrink, middle, root = parts(hits, n, z)
    return middle * shrink - z / shrink * root, middle * shrink + z / shrink * root


def test_wilsons_interval_passes(capsys):
    checks.lab05_wilson(wilson)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (simple, "no width where all answers are right"),
        (middle_and_half, "return middle - half"),
        (lambda *a, **k: wilson(*a, **k)[::-1], "swapped"),
        (around_the_share, "middle is not hits / n"),
        (not_shrunk, "division is missing"),
        (middle_not_shrunk, "divided by 1"),
        (lambda hits, n, z: wilson(hits, n), "it must be"),
        (lambda hits, n, z: wilson(hits, n, z)[0], "return two numbers"),
        (lambda *a, **k: None, "return two numbers"),
        (lambda *a, **k: (None, 1.0), "plain numbers"),
    ],
)
def test_another_interval_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab05_wilson(wrong)


# ------------------------------------------------------------------------------ stratified


def cut(order):
    n = len(order)
    return order[: 3 * n // 5], order[3 * n // 5 : 4 * n // 5], order[4 * n // 5 :]


def stratified(labels, generator):
    three = [], [], []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        for part, some in zip(three, cut(members), strict=True):
            part.append(some)
    return tuple(torch.cat(part) for part in three)


def random_split(labels, generator):
    return cut(torch.randperm(len(labels), generator=generator))


def sorted_and_cut(labels, generator):
    return cut(labels.argsort())


def never_shuffled(labels, generator):
    members = [cut((labels == label).nonzero().flatten()) for label in labels.unique()]
    return tuple(torch.cat(part) for part in zip(*members, strict=True))


def global_random(labels, generator):
    return stratified(labels, None)


def labels_instead(labels, generator):
    return tuple(labels[part] for part in stratified(labels, generator))


def places_in_the_class(labels, generator):
    sizes = labels.bincount()
    orders = [cut(torch.randperm(int(size), generator=generator)) for size in sizes]
    return tuple(torch.cat(part) for part in zip(*orders, strict=True))


def masks(labels, generator):
    return tuple(
        torch.isin(torch.arange(len(labels)), part) for part in stratified(labels, generator)
    )


def leaky(labels, generator):
    train, val, test = stratified(labels, generator)
    return torch.cat([train, test]), val, test


def test_a_stratified_split_passes(capsys):
    checks.lab05_stratified(stratified)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (random_split, "take each class on its own"),
        (sorted_and_cut, "take each class on its own"),
        (never_shuffled, "different seeds gave the same split"),
        (global_random, "same seed gave different splits"),
        (labels_instead, "more than once"),
        (places_in_the_class, "more than once"),
        (leaky, "no test"),
        (masks, "not a mask"),
        (lambda *a: stratified(*a)[::-1], "another order"),
        (lambda *a: (*stratified(*a)[:2], torch.tensor([], dtype=torch.long)), "in no part"),
        (lambda *a: tuple(part + 1 for part in stratified(*a)), "outside 0"),
        (lambda *a: stratified(*a)[0], "three tensors"),
        (lambda *a: None, "three tensors"),
    ],
)
def test_another_split_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab05_stratified(wrong)
