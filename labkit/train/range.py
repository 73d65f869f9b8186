"""The learning-rate range test: `labkit.lr_range`."""

import copy
import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from labkit.data import Splits
from labkit.settings import is_whole
from labkit.train import devices
from labkit.train.evaluation import check_logits
from labkit.train.inputs import Inputs, check_arguments, endless_batches
from labkit.train.recipe import Recipe, build_optimizer

_SMOOTHING = 0.9
_FAR_ABOVE = 4.0  # times the lowest loss so far, both smoothed: the rest would not be readable


def lr_range(
    model: nn.Module,
    data: Splits,
    recipe: Recipe,
    low: float = 1e-5,
    high: float = 1.0,
    steps: int = 100,
    *,
    device: str | torch.device | None = None,
) -> pd.DataFrame:
    """The training loss while the learning rate grows from `low` to `high` in `steps` steps.

    It grows by the same factor each step. A copy of the model is trained, with the recipe's
    optimiser, batch size, augmentation and seed; the recipe's lr, schedule and epochs do not
    count, and the model stays as it is.

    One row a step: step (from 1), lr, loss (nats, of that step's batch before its update) and
    smoothed (a running mean of the losses, each new one weighs a tenth). It ends early once
    smoothed is 4 times its smallest value, or a loss is not finite; that row is left out.

    Raises ValueError unless 0 < low < high and steps is 2 or more, and for a model, data or a
    recipe that do not fit.

        table = labkit.lr_range(model, data, recipe)
        table.plot(x="lr", y="smoothed", logx=True)

    Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3; there
    the rise is linear.
    """
    check_arguments("lr_range", model, data, recipe)
    if not 0 < low < high < math.inf or not is_whole(steps) or steps < 2:
        raise ValueError(
            f"lr_range(low={low}, high={high}, steps={steps}): give 0 < low < high and 2 whole "
            "steps or more"
        )
    where = devices.device(device)
    model = devices.place(copy.deepcopy(model), recipe, where).train()
    with devices.own_random_numbers(where):
        rows = _climb(model, data, recipe, low, high, steps, where)
    return pd.DataFrame(rows, columns=["step", "lr", "loss", "smoothed"])


def _climb(model, data: Splits, recipe: Recipe, low, high, steps, where) -> list[tuple]:
    split = data.train.to(where)
    devices.seed(where, recipe.seed)
    generator = torch.Generator(where).manual_seed(recipe.seed)
    stream = endless_batches(split, recipe, Inputs(split, recipe, where), generator)
    optimizer = build_optimizer(model, recipe)
    rows, average, lowest = [], 0.0, math.inf
    for step, (x, y) in enumerate(stream, start=1):
        lr = low * (high / low) ** ((step - 1) / (steps - 1))
        optimizer.param_groups[0]["lr"] = lr
        with devices.autocast(where, recipe.bf16):
            logits = model(x)
        if step == 1:
            check_logits(logits, split)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
        value = loss.item()
        average = _SMOOTHING * average + (1 - _SMOOTHING) * value
        smoothed = average / (1 - _SMOOTHING**step)  # the average began with 0
        if not math.isfinite(value) or smoothed > _FAR_ABOVE * lowest:
            break
        lowest = min(lowest, smoothed)
        rows.append((step, lr, value, smoothed))
        if step == steps:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return rows
