"""Graders of lab 06, a small CNN."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from labkit.checks.compare import name_mistake
from labkit.summary import summary


def lab06_conv_cost(conv_cost: Callable[..., tuple[int, int]]) -> None:
    """Grade `conv_cost(in_channels, out_channels, kernel_size, height, width, stride, padding,
    groups, bias)`: parameters, and multiply-accumulates for one image, of a square convolution.

    Counted on torch's Conv2d, with random sizes."""
    rng = random.Random(6)
    plain = {"stride": 1, "padding": 0, "groups": 1, "bias": True}
    cases = [{}, {"padding": 1}, {"stride": 2, "padding": 1}, {"groups": 4}, {"bias": False}]
    for case in cases:
        options = plain | case
        channels = 4 * rng.randint(1, 4), 4 * rng.randint(2, 5)
        size = rng.choice([3, 5]), 2 * rng.randint(4, 8), 2 * rng.randint(9, 12)
        _grade_cost(conv_cost, channels, size, options)
    print("OK  conv_cost counts as torch's layers do, with stride, padding, groups and bias.")


def _grade_cost(conv_cost, channels, size, options) -> None:
    kernel_size, height, width = size
    with torch.random.fork_rng(devices=[]):
        conv = nn.Conv2d(*channels, kernel_size, **options)
    total = summary(conv, (channels[0], height, width))
    (y,) = (row.output_shape for row in total.rows)
    arguments = ", ".join(map(str, (*channels, *size, *options.values())))
    where = f"conv_cost({arguments})"
    answer = conv_cost(*channels, *size, **options)
    pair = isinstance(answer, tuple | list) and len(answer) == 2
    assert pair, f"{where} gave {answer!r}: return two whole numbers, (parameters, macs)."
    parameters, macs = answer
    window, places = kernel_size**2, y[1] * y[2]
    beyond = 2 * options["padding"] - kernel_size + 1
    at_stride_1 = (height + beyond) * (width + beyond)
    weights = conv.weight.numel()
    _same(
        f"{where}: parameters",
        parameters,
        total.parameters,
        {
            weights: "each output channel has a bias too",
            weights + channels[1]: "bias=False means that there is none",
            channels[0] * channels[1] * window + options["bias"] * channels[1]: (
                "with groups=g each output channel sees in_channels / g channels only"
            ),
            weights + window * channels[1]: "a bias is one number for each output channel",
        },
    )
    _same(
        f"{where}: multiply-accumulates",
        macs,
        total.macs,
        {
            weights: "the weights are used again at every place of the output",
            weights * height * width: (
                "the kernel is used once for each place of the *output*, which has "
                f"{y[1]} x {y[2]} of them here"
            ),
            weights * at_stride_1: "with stride=s the kernel moves by s pixels at a time",
            channels[0] * channels[1] * window * places: (
                "with groups=g each output channel sees in_channels / g channels only"
            ),
            (weights + channels[1]) * places: "the bias is added, not multiplied: leave it out",
        },
    )


def _same(name: str, answer, right: int, mistakes: dict[int, str]) -> None:
    """Raise unless the answer is right; `mistakes` gives what a known mistake would give."""
    if answer == right:
        return
    hint = mistakes.get(answer)
    assert hint, f"{name}: {answer!r}, but torch's layer has {right:,}."
    raise AssertionError(f"{name}: {answer:,} instead of {right:,}: {hint}.")


