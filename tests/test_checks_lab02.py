"""The graders of lab 02 accept what is right, and name the two likeliest mistakes of each."""

import math

import pytest
import torch
import torch.nn.functional as F

from labkit import checks

# ---------------------------------------------------------------------- the range of the loss


def right_range(c):
    return math.log(math.e + c - 1) - 1, math.log(math.e + c - 1)


def test_the_right_range_is_accepted(capsys):
    checks.lab02_loss_range(right_range)
    assert capsys.readouterr().out.startswith("OK")


def test_the_graders_range_is_that_of_torch():
    perfect, worst = torch.eye(10)[0], torch.eye(10)[1]
    low = F.cross_entropy(perfect, torch.tensor(0)).item()
    high = F.cross_entropy(worst, torch.tensor(0)).item()
    assert right_range(10) == pytest.approx((low, high), abs=1e-6)
    assert right_range(10) == pytest.approx((1.46115, 2.46115), abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda c: (0.0, math.log(math.e + c - 1)), "can't reach 0"),
        (lambda c: (math.log(math.e + c) - 1, math.log(math.e + c)), "one class too many"),
        (lambda c: right_range(c)[::-1], "the wrong way round"),
        (lambda c: (right_range(c)[0], math.log(c)), "undecided"),
        (lambda c: (right_range(c)[0], 9.0), "Put p = 1 on the label"),
        (lambda c: right_range(c)[0], r"return \(lowest, highest\)"),
        (lambda c: None, r"return \(lowest, highest\)"),
    ],
)
def test_a_wrong_range_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab02_loss_range(wrong)


# ------------------------------------------------------------------------------- the gradient


def right_gradient(z, y):
    p = z.softmax(1)
    v = p.softmax(1) - F.one_hot(y, z.shape[1])
    return p * v - p * (p * v).sum(1, keepdim=True)


def test_the_right_gradient_is_accepted(capsys):
    checks.lab02_gradient(right_gradient)
    assert capsys.readouterr().out.startswith("OK")


def test_a_right_gradient_in_float32_is_accepted():
    checks.lab02_gradient(lambda z, y: right_gradient(z.float(), y))


def without_jacobian(z, y):
    return z.softmax(1).softmax(1) - F.one_hot(y, z.shape[1])


def of_the_correct_loss(z, y):
    return z.softmax(1) - F.one_hot(y, z.shape[1])


def with_half_the_jacobian(z, y):
    return z.softmax(1) * without_jacobian(z, y)


def without_the_number_of_classes(z, y):
    p = z.softmax(1)
    v = p.softmax(1) - F.one_hot(y)
    return p * v - p * (p * v).sum(1, keepdim=True)


def by_autograd(z, y):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(z.softmax(1), y, reduction="sum"), z)[0]


def by_the_matrix(z, y):
    p = z.softmax(1)
    v = p.softmax(1) - F.one_hot(y, z.shape[1])
    return ((p.diag_embed() - p[:, :, None] * p[:, None, :]) @ v[:, :, None])[:, :, 0]


def by_eye(z, y):
    p = z.softmax(1)
    v = p.softmax(1) - torch.eye(z.shape[1], dtype=z.dtype)[y]
    return p * v - p * (p * v).sum(1, keepdim=True)


def by_einsum(z, y):
    """It wants one dtype, and the exercise has float64 throughout."""
    p = z.softmax(1)
    v = p.softmax(1) - F.one_hot(y, z.shape[1])
    return p * v - p * torch.einsum("nc,nc->n", p, v.to(torch.float64))[:, None]


def test_a_right_gradient_in_float64_alone_is_accepted():
    checks.lab02_gradient(by_einsum)


@pytest.mark.parametrize(
    ("forbidden", "message"),
    [
        (by_autograd, "without autograd"),
        (by_the_matrix, "a tensor of 7500 numbers"),
        (by_eye, r"a tensor of 2500 numbers.*nor torch.eye\(C\) \(take F.one_hot\)"),
    ],
)
def test_a_right_gradient_by_other_means_is_not_the_exercise(forbidden, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab02_gradient(forbidden)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (without_jacobian, "through the first softmax"),
        (of_the_correct_loss, "gradient of the correct loss"),
        (with_half_the_jacobian, "p pᵀ is missing"),
        (lambda z, y: right_gradient(z, y) / len(z), "don't divide by N"),
        (lambda z, y: -right_gradient(z, y), "sign"),
        (without_the_number_of_classes, "wants the number of classes"),
        (lambda z, y: 2 * right_gradient(z, y), "autograd disagrees"),
        (lambda z, y: right_gradient(z, y).sum(1), "return a tensor of that shape"),
        (lambda z, y: None, "return a tensor of that shape, not NoneType"),
    ],
)
def test_a_wrong_gradient_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab02_gradient(wrong)


# ---------------------------------------------------------------------------------- the alarm


def right_alarm(activation, loss, c):
    return loss(activation(100.0 * torch.eye(c)), torch.arange(c)).item() > 0.01


def test_the_right_alarm_is_accepted(capsys):
    checks.lab02_alarm(right_alarm)
    assert capsys.readouterr().out.startswith("OK")


def looks_at_the_first_loss(activation, loss, c):
    first = loss(activation(torch.zeros(4, c)), torch.zeros(4, dtype=torch.long)).item()
    return abs(first - math.log(c)) > 0.01


def looks_at_the_outputs_only(activation, loss, c):
    outputs = activation(torch.randn(4, c, generator=torch.Generator().manual_seed(0)))
    return torch.allclose(outputs.sum(1), torch.ones(4))


def is_not_sure_enough(activation, loss, c):
    return loss(activation(5.0 * torch.eye(c)), torch.arange(c)).item() > 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (looks_at_the_first_loss, "your alarm is silent"),
        (looks_at_the_outputs_only, "Does it look at the outputs alone"),
        (is_not_sure_enough, "sure enough"),
        (lambda *_: False, "your alarm is silent"),
        (lambda *_: None, "nothing came back, is the `return` missing"),
        (lambda *_: True, "false alarm"),
    ],
)
def test_a_wrong_alarm_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab02_alarm(wrong)
