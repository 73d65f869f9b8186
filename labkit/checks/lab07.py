"""Graders of lab 07, ResNet-18."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.checks.compare import agree, name_mistake
from labkit.models import BasicBlock


def lab07_basic_block(basic_block: Callable[[nn.Module, Tensor], Tensor]) -> None:
    """Grade `basic_block(block, x)`: the output of a ResNet's block, N x C x H x W, from its
    layers conv1, bn1, relu, conv2, bn2 and downsample (None where x fits as it is). Random shapes
    and weights in float64, in evaluation and in training mode."""
    generator = torch.Generator().manual_seed(7)
    for in_channels, channels, stride, n in (
        (4, 4, 1, 2),
        (3, 5, 1, 3),
        (4, 6, 2, 2),
        (4, 4, 2, 3),
    ):
        block = _random_block(in_channels, channels, stride, generator)
        x = torch.randn(n, in_channels, 6, 8, generator=generator, dtype=torch.float64)
        for mode in (False, True):
            block.train(mode)
            changes = "needs" if block.downsample else "needs no"
            where = f"x {tuple(x.shape)}, a block of stride {stride} that {changes} downsample"
            right, mistakes = _block_outputs(block, x)
            block.forward = _your_own_function
            try:
                with torch.no_grad():
                    given = x.clone()
                    y = basic_block(block, given)
            except NotImplementedError:  # a stub that nobody has touched speaks for itself
                raise
            except (RuntimeError, TypeError) as error:
                raise AssertionError(
                    f"{where}: {error}. Add downsample(x) where there is a downsample, for there x "
                    "and the branch differ in shape; where it is None, add x."
                ) from None
            assert isinstance(y, Tensor), f"{where}: return a tensor, got {y!r}."
            assert torch.equal(given, x), (
                f"{where}: x itself was changed (x += ...), and backward needs it as it was: write "
                "out + x."
            )
            agree(f"{where}: y", y, right, mistakes)
    print("OK  basic_block is the block of a ResNet, with and without downsample.")


def _your_own_function(x: Tensor) -> Tensor:
    """The block's forward while a student's function runs: the lab puts that function there."""
    raise AssertionError(
        "block(x) would call your own function again: begin with block.conv1(x), and go on layer "
        "by layer."
    )


def _random_block(in_channels: int, channels: int, stride: int, generator) -> BasicBlock:
    """A block whose every number is random, so that each layer shows; in float64."""
    with torch.random.fork_rng(devices=[]):
        block = BasicBlock(in_channels, channels, stride).double()
    for name, tensor in block.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(0, 0.5, generator=generator)
            if name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")):
                tensor.abs_().add_(0.5)
    return block


@torch.no_grad()
def _block_outputs(block: BasicBlock, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What the block gives, and what the likely mistakes would give."""
    around = x if block.downsample is None else block.downsample(x)
    hidden = block.relu(block.bn1(block.conv1(x)))
    branch = block.bn2(block.conv2(hidden))
    linear = block.bn2(block.conv2(block.bn1(block.conv1(x))))
    swapped = block.bn2(block.conv2(block.bn1(block.relu(block.conv1(x)))))
    mistakes = {
        "ReLU comes before the addition; add first, then ReLU": branch.relu() + around,
        "there is a ReLU before the addition; only the sum goes through ReLU": (
            branch.relu() + around
        ).relu(),
        "the last ReLU is missing: relu(branch + shortcut)": branch + around,
        "the shortcut is missing: add x, or downsample(x)": branch.relu(),
        "the ReLU between the two convolutions is missing": (linear + around).relu(),
        "ReLU comes before bn1: first the convolution, then BatchNorm, then ReLU": (
            swapped + around
        ).relu(),
        "the shortcut is added before bn2; it goes around both": block.bn2(
            block.conv2(hidden) + around
        ).relu(),
        "the shortcut starts behind conv1; what is added is the block's own input": (
            branch + hidden
        ).relu(),
        "bn2 is missing": (block.conv2(hidden) + around).relu(),
    }
    return (branch + around).relu(), mistakes


