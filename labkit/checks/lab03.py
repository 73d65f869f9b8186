"""Graders of lab 03, BatchNorm and Dropout by hand."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks.compare import agree


def lab03_batch_norm(batch_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """Grade `batch_norm(x, weight, bias, eps)`: x N x C or N x C x H x W, weight and bias (C,), the
    output of a BatchNorm layer in training. Random shapes in float64, compared with torch."""
    eps = 0.5  # large, so that its place shows
    for x, weight, bias in _batches((6, 3), (2, 4), (4, 3, 5, 2), (2, 3, 4, 3)):
        where = f"x {tuple(x.shape)}"
        given = x.clone()
        y = _call(batch_norm, where, given, weight, bias, eps)
        assert torch.equal(given, x), f"{where}: x itself was changed; give back a new tensor."
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
        agree(f"{where}: y", y, right, mistakes)
    print("OK  batch_norm is torch's in training, for vectors and for feature maps.")


def lab03_running_stats(update: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Grade `update(running_mean, running_var, x, momentum) -> (running_mean, running_var)`, all
    (C,) but x, which is N x C or N x C x H x W. Two batches in float64, compared with torch."""
    for x, mean, var in _batches((5, 3), (2, 4), (3, 2, 4, 4)):
        var, momentum, n = var.square() + 1, 0.2, x.numel() // x.shape[1]
        theirs_mean, theirs_var = mean.clone(), var.clone()
        for batch in (x, 2 * x + 1):
            where = f"x {tuple(x.shape)}, momentum {momentum}"
            given = batch.clone()
            pair = _call(update, where, mean.clone(), var.clone(), given, momentum)
            assert torch.equal(given, batch), f"{where}: x itself was changed; leave it as it is."
            two = isinstance(pair, tuple | list) and len(pair) == 2
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
                agree(f"{where}: running_{name}", got, right, mistakes)
            mean, var = theirs_mean.clone(), theirs_var.clone()
    print("OK  The running statistics are torch's after two batches.")


def lab03_batch_norm_backward(backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """Grade `backward(dy, x_hat, inv_std, weight) -> (dx, dweight, dbias)`: dy and x_hat N x C,
    inv_std and weight (C,). Random shapes in float64, compared with autograd."""
    for x, weight, bias in _batches((6, 3), (2, 4), (9, 1)):
        dy = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(len(x)))
        leaves = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
        F.batch_norm(leaves[0], None, None, *leaves[1:], training=True).backward(dy)
        var, mean = torch.var_mean(x, 0, correction=0)
        inv_std = torch.rsqrt(var + 1e-5)
        x_hat = (x - mean) * inv_std
        where = f"dy {tuple(x.shape)}"
        answer = _call(backward, where, dy, x_hat, inv_std, weight)
        three = isinstance(answer, tuple | list) and len(answer) == 3
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
            agree(f"{where}: {name}", got, leaf.grad, mistakes)
    print("OK  dx, dweight and dbias are those of autograd.")


def lab03_dropout(dropout: Callable[[Tensor, float, bool], Tensor]) -> None:
    """Grade `dropout(x, p, training)`, inverted dropout of single values, on x of any shape."""
    mask = _tensor(_call(dropout, "p = 0.5", torch.ones(60, 40), 0.5, True), (60, 40)) != 0
    mixed = mask.any() and not mask.all()
    shared = (mask == mask[0]).all() or (mask == mask[:, :1]).all()
    assert not (mixed and shared), (
        "All rows (or all columns) lost the same values: draw a mask of x's own shape."
    )
    for shape in ((60_000,), (200, 300), (40, 30, 5, 10)):
        _dropout(dropout, "dropout", shape)
    print("OK  dropout: right share of zeros, right expectation, and evaluation changes nothing.")


