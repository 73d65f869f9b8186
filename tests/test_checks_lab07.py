"""The graders of lab 07 accept what is right, and name the likeliest mistakes of each exercise."""

import pytest
import torch
import torch.nn.functional as F

from labkit import checks

# ------------------------------------------------------------------------------ basic block


def shortcut(block, x):
    return x if block.downsample is None else block.downsample(x)


def hidden(block, x):
    return F.relu(block.bn1(block.conv1(x)))


def branch(block, x):
    return block.bn2(block.conv2(hidden(block, x)))


def basic_block(block, x):
    return F.relu(branch(block, x) + shortcut(block, x))


def in_place(block, x):
    out = branch(block, x)
    out += shortcut(block, x)
    return out.relu_()


def without_middle_relu(block, x):
    out = block.bn2(block.conv2(block.bn1(block.conv1(x))))
    return F.relu(out + shortcut(block, x))


def relu_before_bn1(block, x):
    out = block.bn2(block.conv2(block.bn1(F.relu(block.conv1(x)))))
    return F.relu(out + shortcut(block, x))


def added_before_bn2(block, x):
    return F.relu(block.bn2(block.conv2(hidden(block, x)) + shortcut(block, x)))


@pytest.mark.parametrize("right", [basic_block, in_place])
def test_a_residual_block_passes(right, capsys):
    checks.lab07_basic_block(right)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda b, x: F.relu(branch(b, x)) + shortcut(b, x), "ReLU comes before the addition"),
        (lambda b, x: F.relu(F.relu(branch(b, x)) + shortcut(b, x)), "only the sum goes through"),
        (lambda b, x: branch(b, x) + shortcut(b, x), "the last ReLU is missing"),
        (lambda b, x: F.relu(branch(b, x)), "the shortcut is missing"),
        (without_middle_relu, "between the two convolutions"),
        (relu_before_bn1, "ReLU comes before bn1"),
        (added_before_bn2, "added before bn2"),
        (lambda b, x: F.relu(branch(b, x) + hidden(b, x)), "the block's own input"),
        (lambda b, x: F.relu(b.conv2(hidden(b, x)) + shortcut(b, x)), "bn2 is missing"),
        (lambda b, x: F.relu(branch(b, x) + x), r"Add downsample\(x\)"),
        (lambda b, x: F.relu(branch(b, x) + b.downsample(x)), "where it is None, add x"),
        (lambda b, x: b(x), "call your own function again"),
        (lambda b, x: None, "return a tensor"),
        (lambda b, x: torch.zeros_like(branch(b, x)), "differs from torch by"),
    ],
)
def test_another_block_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab07_basic_block(wrong)


# ------------------------------------------------------------------------- block parameters


def block_parameters(i, c, stride, *, conv_bias=0, per_norm=2, kernel=1, fits=None, down_norm=1):
    """Right by default; each option is a mistake."""
    count = 9 * i * c + 9 * c * c + 2 * conv_bias * c + 2 * per_norm * c
    if fits is None:
        fits = stride == 1 and i == c
    if not fits:
        count += kernel * i * c + conv_bias * c + down_norm * per_norm * c
    return count


def like_twins(i, c, stride):
    return block_parameters(i, c, stride) + 9 * i * c - 9 * c * c


def test_the_parameters_of_a_block_pass(capsys):
    checks.lab07_block_parameters(block_parameters)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *a: block_parameters(*a, conv_bias=1), "have no bias"),
        (lambda *a: block_parameters(*a, per_norm=0), "BatchNorms are missing"),
        (lambda *a: block_parameters(*a, per_norm=4), "are buffers"),
        (lambda *a: block_parameters(*a, down_norm=0), "downsample has a BatchNorm"),
        (lambda *a: block_parameters(*a, kernel=9), "1 x 1"),
        (lambda *a: block_parameters(*a, fits=True), "downsample is missing"),
        (lambda *a: block_parameters(*a, fits=False), "there is no downsample"),
        (lambda i, c, s: block_parameters(i, c, s, fits=i == c), "even for equal channels"),
        (like_twins, "the two convolutions differ"),
        (lambda *a: float(block_parameters(*a)), "whole number"),
        (lambda *a: 0, "add up"),
    ],
)
def test_another_count_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab07_block_parameters(wrong)


# ------------------------------------------------------------------------------ output size


def output_size(size, kernel_size, stride, padding):
    return (size + 2 * padding - kernel_size) // stride + 1


def test_the_output_size_passes(capsys):
    checks.lab07_output_size(output_size)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda n, k, s, p: (n + p - k) // s + 1, "on both sides"),
        (lambda n, k, s, p: (n + 2 * p - k) // s, "one place more"),
        (lambda n, k, s, p: (n + 2 * p - k + 1) // s, "after the division"),
        (lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1, "round down"),
        (lambda n, k, s, p: n + 2 * p - k + 1, "stride is missing"),
        (lambda n, k, s, p: (n + 2 * p) // s, "takes up room"),
        (lambda n, k, s, p: (n + 2 * p - k) / s + 1, "whole number"),
        (lambda *a: None, "whole number"),
        (lambda *a: 1, "squared paper"),
    ],
)
def test_another_size_is_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab07_output_size(wrong)
