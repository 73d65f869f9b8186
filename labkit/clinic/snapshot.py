"""A diagnosis changes nothing: remember everything that it could touch, and bring it back."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def untouched(model: nn.Module, optimizer=None, loaders=(), loss=None) -> Iterator[Callable]:
    """Whatever happens inside, afterwards all is as before, also after an error.

    That is: parameters and which of them are frozen, buffers, plain tensor attributes, gradients,
    modes and hooks of every module, also of a loss that is one; the optimiser's state, the random
    state of torch, NumPy and Python, and the generators of data loaders. Objects keep their
    identity. Gives a function that brings all back in between.
    """
    memo: dict[int, Callable] = {}
    modules = [*model.modules(), *(loss.modules() if isinstance(loss, nn.Module) else ())]
    backs = [_keep(vars(module), memo) for module in modules]
    if optimizer is not None:
        backs.append(_keep(vars(optimizer), memo))
    backs += [_keep_generator(generator) for generator in _generators(loaders)]
    backs.append(_keep_random())

    def restore() -> None:
        for back in backs:
            back()

    try:
        yield restore
    finally:
        restore()


def _keep(value, memo: dict[int, Callable]) -> Callable:
    """A function that brings `value` back to what it holds now, and returns it."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, Tensor):
        back = _keep_tensor(value)
    elif isinstance(value, np.ndarray):
        back = _keep_array(value)
    elif isinstance(value, torch.Generator):
        back = _keep_generator(value)
    elif isinstance(value, dict):
        back = _keep_dict(value, memo)
    elif isinstance(value, list):
        back = _keep_list(value, memo)
    else:
        return lambda: value
    memo[id(value)] = back
    return back


def _keep_tensor(tensor: Tensor) -> Callable:
    held, data = tensor.data, tensor.detach().clone()
    grad, trained = (tensor.grad if tensor.is_leaf else None), tensor.requires_grad
    back_grad = None if grad is None else _keep_tensor(grad)

    def back() -> Tensor:
        if tensor.is_leaf and tensor.grad is not grad:
            tensor.grad = None
        # Through .data, so that a graph which the user holds does not see a change in place.
        if _kind(tensor) != _kind(data):  # somebody's loop called model.double(), or .to("cuda")
            tensor.data = held
        if not torch.equal(tensor.data, data):
            tensor.data.copy_(data)
        if grad is not None:
            tensor.grad = back_grad()
        if tensor.is_leaf and tensor.requires_grad != trained:
            tensor.requires_grad_(trained)
        return tensor

    return back


def _kind(tensor: Tensor) -> tuple:
    return tensor.dtype, tensor.device, tensor.shape


def _keep_array(array: np.ndarray) -> Callable:
    data = array.copy()

    def back() -> np.ndarray:
        if array.flags.writeable:
            array[...] = data
        return array

    return back


def _keep_dict(values: dict, memo: dict[int, Callable]) -> Callable:
    items = [(key, _keep(value, memo)) for key, value in values.items()]

    def back() -> dict:
        before = {key: restore() for key, restore in items}
        values.clear()
        values.update(before)
        return values

    return back


def _keep_list(values: list, memo: dict[int, Callable]) -> Callable:
    items = [_keep(value, memo) for value in values]

    def back() -> list:
        values[:] = [restore() for restore in items]
        return values

    return back


def _generators(loaders) -> list[torch.Generator]:
    """The generators that data loaders and their samplers draw from."""
    found = []
    for loader in loaders:
        batches = getattr(loader, "batch_sampler", None)
        parts = (getattr(loader, name, None) for name in ("sampler", "dataset"))
        for holder in (loader, *parts, batches, getattr(batches, "sampler", None)):
            attributes = getattr(holder, "__dict__", {})
            found += [value for value in attributes.values() if isinstance(value, torch.Generator)]
    return found


def _keep_generator(generator: torch.Generator) -> Callable:
    state = generator.get_state()

    def back() -> torch.Generator:
        generator.set_state(state)
        return generator

    return back


def _keep_random() -> Callable:
    """The global random state of Python, NumPy and torch, on every device that is in use."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def back() -> None:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return back