def lab03_dropout2d(dropout2d: Callable[[Tensor, float, bool], Tensor]) -> None:
    """Grade `dropout2d(x, p, training)`, inverted dropout of whole channels of N x C x H x W."""
    shape = (100, 60, 3, 4)
    dropped = _call(dropout2d, "p = 0.5", torch.ones(shape), 0.5, True) == 0
    if dropped.shape == shape:
        assert (dropped == dropped[:, :, :1, :1]).all(), (
            "Single pixels were dropped; a channel of an image goes as a whole or stays as a "
            "whole: draw a mask N x C x 1 x 1."
        )
        mixed = dropped.any() and not dropped.all()
        assert not (mixed and (dropped == dropped[:1]).all()), (
            "All images lost the same channels; each image has its own draw: N x C x 1 x 1."
        )
        assert not (mixed and (dropped == dropped[:, :1]).all()), (
            "Images lost all channels or none; each channel has its own draw: N x C x 1 x 1."
        )
    _dropout(dropout2d, "dropout2d", shape)
    print("OK  dropout2d: whole channels, each image its own, and the expectation is right.")


def _dropout(dropout: Callable, name: str, shape: tuple[int, ...]) -> None:
    """What both dropouts have in common: share of zeros, scale, evaluation, p = 0 and p = 1."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.5
    for p in (0.2, 0.5, 0.9):
        where = f"{name} of {tuple(shape)}, p = {p}"
        y = _tensor(_call(dropout, f"{where}, evaluation", x.clone(), p, False), shape)
        assert torch.equal(y, x), f"{where}: in evaluation (training=False) x passes unchanged."
        given = x.clone()
        y = _tensor(_call(dropout, where, given, p, True), shape)
        assert torch.equal(given, x), f"{where}: x itself was changed; give back a new tensor."
        zeros = (y == 0).float().mean().item()
        tolerance = 0.05  # nearly eight standard errors of the 6,000 channels' share
        assert p == 0.5 or abs(zeros - (1 - p)) > tolerance, (
            f"{where}: {zeros:.0%} of the values are zero. p is the probability of dropping; "
            "a value survives with probability 1 - p."
        )
        assert abs(zeros - p) < tolerance, (
            f"{where}: {zeros:.0%} of the values are zero, it should be {p:.0%}."
        )
        again = _tensor(_call(dropout, where, x.clone(), p, True), shape)
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
    y = _tensor(_call(dropout, f"{name}, p = 0", x.clone(), 0.0, True), shape)
    assert torch.equal(y, x), f"{name}, p = 0: nothing is dropped, so x passes unchanged."
    y = _tensor(_call(dropout, f"{name}, p = 1", x.clone(), 1.0, True), shape)
    assert torch.equal(y, torch.zeros_like(x)), (
        f"{name}, p = 1: everything is dropped, so all must be 0. 0 / 0 gives nan: nothing is left "
        "to scale, so don't divide there."
    )


def _tensor(y, shape: tuple[int, ...]) -> Tensor:
    """What dropout gave, in float32, once it is a tensor or an array in the shape of x."""
    got = tuple(y.shape) if isinstance(y, Tensor | np.ndarray) else type(y).__name__
    assert got == tuple(shape), f"Return a tensor in the shape of x, {tuple(shape)}, not {got}."
    return torch.as_tensor(y).float()


def _batches(*shapes: tuple[int, ...]):
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


def _call(function: Callable, where: str, *arguments):
    """What the function gives; shapes that don't fit, and a missing return, get a sentence."""
    try:
        result = function(*arguments)
    except NotImplementedError:  # a stub that nobody has touched speaks for itself
        raise
    except ZeroDivisionError:
        raise AssertionError(
            f"{where}: a division by 0. At p = 1 nothing is left to scale: give back zeros."
        ) from None
    except (RuntimeError, IndexError) as error:
        maps = any(isinstance(given, Tensor) and given.dim() == 4 for given in arguments)
        way = (
            "A value per channel needs the shape 1 x C x 1 x 1 before it meets N x C x H x W"
            if maps
            else "These are vectors, N x C: there is no dimension 2 or 3, and one value per "
            "channel, over the batch, has the shape (C,)"
        )
        if "Boolean value" in str(error):
            way = "`and` and `if` want one truth value: multiply by the mask, or take torch.where"
        raise AssertionError(
            f"{where} stopped with '{error}': write the shape beside each line. {way}."
        ) from None
    assert result is not None, f"{where}: nothing came back, is the `return` missing?"
    return result
