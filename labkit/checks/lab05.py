"""Graders of lab 05, ten classes of ImageNet."""

from collections.abc import Callable
from numbers import Integral, Real
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from labkit import study


def lab05_crop_box(crop_box: Callable[[int, int], tuple[int, int, int, int]]) -> None:
    """Grade `crop_box(height, width)`: (left, top, right, bottom) of the largest square in the
    middle of an image, in whole pixels; where it can't be the middle, half a pixel beside it."""
    sizes = [(160, 213), (240, 160), (64, 64), (7, 4), (33, 100), (5, 1)]
    sizes += torch.randint(2, 500, (20, 2), generator=torch.Generator().manual_seed(5)).tolist()
    for height, width in sizes:
        where = f"crop_box({height}, {width})"
        box = crop_box(height, width)
        four = isinstance(box, tuple | list) and len(box) == 4
        assert four, f"{where} gave {box!r}: return the four numbers left, top, right, bottom."
        assert all(isinstance(edge, Integral) for edge in box), (
            f"{where} gave {box!r}: pixels are whole; // gives whole numbers, / does not."
        )
        _check_box(where, tuple(box), height, width)
    print("OK  crop_box cuts the middle square, from high, wide and odd pictures.")


def _check_box(where: str, box: tuple, height: int, width: int) -> None:
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    right = (left, top, left + side, top + side)
    for sentence, wrong in {
        "this is (top, left, bottom, right), but Pillow wants the x of each corner first": (
            *(top, left, top + side, left + side),
        ),
        "the last two are the right and the lower edge, not the width and the height": (
            *(left, top, side, side),
        ),
        "this is the corner at the upper left, not the middle": (0, 0, side, side),
    }.items():
        assert box == right or box != wrong, f"{where} gave {box}: {sentence}."
    x0, y0, x1, y1 = box
    inside = min(x0, y0) >= 0 and x1 <= width and y1 <= height
    assert inside, (
        f"{where} gave {box}, which reaches out of the picture of {width} x {height} (width x "
        "height): the side of the square is the shorter of the two."
    )
    assert (x1 - x0, y1 - y0) == (side, side), (
        f"{where} gave {box}, {x1 - x0} wide and {y1 - y0} high, but the largest square has a side "
        f"of {side}."
    )
    assert max(abs(x0 + x1 - width), abs(y0 + y1 - height)) <= 1, (
        f"{where} gave {box}: {x0} pixels are cut off on the left, {width - x1} on the right, {y0} "
        f"above and {height - y1} below; both sides must lose the same."
    )


def lab05_wilson(wilson: Callable[..., tuple[float, float]]) -> None:
    """Grade `wilson(hits, n, z=1.96)`: the two ends of Wilson's interval. Random counts, against
    `labkit.study.wilson`."""
    rng = np.random.default_rng(5)
    cases = [(0, 10, 1.96), (120, 120, 1.96), (65, 120, 1.96), (107, 120, 1.0)]
    for n in rng.integers(5, 400, 20).tolist():
        cases.append((int(rng.integers(0, n + 1)), n, float(rng.uniform(0.5, 3))))
    for hits, n, z in cases:
        where = f"wilson({hits}, {n}, z={z:.3g})"
        ends = wilson(hits, n, z=z)
        two = isinstance(ends, tuple | list) and len(ends) == 2
        assert two, f"{where} gave {ends!r}: return two numbers, low and high."
        assert all(isinstance(end, Real) for end in ends), (
            f"{where} gave {ends!r}: both ends must be plain numbers."
        )
        right = study.wilson(hits, n, confidence=2 * NormalDist().cdf(z) - 1)
        if not np.allclose(ends, right, atol=1e-6):
            raise AssertionError(f"{where} gave {_pair(ends)}: {_wilson_mistake(ends, hits, n, z)}")
    print("OK  wilson gives both ends, for any accuracy, also for 0 and 1.")


