"""Graders of lab 02, double softmax."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def lab02_loss_range(loss_range: Callable[[int], tuple[float, float]]) -> None:
    """Grade `loss_range(num_classes) -> (lowest, highest)` loss of a double softmax, in nats."""
    for num_classes in (2, 10, 37, 1000):
        answer = loss_range(num_classes)
        pair = isinstance(answer, tuple | list) and len(answer) == 2
        assert pair, f"loss_range({num_classes}) gave {answer!r}: return (lowest, highest)."
        low, high = map(float, answer)
        right_high = math.log(math.e + num_classes - 1)
        right_low = right_high - 1
        shown = f"For {num_classes} classes you say the loss lies in [{low:.4f}, {high:.4f}]"
        if _near(low, right_low) and _near(high, right_high):
            continue
        assert not _near(low, 0), (
            f"{shown}, but it can't reach 0: where p is 1 for the label, the other "
            f"{num_classes - 1} probabilities are 0, and each adds exp(0) = 1 inside the logarithm."
        )
        assert not _near(high, math.log(math.e + num_classes)), (
            f"{shown}: one class too many. One probability is 1 (that is the e), so only "
            f"{num_classes - 1} others are left to add exp(0) = 1 each."
        )
        assert not (_near(high, right_low) and _near(low, right_high)), (
            f"{shown}: these are the right numbers the wrong way round, lowest first."
        )
        assert not _near(high, math.log(num_classes)), (
            f"{shown}, but ln C is the loss of an undecided network (all p = 1/C): a network that "
            "is sure of a wrong class loses more."
        )
        raise AssertionError(
            f"{shown}. Put p = 1 on the label for the lowest, p = 1 on another class for the "
            "highest, all else 0, into logsumexp(p) - p_label."
        )
    print("OK  The range is right for 2, 10, 37 and 1000 classes.")


def lab02_gradient(gradient: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Grade `gradient(logits N x C, labels N) -> N x C`, each image's own gradient of the double
    softmax, in nats per unit of logit. Random shapes in float64, compared with autograd."""
    generator = torch.Generator().manual_seed(2)
    for n, num_classes in ((1, 2), (5, 3), (7, 10), (4, 100)):
        logits = 3 * torch.randn(n, num_classes, generator=generator, dtype=torch.float64)
        labels = torch.randint(num_classes, (n,), generator=generator)
        try:
            answer = gradient(logits.clone(), labels)
        except NotImplementedError:  # a stub that nobody has touched speaks for itself
            raise
        except RuntimeError as error:
            raise AssertionError(
                f"Logits {n} x {num_classes}: stopped with '{error}'. One number an image needs "
                "keepdim=True, N x 1, to meet N x C; and F.one_hot wants the number of classes."
            ) from None
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        assert got == (n, num_classes), (
            f"For logits {n} x {num_classes} return a tensor of that shape, not {got}."
        )
        answer = answer.detach().to(torch.float64)
        right = _double_softmax_gradient(logits, labels)
        if torch.allclose(answer, right, atol=1e-6):
            continue
        p, target = logits.softmax(1), F.one_hot(labels, num_classes)
        inner = p.softmax(1) - target
        for wrong, message in (
            (inner, "this is dL/dp. It still has to go through the first softmax: multiply by "
                    "diag p - p pᵀ"),
            (p - target, "this is the gradient of the correct loss. With a second softmax the "
                         "bracket holds softmax(p), not p, and diag p - p pᵀ stands before it"),
            (p * inner, "diag p is there, the part - p pᵀ is missing: subtract p (p · v), one dot "
                        "product an image"),
            (p * (bare := p.softmax(1) - F.one_hot(labels)) - p * (p * bare).sum(1, keepdim=True),
             "F.one_hot wants the number of classes, else it takes the largest label for the last"),
            (right / n, "each image's own gradient is asked for: don't divide by N"),
            (-right, "the sign is turned round: softmax(p) - one_hot, not the other way"),
        ):  # fmt: skip
            assert not torch.allclose(answer, wrong, atol=1e-6) or torch.allclose(wrong, right), (
                f"Logits {n} x {num_classes}: {message}."
            )
        worst = (answer - right).abs().max().item()
        raise AssertionError(
            f"Logits {n} x {num_classes}: autograd disagrees by up to {worst:.2g}. Check the image "
            "at z = 0 first: there the gradient is (1/C - one_hot) / C."
        )
    _check_its_means(gradient)
    print("OK  Equal to autograd to 1e-6, for 2, 3, 10 and 100 classes.")


