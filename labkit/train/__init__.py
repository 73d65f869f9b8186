"""Train and evaluate a classifier: `Recipe`, `fit`, `History`, `evaluate`, `predict`."""

from labkit.train.devices import autocast, device, device_name, own_random_numbers, place, seed
from labkit.train.evaluation import Evaluation, check_logits, evaluate, predict
from labkit.train.history import Diverged, History, versions
from labkit.train.inputs import (
    Inputs,
    batches,
    check_arguments,
    check_has_shapes,
    check_split,
    endless_batches,
    steps_in_epoch,
)
from labkit.train.loop import fit
from labkit.train.range import lr_range
from labkit.train.reading import read_curves
from labkit.train.recipe import (
    OPTIMIZERS,
    SCHEDULES,
    Constant,
    Cosine,
    OneCycle,
    Plateau,
    Recipe,
    Step,
    build_optimizer,
)

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Constant",
    "Cosine",
    "Diverged",
    "Evaluation",
    "History",
    "Inputs",
    "OneCycle",
    "Plateau",
    "Recipe",
    "Step",
    "autocast",
    "batches",
    "build_optimizer",
    "check_arguments",
    "check_has_shapes",
    "check_logits",
    "check_split",
    "device",
    "device_name",
    "endless_batches",
    "evaluate",
    "fit",
    "lr_range",
    "own_random_numbers",
    "place",
    "predict",
    "read_curves",
    "seed",
    "steps_in_epoch",
    "versions",
]
