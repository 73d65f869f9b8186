"""The NumPy network against torch, central differences and hand calculation."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import numpy_net
from labkit.numpy_net import (
    SGD,
    Adam,
    Diverged,
    Linear,
    Module,
    Parameter,
    ReLU,
    Sequential,
    check_gradients,
    compare,
    cross_entropy,
    evaluate,
    fit,
    log_softmax,
    minibatches,
    numerical_gradient,
)

sizes = st.integers(1, 7)
seeds = st.integers(0, 2**32 - 1)


def mlp(*features: int, seed: int = 0, dtype: type = np.float64) -> Sequential:
    """Linear layers with ReLU between them."""
    rng = np.random.default_rng(seed)
    layers: list[Module] = []
    for before, after in zip(features[:-1], features[1:], strict=True):
        layers += [Linear(before, after, rng), ReLU()]
    return Sequential(*layers[:-1]).to(dtype)


def in_torch(model: Sequential) -> torch.nn.Sequential:
    """The same network, with the same weights, in torch."""
    layers: list[torch.nn.Module] = []
    for layer in model.layers:
        if isinstance(layer, ReLU):
            layers.append(torch.nn.ReLU())
            continue
        weight, bias = torch.tensor(layer.weight.data.T.copy()), torch.tensor(layer.bias.data)
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        layers.append(linear)
    return torch.nn.Sequential(*layers)


def torch_gradients(model: torch.nn.Sequential) -> list[np.ndarray]:
    """Gradients in this network's order and orientation: weight (in, out), bias (out,)."""
    return [p.grad.numpy().T for p in model.parameters()]


def batch(n: int, features: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)), rng.integers(0, classes, n)


