"""Contracts: they hold or are broken, with no statistics. Each check yields findings."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from labkit.clinic.case import Case, Unusable, classes
from labkit.clinic.report import Finding

DEFINITION = "by definition"
EXAMPLES = 8  # a contract is broken for a few examples as well as for many, and few are quick

# ---------------------------------------------------------------------- loss and last layer


def runs(case: Case) -> Iterator[Finding]:
    """A batch goes through the model and the loss, and both come out finite."""
    x, y = case.batch(EXAMPLES)
    try:
        with torch.no_grad(), case.mode(training=True):
            outputs = case.raw_outputs(x)
            odd_labels = list(_labels_out_of_range(case, outputs))
            loss = None if odd_labels else case.loss(outputs, y)
    except Unusable:
        raise
    except Exception as error:  # whatever a stranger's code raises, is the finding
        yield _raised(error, x, y)
    else:
        yield from odd_labels or _not_finite(case, outputs, loss)


def _not_finite(case: Case, outputs: Tensor, loss: Tensor) -> Iterator[Finding]:
    broken = [name for name, z in (("outputs", outputs), ("loss", loss)) if not _finite(z)]
    broken = [*_inputs_not_finite(case), *broken]
    if broken:
        yield Finding(
            "outputs or loss are not finite",
            "contract",
            f"NaN or infinity in: {', '.join(broken)}",
            "finite numbers",
            DEFINITION,
        )


def _finite(x: Tensor) -> bool:
    return bool(x.isfinite().all())


def _inputs_not_finite(case: Case) -> list[str]:
    """Where among all that was read, in words."""
    found = []
    for name, x in (("inputs", case.x), ("validation inputs", case.val_x)):
        if x is not None and not _finite(x):
            bad = (~x.isfinite().flatten(1).all(1)).nonzero()[:, 0]
            found.append(f"{len(bad):,} of {len(x):,} {name}, the first is number {bad[0]}")
    return found


def _labels_out_of_range(case: Case, outputs: Tensor) -> Iterator[Finding]:
    """Among all labels read; a loss may ignore some, such as -100, so it is asked."""
    if not case.classification or case.y.ndim != 1 or outputs.ndim != 2:
        return
    num_classes = outputs.shape[1]
    odd = case.y[(case.y < 0) | (case.y >= num_classes)]
    try:  # on the CPU: there it raises an exception that can be caught
        if len(odd):
            case.loss(outputs[:1].cpu().expand(len(odd), -1), odd)
    except (IndexError, RuntimeError):
        yield Finding(
            "forward or loss raises an error",
            "contract",
            f"the labels go from {case.y.min()} to {case.y.max()}, and the model has "
            f"{num_classes} outputs, for labels 0 to {num_classes - 1}",
            "an output for each label",
            DEFINITION,
        )


def one_line(error: Exception, longest: int = 200) -> str:
    """Its type, and what it says, cut at `longest` characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:longest]}"


def _raised(error: Exception, x: Tensor, y: Tensor) -> Finding:
    return Finding(
        "forward or loss raises an error",
        "contract",
        f"x {tuple(x.shape)} {x.dtype}, y {tuple(y.shape)} {y.dtype}: {one_line(error)}",
        f"no error{_cure(x, y)}",
        DEFINITION,
    )


def _cure(x: Tensor, y: Tensor) -> str:
    """What to try where types and shapes say it."""
    if x.dtype == torch.uint8:
        return "; inputs of type uint8: try x.float() / 255"
    if y.ndim != 2 or y.is_floating_point():
        return ""
    if y.shape[1] == 1:
        return f"; labels of shape {tuple(y.shape)}: try y.squeeze(1)"
    return f"; labels of shape {tuple(y.shape)}: try y.argmax(1), or y.float()"


