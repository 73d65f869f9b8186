"""The graders of lab 09 accept what is right, and name the likeliest mistakes of each exercise."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labkit import calibration, checks

# -------------------------------------------------------------------------- one cycle


def one_cycle(step, total, max_lr, start=1 / 25, end=1 / 250_000, peak=0.3, early=1, wave=True):
    top = peak * total - early
    if step <= top:
        low, high, part = start, 1, step / top
    else:
        low, high, part = 1, end, (step - top) / (total - 1 - top)
    way = (1 - math.cos(math.pi * part)) / 2 if wave else part
    return max_lr * (low + (high - low) * way)


def with_options(**options):
    return lambda *arguments: one_cycle(*arguments, **options)


def without_a_way_down(step, total, max_lr):
    return one_cycle(step, total, max_lr) if step <= 0.3 * total - 1 else None


def in_float32(step, total, max_lr):
    top = np.float32(0.3 * total - 1)
    low, high, part = (1 / 25, 1, step / top)
    if step > top:
        low, high, part = 1, 1 / 250_000, (step - top) / (total - 1 - top)
    way = (1 - np.cos(np.float32(np.pi) * part)) / 2
    return np.float32(max_lr) * (np.float32(low) + np.float32(high - low) * way)


def test_one_cycle_in_float32_passes():
    assert isinstance(in_float32(1, 20, 0.1), np.float32)
    checks.lab09_one_cycle(in_float32)


def test_one_cycle_passes(capsys):
    checks.lab09_one_cycle(one_cycle)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (with_options(wave=False), "straight lines"),
        (with_options(early=0), "since steps count from 0"),
        (with_options(start=0), "torch begins at max_lr / 25"),
        (with_options(end=1 / 25), "it ends at max_lr / 25; torch"),
        (with_options(end=0), "it ends at 0"),
        (with_options(end=1e-4), "over 10,000"),
        (with_options(peak=0.5), "after 30 %"),
        (lambda s, n, lr: lr * (1 + math.cos(math.pi * s / n)) / 2, "never rises"),
        (lambda s, n, lr: lr, "torch has"),
        (lambda *_: None, "gave None at step 0: return a number"),
        (lambda s, n, lr: torch.tensor(one_cycle(s, n, lr)), "at step 0: return a number"),
        (without_a_way_down, r"gave None at step [1-9]\d*: return a number"),
    ],
)
def test_wrong_cycles_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab09_one_cycle(wrong)


# -------------------------------------------------------------------- calibration error


def calibration_error(probabilities, labels, bins, of=lambda gap, share: (gap.abs() * share).sum()):
    confidence, predictions = probabilities.max(1)
    place = (confidence * bins).ceil().long()
    gaps, shares = [], []
    for i in range(1, bins + 1):
        there = place == i
        if there.any():
            hits = (predictions[there] == labels[there]).double()
            gaps.append(hits.mean() - confidence[there].mean())
            shares.append(there.double().mean())
    return of(torch.stack(gaps), torch.stack(shares)).item()


def instead(of):
    return lambda *arguments: calibration_error(*arguments, of=of)


def of_the_true_class(probabilities, labels, bins):
    """Bins by the probability of the label, in place of the largest one."""
    given = probabilities.gather(1, labels[:, None])[:, 0]
    hits = (probabilities.argmax(1) == labels).double()
    place = (given * bins).ceil().long().clamp(1, bins)
    return sum(abs((hits - given)[place == i].sum()) for i in range(1, bins + 1)) / len(labels)


def empty_bins_too(probabilities, labels, bins):
    confidence, predictions = probabilities.max(1)
    place = (confidence * bins).ceil().long()
    hits = (predictions == labels).double()
    gaps = [
        (hits[place == i].mean() - confidence[place == i].mean()).abs() * (place == i).sum()
        for i in range(1, bins + 1)
    ]
    return sum(gaps).item() / len(labels)


def bins_open_above(probabilities, labels, bins):
    """[m/M, (m+1)/M), where the exercise has (m/M, (m+1)/M]: a confidence of 1 is in no bin."""
    confidence, predictions = probabilities.max(1)
    hits, total = (predictions == labels).double(), 0.0
    for m in range(bins):
        there = (confidence >= m / bins) & (confidence < (m + 1) / bins)
        if there.any():
            gap = (hits[there].mean() - confidence[there].mean()).abs()
            total += (gap * there.double().mean()).item()
    return total


def test_the_calibration_error_passes(capsys):
    checks.lab09_calibration_error(calibration_error)
    checks.lab09_calibration_error(lambda *a: torch.tensor(calibration_error(*a)))
    assert capsys.readouterr().out.count("OK") == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (instead(lambda gap, share: gap.abs().mean()), "as often as it has images"),
        (instead(lambda gap, share: -(gap * share).sum()), "opposite sign cancel"),
        (instead(lambda gap, share: (gap * share).sum()), "absolute value"),
        (instead(lambda gap, share: gap.abs().max()), "largest gap"),
        (instead(lambda gap, share: (gap**2 * share).sum()), "squared"),
        (lambda p, y, b: calibration_error(p, y, b) * len(y), "by their number"),
        (
            lambda p, y, b: instead(lambda gap, share: gap.abs().sum() / b)(p, y, b),
            "not by the number of bins",
        ),
        (of_the_true_class, "not that of the true class"),
        (empty_bins_too, "a bin without images"),
        (bins_open_above, "a confidence of exactly 1 is in no bin"),
        (lambda p, y, b: 0.9, "but it is"),
        (lambda *_: None, "return a number"),
    ],
)
def test_wrong_calibration_errors_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab09_calibration_error(wrong)


# -------------------------------------------------------------------------- temperature


def by_grid(logits, labels, near=0.01):
    candidates = torch.arange(math.log(0.05), math.log(20), near).exp().tolist()
    return min(candidates, key=lambda t: F.cross_entropy(logits / t, labels).item())


def changes_logits(logits, labels):
    best = calibration.temperature(logits, labels)
    logits /= best
    return best


def test_a_fitted_temperature_passes(capsys):
    checks.lab09_temperature(by_grid)
    checks.lab09_temperature(lambda *a: torch.tensor([calibration.temperature(*a)]))
    assert capsys.readouterr().out.count("OK") == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z, y: 1 / by_grid(z, y), "are \\*divided\\* by T"),
        (lambda z, y: calibration.temperature(z.softmax(1), y), "two softmaxes"),
        (lambda z, y: -2, "above 0"),
        (lambda z, y: 1.0, "with a cross-entropy of"),
        (lambda z, y: by_grid(z, y, near=0.5), "with a cross-entropy of"),
        (changes_logits, "were changed"),
        (lambda *_: None, "return a number"),
    ],
)
def test_wrong_temperatures_are_named(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab09_temperature(wrong)
