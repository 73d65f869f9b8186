"""Graders of lab 12, the speed run."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from labkit import speedrun, study
from labkit.checks.compare import as_number
from labkit.settings import is_number


def lab12_seconds_to(
    seconds_to: Callable[[Sequence[float], Sequence[float], float], float],
) -> None:
    """Grade `seconds_to(seconds, accuracies, target)`: when a target was first reached. `seconds`
    are those between readings. Random curves that go up and down; some never get there."""
    rng = np.random.default_rng(12)
    cases = []
    for case in range(40):
        n = int(rng.integers(3, 12))
        seconds = rng.uniform(0.5, 3, n).round(2).tolist()
        rise = np.linspace(0.2, 0.8, n) + rng.normal(0, 0.08, n)
        accuracies = rise.clip(0.05, 0.95).round(3).tolist()
        target = 0.99 if case % 8 == 7 else round(float(rng.uniform(0.25, 0.75)), 3)
        cases.append((seconds, accuracies, target))
    # Before the first reading, and exactly at a reading, then lost again.
    cases += [([2.0, 1.0, 4.0], [0.5, 0.4, 0.6], 0.3), ([2.0, 1.0, 4.0], [0.4, 0.6, 0.5], 0.6)]
    for seconds, accuracies, target in cases:
        curve = pd.DataFrame({"seconds": seconds, "val_acc": accuracies})
        right = speedrun.seconds_to(curve, target)
        where = f"seconds_to({seconds}, {accuracies}, {target})"
        answer = seconds_to(list(seconds), list(accuracies), target)
        assert answer is not None or not math.isnan(right), (
            f'{where} gave None, but the target was never reached: return float("nan").'
        )
        answer = as_number(where, answer)
        if math.isnan(right):
            assert math.isnan(answer), (
                f"{where} gave {answer:.3f}, but the target was never reached: return nan."
            )
            continue
        if math.isclose(answer, right, rel_tol=1e-6):
            continue
        for hint, wrong in _wrong_seconds(seconds, accuracies, target).items():
            assert not math.isclose(answer, wrong, rel_tol=1e-6), f"{where} is wrong: {hint}."
        raise AssertionError(f"{where} gave {answer:.3f}, but it is {right:.3f}.")
    print("OK  seconds_to finds the first time, and says nan where there is none.")


def _wrong_seconds(seconds, accuracies, target) -> dict[str, float]:
    clock = np.cumsum(seconds)
    first = next(i for i, accuracy in enumerate(accuracies) if accuracy >= target)
    last = max(i for i, accuracy in enumerate(accuracies) if accuracy >= target)
    before = (clock[first - 1], accuracies[first - 1]) if first else (0.0, 0.0)
    share = (target - before[1]) / (accuracies[first] - before[1])
    return {
        "that is the reading at which the target is seen; it was reached before it, on the line "
        "from the last reading": float(clock[first]),
        "that is the reading before the target": float(before[0]),
        "that is the last time, the first one counts": float(clock[last]),
        "these are the seconds since the last reading; add those before it": float(
            share * seconds[first]
        ),
        "seconds are those between two readings: sum them up": float(
            (seconds[first - 1] if first else 0.0)
            + share * (seconds[first] - (seconds[first - 1] if first else 0.0))
        ),
    }


def lab12_amdahl(speed_up: Callable[[float, float], float]) -> None:
    """Grade `speed_up(share, factor)`: of the whole, when a share of its time becomes that many
    times as fast. A factor may be infinite."""
    rng = np.random.default_rng(13)
    cases = [(float(rng.uniform(0.05, 0.95)), float(10 ** rng.uniform(-0.5, 2))) for _ in range(12)]
    for share, factor in [*cases, (0.2, math.inf), (1.0, 7.0), (0.0, 7.0)]:
        where = f"speed_up(share={share:.3g}, factor={factor:.3g})"
        answer = speed_up(share, factor)
        answer = as_number(where, answer)
        right = 1 / (1 - share + share / factor)
        if math.isclose(answer, right, rel_tol=1e-6):
            continue
        wrongs = {
            "the rest of the time stays as it was, and counts too": factor,
            "that is the time that is left; the speed-up is one over it": 1 / right,
            "add the times of the two parts, not their speeds": 1 - share + share * factor,
            "the share that became faster still takes share / factor": 1 / (1 - share)
            if share < 1
            else math.inf,
        }
        for hint, wrong in wrongs.items():
            assert not math.isclose(answer, wrong, rel_tol=1e-9), f"{where} is wrong: {hint}."
        raise AssertionError(f"{where} gave {answer:.7g}, but it is {right:.7g}.")
    print("OK  speed_up is Amdahl's law.")


def lab12_paired_factor(
    paired_factor: Callable[[Sequence[float], Sequence[float]], tuple[float, float, float]],
) -> None:
    """Grade `paired_factor(before, after)`: how many times faster, and its 95 % interval, seed by
    seed. Random times of three to eight seeds."""
    rng = np.random.default_rng(14)
    for _ in range(8):
        n = int(rng.integers(3, 9))
        before = 20 * np.exp(rng.normal(0, 0.3, n))
        after = before / rng.uniform(0.7, 3) * np.exp(rng.normal(0, 0.1, n))
        where = f"paired_factor of {n} seeds"
        answer = paired_factor(before.copy(), after.copy())
        assert _are_three_numbers(answer), (
            f"{where} gave {answer!r:.80}: return three numbers, (factor, low, high)."
        )
        right = np.exp(study.interval(np.log(before / after)))
        if np.allclose(answer, right, rtol=1e-6):
            continue
        for hint, wrong in _wrong_factors(before, after).items():
            assert not np.allclose(answer, wrong, rtol=1e-6), f"{where} is wrong: {hint}."
        raise AssertionError(
            f"{where} gave {_three(answer)}, but it is {_three(right)}: take the interval of the "
            "logarithms of before / after, seed by seed, then exp."
        )
    print("OK  paired_factor pairs by seed, and its interval is right.")


def _are_three_numbers(answer) -> bool:
    some = isinstance(answer, tuple | list | np.ndarray) and len(answer) == 3
    return some and all(map(is_number, answer))


def _three(values) -> str:
    return "({:.4f}, {:.4f}, {:.4f})".format(*values)


def _wrong_factors(before: np.ndarray, after: np.ndarray) -> dict[str, object]:
    logs = np.log(before / after)
    mean, half = logs.mean(), 1.96 * logs.std(ddof=1) / np.sqrt(len(logs))
    apart = [study.interval(np.log(times)) for times in (before, after)]
    return {
        "it is upside down; before / after is how many times faster": np.exp(
            study.interval(np.log(after / before))
        ),
        "these are still logarithms; the factor is their exp": study.interval(logs),
        "this is the interval of the ratios; factors multiply, so take it of their logarithms": (
            study.interval(before / after)
        ),
        "with so few seeds 1.96 is too small; take Student's t, as study.interval does": np.exp(
            [mean, mean - half, mean + half]
        ),
        "each side has its own interval here; subtract seed by seed first": np.exp(
            [
                apart[0][0] - apart[1][0],
                apart[0][1] - apart[1][2],
                apart[0][2] - apart[1][1],
            ]
        ),
    }
