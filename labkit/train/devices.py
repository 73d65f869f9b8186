"""Where a model is trained, in which precision, and with whose random numbers."""

from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from labkit.train.recipe import Recipe


def device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best one here: CUDA, else MPS, else the CPU."""
    if name is not None:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(where: torch.device) -> str:
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type


def place(model: nn.Module, recipe: Recipe, where: torch.device) -> nn.Module:
    """The model itself, moved to the device, its weights in the recipe's memory format."""
    model.to(where)
    return model.to(memory_format=torch.channels_last) if recipe.channels_last else model


def autocast(where: torch.device, bf16: bool):
    """Where bf16 is on, layers compute in it; weights and losses stay float32."""
    return torch.autocast(where.type, dtype=torch.bfloat16) if bf16 else nullcontext()


@contextmanager
def own_random_numbers(where: torch.device):
    """Leave torch's global generators as they are, and make CUDA repeat itself."""
    indices = [torch.cuda.current_device()] if where.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=indices),
        torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, deterministic=True),
    ):
        yield