def _check_its_means(gradient) -> None:
    """It must do without autograd, and without anything larger than N x C."""
    logits = torch.linspace(-1, 1, 150, dtype=torch.float64).view(3, 50)
    largest = _Largest()
    try:
        with torch.no_grad(), largest:
            gradient(logits, torch.tensor([0, 7, 49]))
    except RuntimeError as error:
        raise AssertionError(
            "The numbers are right, but under torch.no_grad() there are none: compute the formula "
            "itself, without autograd."
        ) from error
    assert not largest.differentiates, (
        "The numbers are right, but torch has differentiated: compute the formula itself, without "
        "autograd, torch.func or enable_grad."
    )
    assert largest.elements <= logits.numel(), (
        f"The numbers are right, but for logits 3 x 50 you made a tensor of {largest.elements} "
        "numbers, more than N x C = 150: no C x C matrix, neither diag p - p pᵀ (multiply it out) "
        "nor torch.eye(C) (take F.one_hot)."
    )


class _Largest(TorchFunctionMode):
    """Notes how many numbers the largest tensor has that is made meanwhile."""

    elements = 0
    differentiates = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.requires_grad:
            self.differentiates = True
        if isinstance(made, Tensor):
            self.elements = max(self.elements, made.numel())
        return made


def _double_softmax_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        F.cross_entropy(leaf.softmax(1), labels, reduction="sum"), leaf
    )
    return gradient


def _identity(logits: Tensor) -> Tensor:
    return logits


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(1)


def _minus_log(probabilities: Tensor, labels: Tensor) -> Tensor:
    return -probabilities[torch.arange(len(labels)), labels].log().mean()


# What a model's last step does, the loss behind it, whether that pair is broken.
_PAIRS = (
    ("logits into F.cross_entropy", _identity, F.cross_entropy, False),
    ("softmax into F.cross_entropy", _softmax, F.cross_entropy, True),
    ("log_softmax into F.nll_loss", _log_softmax, F.nll_loss, False),
    ("softmax into -log p", _softmax, _minus_log, False),
    ("log_softmax into F.cross_entropy", _log_softmax, F.cross_entropy, False),
)  # fmt: skip


def lab02_alarm(alarm: Callable[[Callable, Callable, int], bool]) -> None:
    """Grade `alarm(activation, loss, num_classes) -> bool`: True where the loss of a perfect,
    perfectly sure answer isn't 0. Tried on right and broken pairs, with 2, 10 and 1000 classes."""
    for num_classes in (2, 10, 1000):
        for name, activation, loss, broken in _PAIRS:
            answer = alarm(activation, loss, num_classes)
            where = f"{name}, {num_classes} classes"
            assert answer is not None, f"{where}: nothing came back, is the `return` missing?"
            assert answer or not broken, (
                f"{where}: broken, but your alarm is silent. Does it look at the loss of "
                "undecided logits? That is ln C for right and broken pairs alike: ask for the loss "
                "of a perfect answer."
            )
            assert broken or not answer, _false_alarm(where, activation is _identity)
    print(f"OK  No false alarm and nothing missed, {len(_PAIRS)} pairs with 2, 10, 1000 classes.")


def _false_alarm(where: str, logits: bool) -> str:
    if logits:
        return (
            f"{where}: a false alarm. Is your perfect answer sure enough? With many classes a "
            "logit of 5 still leaves most of the probability to the others: take 100."
        )
    return (
        f"{where}: a false alarm. Does it look at the outputs alone? Probabilities are fine where "
        "the loss expects them: only outputs and loss together are right or wrong."
    )


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, abs_tol=1e-4)
