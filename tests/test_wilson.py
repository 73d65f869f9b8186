"""Wilson's interval for the accuracy of one model on one test set."""

import numpy as np
import pytest

from labkit import study


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (50, 100, 0.40383, 0.59617),
        # Newcombe 1998, Two-sided confidence intervals for the single proportion, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_intervals(hits, n, low, high):
    assert study.wilson(hits, n) == pytest.approx((low, high), abs=6e-5)


def test_the_ends_are_where_the_truth_would_be_z_standard_errors_away():
    # What defines them: |hits / n - p| = z * sqrt(p (1 - p) / n), solved for p.
    for hits, n, confidence, z in ((3, 17, 0.95, 1.959964), (90, 120, 0.99, 2.575829)):
        for p in study.wilson(hits, n, confidence):
            assert abs(hits / n - p) == pytest.approx(z * (p * (1 - p) / n) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.98])
def test_wilson_covers_the_truth_about_as_often_as_it_says(accuracy):
    hits = np.random.default_rng(0).binomial(120, accuracy, size=20_000)
    low, high = study.wilson(hits, 120)
    assert ((low <= accuracy) & (accuracy <= high)).mean() == pytest.approx(0.95, abs=0.025)


def test_wilson_takes_arrays_and_one_n_for_all():
    low, high = study.wilson([[0, 10], [5, 2]], 10)
    assert low.shape == high.shape == (2, 2)
    assert (low[0, 0], high[0, 1]) == (0, 1)
    assert (low[1, 0], high[1, 0]) == pytest.approx(study.wilson(5, 10))
    assert (low <= high).all()


@pytest.mark.parametrize(
    ("hits", "n"), [(0.35, 120), (121, 120), (-1, 10), (0, 0), (float("nan"), 5), ([3, 7], [5, 5])]
)
def test_wilson_refuses_what_is_no_count(hits, n):
    with pytest.raises(ValueError, match=r"got .* of .*round\(accuracy \* n\)"):
        study.wilson(hits, n)


def test_wilson_refuses_a_confidence_in_percent():
    with pytest.raises(ValueError, match="confidence=95"):
        study.wilson(5, 10, confidence=95)
