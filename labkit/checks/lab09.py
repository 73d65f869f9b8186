"""Graders of lab 09, hyperparameters."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import calibration
from labkit.checks.compare import as_number
from labkit.settings import is_number


def lab09_one_cycle(one_cycle: Callable[[int, int, float], float]) -> None:
    """Grade `one_cycle(step, total, max_lr)`: the learning rate of step 0 to total - 1, as torch's
    OneCycleLR has it with its defaults. Random lengths and rates."""
    rng = np.random.default_rng(9)
    for _ in range(4):
        total, max_lr = int(rng.integers(12, 90)), float(10 ** rng.uniform(-4, 0))
        answers = [one_cycle(step, total, max_lr) for step in range(total)]
        where = f"one_cycle(step, total={total}, max_lr={max_lr:.3g})"
        for step, answer in enumerate(answers):
            assert is_number(answer), f"{where} gave {answer!r} at step {step}: return a number."
        answers, right = np.array(answers, dtype=float), _torchs_one_cycle(total, max_lr)
        if np.allclose(answers, right, rtol=1e-5, atol=1e-6 * max_lr):
            continue
        for hint, wrong in _wrong_cycles(total, max_lr).items():
            same = np.allclose(answers, wrong, rtol=1e-3, atol=1e-6 * max_lr)
            assert not same, f"{where} is wrong: {hint}."
        worst = int(np.abs(answers - right).argmax())
        raise AssertionError(
            f"{where}: at step {worst} it gave {answers[worst]:.4g}, torch has {right[worst]:.4g}."
        )
    print("OK  one_cycle agrees with torch's OneCycleLR, step by step.")


def _torchs_one_cycle(total: int, max_lr: float) -> np.ndarray:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=total)
    rates = []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    return np.array(rates)


def _cycle(total, max_lr, *, start=1 / 25, end=1 / 250_000, peak=None, shape=None) -> np.ndarray:
    """A cycle of which one part may be wrong; shape: how far from 0 to 1 at a part of the way."""
    shape = shape or (lambda t: (1 - np.cos(np.pi * t)) / 2)
    peak = 0.3 * total - 1 if peak is None else peak
    step = np.arange(total)
    up = start + (1 - start) * shape(step / peak)
    down = 1 + (end - 1) * shape((step - peak) / (total - 1 - peak))
    return max_lr * np.where(step <= peak, up, down)


def _wrong_cycles(total: int, max_lr: float) -> dict[str, np.ndarray]:
    return {
        "it rises and falls along straight lines; take half a cosine each": _cycle(
            total, max_lr, shape=lambda t: t
        ),
        "the peak comes at step 0.3 · total - 1, since steps count from 0": _cycle(
            total, max_lr, peak=0.3 * total
        ),
        "it begins at 0; torch begins at max_lr / 25": _cycle(total, max_lr, start=0),
        "it ends at max_lr / 25; torch ends at max_lr / 25 / 10,000": _cycle(
            total, max_lr, end=1 / 25
        ),
        "it ends at 0; torch ends at max_lr / 25 / 10,000": _cycle(total, max_lr, end=0),
        "it ends at max_lr / 10,000; torch ends at the first rate, max_lr / 25, over 10,000": (
            _cycle(total, max_lr, end=1e-4)
        ),
        "the peak is in the middle; it comes after 30 % of the steps": _cycle(
            total, max_lr, peak=0.5 * total - 1
        ),
        "the rate never rises; that is a cosine schedule": max_lr
        * (1 + np.cos(np.pi * np.arange(total) / total))
        / 2,
    }


def lab09_calibration_error(
    calibration_error: Callable[[Tensor, Tensor, int], float],
) -> None:
    """Grade `calibration_error(probabilities, labels, bins)`: the expected calibration error of
    N x C probabilities and N labels. Random classifiers; some bins are empty."""
    for seed, (n, c, bins) in enumerate(((40, 3, 10), (300, 10, 15), (200, 2, 5), (77, 5, 20))):
        probabilities, labels = _classifier(n, c, seed)
        where = f"calibration_error of {n} x {c} probabilities in {bins} bins"
        answer = calibration_error(probabilities.clone(), labels.clone(), bins)
        one = isinstance(answer, Tensor) and answer.dim() == 0
        answer = as_number(where, answer.item() if one else answer)
        right = calibration.expected_calibration_error(probabilities, labels, bins)
        if math.isclose(answer, right, abs_tol=1e-4):
            continue
        assert not math.isnan(answer), (
            f"{where} gave nan: a bin without images has no mean; leave it out."
        )
        for hint, wrong in _wrong_errors(probabilities, labels, bins).items():
            assert not math.isclose(answer, wrong, abs_tol=1e-4), f"{where} is wrong: {hint}."
        raise AssertionError(f"{where} gave {answer:.4f}, but it is {right:.4f}.")
    print("OK  calibration_error is right, with empty bins as well.")


def _classifier(n: int, c: int, seed: int) -> tuple[Tensor, Tensor]:
    """Probabilities that are too sure, and labels; the last image is perfectly sure, and wrong."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(n, c, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    probabilities = (2.5 * logits).softmax(1)
    probabilities[-1] = F.one_hot((labels[-1] + 1) % c, c)
    return probabilities, labels


