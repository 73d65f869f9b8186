"""A neural network in NumPy: every forward, every backward and the loop around them, no torch.

Made to be read from top to bottom, one idea after another:

    Parameter, Module           a learned array and its gradient; whatever owns some
    Linear, ReLU, Sequential    the layers
    log_softmax, cross_entropy  the loss
    SGD, Adam                   what to do with a gradient
    minibatches, evaluate, fit  the loop
    check_gradients             how to know that all of it is right

One rule holds throughout: `forward(x)` remembers what `backward` will need; `backward(dy)` takes
dL/dy, leaves dL/dparameter in `.grad` and returns dL/dx. N is the number of images in a batch,
C the number of classes, `in` and `out` the features before and after a layer.

    rng = np.random.default_rng(0)
    model = Sequential(Linear(784, 128, rng), ReLU(), Linear(128, 10, rng))
    history = fit(model, SGD(model.parameters(), lr=0.1), train, val, epochs=10, batch_size=32)
"""

import copy
import math
import time
from collections.abc import Callable, Iterator

import numpy as np

# ---------------------------------------------------------------- parameters and modules


class Parameter:
    """An array that is learned, `.data`, and the gradient of the loss with respect to it, `.grad`.

    Both have the same shape and dtype. `backward` overwrites `.grad` (torch adds to it, which
    is why torch needs `zero_grad` and this network does not).
    """

    def __init__(self, data: np.ndarray):
        self.data = data
        self.grad = np.zeros(data.shape, data.dtype)


class Module:
    """Base of all layers: has a `forward`, a `backward`, and finds its own parameters."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Give y, and remember what `backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Take dL/dy (shape of y), set every `.grad`, give dL/dx (shape of x)."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter) of this module, in the order in which they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value

    def parameters(self) -> list[Parameter]:
        """All parameters, in order."""
        return [parameter for _, parameter in self.named_parameters()]

    def to(self, dtype: type) -> "Module":
        """Turn the parameters into `dtype` (np.float32, np.float64), in place; give self."""
        for parameter in self.parameters():
            parameter.data = parameter.data.astype(dtype)
            parameter.grad = parameter.grad.astype(dtype)
        return self


# ---------------------------------------------------------------- layers


class Linear(Module):
    """y = x W + b.

    x (N, in), weight (in, out), bias (out,), y (N, out). torch stores the weight the other way
    round, (out, in). Starts as torch.nn.Linear does: uniform in ±1/sqrt(in), float32.

    Raises ValueError for sizes below 1, and for an x of another width or dtype than the weight.
    """

    def __init__(self, in_features: int, out_features: int, rng: np.random.Generator):
        if in_features < 1 or out_features < 1:
            raise ValueError(
                f"Linear({in_features}, {out_features}): both sizes must be at least 1"
            )
        bound = 1 / math.sqrt(in_features)
        weight = rng.uniform(-bound, bound, (in_features, out_features))
        bias = rng.uniform(-bound, bound, out_features)
        self.weight = Parameter(weight.astype(np.float32))  # (in, out)
        self.bias = Parameter(bias.astype(np.float32))  # (out,)

    def forward(self, x: np.ndarray) -> np.ndarray:
        weight = self.weight.data
        if x.ndim != 2 or x.shape[1] != weight.shape[0]:
            raise ValueError(
                f"x has shape {x.shape}, but this layer expects (N, {weight.shape[0]}): "
                "flatten images with x.reshape(len(x), -1)"
            )
        if x.dtype != weight.dtype:
            raise ValueError(
                f"x is {x.dtype}, but the weights are {weight.dtype}: "
                f"use x.astype(np.{weight.dtype}), and bring pixels to 0..1 first"
            )
        self.x = x  # (N, in)
        return x @ weight + self.bias.data  # (N, in) (in, out) + (out,) -> (N, out)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        # np.dot, because np.matmul is much slower on a single image; `out`, to reuse the memory.
        np.dot(self.x.T, dy, out=self.weight.grad)  # (in, N) (N, out) -> (in, out)
        np.sum(dy, axis=0, out=self.bias.grad)  # (N, out) -> (out,)
        return dy @ self.weight.data.T  # (N, out) (out, in) -> (N, in)


class ReLU(Module):
    """y = max(x, 0), for an x of any shape. At x = 0 the gradient is 0, as in torch."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.y = np.maximum(x, 0)  # (N, out)
        return self.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return dy * (self.y > 0)  # (N, out)


class Sequential(Module):
    """One layer after another; backward walks the same way back: the chain rule.

    Raises ValueError when it is empty, or when a layer occurs twice: a layer remembers one x.
    """

    def __init__(self, *layers: Module):
        if not layers:
            raise ValueError("Sequential() is empty: give it at least one layer")
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError(
                "a layer occurs twice in this Sequential: make a new one for each place"
            )
        self.layers = layers

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: np.ndarray) -> np.ndarray:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for i, layer in enumerate(self.layers):
            for name, parameter in layer.named_parameters():
                yield f"{i}.{name}", parameter