def close(ours: np.ndarray, theirs: np.ndarray, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


# ---------------------------------------------------------------- gradients


@settings(deadline=None, max_examples=50)
@given(n=sizes, before=sizes, after=sizes, seed=seeds)
def test_linear_matches_autograd(n, before, after, seed):
    layer = Linear(before, after, np.random.default_rng(seed)).to(np.float64)
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((n, before)), rng.standard_normal((n, after))
    tx = torch.tensor(x, requires_grad=True)
    tw = torch.tensor(layer.weight.data, requires_grad=True)
    tb = torch.tensor(layer.bias.data, requires_grad=True)
    ty = tx @ tw + tb
    ty.backward(torch.tensor(dy))
    close(layer.forward(x), ty.detach().numpy())
    close(layer.backward(dy), tx.grad.numpy())
    close(layer.weight.grad, tw.grad.numpy())
    close(layer.bias.grad, tb.grad.numpy())


@settings(deadline=None, max_examples=50)
@given(n=sizes, features=sizes, seed=seeds)
def test_relu_matches_autograd(n, features, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((n, features)), rng.standard_normal((n, features))
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.relu(tx)
    ty.backward(torch.tensor(dy))
    layer = ReLU()
    close(layer.forward(x), ty.detach().numpy())
    close(layer.backward(dy), tx.grad.numpy())


def test_relu_has_no_gradient_at_zero_as_in_torch():
    x = torch.zeros(1, 3, requires_grad=True)
    torch.relu(x).sum().backward()
    layer = ReLU()
    layer.forward(np.zeros((1, 3)))
    np.testing.assert_array_equal(layer.backward(np.ones((1, 3))), x.grad.numpy())


@settings(deadline=None, max_examples=50)
@given(n=sizes, classes=st.integers(2, 12), seed=seeds)
def test_cross_entropy_matches_autograd(n, classes, seed):
    logits, labels = batch(n, classes, classes, seed)
    tz = torch.tensor(logits, requires_grad=True)
    tloss = torch.nn.functional.cross_entropy(tz, torch.tensor(labels))
    tloss.backward()
    loss, dlogits = cross_entropy(logits, labels)
    assert loss == pytest.approx(tloss.item(), abs=1e-10)
    close(dlogits, tz.grad.numpy())


@settings(deadline=None, max_examples=30)
@given(n=sizes, features=st.lists(sizes, min_size=2, max_size=5), seed=seeds)
def test_whole_network_matches_autograd(n, features, seed):
    model = mlp(*features, seed=seed)
    x, labels = batch(n, features[0], features[-1], seed)
    twin, tx = in_torch(model), torch.tensor(x, requires_grad=True)
    tloss = torch.nn.functional.cross_entropy(twin(tx), torch.tensor(labels))
    tloss.backward()
    loss, dlogits = cross_entropy(model(x), labels)
    dx = model.backward(dlogits)
    assert loss == pytest.approx(tloss.item(), abs=1e-10)
    close(dx, tx.grad.numpy())
    for parameter, theirs in zip(model.parameters(), torch_gradients(twin), strict=True):
        close(parameter.grad, theirs)


@pytest.mark.parametrize("n", [1, 5])
def test_whole_network_matches_central_differences(n):
    x, labels = batch(n, 6, 4, seed=n)
    largest = check_gradients(mlp(6, 5, 4), x, lambda logits: cross_entropy(logits, labels))
    assert largest < 1e-6


@pytest.mark.parametrize("layer", [Linear(4, 3, np.random.default_rng(0)), ReLU()])
def test_layers_match_central_differences(layer):
    assert check_gradients(layer, np.random.default_rng(1).standard_normal((5, 4))) < 1e-6


def test_one_image_gives_its_share_of_the_batch_gradient():
    model = mlp(6, 5, 4)
    x, labels = batch(8, 6, 4, seed=0)
    single = []
    for i in range(8):
        model.backward(cross_entropy(model(x[i : i + 1]), labels[i : i + 1])[1])
        single.append([p.grad.copy() for p in model.parameters()])
    model.backward(cross_entropy(model(x), labels)[1])
    for parameter, *grads in zip(model.parameters(), *single, strict=True):
        close(parameter.grad, np.mean(grads, axis=0))


# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_log_softmax_is_finite_where_the_naive_one_overflows(scale):
    logits = np.array([[scale, 0.0, 1.0], [scale, scale, -scale]])
    ours = log_softmax(logits)
    assert np.isfinite(ours).all()
    close(ours, torch.log_softmax(torch.tensor(logits), dim=1).numpy())


def test_loss_of_a_confidently_wrong_float32_network_is_finite_and_exact():
    logits = np.array([[1e4, -1e4]], dtype=np.float32)
    loss, dlogits = cross_entropy(logits, np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(dlogits, [[1, -1]])


def test_equal_logits_give_ln_of_the_number_of_classes():
    loss, dlogits = cross_entropy(np.zeros((3, 10)), np.array([0, 4, 9]))
    assert loss == pytest.approx(math.log(10))
    assert dlogits[0, 0] == pytest.approx((0.1 - 1) / 3)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (
            lambda p: SGD(p, lr=0.05, momentum=0.9),
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        ),
        (lambda p: Adam(p, lr=1e-2), lambda p: torch.optim.Adam(p, lr=1e-2)),
    ],
    ids=["sgd", "momentum", "adam"],
)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_hundred_steps_give_the_losses_of_torch(ours, theirs, batch_size):
    model = mlp(20, 16, 12, 5)
    twin = in_torch(model)
    x, y = batch(100 * batch_size, 20, 5, seed=3)
    optimizer, toptimizer = ours(model.parameters()), theirs(twin.parameters())
    losses, tlosses = [], []
    for xs, ys in minibatches(x, y, batch_size, np.random.default_rng(0)):
        loss, dlogits = cross_entropy(model(xs), ys)
        model.backward(dlogits)
        optimizer.step()
        losses.append(loss)

        toptimizer.zero_grad()
        tloss = torch.nn.functional.cross_entropy(twin(torch.tensor(xs)), torch.tensor(ys))
        tloss.backward()
        toptimizer.step()
        tlosses.append(tloss.item())
    assert len(losses) == 100
    close(np.array(losses), np.array(tlosses), atol=1e-8)


def clusters(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three well separated clouds in four dimensions, float32 as the labs use it."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = 3 * np.eye(3, 4)[y] + 0.3 * rng.standard_normal((n, 4))
    return x.astype(np.float32), y


@pytest.mark.parametrize("batch_size", [1, 32])
def test_fit_learns_separable_classes(batch_size):
    model = mlp(4, 8, 3, dtype=np.float32)
    optimizer = SGD(model.parameters(), lr=0.05)
    history = fit(
        model, optimizer, clusters(320, 0), clusters(100, 1), epochs=10, batch_size=batch_size
    )
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert history[-1]["val_acc"] == 1.0
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert all(p.data.dtype == np.float32 for p in model.parameters())


def test_first_row_of_the_history_is_the_mean_over_its_batches():
    train, val = clusters(10, 0), clusters(5, 1)
    model, twin = mlp(4, 3, dtype=np.float32), mlp(4, 3, dtype=np.float32)
    optimizer = SGD(twin.parameters(), lr=0.1)
    loss_sum, hits = 0.0, 0
    for x, y in minibatches(*train, 4, np.random.default_rng(7)):
        logits = twin(x)
        loss, dlogits = cross_entropy(logits, y)
        loss_sum, hits = loss_sum + loss * len(y), hits + (logits.argmax(1) == y).sum()
        twin.backward(dlogits)
        optimizer.step()
    (row,) = fit(model, SGD(model.parameters(), lr=0.1), train, val, epochs=1, batch_size=4, seed=7)
    assert row["train_loss"] == pytest.approx(loss_sum / 10)
    assert row["train_acc"] == hits / 10
    assert (row["val_loss"], row["val_acc"]) == evaluate(twin, *val)
    assert row["lr"] == 0.1


def test_the_same_seed_trains_the_same_network():
    def last_loss(seed):
        model = mlp(4, 8, 3, dtype=np.float32)
        adam = Adam(model.parameters())
        data = clusters(64, 0)
        return fit(model, adam, data, data, epochs=2, batch_size=8, seed=seed)[-1]["val_loss"]

    assert last_loss(0) == last_loss(0)
    assert last_loss(0) != last_loss(1)


def test_weights_are_updated_in_place():
    model = mlp(4, 3, dtype=np.float32)
    weight = model.layers[0].weight.data
    before = weight.copy()
    fit(model, Adam(model.parameters()), clusters(8, 0), clusters(8, 0), epochs=1, batch_size=4)
    assert model.layers[0].weight.data is weight
    assert not np.array_equal(before, weight)


def test_minibatches_cover_the_data_once_in_an_order_that_changes():
    x, y = np.arange(10)[:, None], np.arange(10)
    rng = np.random.default_rng(0)
    epochs = [list(minibatches(x, y, 4, rng)) for _ in range(2)]
    for epoch in epochs:
        assert [len(ys) for _, ys in epoch] == [4, 4, 2]
        assert all((xs[:, 0] == ys).all() for xs, ys in epoch)
    first, second = (np.concatenate([ys for _, ys in epoch]) for epoch in epochs)
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size):
    model, (x, y) = mlp(4, 3), batch(10, 4, 3, seed=0)
    loss, accuracy = evaluate(model, x, y, batch_size)
    assert loss == pytest.approx(cross_entropy(model(x), y)[0])
    assert accuracy == (model(x).argmax(1) == y).mean()


def test_training_stops_at_a_loss_that_is_not_finite_and_keeps_the_history():
    model, data = mlp(4, 8, 3, dtype=np.float32), clusters(32, 0)
    optimizer = SGD(model.parameters(), lr=0.1)
    poisoned = data[0].copy()
    poisoned[5] = np.nan
    with pytest.raises(Diverged, match="nan at step 1 of epoch 1.*smaller lr") as caught:
        fit(model, optimizer, (poisoned, data[1]), data, epochs=3, batch_size=32)
    assert caught.value.history == []


def test_diverged_history_holds_the_finished_epochs():
    class Poison(SGD):
        def step(self):
            super().step()
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 3:
                self.parameters[0].data[:] = np.inf

    model, data = mlp(4, 3, dtype=np.float32), clusters(32, 0)
    with pytest.raises(Diverged, match="step 2 of epoch 2") as caught, np.errstate(all="ignore"):
        fit(model, Poison(model.parameters(), lr=0.1), data, data, epochs=3, batch_size=16)
    assert [row["epoch"] for row in caught.value.history] == [1]


def test_a_validation_loss_that_is_not_finite_stops_the_training_too():
    model, data = mlp(4, 3, dtype=np.float32), clusters(32, 0)
    optimizer = SGD(model.parameters(), lr=1e39)
    message = "validation loss is nan after epoch 1"
    with pytest.raises(Diverged, match=message) as caught, np.errstate(all="ignore"):
        fit(model, optimizer, data, data, epochs=1, batch_size=32)
    assert caught.value.history == []


# ---------------------------------------------------------------- modules


def test_parameters_have_names_and_the_start_of_torch():
    model = mlp(784, 128, 10, dtype=np.float32)
    shapes = {name: p.data.shape for name, p in model.named_parameters()}
    assert shapes == {
        "0.weight": (784, 128),
        "0.bias": (128,),
        "2.weight": (128, 10),
        "2.bias": (10,),
    }
    bound = 1 / math.sqrt(784)
    start = torch.nn.Linear(784, 128).weight.detach().numpy()
    weight = model.layers[0].weight.data
    assert 0.99 * bound < np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(start.std(), rel=0.02)


def test_a_new_module_must_bring_forward_and_backward():
    for method in ("forward", "backward"):
        with pytest.raises(NotImplementedError, match=f"Module has no {method}"):
            getattr(Module(), method)(np.zeros((1, 1)))


def test_numpy_net_does_not_import_torch():
    code = "import sys, labkit.numpy_net; sys.exit('torch' in sys.modules)"
    root = Path(numpy_net.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# ---------------------------------------------------------------- the checker itself


def test_checker_finds_a_wrong_backward(capsys):
    class DoubledWeight(Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.weight.grad *= 2
            return dx

    layer = DoubledWeight(3, 3, np.random.default_rng(0))
    assert check_gradients(layer, np.ones((2, 3))) > 1e-2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["x", "weight", "bias"]
    assert ["approximate: False" in line for line in lines] == [False, True, False]


def test_checker_leaves_the_network_and_the_input_as_they_were():
    model, x = mlp(4, 3, dtype=np.float32), np.ones((2, 4), dtype=np.float32)
    before = [p.data.copy() for p in model.parameters()]
    check_gradients(model, x)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.data.dtype == np.float32
        np.testing.assert_array_equal(parameter.data, old)
    np.testing.assert_array_equal(x, np.ones((2, 4)))


def test_central_differences_of_a_cubic_are_its_derivative():
    a = np.array([1.0, -2.0, 0.5])
    close(numerical_gradient(lambda: float((a**3).sum()), a), 3 * a**2, atol=1e-8)
    np.testing.assert_array_equal(a, [1.0, -2.0, 0.5])


def test_compare_prints_exact_approximate_and_difference(capsys):
    assert compare("w", [1.0, 2.0], [1.0, 2.0]) == 0
    assert compare("w", [1.0, 2.0], [1.0, 2.0 + 1e-9]) == pytest.approx(1e-9)
    assert compare("w", [1.0, 2.0], [1.0, 2.5]) == 0.5
    out = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert out == [
        "exact: True   approximate: True   maxdiff: 0.0e+00",
        "exact: False  approximate: True   maxdiff: 1.0e-09",
        "exact: False  approximate: False  maxdiff: 5.0e-01",
    ]


# ---------------------------------------------------------------- bad input

RNG = np.random.default_rng(0)
X, Y = np.zeros((4, 3), dtype=np.float32), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Linear(0, 3, RNG), r"Linear\(0, 3\): both sizes"),
        (lambda: Linear(5, 3, RNG)(X), r"\(4, 3\).*expects \(N, 5\).*reshape"),
        (lambda: Linear(9, 3, RNG)(np.zeros((4, 3, 3))), r"\(4, 3, 3\).*flatten"),
        (lambda: Linear(3, 3, RNG)(X.astype(np.uint8)), "uint8.*float32.*0..1"),
        (lambda: Linear(3, 3, RNG)(X.astype(np.float64)), "float64.*float32"),
        (lambda: Sequential(), "empty"),
        (lambda: Sequential(*[ReLU()] * 2), "twice"),
        (lambda: cross_entropy(X, Y[:3]), r"\(4, 3\) and labels \(3,\) do not fit"),
        (lambda: cross_entropy(X[:0], Y[:0]), "N at least 1"),
        (lambda: cross_entropy(X, Y.astype(float)), "float64, expected integers"),
        (lambda: cross_entropy(X, Y + 1), r"1\.\.3.*3 logits.*0\.\.2"),
        (lambda: cross_entropy(X, Y - 1), r"-1\.\.1"),
        (lambda: SGD([], lr=0), "lr is 0"),
        (lambda: SGD([], lr=math.nan), "lr is nan"),
        (lambda: SGD([], lr=0.1, momentum=1), "momentum is 1"),
        (lambda: Adam([], lr=-1), "lr is -1"),
        (lambda: Adam([], betas=(0.9, 1.0)), r"betas are \(0.9, 1.0\)"),
        (lambda: Adam([], eps=0), "eps is 0"),
        (lambda: next(minibatches(X, Y, 0, RNG)), "batch_size is 0"),
        (lambda: next(minibatches(X, Y[:2], 2, RNG)), "4 images and 2 labels"),
        (lambda: evaluate(Linear(3, 3, RNG), X[:0], Y[:0]), "0 images and 0 labels"),
        (lambda: fit(ReLU(), SGD([], lr=1), (X, Y), (X, Y), epochs=0, batch_size=1), "epochs is 0"),
        (lambda: compare("w", np.zeros(3), np.zeros((3, 1))), r"w: shapes \(3,\) and \(3, 1\)"),
        (lambda: numerical_gradient(lambda: 0.0, X), "float32, expected float64"),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_public_names_have_docstrings():
    for name, value in vars(numpy_net).items():
        if getattr(value, "__module__", "") == numpy_net.__name__ and not name.startswith("_"):
            assert value.__doc__, name
    assert isinstance(mlp(2, 2).parameters()[0], Parameter)


def test_a_gradient_that_is_nan_is_not_called_right():
    class Broken(numpy_net.Linear):
        def backward(self, dy):
            dx = super().backward(dy)
            self.weight.grad[:] = np.nan
            return dx

    layer = Broken(3, 2, np.random.default_rng(0))
    assert np.isnan(numpy_net.check_gradients(layer, np.ones((2, 3))))


def test_a_transposed_array_can_be_a_parameter():
    layer = numpy_net.Linear(3, 2, np.random.default_rng(0))
    layer.weight = numpy_net.Parameter(np.ones((2, 3)).T)
    layer.forward(np.ones((4, 3)))
    layer.backward(np.ones((4, 2)))
    assert (layer.weight.grad == 4).all()