def _wrong_errors(probabilities: Tensor, labels: Tensor, bins: int) -> dict[str, float]:
    table = calibration.reliability(probabilities, labels, bins)
    there = table[table["images"] > 0]
    gaps = there["accuracy"] - there["confidence"]
    share = there["images"] / there["images"].sum()
    of_label = probabilities.gather(1, labels[:, None]).flatten().numpy()
    place = np.clip(np.ceil(of_label * bins).astype(int) - 1, 0, bins - 1)
    hit = (probabilities.argmax(1) == labels).double().numpy()
    sure = probabilities.amax(1) == 1
    within = calibration.expected_calibration_error(probabilities[~sure], labels[~sure], bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (hit, of_label)]
    return {
        "a bin counts as often as it has images: weight it by its share of them": gaps.abs().mean(),
        "divide by the number of images, not by the number of bins": gaps.abs().sum() / bins,
        "take the absolute value of each bin's gap before you add them up": (gaps * share).sum(),
        "gaps of opposite sign cancel; take each bin's absolute value first": abs(
            (gaps * share).sum()
        ),
        "that is the largest gap; the *expected* error is their weighted mean": gaps.abs().max(),
        "confidence is the largest probability, not that of the true class": float(
            np.abs(sums[0] - sums[1]).sum() / len(labels)
        ),
        "an image with a confidence of exactly 1 is in no bin; bins are (lower, upper]": (
            within * (~sure).double().mean().item()
        ),
        "the gaps are squared; take their absolute values": (gaps**2 * share).sum(),
        "divide the sum over images by their number": (gaps.abs() * there["images"]).sum(),
    }


def lab09_temperature(fit_temperature: Callable[[Tensor, Tensor], float]) -> None:
    """Grade `fit_temperature(logits, labels)`: the T > 0 with the smallest cross-entropy of
    softmax(logits / T), to 2 %. Random logits, too sure and not sure enough."""
    for seed, (n, c, scale) in enumerate(((800, 10, 3.0), (600, 3, 0.4), (900, 5, 1.7))):
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(n, c, generator=generator)
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
        logits = scale * logits
        where = f"fit_temperature of {n} x {c} logits"
        kept = logits.clone()
        answer = fit_temperature(logits, labels)
        assert torch.equal(logits, kept), f"{where}: the logits were changed; leave them as is."
        one = isinstance(answer, Tensor | np.ndarray) and len(answer.reshape(-1)) == 1
        number = as_number(where, answer.item() if one else answer)
        _grade_temperature(where, number, logits, labels)
    print("OK  fit_temperature finds the smallest cross-entropy, above and below T = 1.")


def _grade_temperature(where: str, answer: float, logits: Tensor, labels: Tensor) -> None:
    right = calibration.temperature(logits, labels)

    def close(value: float) -> bool:
        return math.isclose(answer, value, rel_tol=0.02)

    if close(right):
        return
    assert answer > 0, f"{where} gave {answer:.3g}: a temperature is above 0."
    assert not close(1 / right), (
        f"{where} gave {answer:.3g}, one over the temperature: the logits are *divided* by T."
    )
    candidates = np.geomspace(0.05, 20, 400)
    twice = [F.cross_entropy((logits / t).softmax(1), labels).item() for t in candidates]
    twofold = (calibration.temperature(logits.softmax(1), labels), candidates[np.argmin(twice)])
    assert not any(map(close, twofold)), (
        f"{where} gave {answer:.3g}: there are two softmaxes; cross_entropy takes logits / T."
    )
    losses = [F.cross_entropy(logits / t, labels).item() for t in (answer, right)]
    raise AssertionError(
        f"{where} gave {answer:.3g} with a cross-entropy of {losses[0]:.4f}; at {right:.3g} it is "
        f"{losses[1]:.4f}."
    )
