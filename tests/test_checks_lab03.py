"""The graders of lab 03 accept what is right, and name the likeliest mistakes of each exercise."""

import pytest
import torch

from labkit import checks


def over_batch(x):
    return [dim for dim in range(x.dim()) if dim != 1]


def per_channel(vector, x):
    return vector.view(1, -1, *(1,) * (x.dim() - 2))


# --------------------------------------------------------------------------------- batch norm


def batch_norm(x, weight, bias, eps, dims=None, correction=0):
    dims = over_batch(x) if dims is None else dims
    var, mean = torch.var_mean(x, dims, correction=correction, keepdim=True)
    x_hat = (x - mean) / torch.sqrt(var + eps)
    return per_channel(weight, x) * x_hat + per_channel(bias, x)


def eps_outside(x, weight, bias, eps):
    var, mean = torch.var_mean(x, over_batch(x), correction=0, keepdim=True)
    return per_channel(weight, x) * (x - mean) / (var.sqrt() + eps) + per_channel(bias, x)


def along_the_width(x, weight, bias, eps):
    return weight * batch_norm(x, torch.ones_like(weight), torch.zeros_like(bias), eps) + bias


def batch_norm_in_place(x, weight, bias, eps):
    var, mean = torch.var_mean(x, over_batch(x), correction=0, keepdim=True)
    x -= mean
    x /= torch.sqrt(var + eps)
    return per_channel(weight, x) * x + per_channel(bias, x)


def test_the_right_batch_norm_is_accepted(capsys):
    checks.lab03_batch_norm(batch_norm)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *a: batch_norm(*a, correction=1), "unbiased variance"),
        (lambda *a: batch_norm(*a, dims=[0]), "each pixel has its own mean"),
        (lambda *a: batch_norm(*a, dims=list(range(1, a[0].dim()))), "those of each image"),
        (eps_outside, "outside the root"),
        (lambda x, w, b, eps: batch_norm(x, w, b, 0), "eps is missing"),
        (lambda x, w, b, eps: batch_norm(x, w * 0 + 1, b * 0, eps), "weight and bias are missing"),
        (along_the_width, "1 x C x 1 x 1"),
        (batch_norm_in_place, "x itself was changed; give back a new tensor"),
        (lambda *a: batch_norm(*a, dims=(0, 2, 3)), r"x \(6, 3\) stopped with 'Dimension out of"),
        (lambda *a: None, "return"),
        (lambda *a: 2 * batch_norm(*a), "differs from torch"),
    ],
)
def test_a_wrong_batch_norm_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab03_batch_norm(wrong)


def test_a_width_that_equals_the_channels_cannot_hide_a_missing_view():
    def right_but_for_squares(x, weight, bias, eps):
        square = x.dim() == 4 and x.shape[1] == x.shape[-1]
        return (along_the_width if square else batch_norm)(x, weight, bias, eps)

    with pytest.raises(AssertionError, match="stretched along the last dimension"):
        checks.lab03_batch_norm(right_but_for_squares)


# -------------------------------------------------------------------------- running statistics


def update(running_mean, running_var, x, momentum, correction=1):
    var, mean = torch.var_mean(x, over_batch(x), correction=correction)
    return (
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_var + momentum * var,
    )


def only_the_mean(running_mean, running_var, x, momentum):
    return update(running_mean, running_var, x, momentum)[0], running_var


def update_in_place(running_mean, running_var, x, momentum):
    answer = update(running_mean, running_var, x, momentum)
    x -= answer[0].view(1, -1, *(1,) * (x.dim() - 2))
    return answer


def test_the_right_update_is_accepted(capsys):
    checks.lab03_running_stats(update)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *a: update(*a, correction=0), "biased variance"),
        (lambda m, v, x, momentum: update(m, v, x, 1 - momentum), "wrong side"),
        (lambda m, v, x, momentum: update(m, v, x, 1.0), "mix them"),
        (only_the_mean, "running_var.*hasn't moved"),
        (lambda *a: update(*a)[0], "return two things"),
        (update_in_place, "x itself was changed"),
        (lambda *a: None, "return"),
    ],
)
def test_a_wrong_update_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab03_running_stats(wrong)


# ------------------------------------------------------------------------------------ backward


def backward(dy, x_hat, inv_std, weight):
    dweight, dbias = (dy * x_hat).sum(0), dy.sum(0)
    return weight * inv_std * (dy - (dbias + x_hat * dweight) / len(dy)), dweight, dbias