def output_fits_loss(case: Case) -> Iterator[Finding]:
    """The last layer hands the loss what it expects: logits, or log-probabilities.

    Some losses want raw scores, which may be any numbers. Whether the model's can be is seen by
    replacing the output of its last layer with weights by random numbers of size 10 and 1000.
    """
    x, y = case.batch(EXAMPLES)
    with torch.no_grad(), case.mode(training=True):
        outputs = case.raw_outputs(x)
        if outputs.ndim < 2:
            return
        layer = _last_layer(case, x)
        probes = [] if layer is None else [_probe(case, layer, x, size) for size in (10, 1000)]
        if outputs.shape[1] == 1 and all((z == 1).all() for z in (outputs, *probes)):
            yield _softmax_over_one_output()
            return
        evidence = None
        if outputs.shape[1] > 1:
            yield from _log_probabilities(case, outputs, y)
            evidence = _ignores_a_shift(case, outputs, y)
        if evidence and _has_two_softmaxes(case, outputs, y):
            yield _softmax_in_the_loss(case, outputs, y)
            return
        evidence = evidence or _wants_scores_of_either_sign(case, outputs, y)
        found = evidence and (_squashed(probes) or _looks_squashed(outputs))
    if not found:
        return
    (name, measured), (reason, *expected) = found, evidence
    yield Finding(name, "contract", f"{measured}; {reason}", *expected)
    if layer is not None and _output_of(case, layer, x).shape == outputs.shape:
        case.output_layer = layer  # from here on the checks see the logits


def _change_when_shifted(case: Case, outputs: Tensor, y: Tensor) -> float:
    """L(o + 3) - L(o)."""
    return (case.loss(outputs + 3, y) - case.loss(outputs, y)).item()


def _ignores_a_shift(case: Case, outputs: Tensor, y: Tensor) -> tuple[str, str, str] | None:
    """What shows that the loss looks at differences of its inputs only, what it then wants and
    why; or None."""
    change = abs(_change_when_shifted(case, outputs, y))
    if change > 1e-4 * (1 + abs(case.loss(outputs, y).item())):
        return None
    return (
        f"adding 3 to all outputs changes the loss by {change:.1g}",
        "a loss that this shift does not change applies softmax itself and wants any real numbers",
        "definition of cross-entropy",
    )


def _wants_scores_of_either_sign(
    case: Case, outputs: Tensor, y: Tensor
) -> tuple[str, str, str] | None:
    """The same for a loss on targets 0 and 1 like BCE with logits."""
    if y.numel() != outputs.numel() or not ((y == 0) | (y == 1)).all():
        return None
    right = (2.0 * y - 1).to(outputs).view_as(outputs).cpu()
    try:  # on the CPU: there a loss on probabilities refuses them with a mere exception
        small, large = (case.loss(size * right, y.cpu()).item() for size in (1, 1000))
    except RuntimeError:
        return None
    if small < 0.1 or abs(large) > 1e-3:
        return None
    return (
        f"right outputs of +1 and -1 have a loss of {small:.2g}, of +1000 and -1000 of 0",
        "a loss that is 0 for large scores alone wants any real numbers, below and above 0",
        "definition of binary cross-entropy with logits",
    )


def _softmax_over_one_output() -> Finding:
    return Finding(
        "softmax over a single output",
        "contract",
        "the only output is 1 for every example, whatever the last layer gives",
        "outputs that differ from example to example",
        DEFINITION,
    )


def _has_two_softmaxes(case: Case, outputs: Tensor, y: Tensor) -> bool:
    """Do right logits of size 1000 cost ln(1 + (C - 1) / e), and not 0?"""
    if not case.classification or outputs.ndim != 2:
        return False
    sure, floor = _loss_when_sure(case, outputs, y), _floor(outputs)
    return any(math.isclose(sure, n * floor, rel_tol=1e-3) for n in (1, len(y)))  # mean or sum


def _softmax_in_the_loss(case: Case, outputs: Tensor, y: Tensor) -> Finding:
    return Finding(
        "redundant softmax",
        "contract",
        f"right logits of size 1000 still cost {_loss_when_sure(case, outputs, y):.4g}: the loss "
        "applies softmax twice",
        f"0, where it applies softmax once; ln(1 + (C - 1) / e) = {_floor(outputs):.4g} if twice",
        "definition of cross-entropy",
    )


def _loss_when_sure(case: Case, outputs: Tensor, y: Tensor) -> float:
    sure = 1000 * nn.functional.one_hot(classes(y), outputs.shape[1]).to(outputs)
    return case.loss(sure, y).item()


