"""Train and evaluate a classifier: `Recipe`, `fit`, `History`, `evaluate`, `predict`.

The loop reads from top to bottom in `fit`. The images stay on the device, batches are
indexed out of them and augmented there, and losses are read once an epoch, so that nothing
in a training step waits for the device.
"""

import copy
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from labkit import augment
from labkit.data import Split, Splits
from labkit.train_reading import read_curves  # noqa: F401, so that it is train.read_curves

# --------------------------------------------------------------------------- schedules


@dataclass(frozen=True)
class Constant:
    """The learning rate never changes."""

    def build(self, optimizer, epochs: int, steps: int):
        return lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


@dataclass(frozen=True)
class Step:
    """Multiply the learning rate by `factor` after each `every` epochs."""

    every: int
    factor: float = 0.1

    def build(self, optimizer, epochs: int, steps: int):
        return lr_scheduler.StepLR(optimizer, self.every * steps, self.factor)


@dataclass(frozen=True)
class Plateau:
    """Multiply by `factor` once the validation loss has not fallen for `patience` epochs."""

    factor: float = 0.5
    patience: int = 2

    def build(self, optimizer, epochs: int, steps: int):
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience)


@dataclass(frozen=True)
class Cosine:
    """Fall to zero along half a cosine, after `warmup` epochs of linear rise.

    Source: Loshchilov & Hutter 2017, SGDR, equation 5 without restarts.
    """

    warmup: float = 0.0

    def build(self, optimizer, epochs: int, steps: int):
        total, rise = epochs * steps, self.warmup * steps

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))

        return lr_scheduler.LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class OneCycle:
    """Rise to the recipe's `lr`, then fall to nearly zero, both along cosines, while the
    momentum does the opposite. Source: Smith & Topin 2018, Super-Convergence."""

    rise: float = 0.3

    def build(self, optimizer, epochs: int, steps: int):
        lr = optimizer.param_groups[0]["lr"]
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=lr, total_steps=epochs * steps, pct_start=self.rise
        )


SCHEDULES = {
    "constant": Constant,
    "step": Step,
    "plateau": Plateau,
    "cosine": Cosine,
    "one_cycle": OneCycle,
}

# ------------------------------------------------------------------------------ recipe