def as_if_constant(dy, x_hat, inv_std, weight):
    return weight * inv_std * dy, *backward(dy, x_hat, inv_std, weight)[1:]


def through_the_mean_only(dy, x_hat, inv_std, weight):
    return weight * inv_std * (dy - dy.mean(0)), *backward(dy, x_hat, inv_std, weight)[1:]


def averaged(dy, x_hat, inv_std, weight):
    dx, dweight, dbias = backward(dy, x_hat, inv_std, weight)
    return dx, dweight / len(dy), dbias


def test_the_right_backward_is_accepted(capsys):
    checks.lab03_batch_norm_backward(backward)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (as_if_constant, "treated as constants"),
        (through_the_mean_only, "through the variance is missing"),
        (averaged, "don't average"),
        (lambda *a: backward(*a)[0], "return three things"),
    ],
)
def test_a_wrong_backward_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab03_batch_norm_backward(wrong)


# ------------------------------------------------------------------------------------- dropout


def dropout(x, p, training, shape=None, scale=lambda p: 1 / (1 - p)):
    if not training or p == 0:
        return x
    if p == 1:
        return torch.zeros_like(x)
    mask = torch.rand(x.shape if shape is None else shape) >= p
    return x * mask * scale(p)


def dropout2d(x, p, training, **options):
    return dropout(x, p, training, shape=(*x.shape[:2], 1, 1), **options)


def swapped(x, p, training):
    return dropout(x, 1 - p, training)


def not_a_number_at_one(x, p, training):
    return x * (torch.rand_like(x) >= p) / torch.tensor(1 - p) if training else x


def divides_by_zero(x, p, training):
    return x * (torch.rand_like(x) >= p) * (1 / (1 - p)) if training else x


def in_place(x, p, training):
    return x.copy_(dropout(x, p, training))


def with_a_seed(x, p, training):
    torch.manual_seed(0)
    return dropout(x, p, training)


@pytest.mark.parametrize("right", [dropout, lambda x, p, training: torch.dropout(x, p, training)])
def test_the_right_dropout_is_accepted(right, capsys):
    checks.lab03_dropout(right)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda *a: dropout(*a, scale=lambda p: 1), r"expectation is \(1 - p\) x"),
        (lambda *a: dropout(*a, scale=lambda p: 1 - p), r"shrinks to \(1 - p\)²"),
        (lambda *a: dropout(*a, scale=lambda p: 1 / p), "divided by p"),
        (lambda *a: dropout(*a, scale=lambda p: 3), "scaled by 3.000"),
        (swapped, "p is the probability of dropping"),
        (lambda x, p, training: dropout(x, p, True), "in evaluation"),
        (lambda x, p, training: dropout(x, p, training, shape=x.shape[1:]), "All rows"),
        (not_a_number_at_one, "p = 1"),
        (divides_by_zero, "p = 1: a division by 0.*give back zeros"),
        (in_place, "x itself was changed"),
        (with_a_seed, "draw each anew"),
        (lambda x, p, training: x, "0% of the values are zero, it should be 20%"),
        (lambda *a: None, "return"),
    ],
)
def test_a_wrong_dropout_is_explained(wrong, message):
    with torch.random.fork_rng(), pytest.raises(AssertionError, match=message):
        checks.lab03_dropout(wrong)


@pytest.mark.parametrize("right", [dropout2d, torch.nn.functional.dropout2d])
def test_the_right_dropout2d_is_accepted(right, capsys):
    checks.lab03_dropout2d(right)
    assert capsys.readouterr().out.startswith("OK")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dropout, "Single pixels were dropped"),
        (
            lambda x, p, training: dropout(x, p, training, shape=(1, x.shape[1], 1, 1)),
            "All images lost the same channels",
        ),
        (
            lambda x, p, training: dropout(x, p, training, shape=(len(x), 1, 1, 1)),
            "each channel has its own draw",
        ),
        (lambda *a: dropout2d(*a, scale=lambda p: 1 - p), r"shrinks to \(1 - p\)²"),
        (lambda x, p, training: x, "0% of the values are zero, it should be 20%"),
        (lambda x, p, training: dropout2d(x, p, not training), "in evaluation"),
        (lambda x, p, training: 0 * x, "in evaluation"),
    ],
)
def test_a_wrong_dropout2d_is_explained(wrong, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab03_dropout2d(wrong)