# ---------------------------------------------------------------- the loss


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log of softmax, row by row: (N, C) -> (N, C).

    Subtracting a row's maximum changes nothing in exact arithmetic, and keeps exp from
    overflowing: the largest number that exp meets is 0.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)  # (N, C) - (N, 1)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of -log p(right class) over the batch, and its gradient by the logits.

    logits (N, C), labels (N,) of integers 0..C-1; gives the loss in nats and dL/dlogits (N, C),
    which is (softmax(logits) - onehot(labels)) / N.

    Raises ValueError for shapes or labels that do not fit.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} do not fit: "
            "expected (N, C) and (N,) with N at least 1"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype}, expected integers: labels.astype(np.int64)")
    classes = logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels lie in {labels.min()}..{labels.max()}, but {classes} logits "
            f"need labels in 0..{classes - 1}"
        )
    rows = np.arange(len(labels))
    log_p = log_softmax(logits)  # (N, C)
    loss = -log_p[rows, labels].mean()  # (N,) -> scalar
    dlogits = np.exp(log_p)  # softmax (N, C)
    dlogits[rows, labels] -= 1
    dlogits /= len(labels)
    return float(loss), dlogits


# ---------------------------------------------------------------- optimisers


class SGD:
    """Stochastic gradient descent with momentum, as torch.optim.SGD computes it.

    velocity = momentum * velocity + grad;  data = data - lr * velocity

    Raises ValueError for lr <= 0 or momentum outside [0, 1).
    """

    def __init__(self, parameters: list[Parameter], lr: float, momentum: float = 0.0):
        _check_lr(lr)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}, expected 0 <= momentum < 1, such as 0.9")
        self.parameters, self.lr, self.momentum = list(parameters), lr, momentum
        self.velocities = [np.zeros_like(p.data) for p in self.parameters]

    def step(self) -> None:
        """Move every parameter against its gradient, in place."""
        for p, velocity in zip(self.parameters, self.velocities, strict=True):
            if self.momentum:
                velocity *= self.momentum
                velocity += p.grad
                p.data -= self.lr * velocity
            else:
                p.data -= self.lr * p.grad


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1): a step of about lr, whatever the gradient's scale.

    Raises ValueError for lr <= 0, betas outside [0, 1) or eps <= 0.
    """

    def __init__(
        self,
        parameters: list[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        _check_lr(lr)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}, expected two numbers with 0 <= beta < 1")
        if not eps > 0:
            raise ValueError(f"eps is {eps}, expected a number above 0, such as 1e-8")
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        self.steps = 0
        self.means = [np.zeros_like(p.data) for p in self.parameters]  # of the gradient
        self.squares = [np.zeros_like(p.data) for p in self.parameters]  # of its square

    def step(self) -> None:
        """Move every parameter against its gradient, in place."""
        beta1, beta2 = self.betas
        self.steps += 1
        # Both averages start at 0 and are too small at first: this undoes it.
        unbias1, unbias2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        for p, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            mean *= beta1
            mean += (1 - beta1) * p.grad
            square *= beta2
            square += (1 - beta2) * p.grad**2
            p.data -= (self.lr / unbias1) * mean / (np.sqrt(square / unbias2) + self.eps)


def _check_lr(lr: float) -> None:
    if not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr}, expected a number above 0, such as 0.1")


# ---------------------------------------------------------------- the loop


class Diverged(ValueError):
    """The loss became NaN or infinite; `.history` holds the epochs that were finished."""

    def __init__(self, message: str, history: list[dict]):
        super().__init__(message)
        self.history = history

    def __reduce__(self):  # or a worker process can't hand it over
        return type(self), (self.args[0], self.history)


def minibatches(
    x: np.ndarray, y: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (x, y) batches that cover the data once, in a fresh random order.

    Only the indices are shuffled; the images stay where they are. The last batch may be smaller.

    Raises ValueError for a batch_size below 1, no images, or unequal numbers of images and labels.
    """
    _check_data(x, y, batch_size)
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        chosen = order[start : start + batch_size]
        yield x[chosen], y[chosen]  # (batch_size, in), (batch_size,)


def evaluate(
    model: Module, x: np.ndarray, y: np.ndarray, batch_size: int = 1000
) -> tuple[float, float]:
    """Mean loss and accuracy (a fraction, 0..1) of the model on images x (N, in), labels y (N,).

    Raises ValueError as `minibatches` does.
    """
    _check_data(x, y, batch_size)
    loss_sum, hits = 0.0, 0
    for start in range(0, len(x), batch_size):
        labels = y[start : start + batch_size]
        logits = model.forward(x[start : start + batch_size])
        loss_sum += cross_entropy(logits, labels)[0] * len(labels)
        hits += int((logits.argmax(axis=1) == labels).sum())
    return loss_sum / len(x), hits / len(x)


