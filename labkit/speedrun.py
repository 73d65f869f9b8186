"""The stopwatch of lab 12: how many seconds of training until a network is right often enough.

`timed` trains like `fit`, but it reads the validation accuracy every few steps, while its clock
stands still. `seconds_to` then asks its curve when a target was reached. What feeds the training
step is an argument, so that the loop of every tutorial can be timed beside ours.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from labkit import augment, train
from labkit.data import Split, Splits, import_torchvision
from labkit.settings import is_whole
from labkit.train import History, Inputs, Recipe

# ------------------------------------------------------------------------------- two feeds


class Pictures(Dataset):
    """Images as torchvision's data sets give them: one PIL image at a time, then transformed.

    The transforms are torchvision's for `recipe.augment` (crop, flip and rotation), then
    ToTensor and, unless the recipe leaves it out, Normalize.
    """

    def __init__(self, split: Split, recipe: Recipe):
        transforms = import_torchvision().transforms
        size = tuple(split.images.shape[2:])
        steps = [_per_image(transforms, one, size) for one in recipe.augment]
        steps.append(transforms.ToTensor())
        if recipe.normalize == "train":
            steps.append(transforms.Normalize(split.mean, split.std))
        self.transform = transforms.Compose(steps)
        self.arrays = split.images.permute(0, 2, 3, 1).cpu().numpy()
        self.labels = split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index].squeeze())), self.labels[index]


def _per_image(transforms, one, size: tuple[int, int]):
    """torchvision's transform for one of ours."""
    match one:
        case augment.Crop():
            return transforms.RandomCrop(size, padding=one.padding)
        case augment.Flip():
            return transforms.RandomHorizontalFlip(one.p)
        case augment.Rotation():
            return transforms.RandomRotation(one.degrees)
    raise ValueError(f"Pictures knows crop, flip and rotation, not {one!r}: leave it out")