def _floor(outputs: Tensor) -> float:
    """What cross-entropy can't fall below where its inputs are probabilities."""
    return math.log(1 + (outputs.shape[1] - 1) / math.e)


def _log_probabilities(case: Case, outputs: Tensor, y: Tensor) -> Iterator[Finding]:
    if y.shape == outputs.shape and classes(y) is None:
        return  # a regression: L1 far below its targets falls by 3, too
    change = _change_when_shifted(case, outputs, y)
    if not any(math.isclose(change, -3 * n, rel_tol=1e-3) for n in (1, len(y))):  # mean or sum
        return
    if (found := _log_softmaxed_over_the_batch(outputs)) is not None:
        name, measured = found
        yield Finding(name, "contract", measured, "so of an example", "definition of a probability")
        return
    total = outputs.logsumexp(1).abs().max().item()
    if total > 1e-2:
        yield Finding(
            "log-softmax missing before the NLL loss",
            "contract",
            f"the loss falls by {-change:.3g} when all outputs rise by 3, and an example's "
            f"exp(outputs) sum up to as far from 1 as {math.exp(min(total, 50)):.3g}",
            "log-probabilities: exp(outputs) sum up to 1 within 1 %",
            "definition of the negative log-likelihood",
        )


def _last_layer(case: Case, x: Tensor) -> nn.Module | None:
    """The last module inside the model that has parameters of its own and gives a tensor."""
    order: list[nn.Module] = []

    def note(module, _, output):
        if isinstance(output, Tensor) and output.is_floating_point():
            order.append(module)

    hooks = [
        module.register_forward_hook(note)
        for module in case.model.modules()
        if module is not case.model and module._parameters
    ]
    try:
        case.raw_outputs(x)
    finally:
        for hook in hooks:
            hook.remove()
    return order[-1] if order else None


def _probe(case: Case, layer: nn.Module, x: Tensor, size: float) -> Tensor:
    """The model's outputs when that layer gives normal random numbers times `size`."""

    def replace(_module, _inputs, output):
        noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        return (size * noise).to(output)

    hook = layer.register_forward_hook(replace)
    try:
        return case.raw_outputs(x).float()
    finally:
        hook.remove()


def _output_of(case: Case, layer: nn.Module, x: Tensor) -> Tensor:
    caught = []
    hook = layer.register_forward_hook(lambda *args: caught.append(args[2]))
    try:
        case.raw_outputs(x)
    finally:
        hook.remove()
    return caught[-1]


def _squashed(probes: list[Tensor]) -> tuple[str, str] | None:
    """Which activation stands behind the last layer, told by what it makes of random numbers."""
    if len(probes) < 2 or torch.equal(*probes):
        return None
    small, large = probes
    low, high = large.min().item(), large.max().item()
    if (found := _softmaxed(large)) is not None:
        return found
    # Of numbers of size 1000 nearly all are at the ends; what stays elsewhere is another layer's.
    if high - low < 1.5 * (small.max() - small.min()).item() and 0.99 <= high <= 1.01:
        if 0 <= low <= 0.01:
            return "sigmoid before cross-entropy", f"outputs stay in [{low:.3g}, {high:.3g}]"
        if -1.01 <= low <= -0.99:
            return "tanh before cross-entropy", f"outputs stay in [{low:.3g}, {high:.3g}]"
    if high > 0 and low > -0.002 * high:  # a leaky ReLU lets 0.01 through
        return (
            "ReLU before cross-entropy",
            f"outputs are never below {min(low, 0):.3g}, whatever the last layer gives",
        )
    return None


def _log_softmaxed_over_the_batch(outputs: Tensor) -> tuple[str, str] | None:
    if len(outputs) < 2:
        return None
    columns, rows = (outputs.logsumexp(dim).abs().max() for dim in (0, 1))
    if not columns < 1e-3 < rows:
        return None
    return (
        "softmax over the batch dimension",
        f"exp(outputs) of a class sum up to 1 over the {len(outputs)} images of the batch",
    )


