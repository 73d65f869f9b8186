"""Intervals: how far a measurement may be off."""

import numpy as np


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