def lab06_channel_statistics(
    channel_statistics: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> None:
    """Grade `channel_statistics(images)`: mean and standard deviation (C,) of the pixels of uint8
    images N x C x H x W, scaled to [0, 1]. Dividing by n - 1 is right as well. Random images."""
    generator = torch.Generator().manual_seed(6)
    for shape in ((5, 3, 4, 7), (6, 1, 5, 2), (4, 2, 3, 3)):
        # Each image has a brightness of its own, so that images differ as much as pixels.
        light = torch.randint(20, 200, (shape[0], 1, 1, 1), generator=generator)
        noise = torch.randint(0, 56, shape, generator=generator)
        images = (light + noise).to(torch.uint8)
        kept = images.clone()
        where = f"channel_statistics of uint8 images {' x '.join(map(str, shape))}"
        try:
            answer = channel_statistics(images)
        except RuntimeError as error:
            if "dtype" not in str(error) and "can't be cast" not in str(error):
                raise
            raise AssertionError(
                f"{where} stopped with '{error}': bytes (uint8) have no fractions. images / 255 "
                "makes a new tensor of floats; take the mean and the std of that."
            ) from None
        pair = isinstance(answer, tuple | list) and len(answer) == 2
        assert pair, f"{where} gave {answer!r}: return two tensors, (mean, std)."
        assert torch.equal(images, kept), f"{where}: the images were changed; leave them as is."
        _grade_statistics(where, *(torch.as_tensor(value).double() for value in answer), images)
    print("OK  channel_statistics agrees with torch, for 1, 2 and 3 channels.")


def _grade_statistics(where: str, mean: Tensor, std: Tensor, images: Tensor) -> None:
    x, channels = images.double() / 255, images.shape[1]
    right, dims = x.mean((0, 2, 3)), (0, 2, 3)
    for name, value in (("mean", mean), ("std", std)):
        of_all = value.dim() == 0 and channels > 1
        assert not of_all, f"{where}: one {name} for all channels; give one for each: {channels}."
        per_pixel = value.shape == images.shape[1:]
        assert not per_pixel, (
            f"{where}: {name} has a value for each pixel; it runs over the images *and* over "
            "height and width: dimensions 0, 2 and 3."
        )
        assert value.shape == (channels,), (
            f"{where}: {name} has the shape {tuple(value.shape)}, but must be ({channels},)."
        )
    unscaled = torch.allclose(mean, 255 * right)
    assert not unscaled, f"{where}: the mean is 255 times too large; divide the pixels by 255."
    assert torch.allclose(mean, right, atol=1e-5), (
        f"{where}: the mean differs from torch by {(mean - right).abs().max():.2g}."
    )
    per_image = [x.std((2, 3), correction=c).mean(0) for c in (0, 1)]
    assert not _one_of(std, per_image), (
        f"{where}: this is the average of the images' own standard deviations. It leaves out that "
        "one image is brighter than another; take the std of all pixels together."
    )
    variances = [x.var(dims, correction=c) for c in (0, 1)]
    assert not _one_of(std, variances), f"{where}: this is the variance; take its square root."
    assert _one_of(std, [variance.sqrt() for variance in variances]), (
        f"{where}: std is {std.tolist()}, but torch has {variances[0].sqrt().tolist()}."
    )


def _one_of(value: Tensor, candidates: list[Tensor]) -> bool:
    return any(torch.allclose(value, candidate, atol=1e-5) for candidate in candidates)


def lab06_early_stopping(early_stopping: Callable[[list[float], int], tuple[int, int]]) -> None:
    """Grade `early_stopping(val_acc, patience)`: (epochs trained, the epoch whose weights are
    kept), epochs counted from 1. Random runs, a tie, and runs that are never stopped."""
    rng = np.random.default_rng(6)
    runs = [([0.1, 0.3, 0.5, 0.4, 0.45, 0.2, 0.6, 0.1], 2), ([0.2, 0.5, 0.5, 0.5, 0.6], 2)]
    runs += [([0.1, 0.2, 0.3], 2), ([0.3, 0.2, 0.1], 5), ([0.2, 0.4, 0.3, 0.5, 0.4, 0.3], 2)]
    runs += [(rng.integers(0, 20, n) / 20, n % 4 + 1) for n in range(8, 20)]
    runs = [([float(value) for value in val_acc], patience) for val_acc, patience in runs]
    answers = [_trained_and_kept(early_stopping, *run) for run in runs]
    wrong = next((i for i, run in enumerate(runs) if answers[i] != _stop(*run)), None)
    if wrong is None:
        print(f"OK  early_stopping is right for {len(runs)} runs.")
        return
    val_acc, patience = runs[wrong]
    right = _stop(val_acc, patience)
    said = f"early_stopping({val_acc}, patience={patience}) gave {answers[wrong]}"
    stops = [_wrong_stops(*run) for run in runs]
    mistakes = {hint: [here[hint] for here in stops] for hint in stops[0]}
    name_mistake(f"{said} instead of {right}", answers, mistakes)
    alone = {hint: [pair] for hint, pair in stops[wrong].items()}
    name_mistake(f"{said} instead of {right}", [answers[wrong]], alone)
    raise AssertionError(f"{said}, but it must be {right}.")


def _trained_and_kept(early_stopping, val_acc, patience) -> tuple:
    answer = early_stopping(list(val_acc), patience)
    pair = isinstance(answer, tuple | list) and len(answer) == 2
    assert pair, (
        f"early_stopping({val_acc}, patience={patience}) gave {answer!r}: return two whole "
        "numbers, (trained, kept)."
    )
    return tuple(answer)


def _stop(val_acc, patience, better=lambda value, best: value > best) -> tuple[int, int]:
    """What `fit` does: the first epoch that is `patience` epochs after the best one is the last."""
    best = 0
    for epoch, value in enumerate(val_acc):
        if better(value, val_acc[best]):
            best = epoch
        if epoch - best >= patience:
            break
    return epoch + 1, best + 1


def _wrong_stops(val_acc, patience) -> dict[str, tuple[int, int]]:
    """What the likely mistakes would give."""
    trained, kept = _stop(val_acc, patience)
    falls = 0
    for last, (before, after) in enumerate(zip(val_acc, val_acc[1:], strict=False), start=2):  # noqa: B007
        falls = falls + 1 if after <= before else 0
        if falls == patience:
            break
    since = val_acc[:last]
    best = int(np.argmax(val_acc)) + 1
    return {
        "that is the last epoch; keep the weights of the best one so far": (trained, trained),
        "an epoch as good as the best is no progress: ask for more, with >": _stop(
            val_acc, patience, lambda value, best: value >= best
        ),
        "that follows the lowest value; accuracy is the better the higher": _stop(
            val_acc, patience, lambda value, best: value < best
        ),
        "that is one epoch too early: `patience` epochs come after the best one": _stop(
            val_acc, patience - 1
        ),
        "that is one epoch too late: stop as soon as `patience` epochs have passed since the best "
        "one": _stop(val_acc, patience + 1),
        "the best epoch comes after the run has stopped: look no further than the epochs that were "
        "trained": (trained, best),
        "that looks for the best epoch of the whole run, but while it trains nobody knows what "
        "comes": (min(best + patience, len(val_acc)), best),
        "compare each epoch with the best one so far, not with the one before": (
            last,
            int(np.argmax(since)) + 1,
        ),
        "count the epochs from 1": (trained - 1, kept - 1),
    }
