"""The training clinic: why doesn't it learn? `diagnose` a set-up, or `watch` a loop.

    report = labkit.diagnose(model, loss, train_loader, val=val_loader, optimizer=optimizer)
    print(report)
    report.raise_if_broken()

Contracts hold or are broken, and come first. Signs are statistics; each shows its threshold.
What was measured of both: benchmarks/clinic.py.
"""

import time
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from labkit.clinic import contracts, signs
from labkit.clinic.case import Case, Unusable
from labkit.clinic.causes import CAUSES, Cause
from labkit.clinic.loops import evaluation_mode, training_loop
from labkit.clinic.record import bench
from labkit.clinic.report import Broken, Finding, Report
from labkit.clinic.snapshot import untouched
from labkit.clinic.watch import watch
from labkit.data import Splits
from labkit.train import Recipe, check_has_shapes, seed

__all__ = ["CAUSES", "Broken", "Cause", "Finding", "Report", "bench", "diagnose", "watch"]

LAST_RESORT = "one batch by heart"  # names no cause, so it is asked where nothing else was found


def diagnose(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor] | None,
    data: Splits | Iterable,
    *,
    recipe: Recipe | None = None,
    val: Iterable | None = None,
    optimizer: Callable | Optimizer | None = None,
    train: Callable | None = None,
    evaluate: Callable | None = None,
    history=None,
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
    unpack: Callable[[object], tuple[Tensor, Tensor]] | None = None,
    images: int = 2000,
    only_contracts: bool = False,
) -> Report:
    """Look for the known mistakes in a training set-up. It changes nothing, also after an error.

    model: any module.  loss: a function of (outputs, y); None means cross-entropy.
    data: training batches (x, y) as the model gets them, in anything that can be read more than
        once (a DataLoader, a list), or what `labkit.load` gives.  val: the same for validation.
    recipe: labkit's, says how Splits are normalised and which optimiser trains.
    optimizer: the optimiser, or a function model -> optimiser, where there is no recipe.
    train: your loop, `train(model, optimizer, batches)`, watched over 16 batches. (What it holds
        beside the three, a schedule say, is not brought back.)
    evaluate: your evaluation, `evaluate(model, batches)`, watched over 2 batches.
    history: what `labkit.fit` returned.
    forward: how to get outputs N x C, where it isn't `model(x)`.
    unpack: how to get (x, y) from a batch, where it isn't one already.
    images: how many examples are read.  only_contracts: leave out the signs, which train.

    Raises ValueError for a model, data or outputs that it can't use, in one sentence.

        labkit.diagnose(model, model.loss, data.train_dataloader())  # a d2l Classifier
        labkit.diagnose(module, F.cross_entropy, loader, unpack=lambda b: (b["x"], b["y"]),
                        optimizer=lambda m: m.configure_optimizers())  # a Lightning-style module
    """
    began = time.perf_counter()
    _check(model, loss, optimizer, images)
    if recipe is None and isinstance(data, Splits):
        recipe = getattr(model, "labkit_recipe", None) or Recipe()
    held = optimizer if isinstance(optimizer, Optimizer) else None
    with untouched(model, held, (data, val), loss) as restore:
        case = Case(model, loss, data, val, recipe, optimizer, forward, unpack, images)
        report = Report(type(model).__name__)
        for name, missing, check in _checks(case, train, evaluate, history, restore):
            if only_contracts and not name.startswith("contract"):
                continue
            name = name.split(": ")[1]
            if missing:
                report.not_run[name] = missing
                continue
            if name == LAST_RESORT and not report.ok:
                report.not_run[name] = "the findings above come first"
                continue
            seed(case.where, 0)  # each check has its own random numbers
            _run(report, name, check, restore)
            if name == "runs" and not report.ok:
                break  # everything else would only repeat it
    report.seconds = time.perf_counter() - began
    report.sort()
    return report


def _check(model, loss, optimizer, images) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; diagnose takes a torch.nn.Module")
    check_has_shapes(model)
    if isinstance(loss, type):
        raise ValueError(f"loss is the class {loss.__name__}; make one of it: {loss.__name__}()")
    if isinstance(optimizer, type):
        raise ValueError(
            f"optimizer is the class {optimizer.__name__}; give a function that makes one: "
            f"lambda model: torch.optim.{optimizer.__name__}(model.parameters())"
        )
    if not (optimizer is None or callable(optimizer) or isinstance(optimizer, Optimizer)):
        raise ValueError(
            f"optimizer={optimizer!r}: give an optimiser, or a function that makes one, "
            "lambda model: torch.optim.Adam(model.parameters())"
        )
    if loss is not None and not callable(loss):
        raise ValueError(
            f"loss is a {type(loss).__name__}; give a function of (outputs, y), or None for "
            "cross-entropy"
        )
    if not isinstance(images, int) or images < 4:
        raise ValueError(f"images={images!r}: give a whole number, 4 or more")


def _run(report: Report, name: str, check: Callable, restore: Callable) -> None:
    """One check; whatever it did to the model is undone."""
    try:
        for found in check():
            (report.notes if isinstance(found, str) else report.findings).append(found)
        report.passed.append(name)
    except Unusable:
        raise
    except Exception as error:  # a stranger's code may raise anything: the other checks go on
        report.not_run[name] = contracts.one_line(error, 150)
    finally:
        restore()


def _checks(case: Case, train, evaluate, history, restore) -> list[tuple[str, str, Callable]]:
    """(kind: name, what it lacks, the check) in order: causes before what hides behind them."""
    no_val = "" if case.val is not None else "needs val="
    no_optimizer = "" if case.optimizer or case.recipe else "needs recipe= or optimizer="
    no_train = "needs train=" if train is None else no_optimizer
    no_classes = "" if case.classification else "needs labels that are classes"
    sizes = len(case.x), 0 if case.val is None else len(case.val_x)
    rows = [
        ("contract: runs", "", contracts.runs),
        ("contract: outputs fit the loss", "", contracts.output_fits_loss),
        ("contract: evaluation repeats", "", contracts.evaluation_repeats),
        ("contract: examples are independent", "", contracts.examples_are_independent),
        ("contract: running statistics move", "", contracts.running_statistics_move),
        ("contract: dropout keeps the expectation", "", contracts.dropout_keeps_the_expectation),
        ("contract: parameters are trained", "", contracts.parameters_are_trained),
        ("contract: validation repeats", no_val, contracts.validation_repeats),
        ("contract: training loop", no_train, lambda case: training_loop(case, train)),
        (
            "contract: evaluation mode",
            "" if evaluate else "needs evaluate=",
            lambda case: evaluation_mode(case, evaluate),
        ),
        ("sign: input scale", "", signs.input_scale),
        ("sign: validation scale", no_val, signs.validation_scale),
        ("sign: normalisation", "", signs.normalisation),
        ("sign: splits are apart", no_val, signs.splits_are_apart),
        ("sign: labels carry signal", no_classes, signs.labels_carry_signal),
        ("sign: running statistics fit", "", signs.running_statistics_fit),
        ("sign: loss at initialisation", no_classes, signs.loss_at_initialisation),
        (
            "sign: learning rate",
            no_optimizer,
            lambda case: signs.learning_rate(case, restore),
        ),
        (
            "sign: one batch by heart",
            no_classes,
            lambda case: signs.overfits_one_batch(case, restore),
        ),
        (
            "sign: generalisation gap",
            "needs history=" if history is None else no_val,
            lambda case: signs.generalisation_gap(case, history, *sizes),
        ),
    ]
    return [(name, missing, lambda check=check: check(case)) for name, missing, check in rows]
