"""The graders of lab 06 accept what is right, and name the likeliest mistakes of each exercise."""

import numpy as np
import pytest

from labkit import checks
from labkit.train import History, Recipe
from labkit.train.checkpoint import Run

# --------------------------------------------------------------------------- cost of a conv


def conv_cost(
    in_channels, out_channels, kernel_size, height, width, stride=1, padding=0, groups=1, bias=True
):
    window = in_channels // groups * kernel_size**2
    rows = (height + 2 * padding - kernel_size) // stride + 1
    columns = (width + 2 * padding - kernel_size) // stride + 1
    return out_channels * (window + bias), out_channels * window * rows * columns


def with_options(**changed):
    """conv_cost that takes an option for something else than what is asked."""
    return lambda *sizes, **options: conv_cost(*sizes, **(options | changed))


def at_every_input_pixel(*sizes, stride, padding, **options):
    parameters, _ = conv_cost(*sizes, **options)
    return parameters, conv_cost(*sizes, padding=sizes[2] // 2, **options)[1]


def weights_only(*sizes, **options):
    parameters, _ = conv_cost(*sizes, **options)
    return parameters, conv_cost(*sizes, **(options | {"bias": False}))[0]


def bias_is_multiplied(*sizes, **options):
    parameters, macs = conv_cost(*sizes, **options)
    weights, _ = conv_cost(*sizes, **(options | {"bias": False}))
    return parameters, macs + macs // weights * sizes[1]


def bias_for_each_weight_of_the_window(in_channels, out_channels, kernel_size, *rest, **options):
    sizes = in_channels, out_channels, kernel_size, *rest
    weights, macs = conv_cost(*sizes, **(options | {"bias": False}))
    return weights + kernel_size**2 * out_channels, macs


def one_side_padded(*sizes, padding, **options):
    parameters, _ = conv_cost(*sizes, **options)
    return parameters, conv_cost(*sizes, padding=padding / 2, **options)[1]


def test_costs_of_a_convolution_pass(capsys):
    checks.lab06_conv_cost(conv_cost)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (with_options(bias=False), "each output channel has a bias too"),
        (with_options(bias=True), "bias=False means that there is none"),
        (with_options(groups=1), "in_channels / g channels only"),
        (bias_for_each_weight_of_the_window, "one number for each output channel"),
        (with_options(stride=1), "moves by s pixels"),
        (at_every_input_pixel, "each place of the \\*output\\*"),
        (weights_only, "used again at every place"),
        (bias_is_multiplied, "added, not multiplied"),
        (one_side_padded, "torch's layer has"),
        (lambda *sizes, **options: conv_cost(*sizes, **options)[0], "two whole numbers"),
        (lambda *_, **__: None, "two whole numbers"),
    ],
)
def test_wrong_costs_of_a_convolution_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab06_conv_cost(wrong)


# ----------------------------------------------------------------------- channel statistics


def channel_statistics(images, correction=0):
    x = images.float() / 255
    return x.mean((0, 2, 3)), x.std((0, 2, 3), correction=correction)


def average_of_the_images(images):
    x = images.float() / 255
    return x.mean((2, 3)).mean(0), x.std((2, 3)).mean(0)


def unscaled(images):
    return images.float().mean((0, 2, 3)), images.float().std((0, 2, 3))


def of_all_channels(images):
    x = images.float() / 255
    return x.mean(), x.std()


def of_each_pixel(images):
    x = images.float() / 255
    return x.mean(0), x.std(0)


def of_each_image(images):
    x = images.float() / 255
    return x.mean((1, 2, 3)), x.std((1, 2, 3))


def variance(images):
    mean, std = channel_statistics(images)
    return mean, std**2


def of_the_first_image(images):
    return channel_statistics(images[:1])


def scales_in_place(images):
    return channel_statistics(images.div_(2, rounding_mode="floor"))


def std_of_bytes(images):
    return channel_statistics(images)[0], unscaled(images)[1]


@pytest.mark.parametrize("correction", [0, 1])
def test_channel_statistics_pass(correction, capsys):
    checks.lab06_channel_statistics(lambda images: channel_statistics(images, correction))
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (average_of_the_images, "average of the images' own standard deviations"),
        (unscaled, "divide the pixels by 255"),
        (of_all_channels, "one mean for all channels"),
        (of_each_pixel, "a value for each pixel"),
        (of_each_image, "has the shape"),
        (variance, "take its square root"),
        (of_the_first_image, "mean differs from torch"),
        (scales_in_place, "images were changed"),
        (std_of_bytes, "but torch has"),
        (lambda images: channel_statistics(images)[0], "return two tensors"),
        (lambda images: None, "return two tensors"),
    ],
)
def test_wrong_channel_statistics_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab06_channel_statistics(wrong)


# --------------------------------------------------------------------------- early stopping


def early_stopping(val_acc, patience, start=1):
    best = 0
    for epoch in range(len(val_acc)):
        if val_acc[epoch] > val_acc[best]:
            best = epoch
        if epoch - best == patience:
            break
    return epoch + start, best + start


def keeps_the_last(val_acc, patience):
    trained, _ = early_stopping(val_acc, patience)
    return trained, trained


def ties_are_progress(val_acc, patience):
    return early_stopping([value + 1e-9 * i for i, value in enumerate(val_acc)], patience)


def against_the_epoch_before(val_acc, patience):
    falls = 0
    for epoch in range(1, len(val_acc)):
        falls = falls + 1 if val_acc[epoch] <= val_acc[epoch - 1] else 0
        if falls == patience:
            break
    return epoch + 1, int(np.argmax(val_acc[: epoch + 1])) + 1


def looks_ahead(val_acc, patience):
    return early_stopping(val_acc, patience)[0], int(np.argmax(val_acc)) + 1


def waits_for_the_best_of_all(val_acc, patience):
    best = int(np.argmax(val_acc)) + 1
    return min(best + patience, len(val_acc)), best


def test_the_rule_of_early_stopping_passes(capsys):
    checks.lab06_early_stopping(early_stopping)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (keeps_the_last, "keep the weights of the best one"),
        (ties_are_progress, "is no progress"),
        (lambda values, patience: early_stopping(values, patience + 1), "one epoch too late"),
        (against_the_epoch_before, "not with the one before"),
        (looks_ahead, "look no further"),
        (waits_for_the_best_of_all, "nobody knows what comes"),
        (lambda values, patience: early_stopping(values, patience, start=0), "count .* from 1"),
        (lambda values, patience: (1, 1), "but it must be"),
        (lambda values, patience: early_stopping(values, patience)[0], "two whole numbers"),
        (lambda values, patience: None, "two whole numbers"),
    ],
)
def test_another_rule_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab06_early_stopping(wrong)


def test_the_rule_of_the_exercise_is_that_of_fit():
    rng = np.random.default_rng(0)
    for _ in range(50):
        val_acc = (rng.integers(0, 10, 12) / 10).tolist()
        patience = int(rng.integers(1, 5))
        run = object.__new__(Run)
        run.recipe = Recipe(early_stopping=patience, keep="last")
        run.history = History(run.recipe, "", "", "cpu")
        for epoch, value in enumerate(val_acc, start=1):
            run.finish_epoch({"epoch": epoch, "val_acc": value})
            if run.history.stopped:
                break
        assert early_stopping(val_acc, patience) == (epoch, run.history.best["epoch"])
