"""Everything that decides a run but the model and the data: `Recipe` and its schedules."""

import math
from dataclasses import asdict, dataclass, field, fields

import torch
from torch import nn
from torch.optim import lr_scheduler

from labkit import augment
from labkit.settings import as_plain_numbers, check, is_number, is_whole

# --------------------------------------------------------------------------- schedules


@dataclass(frozen=True)
class Constant:
    """The learning rate never changes."""

    def build(self, optimizer, epochs: int, steps: float):
        return lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


@dataclass(frozen=True)
class Step:
    """Multiply the learning rate by `factor` after each `every` epochs."""

    every: int
    factor: float = 0.1

    def __post_init__(self):
        as_plain_numbers(self)
        check(self, "every", is_whole(self.every) and self.every > 0, "whole epochs, 1 or more")
        check(self, "factor", is_number(self.factor) and self.factor > 0, "a number above 0")

    def build(self, optimizer, epochs: int, steps: float):
        return lr_scheduler.StepLR(optimizer, max(round(self.every * steps), 1), self.factor)


@dataclass(frozen=True)
class Plateau:
    """Multiply by `factor` once the validation loss has not fallen for more than `patience`
    epochs."""

    factor: float = 0.5
    patience: int = 2

    def __post_init__(self):
        as_plain_numbers(self)
        inside = is_number(self.factor) and 0 < self.factor < 1
        check(self, "factor", inside, "a number between 0 and 1")
        waits = is_whole(self.patience) and self.patience >= 0
        check(self, "patience", waits, "whole epochs, 0 or more")

    def build(self, optimizer, epochs: int, steps: float):
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience)


@dataclass(frozen=True)
class Cosine:
    """Fall to zero along half a cosine, after `warmup` epochs of linear rise.

    Source: Loshchilov & Hutter 2017, SGDR, equation 5 without restarts.
    """

    warmup: float = 0.0

    def __post_init__(self):
        as_plain_numbers(self)
        known = is_number(self.warmup) and 0 <= self.warmup < math.inf
        check(self, "warmup", known, "a number of epochs, 0 or more")

    def build(self, optimizer, epochs: int, steps: float):
        total, rise = epochs * steps, self.warmup * steps

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))

        return lr_scheduler.LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class OneCycle:
    """Rise to the recipe's `lr`, then fall to nearly zero, both along cosines, while the
    momentum (Adam's first beta) goes from 0.95 to 0.85 and back, whatever the recipe's is.
    Source: Smith & Topin 2018, Super-Convergence."""

    rise: float = 0.3

    def __post_init__(self):
        as_plain_numbers(self)
        share = is_number(self.rise) and 0 <= self.rise < 1
        check(self, "rise", share, "a share of the run, from 0 up to, but not including, 1")

    def build(self, optimizer, epochs: int, steps: float):
        lr, total = optimizer.param_groups[0]["lr"], round(epochs * steps)
        # torch takes no whole number, and would divide by zero where the rise is a single step.
        rise = 0.0 if self.rise * total == 1 else float(self.rise)
        return lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=total, pct_start=rise)


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
    (`momentum` counts for SGD only, and not with `OneCycle`). `schedule` is one of
    `Constant`, `Step`, `Plateau`, `Cosine`, `OneCycle`. `augment` names what is done to
    training images, see `labkit.augment`. `normalize="train"` subtracts the training set's
    mean and divides by its standard deviation, channel by channel; `"none"` only scales
    pixels to [0, 1].
    `early_stopping=5` ends the run after 5 epochs without a new best validation accuracy.
    `keep` says whose weights the model ends with: those of the `"best"` epoch by
    validation accuracy, or of the `"last"`. `channels_last` makes a GPU faster, and is
    passed over on MPS, where torch's gradients are wrong with it. `bf16` makes a GPU of NVIDIA
    faster from Ampere on; those before, such as Colab's T4, only imitate it.
    `fused` lets torch update each weight in a single pass, on a CPU and with CUDA: the same
    step, but Adam's is rounded otherwise.

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
    fused: bool = True
    seed: int = 0

    def __post_init__(self):
        as_plain_numbers(self)
        object.__setattr__(self, "augment", augment.build(self.augment))
        for name in ("epochs", "batch_size", "early_stopping"):
            value = getattr(self, name)
            if name == "early_stopping" and value is None:
                continue
            check(self, name, is_whole(value) and value > 0, "a whole number, 1 or more")
        seeds = is_whole(self.seed) and 0 <= self.seed < _MOST_SEEDS
        check(self, "seed", seeds, f"a whole number from 0 up to, but not including, {_MOST_SEEDS}")
        check(self, "lr", is_number(self.lr) and 0 < self.lr < math.inf, "a number above 0")
        decays = is_number(self.weight_decay) and 0 <= self.weight_decay < math.inf
        check(self, "weight_decay", decays, "a number, 0 or more")
        for name in ("momentum", "label_smoothing"):
            value = getattr(self, name)
            inside = is_number(value) and 0 <= value < 1
            check(self, name, inside, "a number from 0 up to, but not including, 1")
        known = isinstance(self.schedule, tuple(SCHEDULES.values()))
        check(self, "schedule", known, "labkit.Constant(), Step, Plateau, Cosine or OneCycle")
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("normalize", ("train", "none")),
            ("keep", ("best", "last")),
        ):
            check(self, name, getattr(self, name) in choices, " or ".join(map(repr, choices)))
        can = not self.nesterov or (self.optimizer == "sgd" and self.momentum > 0)
        check(self, "nesterov", can, 'optimizer="sgd" and a momentum above 0 with it')

    def to_dict(self) -> dict:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        name = next(name for name, kind in SCHEDULES.items() if type(self.schedule) is kind)
        values["schedule"] = {"name": name, **asdict(self.schedule)}
        values["augment"] = [augment.to_dict(transform) for transform in self.augment]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The recipe that `to_dict` wrote down, also before `fused` was there."""
        schedule = dict(values["schedule"])
        schedule = SCHEDULES[schedule.pop("name")](**schedule)
        return cls(**{"fused": False, **values, "schedule": schedule})


_MOST_SEEDS = 2**40  # seeds are multiplied by a million, and torch takes 64 bits


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser. Raises ValueError for a model with nothing to train."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"{type(model).__name__} has no trainable parameter: build its layers in __init__, "
            "or set requires_grad=True on those that fit should change"
        )
    fused = recipe.fused and parameters[0].device.type in ("cpu", "cuda")
    common = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    # None and not False, which would switch off foreach, too: torch's default with CUDA.
    common["fused"] = fused or None
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, momentum=recipe.momentum, nesterov=recipe.nesterov, **common
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(parameters, **common)