def fit(
    model: Module,
    optimizer: SGD | Adam,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    batch_size: int,
    seed: int = 0,
) -> list[dict]:
    """Train the model in place; give one row an epoch.

    train and val are pairs x (N, in), y (N,); `seed` decides the order of the batches. A row has
    epoch, train_loss, train_acc, val_loss, val_acc, lr and seconds. The training numbers are
    means over the epoch, taken while the weights still move; seconds leave out the validation.

    Raises ValueError for epochs below 1, and Diverged when a loss is NaN or infinite.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}, expected at least 1")
    rng = np.random.default_rng(seed)
    history = []
    for epoch in range(1, epochs + 1):
        start, loss_sum, hits = time.perf_counter(), 0.0, 0
        for step, (x, y) in enumerate(minibatches(*train, batch_size, rng), start=1):
            logits = model.forward(x)  # (N, C)
            loss, dlogits = cross_entropy(logits, y)
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss is {loss} at step {step} of epoch {epoch}: try a smaller lr than "
                    f"{optimizer.lr}, and look at the range of the input",
                    history,
                )
            model.backward(dlogits)
            optimizer.step()
            loss_sum += loss * len(y)
            hits += int((logits.argmax(axis=1) == y).sum())
        seconds = time.perf_counter() - start
        val_loss, val_acc = evaluate(model, *val)
        if not math.isfinite(val_loss):
            raise Diverged(
                f"the validation loss is {val_loss} after epoch {epoch}: try a smaller lr than "
                f"{optimizer.lr}, and look at the range of the input",
                history,
            )
        history.append(
            {
                "epoch": epoch,
                "train_loss": loss_sum / len(train[0]),
                "train_acc": hits / len(train[0]),
                "val_loss": val_loss,
                "val_acc": val_acc,
                "lr": optimizer.lr,
                "seconds": seconds,
            }
        )
    return history


def _check_data(x: np.ndarray, y: np.ndarray, batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"{len(x)} images and {len(y)} labels: expected the same number, at least 1"
        )


# ---------------------------------------------------------------- is the gradient right?


def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> float:
    """Print whether two arrays agree (exactly, approximately, maximum difference); give the last.

    After `cmp` in Andrej Karpathy's makemore lectures. Approximate means np.allclose.

    Raises ValueError when the shapes differ: broadcasting would compare the wrong numbers.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: shapes {ours.shape} and {theirs.shape} differ")
    maxdiff = float(np.abs(ours - theirs).max())
    exact, approximate = bool((ours == theirs).all()), bool(np.allclose(ours, theirs))
    print(
        f"{name:10s} exact: {exact!s:5s}  approximate: {approximate!s:5s}  maxdiff: {maxdiff:.1e}"
    )
    return maxdiff


def numerical_gradient(f: Callable[[], float], array: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """dL/darray by central differences: (f(a + eps) - f(a - eps)) / (2 eps), one entry at a time.

    f takes nothing and gives L; it must look at `array`, which is moved in place and put back.
    Two calls of f for every entry: for small arrays. The error is of order eps².

    Raises ValueError unless the array is float64: in float32 the difference drowns in rounding.
    """
    if array.dtype != np.float64:
        raise ValueError(f"the array is {array.dtype}, expected float64: array.astype(np.float64)")
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + eps
        above = f()
        array[index] = value - eps
        below = f()
        array[index] = value
        gradient[index] = (above - below) / (2 * eps)
    return gradient


def projection(y: np.ndarray) -> tuple[float, np.ndarray]:
    """A loss for a layer that has none: L = Σ r·y with fixed random r; gives L and dL/dy = r."""
    r = np.random.default_rng(0).standard_normal(y.shape)
    return float((r * y).sum()), r


def check_gradients(
    module: Module,
    x: np.ndarray,
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]] = projection,
) -> float:
    """Compare `backward` with central differences, by x and by every parameter; print a line each.

    x is any input of the module; `loss` takes the module's output and gives L and dL/doutput, for
    example `lambda logits: cross_entropy(logits, labels)`. Works on a copy in float64. Gives the
    largest difference. Near 1e-10 is right; above 1e-6 is wrong, unless an entry of x sits within
    1e-5 of a corner of ReLU.
    """
    module, x = copy.deepcopy(module).to(np.float64), np.array(x, dtype=np.float64)

    def value() -> float:
        return loss(module.forward(x))[0]

    dx = module.backward(loss(module.forward(x))[1])
    # Copied before they are compared: `value` runs the module again.
    found = [("x", x, dx.copy())]
    found += [(name, p.data, p.grad.copy()) for name, p in module.named_parameters()]
    differences = [compare(name, grad, numerical_gradient(value, a)) for name, a, grad in found]
    return float(np.max(differences))  # the built-in max passes over NaN
