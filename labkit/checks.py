"""Graders of the exercises: `labkit.checks.labNN_...(your_function)`.

Each tries the student's function on random inputs and compares with torch. It prints one line
when all is well, else raises an AssertionError that names the likely mistake.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.numpy_net import Parameter

# ------------------------------------------------------------------ lab 01, a network in NumPy


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
        y = _lab01_call(layer.forward, x, f"{where}: forward")
        _lab01_agree(f"{where}: y", y, ty, {"the bias is missing: x W + b": x @ weight})
        dx = _lab01_call(layer.backward, dy, f"{where}: backward")
        batch_mean = "the loss has divided by N already, so sum over the batch, don't average"
        _lab01_agree(
            f"{where}: weight.grad",
            layer.weight.grad,
            tw.grad,
            {
                "this is dyᵀ x, of shape (out, in); dL/dW has the shape of W: xᵀ dy": dy.T @ x,
                batch_mean: x.T @ dy / n,
                "nothing was stored: set self.weight.grad in backward": np.zeros_like(weight),
            },
        )
        _lab01_agree(
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
        _lab01_agree(f"{where}: dx", dx, tx.grad, mistakes)
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
        y = _lab01_call(layer.forward, given, f"x {shape}: forward")
        _lab01_agree(f"x {shape}: y", y, ty, {"this is the absolute value": np.abs(x)})
        assert np.array_equal(given, x), (
            f"x {shape}: forward has changed x itself. Give a new array: np.maximum(x, 0)."
        )
        dx = _lab01_call(layer.backward, dy, f"x {shape}: backward")
        wrong = {
            "dy went through unchanged: where x was negative, nothing comes back": dy,
            "the sign of dy decides here, but it has to be the sign of x": dy * (dy > 0),
            "this is dy/dx alone: multiply by dy, the chain rule": (x > 0).astype(float),
            "this is y times dy; the slope is 1 or 0, not x": np.maximum(x, 0) * dy,
        }
        _lab01_agree(f"x {shape}: dx", dx, tx.grad, wrong)
    print("OK  ReLU: y and dx are those of autograd.")


def lab01_cross_entropy(cross_entropy: Callable) -> None:
    """Grade `cross_entropy(logits (N, C), labels (N,)) -> (loss, dlogits (N, C))`: the mean over
    the batch, compared with torch; and at logits of ±10,000, where the naive one overflows."""
    rng = np.random.default_rng(3)
    for n, c, scale in ((5, 3, 1), (1, 10, 1), (64, 10, 3), (4, 5, 1e4)):
        logits, labels = scale * rng.standard_normal((n, c)), rng.integers(0, c, n)
        where = f"logits ({n}, {c}) of size {scale:g}"
        with np.errstate(all="ignore"):
            answer = cross_entropy(logits.copy(), labels)
        two = isinstance(answer, tuple) and len(answer) == 2
        assert two, f"{where}: return two things, the loss and its gradient by the logits."
        loss, dlogits = (np.asarray(part) for part in answer)
        assert np.isfinite(dlogits * loss).all(), (
            f"{where}: nan or inf, exp has overflowed. Subtract each row's maximum from the logits "
            "first, and take the logarithm of the sum, not of the quotient."
        )
        tz = torch.tensor(logits, requires_grad=True)
        tloss = F.cross_entropy(tz, torch.tensor(labels))
        tloss.backward()
        p, target = tz.detach().softmax(1).numpy(), np.eye(c)[labels]
        over_images = F.nll_loss(tz.log_softmax(0), torch.tensor(labels)).item()
        _lab01_agree(
            f"{where}: the loss",
            loss,
            tloss,
            {
                "this is the sum over the images: take the mean": tloss.item() * n,
                "the sign is turned round: minus log p": -tloss.item(),
                "the softmax ran over the images: sum over the classes, axis=1": over_images,
            },
        )
        _lab01_agree(
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
    for momentum in (0.0, 0.9):
        start, grads = rng.standard_normal((3, 2)), rng.standard_normal((6, 3, 2))
        ours, theirs = Parameter(start.copy()), torch.tensor(start, requires_grad=True)
        optimizer = sgd([ours], 0.1, momentum)
        toptimizer = torch.optim.SGD([theirs], lr=0.1, momentum=momentum)
        averaged, average = start.copy(), 0.0
        for i, grad in enumerate(grads, start=1):
            ours.grad, theirs.grad = grad.copy(), torch.tensor(grad)
            optimizer.step()
            toptimizer.step()
            average = momentum * average + (1 - momentum) * grad
            averaged -= 0.1 * average
            _lab01_agree(
                f"momentum {momentum}, after step {i}: the parameter",
                ours.data,
                theirs,
                {
                    "it hasn't moved: change parameter.data": start,
                    "the velocity isn't kept from step to step: store it in self.velocities": (
                        start - 0.1 * grads[:i].sum(0)
                    ),
                    "it moves uphill: subtract the step": 2 * start - theirs.detach().numpy(),
                    "the gradient is added whole, not (1 - momentum) of it: v = momentum v + g": (
                        averaged
                    ),
                    "lr is missing: subtract lr times the velocity": start
                    - 10 * (start - theirs.detach().numpy()),
                },
            )
    print("OK  SGD: six steps are those of torch.optim.SGD, with and without momentum.")


def _lab01_call(method: Callable, array: np.ndarray, where: str) -> np.ndarray:
    """What the method gives; shapes that don't fit, and a missing return, get a sentence."""
    try:
        result = method(array)
    except ValueError as error:
        raise AssertionError(
            f"{where} stopped with '{error}': write the shape beside each line, "
            "one of them is transposed."
        ) from None
    assert result is not None, f"{where} gave nothing back: is the `return` missing?"
    return result