def lab07_block_parameters(block_parameters: Callable[[int, int, int], int]) -> None:
    """Grade `block_parameters(in_channels, channels, stride)`: the trainable numbers of a
    `BasicBlock`, counted by hand. Compared with the block itself."""
    for in_channels, channels, stride in (
        (64, 64, 1),
        (64, 128, 2),
        (5, 7, 1),
        (6, 6, 2),
        (9, 4, 2),
    ):
        where = f"block_parameters({in_channels}, {channels}, {stride})"
        answer = block_parameters(in_channels, channels, stride)
        whole = isinstance(answer, int | np.integer) and not isinstance(answer, bool)
        assert whole, f"{where} gave {answer!r}: return a whole number."
        with torch.random.fork_rng(devices=[]):
            right = sum(p.numel() for p in BasicBlock(in_channels, channels, stride).parameters())
        if answer == right:
            continue
        convolutions = 9 * in_channels * channels + 9 * channels**2
        down = in_channels * channels + 2 * channels
        fits = stride == 1 and in_channels == channels
        plain = convolutions + 4 * channels
        mistakes = {
            "the convolutions have no bias (bias=False): BatchNorm's follows": (
                plain + 2 * channels + (0 if fits else down + channels)
            ),
            "the two BatchNorms are missing: a weight and a bias for each channel": (
                convolutions + (0 if fits else down - 2 * channels)
            ),
            "running mean and variance are buffers, not parameters: BatchNorm has 2 a channel": (
                plain + 4 * channels + (0 if fits else down + 2 * channels)
            ),
            "downsample has a BatchNorm too, with 2 · channels": (
                plain + (0 if fits else down - 2 * channels)
            ),
            "the two convolutions differ: the first sees in_channels, the second channels": (
                2 * 9 * in_channels * channels + 4 * channels + (0 if fits else down)
            ),
            "the kernel of downsample is 1 x 1": (
                plain + (0 if fits else 9 * in_channels * channels + 2 * channels)
            ),
        }
        if fits:
            mistakes["x fits as it is here, so that there is no downsample"] = plain + down
        elif stride != 1 and in_channels == channels:
            mistakes["with stride 2 the sum needs a downsample even for equal channels"] = plain
        else:
            mistakes["downsample is missing: a 1 x 1 convolution and a BatchNorm"] = plain
        for sentence, wrong in mistakes.items():
            assert answer != wrong, f"{where} gave {answer:,}, not {right:,}: {sentence}."
        raise AssertionError(
            f"{where} gave {answer:,}, the block has {right:,}: print (name, p.shape) of its "
            "named_parameters() and add up."
        )
    print("OK  block_parameters counts every block, with and without downsample.")


def lab07_output_size(output_size: Callable[[int, int, int, int], int]) -> None:
    """Grade `output_size(size, kernel_size, stride, padding)`: the side in pixels of what a
    convolution or a max pooling leaves of an image. Compared with torch."""
    cases = [(32, 3, 1, 1), (32, 7, 2, 3), (16, 3, 2, 1), (8, 1, 2, 0), (33, 5, 3, 0), (7, 2, 2, 0)]
    answers, sides = [], []
    for size, kernel_size, stride, padding in cases:
        answer = output_size(size, kernel_size, stride, padding)
        whole = isinstance(answer, int | np.integer) and not isinstance(answer, bool)
        assert whole, (
            f"output_size({size}, {kernel_size}, {stride}, {padding}) gave {answer!r}: a picture "
            "has a whole number of pixels; divide with //."
        )
        image, kernel = torch.zeros(1, 1, size, size), torch.zeros(1, 1, kernel_size, kernel_size)
        answers.append(answer)
        sides.append(F.conv2d(image, kernel, stride=stride, padding=padding).shape[-1])
    name_mistake(
        f"For the sizes, kernels, strides and paddings {cases} you get {answers}, and torch "
        f"{sides}",
        answers,
        {sentence: [wrong(*case) for case in cases] for sentence, wrong in _SIZE_MISTAKES.items()},
    )
    for case, answer, side in zip(cases, answers, sides, strict=True):
        assert answer == side, (
            f"output_size{case} gave {answer}, torch gives {side}: draw it on squared paper."
        )
    print("OK  output_size agrees with torch for six layers.")


_SIZE_MISTAKES = {
    "padding is added on both sides, 2 · padding": lambda n, k, s, p: (n + p - k) // s + 1,
    "the kernel has one place more than it makes steps, + 1": lambda n, k, s, p: (
        (n + 2 * p - k) // s
    ),
    "+ 1 comes after the division by the stride": lambda n, k, s, p: (n + 2 * p - k + 1) // s,
    "the kernel must lie within the picture, so round down with //": lambda n, k, s, p: (
        -(-(n + 2 * p - k) // s) + 1
    ),
    "the stride is missing": lambda n, k, s, p: n + 2 * p - k + 1,
    "the kernel takes up room as well, - kernel_size": lambda n, k, s, p: (n + 2 * p) // s,
}