def _wilson_mistake(ends, hits: int, n: int, z: float) -> str:
    """What is likely to have gone wrong, as a sentence."""
    p, shrink = hits / n, 1 + z**2 / n
    middle = (p + z**2 / (2 * n)) / shrink
    root = np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    simple = z * np.sqrt(p * (1 - p) / n)
    low, high = middle - z / shrink * root, middle + z / shrink * root
    mistakes = {
        "this is p ± z·sqrt(p(1-p)/n), which has no width where all answers are right, and runs "
        "past 0 and 1.": (p - simple, p + simple),
        "this is the middle and the half width; return middle - half and middle + half.": (
            *(middle, high - middle),
        ),
        "the two ends are swapped: low comes first.": (high, low),
        "the middle is not hits / n: it is drawn towards 1/2, by z²/(2n) above and z²/n below.": (
            *(p - z / shrink * root, p + z / shrink * root),
        ),
        "the factor in front of the root is z / (1 + z²/n): the division is missing.": (
            *(middle - z * root, middle + z * root),
        ),
        "the middle must be divided by 1 + z²/n too.": (
            *(middle * shrink - z / shrink * root, middle * shrink + z / shrink * root),
        ),
    }
    for sentence, wrong in mistakes.items():
        if np.allclose(ends, wrong, atol=1e-6):
            return sentence
    return f"it must be {_pair((low, high))}."


def _pair(ends) -> str:
    return f"({ends[0]:.4f}, {ends[1]:.4f})"


def lab05_stratified(stratified: Callable[[Tensor, torch.Generator], tuple]) -> None:
    """Grade `stratified(labels, generator)`: indices of training, validation and test images,
    3:1:1 in every class, drawn with the generator. Classes of different sizes."""
    for sizes in ((50, 20, 5), (10, 10, 10, 10), (15, 60), (5,) * 12):
        labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        labels = labels[torch.randperm(len(labels), generator=_generator(len(labels)))]
        parts = [_parts(stratified(labels, _generator(seed)), labels) for seed in (1, 1, 2)]
        for label, size in enumerate(sizes):
            _check_shares(label, size, [int((labels[part] == label).sum()) for part in parts[0]])
        test, again, other = (sorted(three[2].tolist()) for three in parts)
        assert test == again, (
            "Two generators with the same seed gave different splits: give the generator to "
            "torch.randperm(..., generator=generator)."
        )
        assert test != other, (
            "Two generators with different seeds gave the same split, the first images of each "
            "class: shuffle each class with torch.randperm(..., generator=generator)."
        )
    print("OK  stratified splits every class 3:1:1, each image once, as the generator draws.")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _parts(parts, labels: Tensor) -> list[Tensor]:
    """The three parts, once they are three tensors that hold each index once."""
    kinds = [type(part).__name__ for part in parts] if isinstance(parts, tuple | list) else parts
    three = isinstance(kinds, list) and len(kinds) == 3 and not {*kinds} - {"Tensor", "ndarray"}
    assert three, (
        f"stratified gave {kinds!r:.80}: return three tensors of indices, train, val and test."
    )
    parts = [torch.as_tensor(part) for part in parts]
    shapes = [tuple(part.shape) for part in parts]
    assert all(part.dim() == 1 for part in parts), (
        f"The three parts have the shapes {shapes}: an index is one number. nonzero() gives n x 1, "
        "so flatten it: .nonzero().flatten()."
    )
    together = torch.cat([part.long() for part in parts])
    assert not any(part.dtype == torch.bool or part.is_floating_point() for part in parts), (
        "The parts must hold indices, whole numbers (torch.long), not a mask."
    )
    n = len(labels)
    assert together.clamp(0, n - 1).equal(together), (
        f"An index lies outside 0..{n - 1}: an index says where in `labels` an image stands."
    )
    times = torch.bincount(together, minlength=n)
    twice, never = (times > 1).nonzero().flatten(), (times == 0).nonzero().flatten()
    assert not len(twice), (
        f"{len(twice)} of {n} images are there more than once, such as image {twice[0]}: an image "
        "that is in training and in test is no test. Return places in `labels`, and cut one "
        "shuffled list."
    )
    assert not len(never), f"{len(never)} of {n} images are in no part, such as image {never[0]}."
    return [part.long() for part in parts]


def _check_shares(label: int, size: int, counts: list[int]) -> None:
    right = [3 * size // 5, size // 5, size // 5]
    assert sorted(counts, reverse=True) != right or counts == right, (
        f"Class {label} has {counts} images in training, validation and test: the three parts are "
        "in another order than train, val, test."
    )
    assert counts == right, (
        f"Class {label} has {counts} of its {size} images in training, validation and test, but "
        f"3:1:1 is {right}: take each class on its own, shuffle its places, and cut those."
    )
