"""Where a model is trained, in which precision, and with whose random numbers."""

from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from labkit.train.recipe import Recipe


def device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best one here: CUDA, else MPS, else the CPU.

    Raises ValueError for one that this machine does not have.
    """
    if name is not None:
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError):
            raise ValueError(
                f"There is no device {str(name)!r} here: give cpu, cuda or mps, or leave it out"
            ) from None
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(where: torch.device) -> str:
    return torch.cuda.get_device_name(where) if where.type == "cuda" else where.type


def place(model: nn.Module, recipe: Recipe, where: torch.device) -> nn.Module:
    """The model itself, moved to the device, its weights in the recipe's memory format."""
    model.to(where)
    return model.to(memory_format=memory_format(recipe, where))


def memory_format(recipe: Recipe, where: torch.device) -> torch.memory_format:
    """channels_last where the recipe says so, except on MPS: gradients are wrong there with it
    (pytorch issue 175189), or the process ends (175190)."""
    last = recipe.channels_last and where.type != "mps"
    return torch.channels_last if last else torch.contiguous_format


def autocast(where: torch.device, bf16: bool):
    """Where bf16 is on, layers compute in it; weights and losses stay float32."""
    return torch.autocast(where.type, dtype=torch.bfloat16) if bf16 else nullcontext()


@contextmanager
def own_random_numbers(where: torch.device):
    """Leave torch's global generators as they are, and make CUDA repeat itself."""
    indices = []
    if where.type == "cuda":
        indices = [torch.cuda.current_device() if where.index is None else where.index]
    mps = torch.mps.get_rng_state() if where.type == "mps" else None  # fork_rng leaves it out
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    with torch.random.fork_rng(devices=indices):
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before
            if mps is not None:
                torch.mps.set_rng_state(mps)


def seed(where: torch.device, value: int) -> None:
    """Seed the CPU's generator and this device's; `torch.manual_seed` would seed all others."""
    torch.default_generator.manual_seed(value)
    if where.type == "cuda":
        with torch.cuda.device(where):
            torch.cuda.manual_seed(value)
    elif where.type == "mps":
        torch.mps.manual_seed(value)