def _lab01_agree(name: str, ours, theirs: Tensor, mistakes: dict[str, object]) -> None:
    """Raise unless the arrays agree to 1e-8; `mistakes` gives what a known mistake would give."""
    ours, theirs = np.asarray(ours, dtype=np.float64), theirs.detach().numpy()
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


# ------------------------------------------------------------------ lab 02, double softmax


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
        answer = gradient(logits.clone(), labels)
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
    print("OK  Equal to autograd to 1e-6, for 2, 3, 10 and 100 classes.")


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
            answer = bool(alarm(activation, loss, num_classes))
            where = f"{name}, {num_classes} classes"
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


# ------------------------------------------------------------------------ lab 00, start here


def lab00_accuracy(accuracy: Callable[[Tensor, Tensor], float]) -> None:
    """Grade `accuracy(logits N x C, labels N)`: the share of correct answers, from 0 to 1."""
    for n, c in ((7, 3), (50, 10), (20, 2)):
        logits = torch.randn(n, c)
        labels = logits.argmax(1)
        labels[n // 2 :] = (labels[n // 2 :] + 1) % c  # the second half is wrong
        right = n // 2
        answer = _one_number(accuracy(logits, labels), "accuracy")
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
            assert not steps or abs(answer - w * factor**steps) > 1e-9, f"{said}: {mistake}."
        assert abs(answer - wanted) < 1e-9 * max(1, abs(w)), (
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


# ------------------------------------------------------- lab 03, BatchNorm and Dropout by hand


def lab03_batch_norm(batch_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Grade `batch_norm(x, weight, bias, eps)`: x N x C or N x C x H x W, weight and bias (C,), the
    output of a BatchNorm layer in training. Random shapes in float64, compared with torch."""
    eps = 0.5  # large, so that its place shows
    for x, weight, bias in _lab03_batches((6, 3), (2, 4), (4, 3, 5, 2), (2, 3, 4, 3)):
        where = f"x {tuple(x.shape)}"
        y = _lab03_call(batch_norm, where, x, weight, bias, eps)
        right = F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
        per_channel = (1, -1) + (1,) * (x.dim() - 2)
        dims = [dim for dim in range(x.dim()) if dim != 1]

        def output(dims=dims, unbiased=False, scale=lambda var: (var + eps).sqrt(), x=x):
            var, mean = torch.var_mean(x, dims, correction=int(unbiased), keepdim=True)
            return (x - mean) / scale(var)

        def affine(x_hat, shape=per_channel, weight=weight, bias=bias):
            return x_hat * weight.view(shape) + bias.view(shape)

        mistakes = {
            "this is the unbiased variance, divided by n - 1 (torch.var's default); a batch is "
            "normalised with the biased one: correction=0": affine(output(unbiased=True)),
            "eps stands outside the root: sqrt(var + eps)": affine(
                output(scale=lambda var: var.sqrt() + eps)
            ),
            "eps is missing: sqrt(var + eps)": affine(output(scale=torch.sqrt)),
            "divide by the standard deviation, the root of var + eps": affine(
                output(scale=lambda var: var + eps)
            ),
            "weight and bias are missing: weight * x_hat + bias": output(),
            "the statistics are those of each image; take them over the batch, for each channel": (
                affine(output(dims=list(range(1, x.dim()))))
            ),
        }
        if x.dim() == 4:
            sentence = (
                "each pixel has its own mean and variance; the pixels of a channel share them, so "
                "average over dimensions 0, 2 and 3"
            )
            mistakes[sentence] = affine(output(dims=[0]))
        if x.shape[-1] == x.shape[1]:  # elsewhere torch refuses to broadcast
            sentence = (
                "weight (C,) was stretched along the last dimension, the width; "
                "view it as 1 x C x 1 x 1 first"
            )
            mistakes[sentence] = affine(output(), shape=(-1,))
        _lab01_agree(f"{where}: y", y, right, mistakes)
    print("OK  batch_norm is torch's in training, for vectors and for feature maps.")


def lab03_running_stats(update: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Grade `update(running_mean, running_var, x, momentum) -> (running_mean, running_var)`, all
    (C,) but x, which is N x C or N x C x H x W. Two batches in float64, compared with torch."""
    for x, mean, var in _lab03_batches((5, 3), (2, 4), (3, 2, 4, 4)):
        var, momentum, n = var.square() + 1, 0.2, x.numel() // x.shape[1]
        theirs_mean, theirs_var = mean.clone(), var.clone()
        for batch in (x, 2 * x + 1):
            where = f"x {tuple(x.shape)}, momentum {momentum}"
            pair = _lab03_call(update, where, mean.clone(), var.clone(), batch, momentum)
            two = isinstance(pair, tuple) and len(pair) == 2
            assert two, f"{where}: return two things, the running mean and the running variance."
            F.batch_norm(batch, theirs_mean, theirs_var, training=True, momentum=momentum)
            of_batch = (theirs_mean - (1 - momentum) * mean) / momentum
            unbiased = (theirs_var - (1 - momentum) * var) / momentum
            backwards = (
                "momentum is on the wrong side: in torch the batch weighs momentum, what was "
                "there weighs 1 - momentum (the paper and Keras have it the other way)"
            )
            no_memory = "these are the batch's own values: mix them with what was there"
            for name, got, right, old, new in (
                ("mean", pair[0], theirs_mean, mean, of_batch),
                ("var", pair[1], theirs_var, var, unbiased),
            ):
                mistakes = {
                    backwards: momentum * old + (1 - momentum) * new,
                    no_memory: new,
                    "it hasn't moved": old,
                }
                if name == "var":
                    sentence = (
                        "this is the biased variance; what is kept estimates that of all the data: "
                        "divide by n - 1"
                    )
                    biased = unbiased * (n - 1) / n
                    mistakes[sentence] = (1 - momentum) * old + momentum * biased
                _lab01_agree(f"{where}: running_{name}", got, right, mistakes)
            mean, var = theirs_mean.clone(), theirs_var.clone()
    print("OK  The running statistics are torch's after two batches.")


def lab03_batch_norm_backward(backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """Grade `backward(dy, x_hat, inv_std, weight) -> (dx, dweight, dbias)`: dy and x_hat N x C,
    inv_std and weight (C,). Random shapes in float64, compared with autograd."""
    for x, weight, bias in _lab03_batches((6, 3), (2, 4), (9, 1)):
        dy = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(len(x)))
        leaves = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
        F.batch_norm(leaves[0], None, None, *leaves[1:], training=True).backward(dy)
        var, mean = torch.var_mean(x, 0, correction=0)
        inv_std = torch.rsqrt(var + 1e-5)
        x_hat = (x - mean) * inv_std
        where = f"dy {tuple(x.shape)}"
        answer = _lab03_call(backward, where, dy, x_hat, inv_std, weight)
        three = isinstance(answer, tuple) and len(answer) == 3
        assert three, f"{where}: return three things, dx, dweight and dbias."
        scale = weight * inv_std
        through_mean = scale * (dy - dy.mean(0))
        no_mean = "one bias or weight serves the whole batch, so add up, don't average"
        wrong = (
            {
                "mean and variance are treated as constants, but each x moved both": scale * dy,
                "the way through the mean is there, the way through the variance is missing: "
                "- x_hat * mean(dy * x_hat)": through_mean,
                "weight is missing": leaves[0].grad / weight,
                "inv_std is missing": leaves[0].grad / inv_std,
            },
            {no_mean: (dy * x_hat).mean(0), "that is dbias: multiply by x_hat": dy.sum(0)},
            {no_mean: dy.mean(0), "add up over the batch, dimension 0": dy},
        )
        for name, got, leaf, mistakes in zip(
            ("dx", "dweight", "dbias"), answer, leaves, wrong, strict=True
        ):
            _lab01_agree(f"{where}: {name}", got, leaf.grad, mistakes)
    print("OK  dx, dweight and dbias are those of autograd.")


def lab03_dropout(dropout: Callable[[Tensor, float, bool], Tensor]) -> None:
    """Grade `dropout(x, p, training)`, inverted dropout of single values, on x of any shape."""
    _lab03_dropout(dropout, "dropout", (200, 300))
    mask = _lab03_call(dropout, "p = 0.5", torch.ones(60, 40), 0.5, True) != 0
    shared = (mask == mask[0]).all() or (mask == mask[:, :1]).all()
    assert not shared, (
        "All rows (or all columns) lost the same values: draw a mask of x's own shape."
    )
    print("OK  dropout: right share of zeros, right expectation, and evaluation changes nothing.")


def lab03_dropout2d(dropout2d: Callable[[Tensor, float, bool], Tensor]) -> None:
    """Grade `dropout2d(x, p, training)`, inverted dropout of whole channels of N x C x H x W."""
    shape = (100, 60, 3, 4)
    dropped = _lab03_call(dropout2d, "p = 0.5", torch.ones(shape), 0.5, True) == 0
    if dropped.shape == shape:
        assert (dropped == dropped[:, :, :1, :1]).all(), (
            "Single pixels were dropped; a channel of an image goes as a whole or stays as a "
            "whole: draw a mask N x C x 1 x 1."
        )
        assert not (dropped == dropped[:1]).all(), (
            "All images lost the same channels; each image has its own draw: N x C x 1 x 1."
        )
        assert not (dropped == dropped[:, :1]).all(), (
            "Images lost all channels or none; each channel has its own draw: N x C x 1 x 1."
        )
    _lab03_dropout(dropout2d, "dropout2d", shape)
    print("OK  dropout2d: whole channels, each image its own, and the expectation is right.")


def _lab03_dropout(dropout: Callable, name: str, shape: tuple[int, ...]) -> None:
    """What both dropouts have in common: share of zeros, scale, evaluation, p = 0 and p = 1."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.5
    for p in (0.2, 0.5, 0.9):
        where = f"{name}, p = {p}"
        y = _lab03_call(dropout, f"{where}, evaluation", x.clone(), p, False)
        assert torch.equal(y, x), f"{where}: in evaluation (training=False) x passes unchanged."
        given = x.clone()
        y = _lab03_call(dropout, where, given, p, True)
        assert y.shape == x.shape, f"{where}: y has shape {tuple(y.shape)}, x {tuple(x.shape)}."
        assert torch.equal(given, x), f"{where}: x itself was changed; give back a new tensor."
        zeros = (y == 0).float().mean().item()
        tolerance = 0.05  # five standard errors of the 6,000 channels' share
        assert p == 0.5 or abs(zeros - (1 - p)) > tolerance, (
            f"{where}: {zeros:.0%} of the values are zero. p is the probability of dropping; "
            "a value survives with probability 1 - p."
        )
        assert abs(zeros - p) < tolerance, (
            f"{where}: {zeros:.0%} of the values are zero, it should be {p:.0%}."
        )
        again = _lab03_call(dropout, where, x.clone(), p, True)
        assert not torch.equal(again, y), f"{where}: two calls dropped the same: draw each anew."
        scales = (y / x)[y != 0]
        for scale, mistake in (
            (1.0, "the survivors keep their size, so the expectation is (1 - p) x. Divide them "
                  "by 1 - p"),
            (1 - p, "the survivors are multiplied by 1 - p, so the expectation shrinks to "
                    "(1 - p)² x. Divide them by 1 - p"),
            (1 / p, "the survivors are divided by p. Divide them by the probability to survive, "
                    "1 - p"),
        ):  # fmt: skip
            right = abs(scale - 1 / (1 - p)) < 1e-6
            assert right or not torch.allclose(scales, torch.tensor(scale)), f"{where}: {mistake}."
        assert torch.allclose(scales, torch.tensor(1 / (1 - p))), (
            f"{where}: the survivors are scaled by {scales.mean():.3f} on average, it should be "
            f"1 / (1 - p) = {1 / (1 - p):.3f} for each."
        )
    y = _lab03_call(dropout, f"{name}, p = 0", x.clone(), 0.0, True)
    assert torch.equal(y, x), f"{name}, p = 0: nothing is dropped, so x passes unchanged."
    y = _lab03_call(dropout, f"{name}, p = 1", x.clone(), 1.0, True)
    assert torch.equal(y, torch.zeros_like(x)), (
        f"{name}, p = 1: everything is dropped, so all must be 0. 0 / 0 gives nan: nothing is left "
        "to scale, so don't divide there."
    )


def _lab03_batches(*shapes: tuple[int, ...]):
    """For each shape: x in float64, far from standardised, and two random vectors (C,)."""
    generator = torch.Generator().manual_seed(3)
    for shape in shapes:
        draw = {"generator": generator, "dtype": torch.float64}
        c = shape[1]
        offset, spread = torch.randn(2, 1, c, *(1,) * (len(shape) - 2), **draw)
        yield (
            3 * offset + (1 + spread.abs()) * torch.randn(shape, **draw),
            torch.randn(c, **draw),
            torch.randn(c, **draw),
        )


def _lab03_call(function: Callable, where: str, *arguments):
    """What the function gives; shapes that don't fit, and a missing return, get a sentence."""
    try:
        result = function(*arguments)
    except RuntimeError as error:
        raise AssertionError(
            f"{where} stopped with '{error}': write the shape beside each line. A value per "
            "channel needs the shape 1 x C x 1 x 1 before it meets N x C x H x W."
        ) from None
    assert result is not None, f"{where}: nothing came back, is the `return` missing?"
    return result


# --------------------------------------------------------------------- lab 04, MLP against CNN


def lab04_hidden_units(hidden_units: Callable[[int, int, int], int]) -> None:
    """Grade `hidden_units(in_features, num_classes, budget)`: the largest hidden layer of
    Linear-ReLU-Linear with at most `budget` parameters. Counted by building torch's layers."""
    rounded = "204 units cost more than the budget: round down, with //"
    no_bias = "a hidden unit has a bias too: in_features + 1 + num_classes numbers each"
    no_last_bias = "the num_classes biases of the last layer are left out: take them off first"
    cases = [(3, 4, 100, 14, no_bias), (784, 10, 162_170, 204, rounded)]
    cases += [(20, 5, 182, 7, no_last_bias), (50, 3, 2_000, None, "")]
    for in_features, num_classes, budget, wrong, sentence in cases:
        where = f"hidden_units({in_features}, {num_classes}, {budget})"
        answer = hidden_units(in_features, num_classes, budget)
        units = isinstance(answer, int | np.integer) and answer > 0
        assert units, (
            f"{where} gave {answer!r}: return a whole number of units, 1 or more; // rounds down."
        )
        assert answer != wrong, f"{where} gave {answer}: {sentence}."
        fits, too_many = (
            _lab04_parameters(in_features, answer + more, num_classes) for more in (0, 1)
        )
        assert fits <= budget < too_many, (
            f"{where} gave {answer}: {answer} units make {fits:,} parameters, one more makes "
            f"{too_many:,}. The first must stay within {budget:,}, the second must not."
        )
    print("OK  hidden_units spends each budget to the last unit that it pays for.")


def _lab04_parameters(in_features: int, hidden: int, num_classes: int) -> int:
    layers = nn.Linear(in_features, hidden), nn.Linear(hidden, num_classes)
    return sum(p.numel() for layer in layers for p in layer.parameters())


def lab04_conv_from_linear(
    conv_from_linear: Callable[[nn.Linear, int, int, int], nn.Conv2d],
) -> None:
    """Grade `conv_from_linear(linear, channels, height, width)`: the convolution that gives what
    `linear` gives for a flattened channels x height x width image. Random shapes."""
    generator = torch.Generator().manual_seed(4)
    for channels, height, width, out in ((3, 4, 4, 5), (2, 5, 3, 6), (1, 2, 7, 4)):
        linear = nn.Linear(channels * height * width, out)
        x = torch.randn(2, channels, height, width, generator=generator)
        where = f"Linear({linear.in_features}, {out}) on {channels} x {height} x {width}"
        conv = conv_from_linear(linear, channels, height, width)
        assert isinstance(conv, nn.Conv2d), f"{where}: return the nn.Conv2d itself, got {conv!r}."
        right = linear.weight.view(out, channels, height, width)
        assert conv.weight.shape == right.shape, (
            f"{where}: the kernel has the shape {tuple(conv.weight.shape)}, but must be "
            f"{tuple(right.shape)}: as many input channels, and as large, as the image."
        )
        last = linear.weight.view(out, height, width, channels).permute(0, 3, 1, 2)
        assert channels == 1 or not torch.equal(conv.weight, last), (
            f"{where}: the weights are in the wrong places. flatten(1) counts through the width, "
            "then the height, then the channels: view(out, channels, height, width)."
        )
        assert torch.equal(conv.weight, right), (
            f"{where}: the kernel holds other numbers than linear.weight: copy them, with "
            "conv.weight.copy_(...) under torch.no_grad()."
        )
        same_bias = conv.bias is not None and torch.equal(conv.bias, linear.bias)
        assert same_bias, f"{where}: the bias is not linear.bias: copy it as well."
        y = conv(x)
        assert y.shape == (2, out, 1, 1), (
            f"{where}: the output has the shape {tuple(y.shape)}, but must be (2, {out}, 1, 1): "
            "the kernel covers the image at one place only, without padding."
        )
        assert torch.allclose(y.flatten(1), linear(x.flatten(1)), atol=1e-5), (
            f"{where}: weights and bias are right, yet the outputs differ; leave stride, dilation "
            "and groups alone."
        )
    print("OK  conv_from_linear gives the same outputs, for 1, 2 and 3 channels.")


def lab04_matrix_of_conv(matrix_of_conv: Callable[[Tensor, int, int], Tensor]) -> None:
    """Grade `matrix_of_conv(kernel, height, width)`: the matrix (H·W) x (H·W) that does to a
    flattened image what `F.conv2d(..., padding=1)` with a 3 x 3 kernel does. Random shapes."""
    generator = torch.Generator().manual_seed(5)
    for height, width in ((4, 4), (3, 5), (6, 2)):
        kernel, n = torch.randn(3, 3, generator=generator), height * width
        where = f"3 x 3 kernel, {height} x {width} image"
        matrix = matrix_of_conv(kernel, height, width)
        assert isinstance(matrix, Tensor), f"{where}: return a tensor, got {matrix!r}."
        units = torch.eye(n).view(n, 1, height, width)  # image i has one bright pixel, at place i
        right = F.conv2d(units, kernel[None, None], padding=1).flatten(1).T
        around = F.pad(units, (1, 1, 1, 1), mode="circular")
        mistakes = {
            "this is the transposed: what image i becomes belongs in column i": right.T,
            "what leaves the image on one side comes back on the other; pad with zeros": (
                F.conv2d(around, kernel[None, None]).flatten(1).T
            ),
        }
        inner = (height - 2) * (width - 2)
        assert inner not in matrix.shape, (
            f"{where}: the matrix is {tuple(matrix.shape)}, but must be {(n, n)}: without "
            "padding=1 the outer pixels have no output."
        )
        _lab01_agree(f"{where}: the matrix", matrix.detach(), right, mistakes)
    print("OK  matrix_of_conv times a flattened image is the convolution, for three sizes.")
