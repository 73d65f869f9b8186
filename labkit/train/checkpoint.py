"""The state of a run: what a checkpoint must hold, and how it is saved and restored."""

import copy
import glob
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from labkit.data import Splits
from labkit.train import devices
from labkit.train.history import History
from labkit.train.inputs import Inputs, steps_in_epoch
from labkit.train.recipe import Recipe, build_optimizer


class Run:
    """The state of a run: what a checkpoint must hold, and how it is saved and restored."""

    FORMAT = 2

    def __init__(
        self,
        model,
        data: Splits,
        recipe: Recipe,
        where: torch.device,
        path: Path | None,
        loss=None,
    ):
        self.model, self.recipe, self.where, self.path = model, recipe, where, path
        self.steps = steps_in_epoch(len(data.train), recipe.batch_size)
        self.inputs = Inputs(data.train, recipe, where)
        self.optimizer = build_optimizer(model, recipe)
        self.scheduler = recipe.schedule.build(self.optimizer, recipe.epochs, self.steps)
        self.generator = torch.Generator(where)
        self.history = History(recipe, data.name, data.fingerprint, devices.device_name(where))
        self.best_weights = None
        # The fingerprint is the same for every seed and val_fraction; these numbers are not.
        val = 0 if data.val is None else len(data.val)
        self.split = [len(data.train), val, *data.mean, *data.std]
        self.loss = _identity_of(loss)
        if path is not None:
            self._clear_partials()
            if path.exists():
                self._resume()

    def seed_epoch(self, epoch: int) -> torch.Generator:
        """Fresh random numbers that depend on the seed and the epoch alone, so that a
        resumed run needs no generator's state."""
        seed = self.recipe.seed * 1_000_003 + epoch
        devices.seed(self.where, seed)
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
        partial = self.path.with_name(self.path.name + f".{os.getpid()}.partial")
        state = {
            "format": self.FORMAT,
            "identity": self._identity(),
            "rows": self.history.rows,
            "stopped": self.history.stopped,
            "model": self.model.state_dict(),
            "best": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        for again in (True, False):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.save(state, partial)
                os.replace(partial, self.path)
                break
            except FileNotFoundError:  # another process took it for what a kill had left
                if not again:
                    raise
            finally:
                partial.unlink(missing_ok=True)

    def _clear_partials(self) -> None:
        """Delete what a killed process had half written."""
        for half in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.partial"):
            with suppress(OSError):
                half.unlink()

    def _identity(self) -> dict:
        """What must be equal for a run to go on: anything else would mix two runs."""
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        return {
            "recipe": self.recipe.to_dict(),
            "data": self.history.data,
            "fingerprint": self.history.fingerprint,
            "split": self.split,
            "shapes": shapes,
            "model": repr(self.model),
            "loss": self.loss,
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


def _identity_of(loss):
    """What can be told apart of a loss, in plain values: its name and settings. Of a function of
    one's own that is the name alone."""
    loss = loss.item() if isinstance(loss, np.generic) else loss
    if isinstance(loss, nn.Module):
        parts = [(type(m).__name__, _settings(m)) for m in loss.modules()]
        return [*parts, {name: buffer.tolist() for name, buffer in loss.named_buffers()}]
    if isinstance(loss, partial):
        inside = (*loss.args, *sorted(loss.keywords.items()))
        return [_identity_of(loss.func), [_identity_of(value) for value in inside]]
    if isinstance(loss, list | tuple):
        return [_identity_of(value) for value in loss]
    if isinstance(loss, torch.Tensor):
        return loss.tolist()
    if isinstance(loss, str | int | float):
        return loss
    return getattr(loss, "__qualname__", type(loss).__name__)


def _settings(module: nn.Module) -> dict:
    """What torch calls a module's constants: label_smoothing, reduction, ..."""
    kinds = str | int | float | np.generic
    values = {name: getattr(module, name, None) for name in getattr(module, "__constants__", ())}
    return {name: _identity_of(v) for name, v in values.items() if isinstance(v, kinds)}


def _plain(value):
    """Tuples as lists, so that what went through a file compares equal."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
