"""Graders of lab 11, what survives."""

import inspect
import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from labkit.checks.compare import name_mistake
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
        answer = verdict(differences.copy(), sign)
        where = f"verdict({np.round(differences, 3).tolist()}, sign={sign})"
        known = isinstance(answer, str) and answer in ("holds", "does not hold", "undecided")
        assert known, f'{where} gave {answer!r}: say "holds", "does not hold" or "undecided".'
        told = f"the 95 % interval is {low:+.3f} to {high:+.3f}"
        if answer != right:
            if {answer, right} == {"holds", "does not hold"}:
                claimed = "positive" if sign > 0 else "negative"
                hint = (
                    f"sign={sign} claims a {claimed} effect, and all of the interval is "
                    f"{'above' if there > 0 else 'below'} 0."
                )
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
    effects = (0.01, 0.02, 0.003, 0.02, -0.01, -0.001)
    cases = list(zip(effects, (0.01, 0.003, 0.01, 0.001, 0.01, 0.004), strict=True))
    answers = [_ending(seeds_needed, *case) for case in cases]
    rights = [_smallest(_half, *case) for case in cases]
    wrong = next((i for i, right in enumerate(rights) if answers[i] != right), None)
    if wrong is None:
        print("OK  seeds_needed finds the smallest number, with Student's t.")
        return
    effect, std = cases[wrong]
    where = f"seeds_needed({effect}, {std}) gave {answers[wrong]!r}"
    assert answers[wrong] is not None, f"{where}: return a whole number."
    where += f", but {rights[wrong]} seeds are needed"
    mistakes = {
        sentence: [_smallest(half, *case) for case in cases]
        for sentence, half in _SEEDS_MISTAKES.items()
    }
    mistakes["that interval still holds 0; the next one doesn't"] = [n - 1 for n in rights]
    name_mistake(where, answers, mistakes)
    raise AssertionError(
        f"{where}: with n = {rights[wrong]} the half width is {_half(std, rights[wrong]):.4f}, for "
        "the first time below |effect|."
    )


def _ending(seeds_needed: Callable[[float, float], int], effect: float, std: float) -> int:
    """Its answer; AssertionError where it goes on and on. The largest n needed is below 100."""
    end, before = time.monotonic() + _SECONDS, sys.gettrace()
    code = getattr(inspect.unwrap(seeds_needed), "__code__", None)
    cell = code and code.co_filename

    def trace(frame, event, _):
        if frame.f_code.co_filename != cell:
            return None
        assert event != "line" or time.monotonic() < end, (
            f"seeds_needed({effect}, {std}) never ends. Compare with the size of the effect, "
            "abs(effect), and let n grow in each round."
        )
        return trace

    sys.settrace(trace)
    try:
        return seeds_needed(effect, std)
    finally:
        sys.settrace(before)


_SECONDS = 10  # for an answer; a right one takes a small part of one


def _half(std: float, n: int) -> float:
    from scipy import stats

    return stats.t.ppf(0.975, n - 1) * std / math.sqrt(n)


_SEEDS_MISTAKES = {
    "that is with 1.96; a few seeds want Student's t with n - 1 degrees of freedom": (
        lambda std, n: 1.96 * std / math.sqrt(n)
    ),
    "divide the standard deviation by the root of n, not by n": (
        lambda std, n: _half(std, n) / math.sqrt(n)
    ),
}


def _smallest(half: Callable[[float, int], float], effect: float, std: float) -> int:
    """The first n whose half width is below |effect|."""
    return next(n for n in itertools.count(2) if half(std, n) < abs(effect))


def lab11_holm(holm: Callable[[Sequence[float]], Sequence[bool]]) -> None:
    """Grade `holm(p_values)`: True for each hypothesis that Holm's method rejects at 5 %, in the
    order given. Compared with a straightforward one on random p values."""
    rng = np.random.default_rng(11)
    cases = [
        np.where(rng.random(m) < 0.5, rng.random(m), rng.random(m) * 0.12 / m)
        for m in (4, 10, 25)
        for _ in range(4)
    ]
    cases += [np.array([0.02, 0.04, 0.011, 0.3]), np.array([0.2, 0.0001, 0.012, 0.018])]
    answers, rights = [_truths(holm, p) for p in cases], [_holm(p) for p in cases]
    wrong = [k for k in range(len(cases)) if (answers[k] != rights[k]).any()]
    if wrong:
        where = f"holm({np.round(cases[wrong[0]], 4).tolist()})"
        mistakes = {sentence: [m(p) for p in cases] for sentence, m in _HOLM_MISTAKES.items()}
        name_mistake(f"{where} is wrong", answers, mistakes)
        raise AssertionError(
            f"{where} gave {answers[wrong[0]].tolist()}, but it is {rights[wrong[0]].tolist()}."
        )
    print(
        "OK  holm compares the smallest p with 0.05 / m, the next with 0.05 / (m - 1), and stops."
    )


def _truths(holm, p: np.ndarray) -> np.ndarray:
    """The answers as an array of bool, once there is a True or False for each p value."""
    given = holm(p.tolist())
    answer, where = np.asarray(given), f"holm({np.round(p, 4).tolist()})"
    assert answer.shape == p.shape, f"{where}: give {len(p)} answers, one for each p value."
    truths = answer.dtype.kind in "biu" and set(answer.tolist()) <= {0, 1}
    assert truths, (
        f"{where} gave {given!r:.80}: say True or False for each p value, does it survive?"
    )
    return answer.astype(bool)


def _passed(p: np.ndarray) -> np.ndarray:
    """Of the sorted p values, which pass their own step."""
    return np.sort(p) <= 0.05 / (len(p) - np.arange(len(p)))


def _first(p: np.ndarray, n: int) -> np.ndarray:
    """True for the n smallest."""
    rejected = np.zeros(len(p), dtype=bool)
    rejected[np.argsort(p)[:n]] = True
    return rejected


def _until(passed: np.ndarray) -> int:
    return len(passed) if passed.all() else int(np.argmin(passed))


def _from_above(passed: np.ndarray) -> int:
    return int(passed.nonzero()[0].max(initial=-1)) + 1


def _holm(p: np.ndarray) -> np.ndarray:
    return _first(p, _until(_passed(p)))


def _each(p: np.ndarray) -> np.ndarray:
    rejected = np.zeros(len(p), dtype=bool)
    rejected[np.argsort(p)] = _passed(p)
    return rejected


_HOLM_MISTAKES = {
    "no correction: with many tests some p values are small by chance": lambda p: p <= 0.05,
    "every p was compared with 0.05 / m, that is Bonferroni; Holm's steps grow": (
        lambda p: p <= 0.05 / len(p)
    ),
    "after the first p that is too large nothing more is rejected": _each,
    "the answers must stand in the order of the p values that came in": (
        lambda p: np.sort(_holm(p))[::-1]
    ),
    "the answers are turned round: True is for those that survive": lambda p: ~_holm(p),
    "that is Benjamini and Hochberg's method, 0.05 · k / m, which keeps the share of false "
    "verdicts small and not the chance of one": (
        lambda p: _first(p, _from_above(np.sort(p) <= 0.05 * np.arange(1, len(p) + 1) / len(p)))
    ),
    "that is Hochberg's method, which begins with the largest p; Holm begins with the smallest": (
        lambda p: _first(p, _from_above(_passed(p)))
    ),
}
