"""From uint8 images in memory to the batches that a model is fed."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from labkit import augment
from labkit.data import Split, Splits
from labkit.train import devices
from labkit.train.recipe import Recipe


class Inputs:
    """From uint8 pixels to what a model is fed: (x / 255 - mean) / std, a channel at a time."""

    def __init__(self, split: Split, recipe: Recipe, where: torch.device):
        normalize = recipe.normalize == "train"
        mean = torch.tensor(split.mean if normalize else [0.0] * len(split.mean))
        std = torch.tensor(split.std if normalize else [1.0] * len(split.std))
        self.scale = (1 / (255 * std)).view(-1, 1, 1).to(where)
        self.shift = (-mean / std).view(-1, 1, 1).to(where)
        self.memory_format = devices.memory_format(recipe, where)

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


def check_arguments(function: str, model, data, recipe) -> None:
    """Raises ValueError unless these are a model, data with a training part, and a recipe."""
    check_model(function, model)
    if not isinstance(data, Splits):
        raise ValueError(
            f"{function} got a {type(data).__name__} for data: give what labkit.load returns, in "
            f"the order {function}(model, data, recipe)"
        )
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"{function} got a {type(recipe).__name__} for a recipe: give labkit.Recipe(epochs=10)"
        )
    check_split(data.train)


def check_model(function: str, model) -> None:
    """Raises ValueError for what is no model, such as its class, or has layers without a shape."""
    if isinstance(model, nn.Module):
        return check_has_shapes(model, f"{function}: ")
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise ValueError(
            f"{function} got the class {model.__name__} for a model: make one of it, "
            f"{model.__name__}(...)"
        )
    raise ValueError(f"{function} got a {type(model).__name__} for a model: give a torch.nn.Module")


def check_has_shapes(model: nn.Module, who: str = "") -> None:
    """Raises ValueError, which begins with `who`, for a layer that waits for its first batch."""
    for name, p in model.named_parameters():
        if is_lazy(p):
            raise ValueError(
                f"{who}{name} has no shape yet, its layer is lazy: run one batch through the model "
                "first, model(x)"
            )


def check_split(split: Split | None) -> None:
    """Raises ValueError where there is no image."""
    if split is not None and not isinstance(split, Split):
        raise ValueError(
            f"A {type(split).__name__} is no part of the data: give data.train, data.val or "
            "data.test"
        )
    if split is None or not len(split):
        name = "the split" if split is None else split.name
        raise ValueError(
            f"There is no image in {name}: load the data with a larger val_fraction or limit"
        )
