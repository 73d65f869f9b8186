"""Graders of lab 10, the training clinic."""

from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import bugs, layers
from labkit.clinic import CAUSES


def _minus_log(probabilities: Tensor, labels: Tensor) -> Tensor:
    return -probabilities[torch.arange(len(labels)), labels].log().mean()


def _squared(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs, F.one_hot(labels, outputs.shape[1]).to(outputs))


# A loss, and whether it ignores a shift: these do as they apply softmax themselves.
_LOSSES = (
    ("F.cross_entropy", F.cross_entropy, True),
    ("cross_entropy with label smoothing", nn.CrossEntropyLoss(label_smoothing=0.1), True),
    ("F.nll_loss", F.nll_loss, False),
    ("-log p", _minus_log, False),
    ("mean squared error", _squared, False),
)


def lab10_ignores_shift(ignores_shift: Callable[[Callable, int], bool]) -> None:
    """Grade `ignores_shift(loss, num_classes) -> bool`: True where one number added to all outputs
    of an example leaves `loss(outputs, labels)` as it is. Tried on five losses, with 2, 10 and 100
    classes."""
    answers = {}
    for num_classes in (2, 10, 100):
        for name, loss, right in _LOSSES:
            # Behind a lambda: it has to be measured, not recognised.
            answer = ignores_shift(lambda z, y, loss=loss: loss(z, y), num_classes)
            one = isinstance(answer, bool | np.bool_) or (
                isinstance(answer, Tensor) and answer.dtype == torch.bool and answer.dim() == 0
            )
            assert answer is not None, "Nothing came back, is the `return` missing?"
            assert one, (
                f"Return True or False, not {answer!r}: compare the two losses with abs(a - b) < "
                "1e-4, and .item() makes a number of a tensor."
            )
            answers[f"{name}, {num_classes} classes"] = bool(answer), right
    assert any(answer == right for answer, right in answers.values()), (
        "All answers are turned round: True is for a loss that does not notice the shift."
    )
    for where, (answer, right) in answers.items():
        assert answer or not right, (
            f"{where}: it applies softmax itself, and you say no. Add the same number to all "
            "outputs of an example, and don't multiply: only then a softmax does not notice. Or is "
            "rounding in the way? Two losses are never exactly equal: allow 1e-4."
        )
        assert right or not answer, (
            f"{where}: it notices a shift, and you say that it does not. Add the same number, 3 "
            "say, to all outputs of an example: a loss on probabilities would notice, and of these "
            "five only a softmax does not notice. Multiplying, or another number for each class, "
            "tells you something else."
        )
    print(f"OK  Right for {len(_LOSSES)} losses, with 2, 10 and 100 classes.")


@torch.random.fork_rng(devices=[])
def lab10_dropout_ratio(ratio: Callable[[nn.Module], float]) -> None:
    """Grade `ratio(layer) -> float`, mean in training over mean in evaluation, on ones."""
    for p in (0.2, 0.5, 0.7):
        for kind, right in (
            (layers.Dropout, 1.0),
            (bugs.UnscaledDropout, 1 - p),
            (bugs.ShrinkingDropout, (1 - p) ** 2),
            (bugs.TestScaledDropout, 1.0),
        ):
            layer = kind(p)
            for training in (True, False):
                layer.train(training)
                torch.manual_seed(0)
                answer = ratio(layer)
                assert answer is not None, "Nothing came back, is the `return` missing?"
                one = isinstance(answer, Real) or (isinstance(answer, Tensor) and answer.dim() == 0)
                assert one, f"Return a number, not a {type(answer).__name__}: .item() makes one."
                _check_ratio(kind, p, float(answer), right)
                assert layer.training is training, (
                    "The layer came in another mode than it left: remember layer.training, and "
                    "put it back with layer.train(before)."
                )
    print("OK  Right for four kinds of dropout, and the layer is left in its mode.")


def _check_ratio(kind: type[nn.Module], p: float, answer: float, right: float) -> None:
    said = f"{kind.__name__}(p={p}): {answer:.3f}, expected {right:.3f}"
    if abs(answer - right) < 0.04:
        return
    if abs(answer - 1 / right) < 0.04:
        raise AssertionError(f"{said}. It is the other way round: training over evaluation.")
    if kind is bugs.TestScaledDropout and abs(answer - (1 - p)) < 0.04:
        raise AssertionError(
            f"{said}. Divide by the mean in evaluation: this layer does something there too."
        )
    if abs(answer - 1) < 0.04:
        raise AssertionError(f"{said}. Was the layer in train mode? Call layer.train() first.")
    if abs(answer - (1 - p)) < 0.02:
        raise AssertionError(
            f"{said}. That is the share of survivors: take the mean of what the layer gives."
        )
    raise AssertionError(
        f"{said}. It is the mean of layer(ones) in train mode, over that in eval mode; take many "
        "ones (100,000), or chance moves the third digit."
    )


# The patients, and what to look at next for somebody who is on the wrong track.
_PATIENTS = {
    1: ("sigmoid_output", "Train it for a while: where does the loss stop? What do outputs share?"),
    2: ("forgotten_layer", "Which weights are exactly as before after an epoch?"),
    3: ("batch_statistics", "Give the same image to it twice, with other neighbours."),
}


def lab10_patient(number: int, healthy: bugs.Setup) -> bugs.Setup:
    """Mystery patient 1, 2 or 3: a healthy set-up with one bug. Needs BatchNorm in the model."""
    return bugs.CATALOGUE[_of(number)[0]].infect(healthy)


def lab10_mystery(number: int, cause: str) -> None:
    """Grade the diagnosis of a mystery patient: the name of its cause, as in `clinic.CAUSES`."""
    name, hint = _of(number)
    assert cause in CAUSES, (
        f"{cause!r} is no cause that the clinic knows; one of: {'; '.join(CAUSES)}"
    )
    right = bugs.CATALOGUE[name]
    follows = cause in CAUSES[right.cause].follows
    assert not follows, f"Patient {number} has that, but it only follows: from what? {hint}"
    assert cause == right.cause, f"Patient {number} does not have that. {hint}"
    print(f"OK  Patient {number}: {cause}.\n    {CAUSES[cause].fix}")


def _of(number: int) -> tuple[str, str]:
    if number not in _PATIENTS:
        raise ValueError(f"There are patients 1, 2 and 3, no {number!r}")
    return _PATIENTS[number]
