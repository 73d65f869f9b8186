"""The graders of lab 11 accept right answers and name the likely mistakes of wrong ones."""

import functools
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from labkit import checks, study


def verdict(differences, sign):
    _, low, high = study.interval(differences)
    if low <= 0 <= high:
        return "undecided"
    return "holds" if (low > 0) == (sign > 0) else "does not hold"


def decided_where_it_touches_zero(differences, sign):
    _, low, high = study.interval(differences)
    return "undecided" if low < 0 < high else verdict(np.array(differences) - 1e-9, sign)


def by_the_mean(differences, sign):
    return "holds" if np.mean(differences) * sign > 0 else "does not hold"


def blind_to_the_sign(differences, sign):
    return verdict(differences, 1)


def with_the_normal_interval(differences, sign):
    mean = np.mean(differences)
    if abs(mean) < 1.96 * np.std(differences, ddof=1) / math.sqrt(len(differences)):
        return "undecided"
    return "holds" if mean * sign > 0 else "does not hold"


def never_decided(differences, sign):
    return "undecided"


def smallest(effect, std, t=True):
    def half(n):
        return (stats.t.ppf(0.975, n - 1) if t else 1.96) * std / math.sqrt(n)

    return next(n for n in itertools.count(2) if half(n) < abs(effect))


def by_n(effect, std):
    """Without the root."""
    n = 2
    while stats.t.ppf(0.975, n - 1) * std / n >= abs(effect):
        n += 1
    return n


def without_the_size(effect, std):
    n = 2
    while stats.t.ppf(0.975, n - 1) * std / math.sqrt(n) >= effect:
        n += 1
    return n


def without_a_next_n(effect, std):
    n = 2
    while stats.t.ppf(0.975, n - 1) * std / math.sqrt(n) >= abs(effect):
        pass
    return n


def in_one_line_without_the_size(effect, std):
    t = stats.t
    return next(n for n in itertools.count(2) if t.ppf(0.975, n - 1) * std / n**0.5 < effect)


def holm(p_values):
    rejected, m = [False] * len(p_values), len(p_values)
    for k, i in enumerate(np.argsort(p_values)):
        if p_values[i] > 0.05 / (m - k):
            break
        rejected[i] = True
    return rejected


def without_stop(p_values):
    m = len(p_values)
    order = {i: k for k, i in enumerate(np.argsort(p_values))}
    return [p <= 0.05 / (m - order[i]) for i, p in enumerate(p_values)]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr("labkit.checks.lab11._SECONDS", 1)


def by_bisection(effect, std):
    """Right, and hundreds of lines a round."""
    for n in range(2, 1000):
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            if stats.t.sf(middle, n - 1) > 0.025:
                low = middle
            else:
                high = middle
        if low * std / n**0.5 < abs(effect):
            return n
    return None


@pytest.mark.parametrize("answer", [by_bisection, functools.partial(smallest)])
def test_a_long_or_unusual_right_number_of_seeds_passes(answer, monkeypatch, capsys):
    monkeypatch.setattr("labkit.checks.lab11._SECONDS", 60)
    checks.lab11_seeds_needed(answer)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (checks.lab11_verdict, verdict),
        (checks.lab11_seeds_needed, smallest),
        (checks.lab11_holm, holm),
    ],
)
def test_right_answers_pass(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (checks.lab11_verdict, by_the_mean, "not at the mean"),
        (checks.lab11_verdict, decided_where_it_touches_zero, "an end at 0 counts"),
        (checks.lab11_verdict, blind_to_the_sign, "below 0"),
        (checks.lab11_verdict, never_decided, r"one side of 0\.$"),
        (checks.lab11_verdict, with_the_normal_interval, "Student's t: with 3 seeds 1.96 is too"),
        (checks.lab11_verdict, lambda d, sign: None, "gave None: say .holds., .does not hold."),
        (checks.lab11_verdict, lambda d, sign: "Holds", "gave 'Holds': say"),
        (checks.lab11_seeds_needed, lambda e, s: smallest(e, s, t=False), "Student's t"),
        (checks.lab11_seeds_needed, lambda e, s: smallest(e, s) - 1, "still holds 0"),
        (checks.lab11_seeds_needed, by_n, "by the root of n, not by n"),
        (checks.lab11_verdict, blind_to_the_sign, r"sign=-?1 claims a (posi|nega)tive effect"),
        (checks.lab11_seeds_needed, lambda e, s: None, "whole number"),
        (checks.lab11_seeds_needed, lambda e, s: 1000, "half width"),
        (checks.lab11_seeds_needed, without_the_size, r"seeds_needed\(-0.01, 0.01\) never ends"),
        (checks.lab11_seeds_needed, in_one_line_without_the_size, r"-0.01, 0.01\) never ends"),
        (checks.lab11_seeds_needed, without_a_next_n, r"seeds_needed\(0.01, 0.01\) never ends"),
        (checks.lab11_holm, lambda p: [x <= 0.05 for x in p], "no correction"),
        (checks.lab11_holm, lambda p: [x <= 0.05 / len(p) for x in p], "Bonferroni"),
        (checks.lab11_holm, without_stop, "nothing more is rejected"),
        (checks.lab11_holm, lambda p: sorted(holm(p), reverse=True), "order"),
        (checks.lab11_holm, lambda p: [True], "one for each"),
        (checks.lab11_holm, lambda p: [False] * len(p), "but it is"),
    ],
)
def test_wrong_answers_are_explained(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)
