"""The user's own loops, on a few batches, watched."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch

from labkit.clinic.case import Case
from labkit.clinic.contracts import DEFINITION, is_random_in_train_mode, one_line
from labkit.clinic.report import Finding
from labkit.clinic.watch import watch

_BATCHES = 16  # enough that one gradient in use is not one in two
_PATIENCE = 256  # as many batches are shown to a loop that only adds up gradients


class _Few:
    """The first batches of a loader, as often as somebody asks; more while `go_on()`."""

    def __init__(self, loader: Iterable, count: int, go_on: Callable[[], bool] = lambda: False):
        self.loader, self.count, self.go_on = loader, count, go_on

    def __iter__(self):
        for number, batch in enumerate(islice(iter(self.loader), _PATIENCE)):
            if number >= self.count and not self.go_on():
                return
            yield batch

    def __len__(self) -> int:
        return min(self.count, len(self.loader))

    def __getattr__(self, name: str):
        """What else a loop asks of its loader, `dataset` say."""
        return getattr(self.loader, name)


def training_loop(case: Case, train: Callable) -> Iterator[Finding | str]:
    """`train(model, optimizer, batches)` steps on each gradient, once."""
    optimizer = case.build_optimizer()
    watched = _watch(case, optimizer)
    try:
        with torch.enable_grad(), watched:
            few = _Few(case.data, _BATCHES, go_on=lambda: watched.piling_up)
            train(case.model, optimizer, few)
    except Exception as error:
        yield _raised("train(model, optimizer, batches)", error)
        raise
    names = ["parameters not in the optimiser", "parameters get no gradient", "learning rate is 0"]
    # those were looked for already, by parameters_are_trained
    if watched.piling_up and watched.counts.backwards >= _PATIENCE:
        yield f"training loop: {_PATIENCE} backward passes and no step yet"
        names.append("gradients never used")
    yield from (found for found in watched.report.findings if found.cause not in names)


def evaluation_mode(case: Case, evaluate: Callable) -> Iterator[Finding | str]:
    """While `evaluate(model, batches)` runs, no layer that depends on it is in train mode."""
    case.model.train()  # as a training loop leaves it
    loader = case.data if case.val is None else case.val
    watched = _watch(case)
    try:
        with torch.no_grad(), watched:
            evaluate(case.model, _Few(loader, 2))
    except Exception as error:
        yield _raised("evaluate(model, batches)", error)
        raise
    yield from (found for found in watched.report.findings if "train mode" in found.cause)


def _watch(case: Case, optimizer=None) -> watch:
    watched = watch(case.model, optimizer)
    watched.random = is_random_in_train_mode(case)
    return watched


def _raised(call: str, error: Exception) -> Finding:
    return Finding(
        "training or evaluation loop raises an error",
        "contract",
        f"{call}: {one_line(error)}",
        "no error",
        DEFINITION,
    )
