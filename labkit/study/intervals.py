"""Intervals: how far a measurement may be off."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd


def interval(values, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): the mean of a measurement over seeds and its Student t interval.

    For a comparison give the differences seed by seed: what two runs with one seed share then
    drops out. Raises ValueError for fewer than two values, a value that is not finite, or where
    scipy is missing.

        mean, low, high = interval(with_batchnorm - without)    # no finding while low <= 0 <= high
    """
    try:
        from scipy import stats  # comes with the labs; training and recording do without it
    except ImportError:
        raise ValueError("interval needs scipy: python -m pip install scipy") from None

    _check_confidence("interval", confidence)
    values = np.asarray(values, dtype=float).ravel()
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"an interval over seeds needs two or more finite values, got {values.tolist()}: "
            "run more seeds, or leave out those that diverged and say so"
        )
    mean = values.mean()
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * standard_error
    return float(mean), float(mean - half), float(mean + half)


def side(low: float, high: float) -> int:
    """On which side of 0 the whole interval lies: 1 above, -1 below, 0 where it holds 0."""
    return (low > 0) - (high < 0)


@dataclass(frozen=True)
class Difference:
    """A paired difference over `n` seeds: its mean and 95 % interval, in the metric's unit."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """ "higher", "lower", or "undecided" where the interval holds zero."""
        return {1: "higher", -1: "lower", 0: "undecided"}[side(self.low, self.high)]

    def __repr__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}] over {self.n} seeds"


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> Difference:
    """`metric` of `a` minus that of `b`, paired by the column "seed" (rows of `study.records`).

    Raises ValueError where a column is missing, where fewer than two seeds have both, or where a
    value is not finite.
    """
    for column in ("seed", metric):
        if column not in a or column not in b:
            raise ValueError(
                f"A table for paired_difference has no column {column!r}: give rows of "
                "study.records, and one of their columns"
            )
    both = pd.merge(a[["seed", metric]], b[["seed", metric]], on="seed", suffixes=("_a", "_b"))
    differences = both[f"{metric}_a"] - both[f"{metric}_b"]
    return Difference(*interval(differences), n=len(differences))


def wilson(hits, n, confidence: float = 0.95):
    """(low, high): the shares of hits that go well with `hits` right answers to `n` questions.

    For the accuracy of one trained model, a fraction: another test set of that size would have
    given another one. It stays within 0 and 1, and has a width even where all answers are right.
    What another seed would have changed it does not know: that is `interval`. Arrays give arrays.
    Raises ValueError unless hits and n are whole numbers with 0 <= hits <= n and n >= 1.

        wilson(50, 100)     # (0.404, 0.596)
        wilson(0, 10)       # (0.0, 0.278)

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference,
    Journal of the American Statistical Association 22.
    """
    _check_confidence("wilson", confidence)
    hits, n = np.broadcast_arrays(np.asarray(hits, dtype=float), np.asarray(n, dtype=float))
    fits = (hits == np.floor(hits)) & (n == np.floor(n)) & (hits >= 0) & (hits <= n) & (n >= 1)
    if not fits.all():
        raise ValueError(
            f"wilson needs numbers of images, 0 <= hits <= n, got {hits[~fits][0]:g} of "
            f"{n[~fits][0]:g}: hits is round(accuracy * n)"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Where none or all are hits, the end is 0 or 1 on paper, and off by a rounding error here.
    low, high = np.where(hits == 0, 0.0, middle - half), np.where(hits == n, 1.0, middle + half)
    return (low, high) if low.ndim else (float(low), float(high))


def _check_confidence(function: str, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(
            f"{function}(confidence={confidence!r}): give a share between 0 and 1, as 0.95"
        )
