"""The graders of lab 01: right answers pass, usual mistakes are named."""

import numpy as np
import pytest

from labkit import checks, numpy_net
from labkit.numpy_net import Linear, Module, Parameter, ReLU, cross_entropy


class StudentLinear(Module):
    """The lab's own solution."""

    def __init__(self, in_features, out_features, rng):
        self.weight = Parameter(rng.standard_normal((in_features, out_features)))
        self.bias = Parameter(rng.standard_normal(out_features))

    def forward(self, x):
        self.x = x
        return x @ self.weight.data + self.bias.data

    def backward(self, dy):
        self.weight.grad = self.x.T @ dy
        self.bias.grad = dy.sum(axis=0)
        return dy @ self.weight.data.T


def linear(**methods):
    """The solution with some methods replaced."""
    return type("Wrong", (StudentLinear,), methods)


def with_backward(change):
    """A Linear whose backward is right but for what `change(layer, dy)` does after it."""

    def backward(self, dy):
        dx = StudentLinear.backward(self, dy)
        changed = change(self, dy)
        return dx if changed is None else changed

    return linear(backward=backward)


def setter(name, value):
    return lambda layer, dy: setattr(getattr(layer, name), "grad", value(layer, dy))


def adding(name):
    """A Linear that adds to one of its gradients, which begins at 0."""

    def backward(self, dy):
        before = getattr(self, name).grad
        dx = StudentLinear.backward(self, dy)
        getattr(self, name).grad = before + getattr(self, name).grad
        return dx

    return linear(backward=backward)


