"""What a run measured, epoch by epoch."""

import platform
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from labkit.train.recipe import Recipe


@dataclass
class History:
    """What a run measured, epoch by epoch.

    `rows` holds a dict an epoch: epoch (from 1), train_loss, train_acc (both summed up
    while training, so with dropout and augmentation), val_loss, val_acc, lr, seconds.
    Accuracies are fractions. `stopped` is a sentence if the run ended early, else None, and
    `interrupted` says that the stop button ended it.
    """

    recipe: Recipe
    data: str
    fingerprint: str
    device: str
    rows: list[dict] = field(default_factory=list)
    stopped: str | None = None
    interrupted: bool = False

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

    def __reduce__(self):  # or a worker process can't hand it over
        return type(self), (self.args[0], self.history)
