"""The graders of lab 12 accept right answers and name the likely mistakes of wrong ones."""

import itertools
import math

import numpy as np
import pytest
import torch

from labkit import checks, study


def seconds_to(seconds, accuracies, target, line=True, sums=True):
    clock = list(itertools.accumulate(seconds)) if sums else list(seconds)
    before = (0.0, 0.0)
    for now in zip(clock, accuracies, strict=True):
        if now[1] >= target:
            share = (target - before[1]) / (now[1] - before[1]) if line else 1.0
            return before[0] + share * (now[0] - before[0])
        before = now
    return math.nan


def the_last_time(seconds, accuracies, target):
    times = list(itertools.accumulate(seconds))
    reached = [t for t, accuracy in zip(times, accuracies, strict=True) if accuracy >= target]
    return reached[-1] if reached else math.nan


def amdahl(share, factor):
    return 1 / (1 - share + share / factor)


def paired_factor(before, after, back=np.exp):
    values = np.log(np.asarray(before)) - np.log(np.asarray(after))
    return tuple(back(study.interval(values)))


def unpaired(before, after):
    (b, b_low, b_high), (a, a_low, a_high) = (study.interval(np.log(x)) for x in (before, after))
    return tuple(np.exp([b - a, b_low - a_high, b_high - a_low]))


def normal(before, after):
    logs = np.log(np.divide(before, after))
    half = 1.96 * logs.std(ddof=1) / np.sqrt(len(logs))
    return tuple(np.exp([logs.mean(), logs.mean() - half, logs.mean() + half]))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (checks.lab12_seconds_to, seconds_to),
        (checks.lab12_amdahl, amdahl),
        (checks.lab12_paired_factor, paired_factor),
    ],
)
def test_right_answers_pass(check, answer, capsys):
    check(answer)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (checks.lab12_seconds_to, lambda s, a, t: seconds_to(s, a, t, line=False), "on the line"),
        (checks.lab12_seconds_to, lambda s, a, t: seconds_to(s, a, t, sums=False), "sum them up"),
        (checks.lab12_seconds_to, the_last_time, "the first one counts|on the line"),
        (checks.lab12_seconds_to, lambda s, a, t: 7.0, "but it is"),
        (checks.lab12_seconds_to, lambda s, a, t: None, "return a number"),
        (checks.lab12_seconds_to, lambda s, a, t: torch.tensor(seconds_to(s, a, t)), "a number"),
        (checks.lab12_amdahl, lambda s, f: torch.tensor(amdahl(s, f)), "return a number"),
        (checks.lab12_amdahl, lambda share, factor: factor, "the rest of the time"),
        (checks.lab12_amdahl, lambda share, factor: 1 / amdahl(share, factor), "one over it"),
        (checks.lab12_amdahl, lambda s, f: 1 - s + s * f, "not their speeds"),
        (checks.lab12_amdahl, lambda s, f: 1 / (1 - s) if s < 1 else math.inf, "still takes"),
        (checks.lab12_amdahl, lambda share, factor: 0.5, "but it is"),
        (checks.lab12_paired_factor, lambda b, a: paired_factor(a, b), "upside down"),
        (
            checks.lab12_paired_factor,
            lambda b, a: paired_factor(b, a, back=tuple),
            "still logarithms",
        ),
        (
            checks.lab12_paired_factor,
            lambda b, a: study.interval(np.divide(b, a)),
            "factors multiply",
        ),
        (checks.lab12_paired_factor, normal, "Student's t"),
        (checks.lab12_paired_factor, unpaired, "subtract seed by seed"),
        (checks.lab12_paired_factor, lambda b, a: 2.0, "three numbers"),
        (checks.lab12_paired_factor, lambda b, a: (1.0, 0.5, 2.0), "but it is"),
    ],
)
def test_wrong_answers_are_explained(check, answer, words):
    with pytest.raises(AssertionError, match=words):
        check(answer)


def test_a_target_that_is_never_reached_wants_nan():
    def last(seconds, accuracies, target):
        answer = seconds_to(seconds, accuracies, target)
        return sum(seconds) if math.isnan(answer) else answer

    with pytest.raises(AssertionError, match="return nan"):
        checks.lab12_seconds_to(last)