def _softmaxed(outputs: Tensor) -> tuple[str, str] | None:
    if (found := _log_softmaxed_over_the_batch(outputs)) is not None:
        return found
    if outputs.min() < -1e-4:
        return None
    rows, columns = outputs.sum(1), outputs.sum(0)
    if (rows - 1).abs().max() < 1e-3:
        return "redundant softmax", "each example's outputs are at least 0 and sum up to 1"
    if len(outputs) > 1 and (columns - 1).abs().max() < 1e-3:
        return (
            "softmax over the batch dimension",
            f"the outputs of a class sum up to 1 over the {len(outputs)} images of the batch",
        )
    return None


def _looks_squashed(outputs: Tensor) -> tuple[str, str] | None:
    """The same, from the outputs alone: less sure, so only what can hardly happen by chance."""
    if (found := _softmaxed(outputs.float())) is not None:
        return found
    zeros = (outputs == 0).float().mean().item()
    if outputs.min() == 0 < outputs.max() and zeros > 0.1:  # all 0: a head that begins so
        return "ReLU before cross-entropy", f"no output is below 0, {zeros:.0%} are exactly 0"
    return None


# ------------------------------------------------------------------------ train and eval mode


def evaluation_repeats(case: Case) -> Iterator[Finding]:
    """In eval mode the same batch gives the same outputs twice."""
    x, _ = case.batch(EXAMPLES)
    with torch.no_grad(), case.mode(training=False):
        first, second = case.raw_outputs(x), case.raw_outputs(x)
    spread = first.float().std().item()
    difference = (first - second).abs().max().item()
    if difference > 1e-3 * spread:
        yield Finding(
            "evaluation is random",
            "contract",
            f"two passes in eval mode differ by {difference:.2g}",
            f"0.001 times the outputs' standard deviation, {spread:.2g}",
            DEFINITION,
        )


def is_random_in_train_mode(case: Case) -> bool:
    """And not in eval mode: F.dropout(x, training=self.training) is no layer that can be seen."""
    x, _ = case.batch(EXAMPLES)
    differ = []
    for training in (True, False):
        with torch.no_grad(), case.mode(training):
            differ.append(not torch.equal(case.raw_outputs(x), case.raw_outputs(x)))
    return differ == [True, False]


def examples_are_independent(case: Case) -> Iterator[Finding]:
    """In eval mode, f(x)[:2] = f(x[:2])."""
    x, _ = case.batch(EXAMPLES)
    if len(x) < 3:
        return
    with torch.no_grad(), case.mode(training=False):
        together, alone = case.raw_outputs(x), case.raw_outputs(x[:2])
    spread = together.float().std().item()
    difference = (together[:2] - alone).abs().max().item() / max(spread, 1e-12)
    limit = 1e-3 if together.dtype == torch.float32 else 2e-2
    if difference > limit:
        yield Finding(
            "examples influence each other in evaluation",
            "contract",
            f"in eval mode two images get outputs that differ by {difference:.2g} standard "
            f"deviations, alone and among {len(x)}",
            f"{limit:g}",
            "rounding makes about 1e-6, batch statistics about 0.1",
        )


def running_statistics_move(case: Case) -> Iterator[Finding]:
    """A layer with running statistics takes them from the batches that it sees in train mode.

    Each is shown its own inputs, shifted and stretched, three times: its outputs in eval mode then
    have to have changed, if they differ from those in train mode.
    """
    stuck = []
    for name, module, x in _seen(case, _keeps_statistics):
        x = 2 * x + 3 * x.std()
        with torch.no_grad():
            module.eval()
            before = module(x)
            module.train()
            for _ in range(3):
                trained = module(x)
            module.eval()
            after = module(x)
        size = trained.std().item() + 1e-12
        gap = (trained - before).abs().mean().item() / size
        moved = (after - before).abs().mean().item() / size
        if gap > 1e-2 and moved < 1e-6:
            stuck.append((name, gap))
    if stuck:
        name, gap = stuck[0]
        yield Finding(
            "BatchNorm's running statistics are never updated",
            "contract",
            f"layer {name}{_and_others(stuck)}: three batches in train mode do not change what it "
            f"does in eval mode, though the two modes differ by {gap:.2g} standard deviations",
            "any change",
            DEFINITION,
        )


