"""Graders of lab 04, MLP against CNN."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.checks.compare import agree


def lab04_hidden_units(hidden_units: Callable[[int, int, int], int]) -> None:
    """Grade `hidden_units(in_features, num_classes, budget)`: the largest hidden layer of
    Linear-ReLU-Linear with at most `budget` parameters. Counted by building torch's layers."""
    rounded = "204 units cost more than the budget: round down, with //"
    no_bias = "a hidden unit has a bias too: in_features + 1 + num_classes numbers each"
    no_last_bias = "the num_classes biases of the last layer are left out: take them off first"
    cases = [(3, 4, 100, 14, no_bias), (784, 10, 162_170, 204, rounded)]
    cases += [(20, 5, 182, 7, no_last_bias), (50, 3, 2_000, None, "")]
    for in_features, num_classes, budget, wrong, sentence in cases:
        where = f"hidden_units({in_features}, {num_classes}, {budget})"
        answer = hidden_units(in_features, num_classes, budget)
        units = isinstance(answer, int | np.integer) and answer > 0
        assert units, (
            f"{where} gave {answer!r}: return a whole number of units, 1 or more; // rounds down."
        )
        assert answer != wrong, f"{where} gave {answer}: {sentence}."
        fits, too_many = (_parameters(in_features, answer + more, num_classes) for more in (0, 1))
        assert fits <= budget < too_many, (
            f"{where} gave {answer}: {answer} units make {fits:,} parameters, one more makes "
            f"{too_many:,}. The first must stay within {budget:,}, the second must not."
        )
    print("OK  hidden_units spends each budget to the last unit that it pays for.")


def _parameters(in_features: int, hidden: int, num_classes: int) -> int:
    with torch.random.fork_rng(devices=[]):
        layers = nn.Linear(in_features, hidden), nn.Linear(hidden, num_classes)
    return sum(p.numel() for layer in layers for p in layer.parameters())


def lab04_conv_from_linear(
    conv_from_linear: Callable[[nn.Linear, int, int, int], nn.Conv2d],
) -> None:
    """Grade `conv_from_linear(linear, channels, height, width)`: the convolution that gives what
    `linear` gives for a flattened channels x height x width image. Random shapes."""
    generator = torch.Generator().manual_seed(4)
    for channels, height, width, out in ((3, 4, 4, 5), (2, 5, 3, 6), (1, 2, 7, 4)):
        with torch.random.fork_rng(devices=[]):
            linear = nn.Linear(channels * height * width, out)
        for parameter in linear.parameters():  # its own numbers, or a fresh Conv2d draws the same
            nn.init.uniform_(parameter, -1, 1, generator=generator)
        x = torch.randn(2, channels, height, width, generator=generator)
        where = f"Linear({linear.in_features}, {out}) on {channels} x {height} x {width}"
        conv = conv_from_linear(linear, channels, height, width)
        assert isinstance(conv, nn.Conv2d), f"{where}: return the nn.Conv2d itself, got {conv!r}."
        right = linear.weight.view(out, channels, height, width)
        assert conv.weight.shape == right.shape, (
            f"{where}: the kernel has the shape {tuple(conv.weight.shape)}, but must be "
            f"{tuple(right.shape)}: as many input channels, and as large, as the image."
        )
        last = linear.weight.view(out, height, width, channels).permute(0, 3, 1, 2)
        assert channels == 1 or not torch.equal(conv.weight, last), (
            f"{where}: the weights are in the wrong places. flatten(1) counts through the width, "
            "then the height, then the channels: view(out, channels, height, width)."
        )
        assert torch.equal(conv.weight, right), (
            f"{where}: the kernel holds other numbers than linear.weight: copy them, with "
            "conv.weight.copy_(...) under torch.no_grad()."
        )
        same_bias = conv.bias is not None and torch.equal(conv.bias, linear.bias)
        assert same_bias, f"{where}: the bias is not linear.bias: copy it as well."
        assert conv.stride == (1, 1), (
            f"{where}: stride={conv.stride} makes no difference here, but on a larger map the "
            "kernel would leap over places: leave stride at 1."
        )
        y = conv(x)
        assert y.shape == (2, out, 1, 1), (
            f"{where}: the output has the shape {tuple(y.shape)}, but must be (2, {out}, 1, 1): "
            "the kernel covers the image at one place only, without padding."
        )
        assert torch.allclose(y.flatten(1), linear(x.flatten(1)), atol=1e-5), (
            f"{where}: weights and bias are right, yet the outputs differ; leave stride, dilation "
            "and groups alone."
        )
    print("OK  conv_from_linear gives the same outputs, for 1, 2 and 3 channels.")


def lab04_matrix_of_conv(matrix_of_conv: Callable[[Tensor, int, int], Tensor]) -> None:
    """Grade `matrix_of_conv(kernel, height, width)`: the matrix (H·W) x (H·W) that does to a
    flattened image what `F.conv2d(..., padding=1)` with a 3 x 3 kernel does. Random shapes."""
    generator = torch.Generator().manual_seed(5)
    for height, width in ((4, 4), (3, 5), (6, 2)):
        kernel, n = torch.randn(3, 3, generator=generator), height * width
        where = f"3 x 3 kernel, {height} x {width} image"
        matrix = matrix_of_conv(kernel, height, width)
        assert isinstance(matrix, Tensor), f"{where}: return a tensor, got {matrix!r}."
        assert matrix.dim() == 2, (
            f"{where}: return a matrix, {(n, n)}, not {tuple(matrix.shape)}: flatten each result, "
            ".flatten(1), into a column."
        )
        units = torch.eye(n).view(n, 1, height, width)  # image i has one bright pixel, at place i
        right = F.conv2d(units, kernel[None, None], padding=1).flatten(1).T
        around = F.pad(units, (1, 1, 1, 1), mode="circular")
        mistakes = {
            "this is the transposed: what image i becomes belongs in column i (or the kernel was "
            "turned round, which F.conv2d does not do)": right.T,
            "what leaves the image on one side comes back on the other; pad with zeros": (
                F.conv2d(around, kernel[None, None]).flatten(1).T
            ),
        }
        inner = (height - 2) * (width - 2)
        assert inner not in matrix.shape, (
            f"{where}: the matrix is {tuple(matrix.shape)}, but must be {(n, n)}: without "
            "padding=1 the outer pixels have no output."
        )
        agree(f"{where}: the matrix", matrix.detach(), right, mistakes)
    print("OK  matrix_of_conv times a flattened image is the convolution, for three sizes.")
