"""The patient: a model, a loss and data in one form, whatever they came in."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import train
from labkit.data import Split, Splits

_BYTES = 256 * 2**20  # no more of the data than this is held in memory


class Unusable(ValueError):
    """What was handed over can't be diagnosed at all; the message says what to change."""


class Case:
    """What the checks look at.

    x, y: up to `images` training examples as the model gets them; val_x, val_y: the same of the
    validation set, or None.  modes: what train mode means here.
    Checks may repair what they have found broken (`logits`, `scale`), so that those after them
    see the rest: bugs hide one another.
    """

    def __init__(self, model, loss, data, val, recipe, optimizer, forward, unpack, images):
        self.model = model
        self.loss_function = loss or F.cross_entropy
        self.forward = forward or (lambda model, x: model(x))
        self.unpack = unpack or _pair
        self.where = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.recipe = recipe
        self.optimizer = optimizer
        self.data, self.raw, self.raw_val = _loader(data, recipe, "train"), None, None
        if isinstance(data, Splits) and val is None:
            val = data.val
        if isinstance(val, Splits):
            val = val.val
        if isinstance(data, Splits) and isinstance(val, Split):  # pixels can be compared
            self.raw, self.raw_val = data.train.images, val.images
        self.val = None if val is None else _loader(val, recipe, "val", like=data)
        self.batch_size = 0
        self.x, self.y = self.read(self.data, images)
        self.val_x, self.val_y = (None, None) if self.val is None else self.read(self.val, images)
        self.modes = [(module, module.training) for module in model.modules()]
        self.output_layer: nn.Module | None = None  # its output are the logits, once repaired
        self.scale = 1.0  # the inputs are divided by it, once repaired

    # ------------------------------------------------------------------------------ data

    def read(self, loader: Iterable, images: int) -> tuple[Tensor, Tensor]:
        """The first `images` examples of a loader, on the CPU."""
        xs, ys, count, size = [], [], 0, 0
        for batch in loader:
            x, y = self.unpack(batch)
            if not isinstance(x, Tensor) or not isinstance(y, Tensor) or len(x) != len(y):
                raise Unusable(
                    "data must give batches (x, y) of two tensors with the same length, got "
                    f"{_describe(batch)}: say where they are with unpack=lambda batch: (x, y)"
                )
            xs.append(x.detach().cpu())
            ys.append(y.detach().cpu())
            count, size = count + len(x), size + x.numel() * x.element_size()
            if loader is self.data:
                self.batch_size = max(self.batch_size, len(x))
            if count >= images or size > _BYTES:
                break
        if not count:
            raise Unusable("data gives no batch: it is empty, or was read to its end already")
        return torch.cat(xs)[:images], torch.cat(ys)[:images]

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Up to `size` training examples on the model's device."""
        return self.put(self.x[:size]), self.y[:size].to(self.where)

    def put(self, x: Tensor) -> Tensor:
        """Inputs on the model's device, at the repaired scale."""
        x = x.to(self.where)
        return x if self.scale == 1 else x / self.scale

    def batches(self, steps: int, last: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """`steps` training batches of at most 64 out of what was read, round and round; or only
        the last few of them."""
        size = min(64, max(self.batch_size, 2), len(self.x))
        starts = range(0, len(self.x) - size + 1, size)
        for step in range(steps - (last or steps), steps):
            part = slice(starts[step % len(starts)], starts[step % len(starts)] + size)
            yield self.put(self.x[part]), self.y[part].to(self.where)

    # ----------------------------------------------------------------- the model and its loss

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """The model in train mode, as its owner has it, or in eval mode."""
        now = [(module, module.training) for module in self.model.modules()]
        self.model.train(training)
        if training and self.modes[0][1]:  # it was in train mode: with what its owner exempts
            for module, flag in self.modes:
                module.training = flag
        try:
            yield
        finally:
            for module, flag in now:
                module.training = flag

    def outputs(self, x: Tensor) -> Tensor:
        """The model's outputs; its logits, once a broken head was found."""
        if self.output_layer is None:
            return self.raw_outputs(x)
        caught = []
        hook = self.output_layer.register_forward_hook(lambda *args: caught.append(args[2]))
        try:
            self.raw_outputs(x)
        finally:
            hook.remove()
        return caught[-1]

    def raw_outputs(self, x: Tensor) -> Tensor:
        """The model's own outputs, N x C. Raises ValueError if they are not a tensor."""
        outputs = self.forward(self.model, x)
        if not isinstance(outputs, Tensor):
            raise Unusable(
                f"The model gives a {type(outputs).__name__}, a tensor was expected: say how to "
                "get it with forward=lambda model, x: model(x).logits"
            )
        return outputs

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The loss as one number; the mean, where it gives one an example."""
        loss = self.loss_function(outputs, y)
        if not isinstance(loss, Tensor):
            raise Unusable(
                f"The loss gives a {type(loss).__name__}, a tensor was expected: give a function "
                "of (outputs, y)"
            )
        return loss.mean()

    def build_optimizer(self):
        """The optimiser that this set-up trains with: None where nobody said."""
        if isinstance(self.optimizer, torch.optim.Optimizer):
            return self.optimizer
        if self.optimizer is not None:
            return self.optimizer(self.model)
        return None if self.recipe is None else train.build_optimizer(self.model, self.recipe)

    def gives_an_output_a_class(self) -> bool:
        """N x C outputs of at least two classes: the largest is the model's answer."""
        with torch.no_grad(), self.mode(training=False):
            outputs = self.outputs(self.batch(2)[0])
        return outputs.ndim == 2 and outputs.shape[1] > 1

    @property
    def classification(self) -> bool:
        """Labels are classes, as indices or one-hot."""
        return classes(self.y) is not None


def classes(y: Tensor) -> Tensor | None:
    """Class indices, also of one-hot labels N x C; None for any other targets."""
    if y.ndim == 1 and not y.is_floating_point():
        return y
    one_hot = (
        y.ndim == 2 and y.shape[1] > 1 and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all()
    )
    return y.argmax(1) if one_hot else None


def _pair(batch) -> tuple:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise Unusable(
            f"data must give batches (x, y), got {_describe(batch)}: say where they are with "
            'unpack=lambda batch: (batch["image"], batch["label"])'
        )
    return tuple(batch)


def _describe(batch) -> str:
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {len(batch)}"
    return f"a {type(batch).__name__}"


class _SplitBatches:
    """A split as batches, once more at each pass; training batches shuffled and augmented."""

    def __init__(self, split: Split, recipe, part: str, statistics: Split):
        self.split, self.recipe, self.part = split, recipe or train.Recipe(), part
        self.inputs = train.Inputs(statistics, self.recipe, split.images.device)

    def __iter__(self):
        if self.part == "train":
            generator = torch.Generator(self.split.images.device).manual_seed(self.recipe.seed)
            yield from train.batches(self.split, self.recipe, self.inputs, generator)
            return
        size = self.recipe.batch_size
        for images, labels in zip(
            self.split.images.split(size), self.split.labels.split(size), strict=True
        ):
            yield self.inputs(images), labels


def _loader(data, recipe, part: str, like=None) -> Iterable:
    if isinstance(data, Splits):
        data = data.train if part == "train" else data.val
    if isinstance(data, Split):
        statistics = like.train if isinstance(like, Splits) else data
        return _SplitBatches(data, recipe, part, statistics)
    if isinstance(data, Tensor) or not hasattr(data, "__iter__"):
        raise Unusable(
            f"data is a {type(data).__name__}: give batches (x, y), as a DataLoader, a list, or "
            "what labkit.load gives"
        )
    if iter(data) is data:
        raise Unusable(
            "data can be read only once, and the diagnosis would use it up: give the DataLoader or "
            "a list, not an iterator over it"
        )
    return data
