"""The graders of lab 04 accept what is right, and name the likeliest mistakes of each exercise."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import checks

# ---------------------------------------------------------------------------- hidden units


def hidden_units(in_features, num_classes, budget):
    return (budget - num_classes) // (in_features + 1 + num_classes)


def without_biases(in_features, num_classes, budget):
    return budget // (in_features + num_classes)


def without_last_biases(in_features, num_classes, budget):
    return budget // (in_features + 1 + num_classes)


def rounded(in_features, num_classes, budget):
    return round((budget - num_classes) / (in_features + 1 + num_classes))


def not_whole(in_features, num_classes, budget):
    return (budget - num_classes) / (in_features + 1 + num_classes)


def one_too_few(*arguments):
    return hidden_units(*arguments) - 1


def test_hidden_units_that_spend_the_budget_pass(capsys):
    checks.lab04_hidden_units(hidden_units)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (without_biases, "a hidden unit has a bias too"),
        (without_last_biases, "biases of the last layer"),
        (rounded, "round down"),
        (not_whole, "whole number"),
        (lambda *_: None, "whole number"),
        (one_too_few, "the second must not"),
        (lambda *_: -5, "whole number"),
    ],
)
def test_hidden_units_that_do_not_fit_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab04_hidden_units(wrong)


# ------------------------------------------------------------------------ conv from linear


def conv_from_linear(linear, channels, height, width, **options):
    conv = nn.Conv2d(channels, linear.out_features, (height, width), **options)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(linear.bias)
    return conv


def channels_last(linear, channels, height, width):
    conv = conv_from_linear(linear, channels, height, width)
    with torch.no_grad():
        shuffled = linear.weight.view(-1, height, width, channels).permute(0, 3, 1, 2)
        conv.weight.copy_(shuffled)
    return conv


def own_bias(linear, channels, height, width):
    conv = conv_from_linear(linear, channels, height, width)
    nn.init.ones_(conv.bias)
    return conv


def no_bias(*arguments):
    return conv_from_linear(*arguments, bias=False)


def untouched(linear, channels, height, width):
    return nn.Conv2d(channels, linear.out_features, (height, width))


def padded(*arguments):
    return conv_from_linear(*arguments, padding=1)


def transposed(linear, channels, height, width):
    return conv_from_linear(linear, channels, width, height)


def test_a_conv_with_the_weights_of_the_linear_layer_passes(capsys):
    checks.lab04_conv_from_linear(conv_from_linear)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (channels_last, "weights are in the wrong places"),
        (own_bias, "bias is not linear.bias"),
        (no_bias, "bias is not linear.bias"),
        (untouched, "copy them"),
        (padded, "at one place only"),
        (transposed, "kernel has the shape"),
        (lambda linear, *_: linear, "return the nn.Conv2d"),
        (lambda *_: None, "return the nn.Conv2d"),
    ],
)
def test_a_conv_that_is_not_the_linear_layer_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab04_conv_from_linear(wrong)


# ------------------------------------------------------------------------- matrix of a conv


def matrix_of_conv(kernel, height, width, padding=1):
    n = height * width
    units = torch.eye(n).view(n, 1, height, width)
    return F.conv2d(units, kernel.view(1, 1, 3, 3), padding=padding).flatten(1).T


def pixel_by_pixel(kernel, height, width):
    matrix = torch.zeros(height * width, height * width)
    for y in range(height):
        for x in range(width):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        place = (y + dy) * width + x + dx
                        matrix[y * width + x, place] = kernel[1 + dy, 1 + dx]
    return matrix


def wrapped(kernel, height, width):
    n = height * width
    units = F.pad(torch.eye(n).view(n, 1, height, width), (1, 1, 1, 1), mode="circular")
    return F.conv2d(units, kernel.view(1, 1, 3, 3)).flatten(1).T


@pytest.mark.parametrize("right", [matrix_of_conv, pixel_by_pixel])
def test_the_matrix_of_a_convolution_passes(right, capsys):
    checks.lab04_matrix_of_conv(right)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *arguments: matrix_of_conv(*arguments).T, "this is the transposed"),
        (lambda kernel, *size: matrix_of_conv(kernel.flip(0, 1), *size), "this is the transposed"),
        (lambda *arguments: matrix_of_conv(*arguments, padding=0), "without padding=1"),
        (wrapped, "comes back on the other"),
        (lambda kernel, height, width: torch.eye(height * width), "differs from torch by"),
        (lambda *_: None, "return a tensor"),
    ],
)
def test_another_matrix_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab04_matrix_of_conv(wrong)
