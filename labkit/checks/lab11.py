"""Graders of lab 11, what survives."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from labkit.study import interval
from labkit.study.intervals import side


def lab11_verdict(verdict: Callable[[Sequence[float], int], str]) -> None:
    """Grade `verdict(differences, sign)`: "holds", "does not hold" or "undecided", by the 95 %
    interval of the mean of the differences. Compared with `study.interval` on random ones."""
    rng = np.random.default_rng(11)
    seen = set()
    series = [rng.normal(mean, 0.02, n) for mean in (-0.05, 0.0, 0.05) for n in (3, 5, 12)]
    series.append(np.zeros(3))  # an interval that only touches 0 holds it, too
    for differences, sign in itertools.product(series, (1, -1)):
        _, low, high = interval(differences)
        n, there = len(differences), side(low, high)
        right = "undecided" if there == 0 else "holds" if there == sign else "does not hold"
        answer = verdict(differences.tolist(), sign)
        where = f"verdict({np.round(differences, 3).tolist()}, sign={sign})"
        known = isinstance(answer, str) and answer in ("holds", "does not hold", "undecided")
        assert known, f'{where} gave {answer!r}: say "holds", "does not hold" or "undecided".'
        told = f"the 95 % interval is {low:+.3f} to {high:+.3f}"
        if answer != right:
            if {answer, right} == {"holds", "does not hold"}:
                hint = "sign=-1 claims a negative effect: the interval must lie below 0."
            elif right == "undecided":
                hint = (
                    "it holds 0 (an end at 0 counts). Look at the whole interval and not at the "
                    f"mean, and take Student's t: with {n} seeds 1.96 is too narrow."
                )
            else:
                hint = "all of it is on one side of 0."
            raise AssertionError(f"{where} gave {answer!r}, but {told}: {hint}")
        seen.add(right)
    assert len(seen) == 3
    print("OK  verdict looks at the whole interval, and at the side that was claimed.")


def lab11_seeds_needed(seeds_needed: Callable[[float, float], int]) -> None:
    """Grade `seeds_needed(effect, std)`: the smallest number of seeds, 2 or more, whose 95 %
    interval of a mean `effect` with standard deviation `std` does not hold 0."""
    for effect, std in ((0.01, 0.01), (-0.01, 0.01), (0.02, 0.003), (0.003, 0.01), (-0.001, 0.004)):
        answer = seeds_needed(effect, std)
        right = _smallest(effect, std, student=True)
        where = f"seeds_needed({effect}, {std}) gave {answer!r}"
        assert answer is not None, f"{where}: return a whole number."
        if answer == right:
            continue
        if answer == _smallest(effect, std, student=False):
            hint = "that is with 1.96; a few seeds want Student's t with n - 1 degrees of freedom"
        elif answer == right - 1:
            hint = "that interval still holds 0; the next one doesn't"
        else:
            half = _half(std, right, student=True)
            hint = (
                f"with n = {right} the half width is {half:.4f}, for the first time below |effect|"
            )
        raise AssertionError(f"{where}, but {right} seeds are needed: {hint}.")
    print("OK  seeds_needed finds the smallest number, with Student's t.")


def _half(std: float, n: int, student: bool) -> float:
    from scipy import stats

    return (stats.t.ppf(0.975, n - 1) if student else 1.96) * std / math.sqrt(n)


def _smallest(effect: float, std: float, student: bool) -> int:
    return next(n for n in itertools.count(2) if _half(std, n, student) < abs(effect))


def lab11_holm(holm: Callable[[Sequence[float]], Sequence[bool]]) -> None:
    """Grade `holm(p_values)`: True for each hypothesis that Holm's method rejects at 5 %, in the
    order given. Compared with a straightforward one on random p values."""
    rng = np.random.default_rng(11)
    for m in (4, 10, 25):
        for _ in range(4):
            p = np.where(rng.random(m) < 0.5, rng.random(m), rng.random(m) * 0.12 / m)
            _grade_holm(holm, p)
    _grade_holm(holm, np.array([0.02, 0.04, 0.011, 0.3]))
    _grade_holm(holm, np.array([0.2, 0.0001, 0.012, 0.018]))
    print(
        "OK  holm compares the smallest p with 0.05 / m, the next with 0.05 / (m - 1), and stops."
    )


def _grade_holm(holm, p: np.ndarray) -> None:
    order, m = np.argsort(p), len(p)
    passed = p[order] <= 0.05 / (m - np.arange(m))
    first_failure = m if passed.all() else int(np.argmin(passed))
    right = np.zeros(m, dtype=bool)
    right[order[:first_failure]] = True
    answer = np.asarray(holm(p.tolist()))
    where = f"holm({np.round(p, 4).tolist()})"
    assert answer.shape == right.shape, f"{where}: give {m} answers, one for each p value."
    answer = answer.astype(bool)
    if (answer == right).all():
        return
    without_stop = np.zeros(m, dtype=bool)
    without_stop[order[passed]] = True
    mistakes = {
        "no correction: with many tests some p values are small by chance": p <= 0.05,
        "every p was compared with 0.05 / m, that is Bonferroni; Holm's steps grow": p <= 0.05 / m,
        "after the first p that is too large nothing more is rejected": without_stop,
        "the answers must stand in the order of the p values that came in": right[order],
    }
    for sentence, wrong in mistakes.items():
        if (answer == wrong).all():
            raise AssertionError(f"{where} is wrong: {sentence}.")
    raise AssertionError(f"{where} gave {answer.tolist()}, but it is {right.tolist()}.")