def from_loader(
    split: Split, recipe: Recipe, inputs: Inputs, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of a DataLoader over `Pictures`, as tutorials have it."""
    where = split.images.device
    order = torch.Generator().manual_seed(recipe.seed)
    batch_size = min(recipe.batch_size, len(split))
    options = {"shuffle": True, "drop_last": True, "generator": order}
    loader = DataLoader(Pictures(split, recipe), batch_size, **options)
    while True:
        for x, y in loader:
            yield x.to(where), y.to(where)


FEEDS = {"loader": from_loader, "memory": train.endless_batches}

# --------------------------------------------------------------------------- the stopwatch


def timed(
    model: nn.Module,
    data: Splits,
    recipe: Recipe,
    *,
    steps: int | None = None,
    every: int = 25,
    stop_at: float = math.inf,
    feed: str = "memory",
    average: float = 0.0,
    compiled: bool = False,
    device: str | torch.device | None = None,
    on_reading: Callable[[History], bool | None] | None = None,
) -> History:
    """Train `model` in place, and validate after each `every` steps.

    It trains for `steps`, by default for the recipe's epochs, and the schedule is drawn out or
    together to that length. `keep` and `early_stopping` do not count: the run ends after a reading
    of `stop_at` or more, and the model ends with the weights that were validated last.

    A row of the history is a reading: step, epoch (a fraction), train_loss (mean since the last
    reading), val_loss, val_acc, lr, and seconds: of training since the last reading. Validation
    is not on the clock. The first step is, with all that it sets up, compilation included.

    feed: "memory", whole batches out of tensors, or "loader", torchvision's transforms in a
        DataLoader.
    average: above 0 it validates a running mean of the weights, in which each step has the weight
        1 - `average`.
    compiled: put the network through torch.compile.
    on_reading: called with the history so far; ends the run by returning True.

    Raises `train.Diverged` when the loss is no longer finite, and ValueError for a model, data or a
    recipe that do not fit, an unknown feed, a number that can't be meant, and the schedule
    `Plateau`, which waits for the end of an epoch.
    """
    train.check_arguments("timed", model, data, recipe)
    train.check_split(data.val)
    per_epoch = train.steps_in_epoch(len(data.train), recipe.batch_size)
    steps = recipe.epochs * per_epoch if steps is None else steps
    _check(recipe, steps, every, feed, average)
    where = train.device(device)
    train.place(model, recipe, where)
    split, val = data.train.to(where), data.val.to(where)
    inputs = Inputs(split, recipe, where)
    optimizer = train.build_optimizer(model, recipe)
    scheduler = recipe.schedule.build(optimizer, recipe.epochs, steps / recipe.epochs)
    history = History(recipe, data.name, data.fingerprint, train.device_name(where))
    averaged = _averaged(model, average) if average else None
    network = torch.compile(model) if compiled else model

    with train.own_random_numbers(where):
        train.seed(where, recipe.seed)
        generator = torch.Generator(where).manual_seed(recipe.seed)
        stream = FEEDS[feed](split, recipe, inputs, generator)
        losses = []
        model.train()
        began = time.perf_counter()
        for step in range(1, steps + 1):
            x, y = next(stream)
            with train.autocast(where, recipe.bf16):
                logits = network(x)
            if step == 1:
                train.check_logits(logits, split)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lr = scheduler.get_last_lr()[0]
            scheduler.step()
            if averaged is not None:
                averaged.update_parameters(model)
            losses.append(loss.detach())
            if step % every and step < steps:
                continue
            train_loss = torch.stack(losses).mean().item()  # waits for the device
            seconds = time.perf_counter() - began
            if not math.isfinite(train_loss):
                raise train.Diverged(
                    f"The mean training loss was {train_loss} at the reading of step {step}: try a "
                    f"smaller lr than {recipe.lr}",
                    history,
                )
            found = train.evaluate(averaged.module if averaged else model, val, recipe=recipe)
            history.rows.append(
                {
                    "epoch": step * min(recipe.batch_size, len(split)) / len(split),
                    "step": step,
                    "train_loss": train_loss,
                    "lr": lr,
                    "val_loss": found.loss,
                    "val_acc": found.accuracy,
                    "seconds": seconds,
                }
            )
            if found.accuracy >= stop_at or (on_reading and on_reading(history)):
                history.stopped = f"Stopped after step {step} of {steps}"
                break
            losses = []
            began = time.perf_counter()
    if averaged is not None:
        model.load_state_dict(averaged.module.state_dict())
    model.labkit_recipe = recipe
    return history


def _check(recipe: Recipe, steps: int, every: int, feed: str, average: float) -> None:
    for name, value in (("steps", steps), ("every", every)):
        if not is_whole(value) or value < 1:
            raise ValueError(f"timed({name}={value!r}): give a whole number of steps, 1 or more")
    if feed not in FEEDS:
        raise ValueError(f"timed(feed={feed!r}): give one of {', '.join(FEEDS)}")
    if not 0 <= average < 1:
        raise ValueError(f"timed(average={average!r}): give a number from 0 up to, but not with, 1")
    if isinstance(recipe.schedule, train.Plateau):
        raise ValueError(
            "timed has no epochs for Recipe(schedule=Plateau()): give another schedule"
        )


def _averaged(model: nn.Module, weight: float) -> AveragedModel:
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(weight), use_buffers=True)


# ----------------------------------------------------------------------------- what it says


def seconds_to(curve: pd.DataFrame, target: float) -> float:
    """Seconds of training until the validation accuracy was `target` for the first time.

    curve: a row a reading, in their order, as of `History.frame()`. Between two readings the
    accuracy is taken as a straight line, and before the first one as rising from 0. NaN if the
    target was never reached. Raises ValueError unless 0 < target <= 1.
    """
    if not 0 < target <= 1:
        raise ValueError(f"seconds_to(target={target!r}): give a fraction above 0 and up to 1")
    return _first(curve["seconds"].cumsum(), curve["val_acc"], target)


def _first(progress: pd.Series, accuracy: pd.Series, target: float) -> float:
    """The progress at which the accuracy was first the target, on a line from reading to reading;
    both begin at 0. NaN if it never was."""
    progress, accuracy = np.append(0.0, progress), np.append(0.0, accuracy)
    reached = np.flatnonzero(accuracy >= target)
    if not len(reached):
        return float("nan")
    after = reached[0]
    share = (target - accuracy[after - 1]) / (accuracy[after] - accuracy[after - 1])
    return float(progress[after - 1] + share * (progress[after] - progress[after - 1]))


def to_target(curves: pd.DataFrame, target: float) -> pd.DataFrame:
    """When each run reached the target: a row a run, in the order of the curves.

    curves: a row a reading, with the columns change and seed, as `Study.curves()` of a speed run.
    Columns: change, seed, seconds of training and epochs until the target; NaN in a run that never
    reached it.
    """
    rows = []
    for (change, seed), curve in curves.groupby(["change", "seed"], sort=False):
        seconds, epochs = (
            seconds_to(curve, target),
            _first(curve["epoch"], curve["val_acc"], target),
        )
        rows.append({"change": change, "seed": seed, "seconds": seconds, "epochs": epochs})
    return pd.DataFrame(rows, columns=["change", "seed", "seconds", "epochs"])
