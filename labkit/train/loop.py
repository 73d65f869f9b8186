"""The training loop: it reads from top to bottom in `fit`.

The images stay on the device, batches are indexed out of them and augmented there, and losses
are read once an epoch, so that nothing in a training step waits for the device.
"""

import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from labkit.data import Split, Splits
from labkit.train import devices
from labkit.train.checkpoint import Run
from labkit.train.evaluation import check_logits, logits_of
from labkit.train.history import Diverged, History
from labkit.train.inputs import batches, check_arguments, check_split
from labkit.train.recipe import Constant, Plateau, Recipe


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
    with the recipe's label smoothing; validation is measured without smoothing. A loss that is
    a module, such as `nn.CrossEntropyLoss(weight=...)`, is moved to the device, too.
    `checkpoint` names a file that is rewritten after each epoch: if it is there, the run
    goes on from it, to the same numbers as a run that was never interrupted. `on_epoch` is
    called with the history so far, and ends the run by returning True; with the same checkpoint
    the next call goes on from there. The stop button (KeyboardInterrupt) ends the run and returns
    what there is; where no best epoch is kept, the weights are then those of the step at which it
    was pressed.

    The random numbers of a run depend on `recipe.seed` alone, and torch's global generator
    is afterwards as it was. Build the model after `torch.manual_seed` to fix its weights.

    Raises `Diverged` (a ValueError that carries the history) when a loss becomes NaN or
    infinite, and ValueError for a model, data, a recipe or a checkpoint that do not fit.
    """
    check_arguments("fit", model, data, recipe)
    _check_needs_validation(data, recipe)
    where = devices.device(device)
    devices.place(model, recipe, where)
    if isinstance(loss, nn.Module):
        loss.to(where)
    train = data.train.to(where)
    val = data.val.to(where) if data.val is not None else None
    run = Run(model, data, recipe, where, Path(checkpoint) if checkpoint else None, loss)
    model.labkit_recipe = recipe
    bar = _Bar(recipe.epochs, run.steps, len(run.history.rows), data.name, progress)
    loss_train = loss or partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    loss_val = loss or F.cross_entropy
    history = run.history

    with devices.own_random_numbers(where), bar:
        try:
            while len(history.rows) < recipe.epochs and not history.stopped:
                began = time.perf_counter()
                row = _train_epoch(run, train, loss_train, bar)
                if val is not None:
                    logits = logits_of(model, val, run.inputs, None, recipe.bf16)
                    row["val_loss"] = loss_val(logits, val.labels).item()
                    if not math.isfinite(row["val_loss"]):
                        raise Diverged(
                            f"The validation loss became {row['val_loss']} after epoch "
                            f"{row['epoch']}: try a smaller lr than {recipe.lr}, and check the "
                            "inputs' scale",
                            history,
                        )
                    row["val_acc"] = (logits.argmax(1) == val.labels).sum().item() / len(val)
                if isinstance(recipe.schedule, Plateau):
                    run.scheduler.step(row["val_loss"])
                row["seconds"] = time.perf_counter() - began
                run.finish_epoch(row)
                run.save()
                bar.show(row)
                if on_epoch and on_epoch(history):
                    history.stopped = f"Stopped by on_epoch after epoch {row['epoch']}"
        except KeyboardInterrupt:
            history.stopped = f"Interrupted in epoch {len(history.rows) + 1}"
            history.interrupted = True
        finally:
            run.restore_best()
    return history


def _train_epoch(run: "Run", train: Split, loss_function, bar: "_Bar") -> dict:
    """One pass over the training images; the loss and the accuracy on the way."""
    model, recipe, where = run.model, run.recipe, run.where
    epoch = len(run.history.rows) + 1
    generator = run.seed_epoch(epoch)
    losses, outputs, labels = [], [], []
    lr_each_step = not isinstance(recipe.schedule, Constant | Plateau)

    model.train()
    for x, y in batches(train, recipe, run.inputs, generator):
        with devices.autocast(where, recipe.bf16):
            logits = model(x)
        if not losses:
            check_logits(logits, train)
        loss = loss_function(logits.float(), y)
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        lr = run.optimizer.param_groups[0]["lr"]
        if lr_each_step:
            run.scheduler.step()
        losses.append(loss.detach())
        outputs.append(logits.detach())
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
    hits = (torch.cat(outputs).argmax(1) == torch.cat(labels)).sum()
    return {
        "epoch": epoch,
        "train_loss": ((losses.double() * sizes).sum() / sizes.sum()).item(),
        "train_acc": hits.item() / int(sizes.sum()),
        "lr": lr,
    }


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
