"""Look on while somebody's own loop trains: `watch`."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labkit.clinic.contracts import DEFINITION
from labkit.clinic.report import Finding, Report


@dataclass
class _Counts:
    """What happened, in numbers of events."""

    forwards: int = 0
    backwards: int = 0
    steps: int = 0
    idle: int = 0  # steps with a learning rate of 0
    empty: int = 0  # steps that found no gradient
    stale: int = 0  # first backward after a step that found old gradients
    fresh: int = 0  # first backward after a step that found none
    wasted: int = 0  # gradients thrown away before any step
    not_finite: int = 0
    eval_forwards: int = 0  # without gradients
    eval_in_train: int = 0
    train_in_eval: int = 0  # steps whose gradients come from eval mode alone


class watch:
    """Observe a training loop without changing it; `report` says what is wrong with it.

        with labkit.clinic.watch(model, optimizer) as watched:
            my_own_loop(model, optimizer)
        print(watched.report)

    Seen are forward passes (with which modes, with or without gradients), backward passes and
    steps, through hooks that are gone afterwards, also after an error. Gradient accumulation and
    frozen layers are no bugs. `optimizer` may be None, to watch an evaluation.

    A scaler that skips a few steps is silent; two optimisers of one model are watched one at a
    time. Raises ValueError if the model is no module.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None):
        if not isinstance(model, nn.Module):
            raise ValueError(f"watch takes a torch.nn.Module, got a {type(model).__name__}")
        self.model, self.optimizer = model, optimizer
        self.counts = _Counts()
        self.handles = []
        self.seconds = 0.0
        # backward() gives each of these a gradient in turn; the first to get one counts it
        self.probes: list[nn.Parameter] = []
        self.since_step = 0  # backward passes since the last step, with a gradient other than 0
        self.inside = False  # in optimizer.step(): a closure may look several times at one batch
        self.in_eval = False  # was the last forward pass with gradients in eval mode?
        self.trained = False  # has a backward pass since the last step come from train mode?
        self.random = False  # is the model itself random in train mode alone?
        self.useful = False  # has this backward pass brought one?
        self.seen: set[int] = set()  # parameters that this backward pass has reached
        self.reached: set[int] = set()  # parameters that any has reached

    def __enter__(self) -> "watch":
        self.began = time.perf_counter()
        self.handles.append(self.model.register_forward_pre_hook(self._forward, with_kwargs=True))
        self._probe()
        if self.optimizer is not None:
            self.handles.append(self.optimizer.register_step_pre_hook(self._before_step))
            self.handles.append(self.optimizer.register_step_post_hook(self._after_step))
        return self

    def __exit__(self, *_) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.seconds = time.perf_counter() - self.began

    # -------------------------------------------------------------------------------- events

    def _probe(self) -> None:
        """Hook the parameters that are trained; one that was frozen may be, from now on."""
        hooked = {id(p) for p in self.probes}
        new = [p for _, p in _trained(self.model, self.optimizer) if id(p) not in hooked]
        self.handles += [p.register_hook(self._gradient(p)) for p in new]
        self.probes += new

    def _forward(self, *_) -> None:
        sensitive = [module for module in self.model.modules() if depends_on_mode(module)]
        if self.random and not sensitive:
            sensitive = [self.model]
        training = any(module.training for module in sensitive)
        self.seen.clear()  # a new pass: what comes next is another backward
        if torch.is_grad_enabled():
            self._probe()
            self.counts.forwards += 1
            self.in_eval = bool(sensitive) and not self.model.training
        else:
            self.counts.eval_forwards += 1
            self.counts.eval_in_train += training

    def _gradient(self, p: nn.Parameter):
        """A hook that runs before `p.grad` is added to, so that what lies there is old."""

        def hook(grad: Tensor) -> None:
            if not self.seen or id(p) in self.seen:
                self.seen.clear()
                self._backward()
            self.seen.add(id(p))
            self.reached.add(id(p))
            if not self.useful and bool(grad.any()):  # a dead network's are 0, and no loss
                self.useful = True
                self.since_step += 1

        return hook

    def _backward(self) -> None:
        counts, old = self.counts, _any_gradient(self.probes)
        counts.backwards += 1
        self.trained |= not self.in_eval
        if counts.steps and not self.since_step:
            counts.stale += old
            counts.fresh += not old
        elif self.since_step and not old and not self.inside:
            counts.wasted += self.since_step
            self.since_step = 0
        self.useful = False

    def _before_step(self, *_) -> None:
        self.inside = True
        if not _any_gradient(self.probes):
            self.counts.empty += 1
            self.counts.wasted += self.since_step
        elif not all(p.grad is None or p.grad.isfinite().all() for p in self.probes[-1:]):
            self.counts.not_finite += 1

    def _after_step(self, *_) -> None:
        self.inside = False
        self.counts.steps += 1
        self.counts.train_in_eval += self.in_eval and not self.trained
        self.trained = False
        self.counts.idle += all(group["lr"] == 0 for group in self.optimizer.param_groups)
        self.since_step = 0
        self.seen.clear()

    # -------------------------------------------------------------------------------- report

    @property
    def piling_up(self) -> bool:
        """Gradients were added up so far, and neither used nor thrown away."""
        return bool(self.since_step) and not self.counts.steps and not self.counts.wasted

    @property
    def report(self) -> Report:
        """What was found so far."""
        counts = self.counts
        report = Report(type(self.model).__name__, seconds=self.seconds)
        report.passed = ["forward passes", *(["gradients", "steps"] if self.optimizer else [])]
        report.findings = [*self._of_gradients(), *self._of_parameters(), *self._of_modes()]
        report.notes.append(
            f"{counts.forwards} forward passes with gradients, {counts.backwards} backward, "
            f"{counts.steps} steps; {counts.eval_forwards} forward passes without gradients"
        )
        report.sort()
        return report

    def _of_gradients(self) -> list[Finding]:
        counts, found = self.counts, []
        if self.optimizer is None:
            return found
        if self.probes and not counts.backwards and 0 < counts.steps == counts.empty:
            found.append(
                Finding(
                    "no backward pass",
                    "contract",
                    f"{counts.steps} steps and no backward pass: .grad stayed empty",
                    "a backward pass before each step",
                    DEFINITION,
                )
            )
        wasted = counts.wasted + (self.since_step if not counts.steps else 0)
        if counts.stale > counts.fresh:
            found.append(
                Finding(
                    "stale gradients",
                    "contract",
                    f"{counts.stale} of {counts.stale + counts.fresh} times the first backward "
                    "pass after a step found the old gradients in .grad",
                    "None or 0",
                    DEFINITION,
                )
            )
        if wasted > 0.5 * counts.backwards + 1:
            thrown_away = (
                f"the gradients of {counts.wasted} of {counts.backwards} backward passes were "
                f"zeroed before a step used them ({counts.steps} steps)"
            )
            found.append(
                Finding(
                    "gradients never used",
                    "contract",
                    thrown_away if counts.wasted else f"{wasted} backward passes and no step",
                    "each is used once; accumulation adds up, and uses all",
                    DEFINITION,
                )
            )
        if counts.not_finite > 0.5 * counts.steps:
            found.append(
                Finding(
                    "outputs or loss are not finite",
                    "contract",
                    f"{counts.not_finite} of {counts.steps} steps had a NaN or infinite gradient",
                    "finite gradients",
                    DEFINITION,
                )
            )
        return found

    def _of_parameters(self) -> list[Finding]:
        counts, found = self.counts, []
        trained = _trained(self.model, self.optimizer)
        names = {name for name, _ in trained}
        missing = [name for name, _ in _trained(self.model) if name not in names]
        if missing:
            found.append(
                Finding(
                    "parameters not in the optimiser",
                    "contract",
                    f"{len(missing)} trainable parameters, the first is {missing[0]}",
                    "none; a layer frozen on purpose has requires_grad = False",
                    DEFINITION,
                )
            )
        if counts.steps and counts.idle == counts.steps:
            found.append(Finding("learning rate is 0", "contract", "lr = 0", "above 0", DEFINITION))
        without = [name for name, p in trained if id(p) not in self.reached]
        if counts.backwards and without:
            found.append(
                Finding(
                    "parameters get no gradient",
                    "contract",
                    f"{len(without)} trainable parameters never got one, the first is {without[0]}",
                    "none",
                    DEFINITION,
                )
            )
        return found

    def _of_modes(self) -> list[Finding]:
        counts, found = self.counts, []
        if counts.eval_in_train > 0.5 * counts.eval_forwards:
            found.append(
                Finding(
                    "evaluation runs in train mode",
                    "contract",
                    f"{counts.eval_in_train} of {counts.eval_forwards} forward passes without "
                    "gradients had dropout or BatchNorm in train mode",
                    "none",
                    DEFINITION,
                )
            )
        if counts.train_in_eval > 0.3 * counts.steps:
            found.append(
                Finding(
                    "training runs in eval mode",
                    "contract",
                    f"{counts.train_in_eval} of {counts.steps} steps followed gradients that were "
                    "taken with the whole model in eval mode",
                    "none; frozen BatchNorm layers alone are no bug",
                    DEFINITION,
                )
            )
        return found


def depends_on_mode(module: nn.Module) -> bool:
    """A layer that does something else in eval mode, told by its name: Dropout, BatchNorm."""
    name = type(module).__name__.lower()
    return "dropout" in name or "batchnorm" in name or "droppath" in name


def _trained(model: nn.Module, optimizer=None) -> list[tuple[str, nn.Parameter]]:
    """The parameters that are not frozen now; with an optimiser those of them that it holds."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if optimizer is None:
        return named
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return [(name, p) for name, p in named if id(p) in held]


def _any_gradient(parameters: list[nn.Parameter]) -> bool:
    """Does any of them hold a gradient other than 0? Usually the last one answers at once."""
    return any(p.grad is not None and bool(p.grad.any()) for p in reversed(parameters))
