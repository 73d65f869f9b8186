"""Wrong answers that look right to a grader which does not look hard enough, right ones in another
style, and mistakes that end in somebody else's error message."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import checks, numpy_net, study

# ---------------------------------------------------------------- wrong, and easily let through


class FixedRate:
    """SGD whose learning rate is always 0.1."""

    def __init__(self, parameters, lr, momentum):
        self.parameters, self.momentum = parameters, momentum
        self.velocities = [np.zeros_like(p.data) for p in parameters]

    def step(self):
        for p, velocity in zip(self.parameters, self.velocities, strict=True):
            velocity[:] = self.momentum * velocity + p.grad
            p.data -= 0.1 * velocity


def by_functional_autograd(logits, labels):
    def loss(z):
        return F.cross_entropy(z.softmax(1), labels, reduction="sum")

    return torch.func.grad(loss)(logits)


def dropout_of_matrices(x, p, training):
    if not training or p == 0:
        return x
    n, c = x.shape
    return x * (torch.rand(n, c) >= p) / (1 - p) if p < 1 else torch.zeros_like(x)


def strided(linear, channels, height, width):
    size = (height, width)
    conv = nn.Conv2d(channels, linear.out_features, size, stride=size)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.view_as(conv.weight))
        conv.bias.copy_(linear.bias)
    return conv


def of_ten_classes(labels, generator):
    parts = ([], [], [])
    for c in range(10):
        found = (labels == c).nonzero().flatten()
        found = found[torch.randperm(len(found), generator=generator)]
        fifth = len(found) // 5
        sizes = (len(found) - 2 * fifth, fifth, fifth)
        for part, chosen in zip(parts, found.split(sizes), strict=True):
            part.append(chosen)
    return tuple(torch.cat(part) for part in parts)


def block_in_place(block, x):
    out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    if block.downsample is not None:
        x = block.downsample(x)
    x += out
    return block.relu(x)


def absolute(runs, factor, same, metric):
    wide = runs.pivot(index=same, columns=factor, values=metric)
    return (wide[True] - wide[False]).dropna().abs()


def from_three_seeds_on(effect, std):
    from scipy import stats

    n = 3
    while stats.t.ppf(0.975, n - 1) * std / n**0.5 >= abs(effect):
        n += 1
    return n


def above(seconds, accuracies, target):
    """Waits for more than the target, so that it misses an exact hit."""
    clock, before = 0.0, 0.0
    for s, accuracy in zip(seconds, accuracies, strict=True):
        if accuracy > target:
            return clock + s * (target - before) / (accuracy - before)
        clock, before = clock + s, accuracy
    return float("nan")


def benjamini_hochberg(p_values):
    p = np.array(p_values)
    order = p.argsort()
    passed = (p[order] <= 0.05 * np.arange(1, len(p) + 1) / len(p)).nonzero()[0]
    survives = np.zeros(len(p), dtype=bool)
    survives[order[: passed.max() + 1 if len(passed) else 0]] = True
    return survives


def lowest_value(val_acc, patience):
    best = 1
    for epoch, value in enumerate(val_acc, start=1):
        if value < val_acc[best - 1]:
            best = epoch
        if epoch - best == patience:
            break
    return epoch, best


def inverted_logits(loss, num_classes):
    return not ignores_shift(loss, num_classes)


def ignores_shift(loss, num_classes):
    outputs, labels = torch.rand(4, num_classes) + 0.1, torch.arange(4) % num_classes
    return abs(loss(outputs + 3, labels) - loss(outputs, labels)).item() < 1e-4


@pytest.mark.parametrize(
    ("grade", "answer", "words"),
    [
        (checks.lab01_sgd, FixedRate, "lr 0.02"),
        (checks.lab02_gradient, by_functional_autograd, "torch has differentiated"),
        (checks.lab04_conv_from_linear, strided, "leave stride at 1"),
        (checks.lab05_stratified, of_ten_classes, "in no part"),
        (checks.lab06_early_stopping, lowest_value, "follows the lowest value"),
        (checks.lab07_basic_block, block_in_place, "x itself was changed"),
        (checks.lab08_paired_differences, absolute, "every difference is positive"),
        (checks.lab10_ignores_shift, inverted_logits, "turned round"),
        (checks.lab11_seeds_needed, from_three_seeds_on, "2"),
        (checks.lab11_holm, benjamini_hochberg, "Benjamini and Hochberg"),
        (checks.lab11_holm, lambda p: p, "True or False for each p value"),
        (checks.lab12_seconds_to, above, r"\[0.4, 0.6, 0.5\]"),
    ],
)
def test_a_wrong_answer_is_not_let_through(grade, answer, words):
    with pytest.raises(AssertionError, match=words):
        grade(answer)


def test_dropout_must_take_any_shape():
    with pytest.raises(ValueError, match="unpack"):  # from the student's own line
        checks.lab03_dropout(dropout_of_matrices)


# ------------------------------------------------------------------ right, in another style


def dropout_in_numpy(x, p, training):
    if not training:
        return x
    mask = np.random.default_rng().random(tuple(x.shape)) >= p
    return (
        torch.zeros_like(x) if p == 1 else (x.double() * torch.from_numpy(mask) / (1 - p)).numpy()
    )


def logits_by_numpy(loss, num_classes):
    outputs, labels = torch.rand(4, num_classes) + 0.1, torch.arange(4) % num_classes
    return np.isclose(loss(outputs + 3, labels).item(), loss(outputs, labels).item(), atol=1e-4)


def factor_of_series(before, after):
    return tuple(np.exp(study.interval(np.log(before / after))))


def verdict_of_products(differences, sign):
    _, low, _ = study.interval(differences * sign)
    _, _, high = study.interval(differences * sign)
    return "holds" if low > 0 else "does not hold" if high < 0 else "undecided"


@pytest.mark.parametrize(
    ("grade", "answer"),
    [
        (checks.lab01_cross_entropy, lambda z, y: list(numpy_net.cross_entropy(z, y))),
        (checks.lab03_dropout, dropout_in_numpy),
        (checks.lab10_ignores_shift, logits_by_numpy),
        (checks.lab11_verdict, verdict_of_products),
        (checks.lab12_amdahl, lambda share, f: round(1 / (1 - share + share / f), 7)),
        (checks.lab12_paired_factor, factor_of_series),
    ],
)
def test_a_right_answer_in_another_style_passes(grade, answer, capsys):
    grade(answer)
    assert capsys.readouterr().out.startswith("OK")


# ------------------------------------------------------ what stops in the middle of a line


def without_keepdims(logits, labels):
    shifted = logits - logits.max(axis=1)
    return shifted.sum(), shifted


def gradient_without_keepdim(logits, labels):
    p = logits.softmax(1)
    v = p.softmax(1) - F.one_hot(labels, logits.shape[1])
    return p * (v - (p * v).sum(1))


def divides_bytes(images):
    images /= 255
    return images.mean((0, 2, 3)), images.std((0, 2, 3))


def not_flattened(kernel, height, width):
    units = torch.eye(height * width).view(-1, 1, height, width)
    return F.conv2d(units, kernel[None, None], padding=1)


def share_first(counts):
    return [(0.1, 0, 1), (0.05, 0, 2)]


def mean_over_places(x, weight, bias, eps):
    return (x - x.mean([0, 2, 3])) / x.var([0, 2, 3])


@pytest.mark.parametrize(
    ("grade", "answer", "words"),
    [
        (checks.lab01_cross_entropy, without_keepdims, "keepdims=True"),
        (checks.lab02_gradient, gradient_without_keepdim, "keepdim=True"),
        (checks.lab03_dropout, lambda x, p, training: x.mean(), "a tensor in the shape of x"),
        (checks.lab04_matrix_of_conv, not_flattened, "flatten each result"),
        (checks.lab06_channel_statistics, divides_bytes, "bytes .uint8. have no fractions"),
        (checks.lab08_confused_pairs, share_first, r"a triple is \(i, j, share\)"),
        (checks.lab12_seconds_to, lambda *_: None, "None"),
    ],
)
def test_a_mistake_that_raises_gets_a_sentence_of_ours(grade, answer, words):
    with pytest.raises(AssertionError, match=words):
        grade(answer)