def _keeps_statistics(module: nn.Module) -> bool:
    names = {*module._buffers, *vars(module)}
    tracks = any(word in name for name in names for word in ("running_", "moving_"))
    return "norm" in type(module).__name__.lower() or tracks


def dropout_keeps_the_expectation(case: Case) -> Iterator[Finding]:
    """On ones, a random layer's mean in train mode is that in eval mode; it drops the share p.

    torch's own are not asked: they do, but AlphaDropout does so for another mean than 1.
    """
    for name, module, x in _seen(case, _may_be_dropout):
        ones = torch.ones_like(x[: max(1, 2**17 // max(x[0].numel(), 1))])
        with torch.no_grad():
            module.train()
            draws = _draws(module, ones)
            if len(draws) == 2:
                continue
            module.eval()
            evaluated = _draws(module, ones)  # random, too, where the switch is missing
        yield from _judge_dropout(name, getattr(module, "p", None), draws, evaluated)


def _may_be_dropout(module: nn.Module) -> bool:
    return not module._parameters and not type(module).__module__.startswith("torch.nn.")


def _draws(module: nn.Module, x: Tensor) -> list:
    """Two outputs for the same input, and, where chance is in them, 28 more."""
    first, second = (module(x) for _ in range(2))
    same_shape = isinstance(first, Tensor) and first.shape == second.shape
    more = 28 if same_shape and not torch.equal(first, second) else 0
    return [first, second, *(module(x) for _ in range(more))]


def _judge_dropout(name: str, p, draws: list[Tensor], evaluated: list[Tensor]) -> Iterator[Finding]:
    """Means and shares of 30 draws; their spread over draws gives the standard error."""
    means, wanted = (torch.stack([x.float().mean() for x in xs]) for xs in (draws, evaluated))
    mean = wanted.mean().item()
    if mean == 0:
        return
    zeros = torch.stack([(draw == 0).float().mean() for draw in draws])
    error = math.hypot(_standard_error(means), _standard_error(wanted)) / abs(mean)
    ratio, limit = means.mean().item() / mean, max(0.02, 5 * error)
    share, share_limit = zeros.mean().item(), max(0.02, 5 * _standard_error(zeros))
    source = "5 standard errors over 30 draws, at least 0.02"
    if abs(ratio - 1) > limit:
        yield Finding(
            "dropout changes the expectation",
            "contract",
            f"{name or 'a layer'}: mean in training / mean in evaluation = {ratio:.3f} on ones",
            f"1 ± {limit:.3f}",
            source,
        )
    if isinstance(p, float) and share > 0 and abs(share - p) > share_limit:
        yield Finding(
            "dropout drops the wrong share",
            "contract",
            f"{name or 'a layer'}: {share:.3f} of the values are dropped, p = {p:g}",
            f"p ± {share_limit:.3f}",
            source,
        )


def _standard_error(values: Tensor) -> float:
    return values.std().item() / math.sqrt(len(values))


def _seen(case: Case, wanted: Callable[[nn.Module], bool]) -> list[tuple[str, nn.Module, Tensor]]:
    """(name, module, its input) for the leaf modules wanted that take one float tensor."""
    seen: dict[str, tuple[nn.Module, Tensor]] = {}
    hooks = []

    def note(name):
        def hook(module, inputs):
            if len(inputs) == 1 and isinstance(inputs[0], Tensor):
                seen.setdefault(name, (module, inputs[0].detach()))

        return hook

    for name, module in case.model.named_modules():
        if name and not any(True for _ in module.children()) and wanted(module):
            hooks.append(module.register_forward_pre_hook(note(name)))
    x, _ = case.batch(EXAMPLES)
    try:
        with torch.no_grad(), case.mode(training=False):
            case.raw_outputs(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [(name, module, x) for name, (module, x) in seen.items() if x.is_floating_point()]


def _and_others(items: list) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""


# --------------------------------------------------------------------------------- validation


def validation_repeats(case: Case) -> Iterator[Finding]:
    """The same validation images come out three times alike, in whatever order."""
    same = repeats(case, case.val, case.val_x)
    if same < 0.5:
        yield Finding(
            "validation transform is random",
            "contract",
            f"of {len(case.val_x)} validation images only {same:.0%} came out the same in three "
            "looks",
            "100 %",
            DEFINITION,
        )


def repeats(case: Case, loader: Iterable, x: Tensor) -> float:
    """The share of the examples x that come out of the loader unchanged at two more looks.

    Two, since one may start from the same random numbers as the look that gave x.
    """
    if _gives_single_examples(loader):
        n = len(loader.dataset)
        chosen = range(0, n, max(1, n // 16))[:16]
        looks = [fingerprints(_fetch(case, loader, chosen)) for _ in range(3)]
        return min((looks[0] == look).float().mean().item() for look in looks[1:])
    looks = [fingerprints(case.read(loader, len(x))[0]) for _ in range(2)]
    same = min(torch.isin(fingerprints(x), look).float().mean().item() for look in looks)
    if same < 0.5 and sum(len(case.unpack(batch)[1]) for batch in loader) > len(x):
        return 1.0  # shuffled, and only a part was read: other images come at each look
    return same


def _gives_single_examples(loader: Iterable) -> bool:
    """A DataLoader whose examples can be asked for one by one, whatever order it reads them in."""
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return False
    return hasattr(loader.dataset, "__getitem__") and hasattr(loader.dataset, "__len__")


def _fetch(case: Case, loader: DataLoader, indices: Iterable[int]) -> Tensor:
    """The inputs x of those examples, as the loader would make a batch of them."""
    return case.unpack(loader.collate_fn([loader.dataset[i] for i in indices]))[0]


def fingerprints(x: Tensor) -> Tensor:
    """An int64 for each example, equal for equal examples, and hardly ever for others."""
    x = x.detach().cpu().contiguous().flatten(1)
    bits = x.view(torch.uint8) if x.dtype != torch.uint8 else x
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2**62, (bits.shape[1],), generator=generator)
    rows = max(1, 2**22 // bits.shape[1])  # 32 MB of int64 at a time, however large an image is
    parts = [(part.long() * factors).sum(1) for part in bits.split(rows)]
    return torch.cat(parts)


# ---------------------------------------------------------------------------------- optimiser


def parameters_are_trained(case: Case) -> Iterator[Finding]:
    """The optimiser holds each trainable parameter, moves it, and a gradient gets there."""
    trainable = {name: p for name, p in case.model.named_parameters() if p.requires_grad}
    if not trainable:
        yield Finding(
            "no trainable parameters",
            "contract",
            f"none of {len(list(case.model.parameters()))} parameters has requires_grad = True",
            "at least one",
            DEFINITION,
        )
    optimizer = case.build_optimizer()
    if optimizer is not None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = [name for name, p in trainable.items() if id(p) not in held]
        if missing:
            yield Finding(
                "parameters not in the optimiser",
                "contract",
                f"{len(missing)} of {len(trainable)} trainable parameters: {missing[0]}"
                f"{_and_others(missing)}",
                "none; a layer frozen on purpose has requires_grad = False",
                DEFINITION,
            )
        if all(own_lr(group) == 0 for group in optimizer.param_groups):
            yield Finding("learning rate is 0", "contract", "lr = 0", "above 0", DEFINITION)
    yield from _gradient_arrives(case, trainable)


def own_lr(group: dict) -> float:
    """The learning rate that a group was given; a schedule that warms up begins below it."""
    return group.get("initial_lr", group["lr"])


def _gradient_arrives(case: Case, trainable: dict[str, nn.Parameter]) -> Iterator[Finding]:
    for p in trainable.values():
        p.grad = None
    x, y = case.batch(EXAMPLES)
    with torch.enable_grad(), case.mode(training=True):
        loss = case.loss(case.raw_outputs(x), y)
        if loss.requires_grad:
            loss.backward()
    without = [name for name, p in trainable.items() if p.grad is None]
    if without:
        yield Finding(
            "parameters get no gradient",
            "contract",
            f"after backward() {len(without)} of {len(trainable)} trainable parameters have no "
            f"gradient: {without[0]}{_and_others(without)}",
            "none",
            DEFINITION,
        )
