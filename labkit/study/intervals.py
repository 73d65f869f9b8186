"""Intervals: how far a measurement may be off."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


def interval(values, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): the mean of a measurement over seeds and its Student t interval.

    For a comparison give the differences seed by seed: what two runs with one seed share then
    drops out. Raises ValueError for fewer than two values, or a value that is not finite.

        mean, low, high = interval(with_batchnorm - without)    # no finding while low < 0 < high
    """
    from scipy import stats  # comes with the labs; training and recording do without it

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
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "undecided"

    def __repr__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}] over {self.n} seeds"


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> Difference:
    """`metric` of `a` minus that of `b`, paired by the column "seed" (rows of `study.records`).

    Raises ValueError where fewer than two seeds have both, or a value is not finite.
    """
    both = pd.merge(a[["seed", metric]], b[["seed", metric]], on="seed", suffixes=("_a", "_b"))
    differences = both[f"{metric}_a"] - both[f"{metric}_b"]
    return Difference(*interval(differences), n=len(differences))
