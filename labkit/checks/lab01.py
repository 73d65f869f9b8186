"""Graders of lab 01, a network in NumPy."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from labkit.checks.compare import agree, as_array
from labkit.numpy_net import Parameter


def lab01_linear(linear: type) -> None:
    """Grade a class `Linear(in_features, out_features, rng)`: forward, backward, the gradients of
    weight (in, out) and bias (out,). Random shapes in float64, compared with autograd."""
    rng = np.random.default_rng(1)
    for n, before, after in ((5, 3, 7), (6, 4, 4), (1, 4, 3)):
        layer = linear(before, after, rng).to(np.float64)
        x, dy = rng.standard_normal((n, before)), rng.standard_normal((n, after))
        weight, bias = layer.weight.data, layer.bias.data
        tx, tw, tb = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
        ty = tx @ tw + tb
        ty.backward(torch.tensor(dy))
        where = f"x ({n}, {before}), weight ({before}, {after})"
        y = _call(layer.forward, x, f"{where}: forward")
        agree(f"{where}: y", y, ty, {"the bias is missing: x W + b": x @ weight})
        dx = _call(layer.backward, dy, f"{where}: backward")
        batch_mean = "the loss has divided by N already, so sum over the batch, don't average"
        agree(
            f"{where}: weight.grad",
            layer.weight.grad,
            tw.grad,
            {
                "this is dyᵀ x, of shape (out, in); dL/dW has the shape of W: xᵀ dy": dy.T @ x,
                batch_mean: x.T @ dy / n,
                "nothing was stored: set self.weight.grad in backward": np.zeros_like(weight),
            },
        )
        agree(
            f"{where}: bias.grad",
            layer.bias.grad,
            tb.grad,
            {
                "one bias serves all N images, so add up their gradients: dy.sum(axis=0)": dy,
                batch_mean: dy.mean(axis=0),
                "nothing was stored: set self.bias.grad in backward": np.zeros_like(bias),
            },
        )
        mistakes = {}
        if before == after:  # elsewhere the shapes give it away
            mistakes["this is dy W; on the way back it is the transposed: dy Wᵀ"] = dy @ weight
        agree(f"{where}: dx", dx, tx.grad, mistakes)
        once = np.array(layer.weight.grad), np.array(layer.bias.grad)
        layer.backward(dy)
        for name, before in zip(("weight", "bias"), once, strict=True):
            assert np.array_equal(getattr(layer, name).grad, before), (
                f"{where}: a second backward gave another {name}.grad. Set it, with =; += adds to "
                "the gradient of the batch before, and nobody puts it back to 0 here."
            )
    print("OK  Linear: y, dW, db and dx are those of autograd, for 1, 5 and 6 images.")


def lab01_relu(relu: type) -> None:
    """Grade a class `ReLU()`: forward and backward on (N, features), compared with autograd."""
    rng = np.random.default_rng(2)
    for shape in ((6, 5), (1, 9)):
        x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
        given = x.copy()
        tx = torch.tensor(x, requires_grad=True)
        ty = torch.relu(tx)
        ty.backward(torch.tensor(dy))
        layer = relu()
        y = _call(layer.forward, given, f"x {shape}: forward")
        agree(f"x {shape}: y", y, ty, {"this is the absolute value": np.abs(x)})
        assert np.array_equal(given, x), (
            f"x {shape}: forward has changed x itself. Give a new array: np.maximum(x, 0)."
        )
        dx = _call(layer.backward, dy, f"x {shape}: backward")
        wrong = {
            "dy went through unchanged: where x was negative, nothing comes back": dy,
            "the sign of dy decides here, but it has to be the sign of x": dy * (dy > 0),
            "this is dy/dx alone: multiply by dy, the chain rule": (x > 0).astype(float),
            "this is y times dy; the slope is 1 or 0, not x": np.maximum(x, 0) * dy,
        }
        agree(f"x {shape}: dx", dx, tx.grad, wrong)
    print("OK  ReLU: y and dx are those of autograd.")


def lab01_cross_entropy(cross_entropy: Callable) -> None:
    """Grade `cross_entropy(logits (N, C), labels (N,)) -> (loss, dlogits (N, C))`: the mean over
    the batch, compared with torch; and at logits of ±10,000, where the naive one overflows."""
    rng = np.random.default_rng(3)
    for n, c, scale in ((5, 3, 1), (1, 10, 1), (64, 10, 3), (4, 5, 1e4)):
        logits, labels = scale * rng.standard_normal((n, c)), rng.integers(0, c, n)
        where = f"logits ({n}, {c}) of size {scale:g}"
        given = logits.copy()
        try:
            with np.errstate(all="ignore"):
                answer = cross_entropy(given, labels)
        except ValueError as error:
            raise AssertionError(
                f"{where} stopped with '{error}': the maximum and the sum of each row need "
                "keepdims=True, (N, 1), to meet (N, C)."
            ) from None
        assert np.array_equal(given, logits), (
            f"{where}: the logits themselves were changed. Give them a new name when you shift "
            "them: shifted = logits - ..."
        )
        two = isinstance(answer, tuple | list) and len(answer) == 2
        assert two, f"{where}: return two things, the loss and its gradient by the logits."
        names = ("the loss", "dlogits")
        for name, part in zip(names, answer, strict=True):
            assert part is not None, f"{where}: {name} is None."
        loss, dlogits = map(as_array, names, answer)
        assert loss.shape == (), (
            f"{where}: the loss has the shape {loss.shape}: take the mean over the images, one "
            "number."
        )
        assert np.isfinite([loss, *dlogits.ravel()]).all(), (
            f"{where}: nan or inf, exp has overflowed. Subtract each row's maximum from the logits "
            "first, and take the logarithm of the sum, not of the quotient."
        )
        tz = torch.tensor(logits, requires_grad=True)
        tloss = F.cross_entropy(tz, torch.tensor(labels))
        tloss.backward()
        p, target = tz.detach().softmax(1).numpy(), np.eye(c)[labels]
        assert scale < 1e4 or not 0 <= loss < 0.1 * tloss.item(), (
            f"{where}: the loss is {loss:.3g}, but must be {tloss.item():.3g}. A number added "
            "inside the logarithm, log(p + 1e-12), caps it. Take log p = shifted - "
            "log(sum(exp(shifted)))."
        )
        over_images = F.nll_loss(tz.log_softmax(0), torch.tensor(labels)).item()
        agree(
            f"{where}: the loss",
            loss,
            tloss,
            {
                "this is the sum over the images: take the mean": tloss.item() * n,
                "the sign is turned round: minus log p": -tloss.item(),
                "the softmax ran over the images: sum over the classes, axis=1": over_images,
            },
        )
        agree(
            f"{where}: dlogits",
            dlogits,
            tz.grad,
            {
                "the loss is a mean over N images, so its gradient is divided by N": p - target,
                "this is softmax(logits) / N; subtract 1 at the right class": p / n,
                "this is softmax(logits); subtract 1 at the right class, divide by N": p,
                "the sign is turned round: softmax minus one-hot": (target - p) / n,
            },
        )
    print("OK  cross_entropy: loss and gradient are torch's, up to logits of 10,000.")


def lab01_sgd(sgd: type) -> None:
    """Grade a class `SGD(parameters, lr, momentum)` with `step()`: six steps on random gradients,
    compared with torch.optim.SGD."""
    rng = np.random.default_rng(4)
    for momentum, lr in ((0.0, 0.1), (0.9, 0.02)):
        start, grads = rng.standard_normal((3, 2)), rng.standard_normal((6, 3, 2))
        ours, theirs = Parameter(start.copy()), torch.tensor(start, requires_grad=True)
        optimizer = sgd([ours], lr, momentum)
        toptimizer = torch.optim.SGD([theirs], lr=lr, momentum=momentum)
        averaged, average = start.copy(), 0.0
        for i, grad in enumerate(grads, start=1):
            ours.grad, theirs.grad = grad.copy(), torch.tensor(grad)
            optimizer.step()
            toptimizer.step()
            average = momentum * average + (1 - momentum) * grad
            averaged -= lr * average
            agree(
                f"lr {lr}, momentum {momentum}, after step {i}: the parameter",
                ours.data,
                theirs,
                {
                    "it hasn't moved: change parameter.data; and if you do, is the velocity 0? The "
                    "old velocity is multiplied by momentum before the gradient is added": start,
                    "the velocity isn't kept from step to step: store it in self.velocities": (
                        start - lr * grads[:i].sum(0)
                    ),
                    "it moves uphill: subtract the step": 2 * start - theirs.detach().numpy(),
                    "the gradient is added whole, not (1 - momentum) of it: v = momentum v + g": (
                        averaged
                    ),
                    "lr is missing: subtract lr times the velocity": start
                    - (start - theirs.detach().numpy()) / lr,
                },
            )
    print("OK  SGD: six steps are those of torch.optim.SGD, with and without momentum.")


def _call(method: Callable, array: np.ndarray, where: str) -> np.ndarray:
    """What the method gives; shapes that don't fit, and a missing return, get a sentence."""
    try:
        result = method(array)
    except ValueError as error:
        way = "write the shape beside each line, one of them is transposed"
        if "truth value" in str(error):
            way = "max and if want one number; np.maximum and np.where look at each of an array"
        if "does not have enough dimensions" in str(error):
            way = "a Parameter is no array, its numbers are in .data: self.weight.data"
        raise AssertionError(f"{where} stopped with '{error}': {way}.") from None
    assert result is not None, f"{where} gave nothing back: is the `return` missing?"
    return result
