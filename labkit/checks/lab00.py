"""Graders of lab 00, start here."""

from collections.abc import Callable

import torch
from torch import Tensor


def lab00_accuracy(accuracy: Callable[[Tensor, Tensor], float]) -> None:
    """Grade `accuracy(logits N x C, labels N)`: the share of correct answers, from 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    for n, c in ((7, 3), (50, 10), (20, 2)):
        logits = torch.randn(n, c, generator=generator)
        labels = logits.argmax(1)
        labels[n // 2 :] = (labels[n // 2 :] + 1) % c  # the second half is wrong
        right = n // 2
        answer = _one_number(_of_each_row(accuracy, logits, labels), "accuracy")
        for mistaken, mistake in (
            (right, f"that is how many are right: divide by how many there are, {n}"),
            (100 * right / n, "that is a percentage: give a share from 0 to 1"),
        ):
            assert abs(answer - mistaken) > 1e-4, (
                f"accuracy gave {answer:g}, not {right / n:g}: {mistake}."
            )
        assert abs(answer - right / n) < 1e-6, (
            f"accuracy gave {answer:g} where {right} of {n} answers are right, {right / n:g}: take "
            "the class with the highest score of each row (dim=1), and compare it with the label."
        )
    print("OK  accuracy counts right.")


def _of_each_row(accuracy: Callable, logits: Tensor, labels: Tensor):
    """What accuracy gives; answers that are not one a row get a sentence."""
    try:
        return accuracy(logits, labels)
    except RuntimeError as error:
        if "must match" not in str(error):
            raise
        raise AssertionError(
            f"accuracy stopped with '{error}': the answers are logits.argmax(dim=1), one for each "
            f"of the {len(labels)} rows."
        ) from None


def lab00_descend(descend: Callable[[float, float, int], float]) -> None:
    """Grade `descend(w, lr, steps)`: gradient descent on the loss w squared."""
    for w, lr, steps in (
        (1.0, 0.1, 1),
        (3.0, 0.3, 4),
        (-2.0, 0.05, 10),
        (1.0, 0.5, 1),
        (5.0, 0.2, 0),
    ):
        answer = _one_number(descend(w, lr, steps), "descend")
        wanted = w * (1 - 2 * lr) ** steps
        said = f"descend({w:g}, {lr:g}, {steps}) gave {answer:g}, not {wanted:g}"
        for factor, mistake in (
            (1 + 2 * lr, "it walks uphill: subtract lr times the slope"),
            (1 - lr, "the slope of w² is 2w, not w"),
        ):
            assert not steps or abs(answer - w * factor**steps) > 1e-6, f"{said}: {mistake}."
        assert abs(answer - wanted) < 1e-6 * max(1, abs(w)), (
            f"{said}: one step is w - lr * 2 * w, and there are `steps` of them."
        )
    print("OK  descend walks downhill.")


def _one_number(answer, name: str) -> float:
    assert answer is not None, f"{name} gave nothing back: is the `return` missing?"
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(
            f"{name} gave a {type(answer).__name__}, where one number was wanted."
        ) from None