OPTIMIZERS = ("adam", "adamw", "sgd")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run but the model and the data.

    `lr`, `momentum`, `nesterov` and `weight_decay` are those of torch's optimisers
    (`momentum` counts for SGD only). `schedule` is one of `Constant`, `Step`, `Plateau`,
    `Cosine`, `OneCycle`. `augment` names what is done to training images, see
    `labkit.augment`. `normalize="train"` subtracts the training set's mean and divides by
    its standard deviation, channel by channel; `"none"` only scales pixels to [0, 1].
    `early_stopping=5` ends the run after 5 epochs without a new best validation accuracy.
    `keep` says whose weights the model ends with: those of the `"best"` epoch by
    validation accuracy, or of the `"last"`. `channels_last` and `bf16` make a GPU faster.

    Raises ValueError for a value that can't be meant.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Constant | Step | Plateau | Cosine | OneCycle = field(default_factory=Constant)
    label_smoothing: float = 0.0
    augment: tuple = ()
    normalize: str = "train"
    early_stopping: int | None = None
    keep: str = "best"
    channels_last: bool = False
    bf16: bool = False
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "augment", augment.build(self.augment))
        for name in ("epochs", "batch_size", "early_stopping"):
            value = getattr(self, name)
            if name == "early_stopping" and value is None:
                continue
            if not _is_whole(value) or value < 1:
                _refuse(name, value, "a whole number, 1 or more")
        if not _is_whole(self.seed) or self.seed < 0:
            _refuse("seed", self.seed, "a whole number, 0 or more")
        if not _is_number(self.lr) or not 0 < self.lr < math.inf:
            _refuse("lr", self.lr, "a number above 0")
        if not _is_number(self.weight_decay) or not 0 <= self.weight_decay < math.inf:
            _refuse("weight_decay", self.weight_decay, "a number, 0 or more")
        for name in ("momentum", "label_smoothing"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                _refuse(name, value, "a number from 0 up to, but not including, 1")
        if not isinstance(self.schedule, tuple(SCHEDULES.values())):
            _refuse(
                "schedule", self.schedule, "labkit.Constant(), Step, Plateau, Cosine or OneCycle"
            )
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("normalize", ("train", "none")),
            ("keep", ("best", "last")),
        ):
            if getattr(self, name) not in choices:
                _refuse(name, getattr(self, name), " or ".join(map(repr, choices)))
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            _refuse("nesterov", True, 'optimizer="sgd" and a momentum above 0 with it')

    def to_dict(self) -> dict:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        name = next(name for name, kind in SCHEDULES.items() if type(self.schedule) is kind)
        values["schedule"] = {"name": name, **asdict(self.schedule)}
        values["augment"] = [augment.to_dict(transform) for transform in self.augment]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The recipe that `to_dict` wrote down."""
        schedule = dict(values["schedule"])
        schedule = SCHEDULES[schedule.pop("name")](**schedule)
        return cls(**{**values, "schedule": schedule})


def _refuse(name: str, value, wanted: str):
    raise ValueError(f"Recipe({name}={value!r}): give {wanted}")


def _is_whole(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser. Raises ValueError for a model with nothing to train."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"{type(model).__name__} has no trainable parameter: build its layers in __init__, "
            "or set requires_grad=True on those that fit should change"
        )
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **common
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(parameters, **common)


# ----------------------------------------------------------------------------- history


@dataclass
class History:
    """What a run measured, epoch by epoch.

    `rows` holds a dict an epoch: epoch (from 1), train_loss, train_acc (both summed up
    while training, so with dropout and augmentation), val_loss, val_acc, lr, seconds.
    Accuracies are fractions. `stopped` is a sentence if the run ended early, else None.
    """

    recipe: Recipe
    data: str
    fingerprint: str
    device: str
    rows: list[dict] = field(default_factory=list)
    stopped: str | None = None

    def frame(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.DataFrame(self.rows)

    @property
    def best(self) -> dict:
        """The epoch with the best validation accuracy; the last one without validation."""
        if not self.rows:
            raise ValueError("No epoch was finished, so there is no best one: train for longer")
        if "val_acc" not in self.rows[-1]:
            return self.rows[-1]
        return max(self.rows, key=lambda row: row["val_acc"])

    @property
    def seconds(self) -> float:
        """Wall time of all epochs together."""
        return sum(row["seconds"] for row in self.rows)

    def to_dict(self) -> dict:
        """Plain values that JSON can hold, with the versions that made them."""
        return {
            "data": {"name": self.data, "fingerprint": self.fingerprint},
            "recipe": self.recipe.to_dict(),
            "epochs": self.rows,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "device": self.device,
            "versions": versions(),
        }

    def __repr__(self) -> str:
        if not self.rows:
            return f"History({self.data}: no epoch finished)"
        best = self.best
        value = f"validation {best['val_acc']:.4f}" if "val_acc" in best else "no validation"
        return (
            f"History({self.data}: {len(self.rows)} epochs in {self.seconds:.1f} s, "
            f"best {value} in epoch {best['epoch']})"
        )


def versions() -> dict:
    """What a number may depend on: Python, torch, numpy, and the processor's kind."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


class Diverged(ValueError):
    """The loss became NaN or infinite. `history` holds the epochs before that."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


# ------------------------------------------------------------------------------ device


def device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best one here: CUDA, else MPS, else the CPU."""
    if name is not None:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


_device = device  # fit and evaluate have a parameter of that name


def device_name(where: torch.device) -> str:
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type


# ------------------------------------------------------------------------------ inputs