@pytest.mark.parametrize("answer", [StudentLinear, Linear])
def test_right_linear_passes(answer, capsys):
    checks.lab01_linear(answer)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (linear(forward=lambda self, x: x @ self.weight.data), "bias is missing"),
        (linear(forward=lambda self, x: None), "`return` missing"),
        (with_backward(setter("weight", lambda m, dy: dy.T @ m.x)), "of shape \\(out, in\\)"),
        (with_backward(setter("weight", lambda m, dy: m.x.T @ dy / len(dy))), "sum over the batch"),
        (with_backward(setter("weight", lambda m, dy: 0 * m.weight.data)), "weight.grad in back"),
        (with_backward(setter("bias", lambda m, dy: dy)), r"dy.sum\(axis=0\)"),
        (with_backward(setter("bias", lambda m, dy: dy.mean(0))), "sum over the batch"),
        (with_backward(setter("bias", lambda m, dy: 0 * m.bias.data)), "self.bias.grad"),
        (with_backward(setter("bias", lambda m, dy: dy.sum(1))), r"shape \(5,\).*must be \(7,\)"),
        (with_backward(setter("bias", lambda m, dy: 2 * dy.sum(0))), "differs from torch by"),
        (with_backward(lambda m, dy: dy @ m.weight.data), "backward stopped.*transposed"),
        (adding("weight"), "second backward gave another weight.grad. Set it, with ="),
        (adding("bias"), "second backward gave another bias.grad"),
    ],
)
def test_wrong_linear_gets_a_named_mistake(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab01_linear(answer)


def test_untransposed_weight_is_found_where_the_shapes_hide_it():
    def backward(self, dy):
        StudentLinear.backward(self, dy)
        weight = self.weight.data
        return dy @ (weight if weight.shape[0] == weight.shape[1] else weight.T)

    with pytest.raises(AssertionError, match=r"weight \(4, 4\): dx is wrong: this is dy W"):
        checks.lab01_linear(linear(backward=backward))


def relu(forward=np.maximum, backward=None):
    def keep(self, x):
        self.x = x
        return forward(x, 0)

    return type("Wrong", (Module,), {"forward": keep, "backward": backward})


def test_right_relu_passes(capsys):
    checks.lab01_relu(ReLU)
    checks.lab01_relu(relu(backward=lambda self, dy: np.where(self.x > 0, dy, 0)))
    assert capsys.readouterr().out.count("OK") == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (relu(backward=lambda self, dy: dy), "went through unchanged"),
        (relu(backward=lambda self, dy: dy * (dy > 0)), "the sign of x"),
        (relu(backward=lambda self, dy: self.x > 0), "multiply by dy"),
        (relu(backward=lambda self, dy: dy * np.maximum(self.x, 0)), "y times dy"),
        (relu(forward=lambda x, _: np.abs(x)), "absolute value"),
        (relu(forward=lambda x, _: np.maximum(x, 0, out=x)), "changed x itself"),
    ],
)
def test_wrong_relu_gets_a_named_mistake(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab01_relu(answer)


def naive(logits, labels, axis=1):
    """Cross-entropy without the maximum subtracted."""
    n = len(labels)
    p = np.exp(logits) / np.exp(logits).sum(axis, keepdims=True)
    target = np.eye(logits.shape[1])[labels]
    return -np.log(p[np.arange(n), labels]).mean(), (p - target) / n


def capped(logits, labels):
    """The maximum is subtracted, and still a number is added inside the logarithm."""
    shifted = logits - logits.max(1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    right = p[np.arange(len(labels)), labels]
    return -np.log(right + 1e-12).mean(), cross_entropy(logits, labels)[1]


def in_place(logits, labels):
    """Right, and the logits that it was given are gone."""
    answer = cross_entropy(logits, labels)
    logits -= logits.max(1, keepdims=True)
    return answer


def changed(change):
    return lambda logits, labels: change(*cross_entropy(logits, labels), labels)


@pytest.mark.parametrize("answer", [cross_entropy, changed(lambda loss, d, y: (loss, d))])
def test_right_cross_entropy_passes(answer, capsys):
    checks.lab01_cross_entropy(answer)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (naive, "exp has overflowed"),
        (in_place, "logits themselves were changed"),
        (lambda z, y: naive(z, y, axis=0), "ran over the images"),
        (lambda z, y: naive(z, y)[0], "return two things"),
        (changed(lambda loss, d, y: (loss, None)), "dlogits is None"),
        (changed(lambda loss, d, y: (None, d)), "the loss is None"),
        (changed(lambda loss, d, y: (np.full(len(y), loss), d)), r"shape \(5,\): take the mean"),
        (capped, r"must be .*e\+0.*log\(p \+ 1e-12\), caps it"),
        (changed(lambda loss, d, y: (loss * len(y), d)), "sum over the images: take the mean"),
        (changed(lambda loss, d, y: (-loss, d)), "minus log p"),
        (changed(lambda loss, d, y: (loss, d * len(y))), "divided by N"),
        (changed(lambda loss, d, y: (loss, -d)), "softmax minus one-hot"),
        (
            changed(lambda loss, d, y: (loss, d + np.eye(d.shape[1])[y] / len(y))),
            r"softmax\(logits\) / N; subtract 1",
        ),
        (
            changed(lambda loss, d, y: (loss, d * len(y) + np.eye(d.shape[1])[y])),
            "subtract 1 at the right class, divide by N",
        ),
    ],
)
def test_wrong_cross_entropy_gets_a_named_mistake(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab01_cross_entropy(answer)


def sgd(step):
    """An SGD whose step on one parameter is `step(optimizer, parameter, velocity)`."""

    class Wrong(numpy_net.SGD):
        def step(self):
            for p, velocity in zip(self.parameters, self.velocities, strict=True):
                velocity *= self.momentum
                velocity += p.grad
                step(self, p, velocity)

    return Wrong


def averaged(self, p, velocity):
    mean = getattr(self, "mean", 0.0)
    self.mean = self.momentum * mean + (1 - self.momentum) * p.grad
    p.data -= self.lr * self.mean


def swapped(self, p, velocity):
    """velocity += grad, then velocity *= momentum: without momentum nothing is left."""
    velocity *= self.momentum
    p.data -= self.lr * velocity


def moved(amount):
    def step(self, p, velocity):
        p.data += amount(self, p, velocity)

    return sgd(step)


def test_right_sgd_passes(capsys):
    checks.lab01_sgd(numpy_net.SGD)
    checks.lab01_sgd(moved(lambda self, p, velocity: -self.lr * velocity))
    assert capsys.readouterr().out.count("OK") == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (moved(lambda self, p, velocity: 0), "hasn't moved"),
        (moved(lambda self, p, velocity: self.lr * velocity), "uphill"),
        (moved(lambda self, p, velocity: -velocity), "lr is missing"),
        (moved(lambda self, p, velocity: -self.lr * p.grad), "kept from step to step"),
        (sgd(averaged), "added whole"),
        (sgd(swapped), "multiplied by momentum before the gradient is added"),
    ],
)
def test_wrong_sgd_gets_a_named_mistake(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab01_sgd(answer)
