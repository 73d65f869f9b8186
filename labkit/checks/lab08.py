"""Graders of lab 08, the ablation."""

import random
from collections.abc import Callable
from numbers import Integral

import numpy as np
import pandas as pd
import torch

from labkit.models import ImprovedCNN


def lab08_cnn_parameters(cnn_parameters: Callable[..., int]) -> None:
    """Grade `cnn_parameters(batchnorm, dropout, residual, pooling, channels, hidden)`: the number
    of trainable parameters of `ImprovedCNN` with these options on 28 x 28 grey images.

    Counted on the network itself: all 16 combinations of the options, with random sizes."""
    rng = random.Random(8)
    for case in range(16):
        flags = {
            "batchnorm": bool(case & 1),
            "dropout": bool(case & 2),
            "residual": bool(case & 4),
            "pooling": ("avg", "max")[case // 8],
        }
        sizes = {
            "channels": (rng.randint(2, 9), rng.randint(10, 17)),
            "hidden": rng.randint(18, 30),
        }
        options = flags | sizes
        with torch.random.fork_rng(devices=[]):
            model = ImprovedCNN(**options)
        right = sum(p.numel() for p in model.parameters())
        where = f"cnn_parameters({', '.join(f'{k}={v!r}' for k, v in options.items())})"
        answer = cnn_parameters(**options)
        assert isinstance(answer, Integral), f"{where} gave {answer!r}: return one whole number."
        if answer != right:
            hint = _parameter_mistakes(**options).get(answer - right)
            assert hint, f"{where} gave {answer:,}, but the network has {right:,}."
            raise AssertionError(f"{where} gave {answer:,} instead of {right:,}: {hint}.")
    print("OK  cnn_parameters counts as torch does, for all 16 combinations of the options.")


def _parameter_mistakes(batchnorm, dropout, residual, pooling, channels, hidden) -> dict[int, str]:
    """By how much a known mistake is off, and what it is."""
    first, second = channels
    shortcuts = 2 * first + first * second + second
    mistakes = {
        -first - second: "each convolution has one bias for each output channel",
        -first - second - hidden - 10: "each layer has a bias for each of its outputs",
        -hidden - 10: "each linear layer has a bias for each of its outputs",
        (28**2 - 7**2) * second * hidden: "two poolings leave 7 x 7 of the 28 x 28 pixels",
        (14**2 - 7**2) * second * hidden: "both blocks are pooled: 28, 14, 7 pixels",
        shortcuts: "without residual there is no shortcut to count",
    }
    if residual:
        mistakes |= {
            -shortcuts: "residual=True adds a 1 x 1 convolution around each 3 x 3 one",
            -first - second: "the convolutions, 3 x 3 or 1 x 1, have a bias for each channel",
            -2 * first: "there is a shortcut around the first convolution too",
            -(first * second + second): "there is a shortcut around the second convolution too",
            8
            * (first + first * second): "the shortcut is 1 x 1: one weight from channel to channel",
        }
    if batchnorm:
        mistakes |= {
            -2 * (first + second + hidden): "BatchNorm has a weight and a bias for each channel",
            -(first + second + hidden): (
                "BatchNorm has two numbers for each channel, a weight and a bias"
            ),
            -2 * hidden: "there is a BatchNorm after the hidden linear layer too",
            2 * (first + second + hidden): (
                "BatchNorm's running mean and variance are not trained, so they are no parameters"
            ),
        }
    else:
        mistakes[2 * (first + second + hidden)] = "without batchnorm there is no BatchNorm to count"
    return mistakes


def lab08_paired_differences(
    paired_differences: Callable[[pd.DataFrame, str, list[str], str], np.ndarray],
) -> None:
    """Grade `paired_differences(runs, factor, same, metric)`: `metric` of the run with the factor
    on minus that of its partner with the factor off, for each pair of rows that agree in the
    columns `same`; a run without a partner is left out. In any order. Random tables."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        factor, *same = rng.permutation(["batchnorm", "dropout", "residual"]).tolist()
        same += ["seed"]
        metric = ("test_accuracy", "best_val_acc")[seed % 2]
        runs = _random_runs(rng, [factor, *same[:-1]], metric, whole=seed < 2)
        where = f"paired_differences(runs, {factor!r}, {same}, {metric!r})"
        kept = runs.copy()
        answer = paired_differences(runs, factor, list(same), metric)
        assert runs.equals(kept), (
            f"{where}: the table you were given was changed; work on runs.copy(), without inplace."
        )
        _grade_differences(where, answer, runs, factor, same, metric)
    print("OK  paired_differences finds every pair, in shuffled and in incomplete tables.")


def _random_runs(rng, factors, metric, whole: bool) -> pd.DataFrame:
    """Two seeds of all combinations, shuffled; unless `whole`, four runs are missing."""
    rows = [
        {**{name: bool(i >> k & 1) for k, name in enumerate(factors)}, "seed": seed}
        for i in range(2 ** len(factors))
        for seed in (42, 43)
    ]
    runs = pd.DataFrame(rows)
    # Seeds and settings differ by more than the factor does, so that wrong partners show.
    level = 0.6 + 0.1 * (runs["seed"] == 43) + 0.05 * runs[factors[1]]
    runs[metric] = level + rng.uniform(-0.03, 0.03, len(runs))
    runs["seconds"] = rng.permutation(len(runs))  # no two rows agree in a column beyond `same`
    keep = rng.permutation(len(runs))[: None if whole else -4]
    if not whole:  # one run has lost its partner for certain
        pair = (runs[factors[1:]].all(axis=1) & (runs["seed"] == 42)).to_numpy().nonzero()[0]
        keep = np.append(keep[~np.isin(keep, pair)], pair[0])
    return runs.iloc[keep].reset_index(drop=True)


def _grade_differences(where, answer, runs, factor, same, metric) -> None:
    on, off = runs[runs[factor]], runs[~runs[factor]]
    both = on.merge(off, on=same, suffixes=("_on", "_off"))
    right = np.sort(both[f"{metric}_on"] - both[f"{metric}_off"])
    assert answer is not None, f"{where}: nothing came back, is the `return` missing?"
    try:
        answer = np.sort(np.asarray(answer, dtype=float).ravel())
    except (TypeError, ValueError):
        raise AssertionError(f"{where} gave {answer!r}: return one number a pair.") from None
    assert not np.isnan(answer).any(), (
        f"{where} gave NaN: a run whose partner is missing has no difference; leave it out, "
        "with dropna."
    )
    if len(answer) == len(right) and np.allclose(answer, right):
        return
    if len(answer) == len(right):
        assert not np.allclose(answer, np.sort(np.abs(right))), (
            f"{where}: every difference is positive here, but where {factor} does harm it is "
            "negative: subtract without abs, max or min."
        )
        assert not np.allclose(answer, -right[::-1]), (
            f"{where}: the sign is wrong; it is the run with {factor} on minus the one without."
        )
        raise AssertionError(
            f"{where}: right number of differences, wrong values. Are the two of each pair alike "
            f"in all of {', '.join(same)}? The rows are in no particular order."
        )
    assert len(answer) != 1, (
        f"{where} gave one number: give the difference of each pair, so that an interval can be "
        f"computed from all {len(right)}."
    )
    count = f"{where} gave {len(answer)} differences for {len(right)} pairs"
    crossed = on.merge(off, on=same[:-1], suffixes=("_on", "_off"))
    crossed = np.sort(crossed[f"{metric}_on"] - crossed[f"{metric}_off"])
    assert len(answer) != len(crossed) or not np.allclose(answer, crossed), (
        f"{count}: partners have the same seed."
    )
    assert len(answer) < len(right), f"{count}: a run without a partner is left out."
    raise AssertionError(
        f"{count}: each run with {factor} has at most one partner; find them all. Partners agree "
        "in the columns of `same`, whatever stands in the others."
    )


def lab08_confused_pairs(
    confused_pairs: Callable[[np.ndarray], list[tuple[int, int, float]]],
) -> None:
    """Grade `confused_pairs(counts)`: a list of (i, j, share) for all pairs of classes i < j, the
    largest share first. The share is that of the images of both classes which were taken for the
    other one. Random C x C counts, a row a true class."""
    for seed, c in enumerate((3, 4, 6, 10)):
        rng = np.random.default_rng(seed)
        counts = rng.integers(0, 40, (c, c)) + np.diag(rng.integers(50, 900, c))
        where = f"confused_pairs of a {c} x {c} matrix"
        kept = counts.copy()
        answer = confused_pairs(counts)
        assert np.array_equal(counts, kept), f"{where}: the matrix was changed; copy it first."
        _grade_pairs(where, answer, counts)
    print("OK  confused_pairs finds all pairs, both directions together, the worst first.")


def _grade_pairs(where: str, answer, counts: np.ndarray) -> None:
    c, totals = len(counts), counts.sum(1)
    triples = isinstance(answer, list | tuple) and all(
        isinstance(item, list | tuple) and len(item) == 3 for item in answer
    )
    assert triples, f"{where} gave {answer!r:.80}: return a list of triples (i, j, share)."
    try:
        whole = all(float(place).is_integer() for i, j, _ in answer for place in (i, j))
    except (TypeError, ValueError):
        whole = False
    assert whole, (
        f"{where} gave {tuple(answer[0])!r:.80} first: a triple is (i, j, share), the numbers of "
        "the two classes and then the share."
    )
    pairs = [(int(i), int(j)) for i, j, _ in answer]
    assert not any(i == j for i, j in pairs), (
        f"{where}: {next(p for p in pairs if p[0] == p[1])} is the diagonal, the right answers."
    )
    assert len(pairs) != c * (c - 1), (
        f"{where} gave {len(pairs)} pairs: (i, j) and (j, i) are one pair; add both directions."
    )
    expected = [(i, j) for i in range(c) for j in range(i + 1, c)]
    assert sorted(pairs) == expected, (
        f"{where} gave {len(pairs)} pairs; there are {len(expected)}, from (0, 1) to "
        f"({c - 2}, {c - 1}), with i < j."
    )
    shares = np.array([share for _, _, share in answer], dtype=float)
    i, j = np.array(pairs).T
    right = (counts[i, j] + counts[j, i]) / (totals[i] + totals[j])
    if not np.allclose(shares, right):
        for hint, wrong in _wrong_shares(counts, i, j).items():
            assert not np.allclose(shares, wrong), f"{where}: {hint}."
        raise AssertionError(
            f"{where}: the share of {pairs[0]} is {shares[0]:.4g}, but it must be {right[0]:.4g}."
        )
    assert not (len(shares) > 1 and (np.diff(shares) > 0).all()), (
        f"{where}: the order is turned round; the largest share comes first."
    )
    assert (np.diff(shares) <= 1e-12).all(), f"{where}: sort the pairs, the largest share first."


def _wrong_shares(counts: np.ndarray, i: np.ndarray, j: np.ndarray) -> dict[str, np.ndarray]:
    """What the likely mistakes give for the pairs (i, j)."""
    totals, columns = counts.sum(1), counts.sum(0)
    both, images = counts[i, j] + counts[j, i], totals[i] + totals[j]
    return {
        "these are counts; divide by the images of both classes": both,
        "only one direction is counted: j taken for i belongs to the pair as well": (
            counts[i, j] / images
        ),
        "only i taken for j is counted; j taken for i belongs to the pair as well": (
            counts[i, j] / totals[i]
        ),
        "divide by the images of both classes, not by those of one": both / totals[i],
        "the images of both classes are in two *rows*; the columns are what was said": (
            both / (columns[i] + columns[j])
        ),
        "divide by the images of the two classes, not by those of all": both / totals.sum(),
        "two shares were added; add the counts, then divide by the images of both classes": (
            counts[i, j] / totals[i] + counts[j, i] / totals[j]
        ),
    }