class Inputs:
    """From uint8 pixels to what a model is fed: (x / 255 - mean) / std, a channel at a time."""

    def __init__(self, split: Split, recipe: Recipe, where: torch.device):
        normalize = recipe.normalize == "train"
        mean = torch.tensor(split.mean if normalize else [0.0] * len(split.mean))
        std = torch.tensor(split.std if normalize else [1.0] * len(split.std))
        self.scale = (1 / (255 * std)).view(-1, 1, 1).to(where)
        self.shift = (-mean / std).view(-1, 1, 1).to(where)
        self.memory_format = (
            torch.channels_last if recipe.channels_last else torch.contiguous_format
        )

    def __call__(self, images: Tensor) -> Tensor:
        floats = images.to(torch.float32, copy=True).mul_(self.scale).add_(self.shift)
        return floats.contiguous(memory_format=self.memory_format)


def batches(
    split: Split, recipe: Recipe, inputs: Inputs, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled, augmented, normalised training batches (x, y).

    Small images are prepared for several batches at once, as many as fit into a CPU's cache.
    A last batch of a single image is left out: BatchNorm can't be trained on it.
    """
    order = torch.randperm(len(split), generator=generator, device=split.images.device)
    order = order[: steps_in_epoch(len(split), recipe.batch_size) * recipe.batch_size]
    together = max(1, _PREPARED // (recipe.batch_size * split.images[0].numel()))
    for chosen in order.split(together * recipe.batch_size):
        images = augment.apply(recipe.augment, split.images.index_select(0, chosen), generator)
        labels = split.labels.index_select(0, chosen)
        parts = (inputs(images), labels)
        yield from zip(*(part.split(recipe.batch_size) for part in parts), strict=True)


_PREPARED = 2**20  # pixels


def endless_batches(
    split: Split, recipe: Recipe, inputs: Inputs, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """`batches`, epoch after epoch."""
    while True:
        yield from batches(split, recipe, inputs, generator)


def steps_in_epoch(images: int, batch_size: int) -> int:
    """Batches in an epoch."""
    leave_out = batch_size > 1 and images > 1 and images % batch_size == 1
    return math.ceil(images / batch_size) - leave_out


# -------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """A model's answers on one split: `logits` N x C and `labels` N, both on the CPU."""

    logits: Tensor
    split: Split
    loss: float

    @property
    def labels(self) -> Tensor:
        return self.split.labels

    @property
    def images(self) -> Tensor:
        return self.split.images

    @property
    def classes(self) -> tuple[str, ...]:
        return self.split.classes

    @property
    def name(self) -> str:
        return self.split.name

    @property
    def predictions(self) -> Tensor:
        """The class with the highest logit, N."""
        return self.logits.argmax(1)

    @property
    def accuracy(self) -> float:
        """The fraction of images that are classified correctly."""
        return (self.predictions == self.labels).sum().item() / len(self.labels)

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, N x C."""
        return self.logits.softmax(1)

    @property
    def confidence(self) -> Tensor:
        """The probability that the model gives to its own prediction, N."""
        return self.probabilities.amax(1)

    @property
    def confusion(self) -> Tensor:
        """C x C counts; row: true class, column: predicted class."""
        c = len(self.classes)
        return torch.bincount(self.labels * c + self.predictions, minlength=c * c).view(c, c)

    def __repr__(self) -> str:
        return f"Evaluation({self.name}: accuracy {self.accuracy:.4f}, loss {self.loss:.4f})"


@contextmanager
def _eval_mode(model: nn.Module):
    """All modules in eval mode; each gets its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _logits(
    model: nn.Module, split: Split, inputs: Inputs, batch_size: int | None, bf16: bool
) -> Tensor:
    """N x C logits on the split's device, in eval mode, without gradients."""
    if batch_size is None:  # on a CPU what fits into its cache, on a GPU what keeps it busy
        batch_size = 250 if split.images.device.type == "cpu" else 1000
    with _eval_mode(model), torch.inference_mode(), autocast(split.images.device, bf16):
        parts = [model(inputs(images)).float() for images in split.images.split(batch_size)]
    logits = torch.cat(parts)
    _check_logits(logits, split)
    return logits


def _check_logits(logits: Tensor, split: Split) -> None:
    if logits.ndim != 2 or logits.shape[1] != len(split.classes):
        raise ValueError(
            f"The model gives outputs of shape {tuple(logits.shape)}, but {split.name} has "
            f"{len(split.classes)} classes: its last layer must give a logit a class"
        )


def autocast(where: torch.device, bf16: bool):
    """Where bf16 is on, layers compute in it; weights and losses stay float32."""
    return torch.autocast(where.type, dtype=torch.bfloat16) if bf16 else nullcontext()


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    recipe: Recipe | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
) -> Evaluation:
    """The model's answers on a split, never augmented, always in eval mode.

    Images are normalised as in the recipe that `fit` trained the model with (it leaves it
    on the model as `labkit_recipe`); `recipe` overrides that. `loss` takes (logits N x C,
    labels N) and defaults to cross-entropy. The model's modes are left as they were.
    `batch_size` changes the speed alone; `device` defaults to where the model is. Raises
    ValueError for an empty split or a model with the wrong number of outputs.
    """
    check_split(split)
    recipe = recipe or getattr(model, "labkit_recipe", None) or Recipe()
    where = _device(device) if device else _where(model)
    model.to(where)
    moved = split.to(where)
    inputs = Inputs(split, recipe, where)
    logits = _logits(model, moved, inputs, batch_size, recipe.bf16)
    value = (loss or F.cross_entropy)(logits, moved.labels).item()
    return Evaluation(logits.cpu(), split.to("cpu"), value)


