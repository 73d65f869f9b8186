"""What several graders share."""

import numpy as np
from torch import Tensor

from labkit.settings import is_number


def as_array(name: str, ours) -> np.ndarray:
    """The student's array in float64; what is none gets a sentence."""
    try:
        return np.asarray(ours.detach() if isinstance(ours, Tensor) else ours, dtype=np.float64)
    except (TypeError, ValueError):
        raise AssertionError(
            f"{name} must be one array of numbers, not a {type(ours).__name__}."
        ) from None


def as_number(where: str, answer) -> float:
    """The student's number; what is none, a tensor too, gets a sentence."""
    assert is_number(answer), f"{where} gave {answer!r:.80}: return a number."
    return float(answer)


def name_mistake(said: str, answers: list, mistakes: dict[str, list]) -> None:
    """Raise where a mistake would give just these answers. One wrong answer may have several
    causes, so a cause must explain them all; `mistakes` has its answers to the same cases."""
    for sentence, wrong in mistakes.items():
        explained = all(map(np.array_equal, answers, wrong))
        assert not explained, f"{said}: {sentence}."


def agree(name: str, ours, theirs: Tensor, mistakes: dict[str, object]) -> None:
    """Raise unless the arrays agree to 1e-8 and 1e-5 of the value, np.allclose's rtol.

    `mistakes` gives what a known mistake would give.
    """
    ours, theirs = as_array(name, ours), theirs.detach().numpy()
    if ours.shape == theirs.shape and np.allclose(ours, theirs, atol=1e-8):
        return
    for sentence, wrong in mistakes.items():
        wrong = np.asarray(wrong, dtype=np.float64)
        if ours.shape == wrong.shape and np.allclose(ours, wrong, atol=1e-8):
            raise AssertionError(f"{name} is wrong: {sentence}.")
    assert ours.shape == theirs.shape, (
        f"{name} has the shape {ours.shape}, but it must be {theirs.shape}."
    )
    raise AssertionError(f"{name} differs from torch by up to {np.abs(ours - theirs).max():.2g}.")