def predict(model: nn.Module, images: Tensor, data: Splits) -> Tensor:
    """The classes, int64 N, that the model gives to images without labels, in their order.

    images: uint8 N x C x H x W, as `labkit.data.read_csv` reads a competition's test file.
    data: what the model was trained on; its statistics normalise these images too.

    Raises ValueError for images of another type or size.

        images, _ = labkit.data.read_csv("test.csv")
        labels = labkit.predict(model, images, data)
    """
    fits = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.dim() == 4
    if not fits or not len(images) or tuple(images.shape[1:]) != data.shape:
        got = (
            f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images)
        )
        raise ValueError(
            f"predict takes uint8 images N x {' x '.join(map(str, data.shape))}, as {data.name} "
            f"has them, got {got}: read them with labkit.data.read_csv, or as load does"
        )
    unlabelled = replace(data.train, images=images, labels=torch.zeros(len(images)).long())
    return evaluate(model, unlabelled).predictions


def _where(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def check_split(split: Split | None) -> None:
    """Raises ValueError where there is no image."""
    if split is None or not len(split):
        name = "the split" if split is None else split.name
        raise ValueError(
            f"There is no image in {name}: load the data with a larger val_fraction or limit"
        )


# --------------------------------------------------------------------------------- fit


def fit(
    model: nn.Module,
    data: Splits,
    recipe: Recipe,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    device: str | torch.device | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
    on_epoch: Callable[[History], bool | None] | None = None,
) -> History:
    """Train `model` in place on `data.train`; measure it on `data.val` after each epoch.

    The model ends on `device` (default: the best one here) with the weights that
    `recipe.keep` says. `loss` takes (logits N x C, labels N) and defaults to cross-entropy
    with the recipe's label smoothing; validation is measured without smoothing.
    `checkpoint` names a file that is rewritten after each epoch: if it is there, the run
    goes on from it, to the same numbers as a run that was never interrupted. `on_epoch` is
    called with the history so far, and ends the run by returning True. The stop button
    (KeyboardInterrupt) ends the run and returns what there is.

    The random numbers of a run depend on `recipe.seed` alone, and torch's global generator
    is afterwards as it was. Build the model after `torch.manual_seed` to fix its weights.

    Raises `Diverged` (a ValueError that carries the history) when the loss becomes NaN or
    infinite, and ValueError for data or a checkpoint that do not fit.
    """
    check_split(data.train)
    _check_needs_validation(data, recipe)
    where = _device(device)
    place(model, recipe, where)
    model.labkit_recipe = recipe
    train = data.train.to(where)
    val = data.val.to(where) if data.val is not None else None
    run = _Run(model, data, recipe, where, Path(checkpoint) if checkpoint else None)
    bar = _Bar(recipe.epochs, run.steps, len(run.history.rows), data.name, progress)
    loss_train = loss or partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    loss_val = loss or F.cross_entropy
    history = run.history

    with own_random_numbers(where), bar:
        try:
            while len(history.rows) < recipe.epochs and not history.stopped:
                began = time.perf_counter()
                row = _train_epoch(run, train, loss_train, bar)
                if val is not None:
                    logits = _logits(model, val, run.inputs, None, recipe.bf16)
                    row["val_loss"] = loss_val(logits, val.labels).item()
                    row["val_acc"] = (logits.argmax(1) == val.labels).sum().item() / len(val)
                if isinstance(run.scheduler, lr_scheduler.ReduceLROnPlateau):
                    run.scheduler.step(row["val_loss"])
                row["seconds"] = time.perf_counter() - began
                run.finish_epoch(row)
                run.save()
                bar.show(row)
                if on_epoch and on_epoch(history):
                    history.stopped = f"Stopped by on_epoch after epoch {row['epoch']}"
        except KeyboardInterrupt:
            history.stopped = f"Interrupted in epoch {len(history.rows) + 1}"
        finally:
            run.restore_best()
    return history


def place(model: nn.Module, recipe: Recipe, where: torch.device) -> nn.Module:
    """The model itself, moved to the device, its weights in the recipe's memory format."""
    model.to(where)
    return model.to(memory_format=torch.channels_last) if recipe.channels_last else model


def _train_epoch(run: "_Run", train: Split, loss_function, bar: "_Bar") -> dict:
    """One pass over the training images; the loss and the accuracy on the way."""
    model, recipe, where = run.model, run.recipe, run.where
    epoch = len(run.history.rows) + 1
    generator = run.seed_epoch(epoch)
    losses, predictions, labels = [], [], []

    model.train()
    for x, y in batches(train, recipe, run.inputs, generator):
        with autocast(where, recipe.bf16):
            logits = model(x)
        if not losses:
            _check_logits(logits, train)
        loss = loss_function(logits.float(), y)
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        lr = run.optimizer.param_groups[0]["lr"]
        if not isinstance(run.scheduler, lr_scheduler.ReduceLROnPlateau):
            run.scheduler.step()
        losses.append(loss.detach())
        predictions.append(logits.detach().argmax(1))
        labels.append(y)
        bar.step()

    # The only place in the epoch that waits for the device.
    losses = torch.stack(losses).cpu()
    if not losses.isfinite().all():
        bad = int((~losses.isfinite()).nonzero()[0])
        raise Diverged(
            f"The loss became {losses[bad].item()} at step {(epoch - 1) * run.steps + bad + 1} "
            f"(epoch {epoch}, batch {bad + 1} of {run.steps}): try a smaller lr than {recipe.lr}, "
            "and check the inputs' scale",
            run.history,
        )
    sizes = torch.tensor([len(y) for y in labels], dtype=torch.float64)
    hits = (torch.cat(predictions) == torch.cat(labels)).sum()
    return {
        "epoch": epoch,
        "train_loss": ((losses.double() * sizes).sum() / sizes.sum()).item(),
        "train_acc": hits.item() / int(sizes.sum()),
        "lr": lr,
    }


class _Run:
    """The state of a run: what a checkpoint must hold, and how it is saved and restored."""

    FORMAT = 1

    def __init__(self, model, data: Splits, recipe: Recipe, where: torch.device, path: Path | None):
        self.model, self.recipe, self.where, self.path = model, recipe, where, path
        self.steps = steps_in_epoch(len(data.train), recipe.batch_size)
        self.inputs = Inputs(data.train, recipe, where)
        self.optimizer = build_optimizer(model, recipe)
        self.scheduler = recipe.schedule.build(self.optimizer, recipe.epochs, self.steps)
        self.generator = torch.Generator(where)
        self.history = History(recipe, data.name, data.fingerprint, device_name(where))
        self.best_weights = None
        if path is not None and path.exists():
            self._resume()

    def seed_epoch(self, epoch: int) -> torch.Generator:
        """Fresh random numbers that depend on the seed and the epoch alone, so that a
        resumed run needs no generator's state."""
        seed = self.recipe.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        return self.generator.manual_seed(seed)

    def finish_epoch(self, row: dict) -> None:
        """Note the epoch, keep its weights if they are the best, stop if none was for long."""
        history, recipe = self.history, self.recipe
        history.rows.append(row)
        if recipe.keep == "best" and "val_acc" in row and history.best is row:
            self.best_weights = copy.deepcopy(self.model.state_dict())
        waited = row["epoch"] - history.best["epoch"]
        if recipe.early_stopping and waited >= recipe.early_stopping:
            history.stopped = f"No better validation accuracy for {waited} epochs"

    def restore_best(self) -> None:
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def save(self) -> None:
        """Write the checkpoint beside its place, then rename: a kill leaves the old or the new."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + f".{os.getpid()}.partial")
        torch.save(
            {
                "format": self.FORMAT,
                "identity": self._identity(),
                "rows": self.history.rows,
                "stopped": self.history.stopped,
                "model": self.model.state_dict(),
                "best": self.best_weights,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
            },
            partial,
        )
        os.replace(partial, self.path)

    def _identity(self) -> dict:
        """What must be equal for a run to go on: anything else would mix two runs."""
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        return {
            "recipe": self.recipe.to_dict(),
            "data": self.history.data,
            "fingerprint": self.history.fingerprint,
            "model": type(self.model).__name__,
            "shapes": shapes,
        }

    def _resume(self) -> None:
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            if saved["format"] != self.FORMAT:
                raise ValueError
            identity = saved["identity"]
        except Exception:
            raise ValueError(
                f"{self.path} is no checkpoint that fit can read: delete it to start anew, "
                "or name another file"
            ) from None
        mine = self._identity()
        for part, value in mine.items():
            if _plain(identity.get(part)) != _plain(value):
                raise ValueError(
                    f"{self.path} belongs to another run (its {part} differs): delete it to start "
                    "anew, or name another file"
                )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.best_weights = saved["best"]
        self.history.rows = saved["rows"]
        self.history.stopped = saved["stopped"]


def _plain(value):
    """Tuples as lists, so that what went through a file compares equal."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check_needs_validation(data: Splits, recipe: Recipe) -> None:
    if data.val is not None:
        return check_split(data.val)
    for name, needs in (
        ("schedule", isinstance(recipe.schedule, Plateau)),
        ("early_stopping", recipe.early_stopping is not None),
    ):
        if needs:
            raise ValueError(
                f"Recipe({name}={getattr(recipe, name)!r}) needs a validation set: load "
                f"{data.name} with val_fraction above 0"
            )
    return None


@contextmanager
def own_random_numbers(where: torch.device):
    """Leave torch's global generators as they are, and make CUDA repeat itself."""
    indices = [torch.cuda.current_device()] if where.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=indices),
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, deterministic=True),
    ):
        yield


class _Bar:
    """A text progress bar on stderr: steps while they run, loss and accuracy an epoch."""

    def __init__(self, epochs: int, steps: int, done: int, name: str, shown: bool):
        self.epochs = epochs
        self.bar = tqdm(
            total=epochs * steps,
            initial=done * steps,
            desc=name,
            unit="batch",
            disable=not shown,
            mininterval=0.5,
            bar_format="{desc} {bar:20} {elapsed}<{remaining}{postfix}",
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def step(self) -> None:
        self.bar.update()

    def show(self, row: dict) -> None:
        text = f"epoch {row['epoch']}/{self.epochs}: loss {row['train_loss']:.3f}"
        text += f", accuracy {row['train_acc']:.3f}"
        if "val_acc" in row:
            text += f", validation {row['val_acc']:.3f}"
        self.bar.set_postfix_str(text)
