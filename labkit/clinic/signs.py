"""Signs: statistics with a threshold. Each check yields findings, or strings that are notes.

A threshold says where it comes from: tuned on healthy and sick runs of half of the network shapes
of benchmarks/clinic.py, or derived.
"""

import math
from collections.abc import Callable, Iterator
from operator import length_hint

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.clinic.case import Case, classes
from labkit.clinic.contracts import fingerprints, own_lr, repeats
from labkit.clinic.report import Finding
from labkit.train import seed

BENCH = "tuned on benchmarks/clinic.py"

RMS_HIGH, MAX_HIGH, RMS_LOW = 5.0, 20.0, 0.02
VAL_CENTRE, VAL_SCALE = 1.0, 0.6
OFF_CENTRE, OFF_SCALE = 0.1, 0.1
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])
LABELS_Z, SORTED_Z = 4.0, 10.0
OVERLAP = 0.01
RUNNING_MEAN, RUNNING_VAR = 0.4, 0.3
LR_STEPS, LR_LAST = 40, 10
LR_NOISE, LR_HIGH, LR_LOW = 0.05, 0.5, 0.03
OVERFIT_STEPS = 200

# -------------------------------------------------------------------------------------- inputs


def input_scale(case: Case) -> Iterator[Finding | str]:
    """Inputs are neither 0..255 nor divided twice, unless the model does not mind."""
    x = _at_first_layer(case)
    rms, largest = x.square().mean().sqrt().item(), x.abs().max().item()
    if rms > RMS_HIGH or largest > MAX_HIGH:
        cause, strength = "input not scaled", max(rms / RMS_HIGH, largest / MAX_HIGH)
        threshold = f"root mean square up to {RMS_HIGH:g}, largest up to {MAX_HIGH:g}"
    elif 0 < rms < RMS_LOW:
        cause, strength = "input scaled down twice", RMS_LOW / rms
        threshold = f"root mean square at least {RMS_LOW:g}"
    else:
        return
    measured = f"the first layer gets root mean square {rms:.3g}, largest {largest:.3g}"
    change = _change_of_outputs(case, rms)
    if change < 0.05:
        yield f"{cause} ({measured}): harmless, the model normalises its inputs itself"
        return
    yield Finding(
        cause,
        "sign",
        f"{measured}; at a root mean square of 1 the outputs would change by {change:.2g} "
        "standard deviations",
        threshold,
        "pixels 0..255 have about 113, normalised ones 1",
        10 * strength,
    )
    case.scale = 255.0 if 1 < largest <= 255 else rms


def _at_first_layer(case: Case) -> Tensor:
    """What the first layer with parameters gets: a model may scale its inputs itself."""
    caught: list[Tensor] = []

    def note(_, inputs):
        if not caught and inputs and isinstance(inputs[0], Tensor):
            caught.append(inputs[0].detach().float())

    layers = [m for m in case.model.modules() if m is not case.model and m._parameters]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        with torch.no_grad(), case.mode(training=True):
            case.raw_outputs(case.batch(256)[0])
    finally:
        for hook in hooks:
            hook.remove()
    return caught[0] if caught else case.x.float()


def validation_scale(case: Case) -> Iterator[Finding]:
    """Validation inputs have about the training inputs' mean and size, augmented or not."""
    train, val = case.x.float().flatten(), case.val_x.float().flatten()
    mean, std = train.mean().item(), train.std().clamp_min(1e-12).item()
    val_mean, val_std = val.mean().item(), val.std().clamp_min(1e-12).item()
    shift, stretch = abs(val_mean - mean) / std, abs(math.log(val_std / std))
    error = max(_uncertainty(case.x), _uncertainty(case.val_x))
    strength = max(shift / max(VAL_CENTRE, error), stretch / max(VAL_SCALE, error))
    if strength > 1:
        yield Finding(
            "validation inputs are scaled otherwise",
            "sign",
            f"validation inputs have mean {val_mean:.3g} and standard deviation {val_std:.3g}, "
            f"training inputs {mean:.3g} and {std:.3g}",
            f"means within {VAL_CENTRE:g} standard deviations, ln(ratio of the two standard "
            f"deviations) within {VAL_SCALE:g}",
            f"augmentation moves them less; {BENCH}",
            3 * strength,
        )


def _uncertainty(x: Tensor) -> float:
    """5 standard errors of the size of the inputs, as a share: large for few, uneven examples."""
    sizes = x.float().flatten(1).square().mean(1)
    return (5 * sizes.std() / sizes.mean().clamp_min(1e-12)).item() / math.sqrt(len(x))


def _without_augmentation(case: Case) -> Tensor | None:
    """Validation or training images that are the same at each look."""
    for loader, x in ((case.val, case.val_x), (case.data, case.x)):
        if loader is not None and len(x) >= 200 and repeats(case, loader, x) > 0.5:
            return x.float()
    return None


def _change_of_outputs(case: Case, rms: float) -> float:
    """How much the outputs in train mode change when the inputs are brought to size 1."""
    x, _ = case.batch(64)
    with torch.no_grad(), case.mode(training=True):
        seed(case.where, 0)
        before = case.outputs(x)
        seed(case.where, 0)
        after = case.outputs(x / rms)
    return ((before - after).abs().mean() / after.std().clamp_min(1e-12)).item()


def normalisation(case: Case) -> Iterator[Finding | str]:
    """Inputs that were normalised have mean 0 and standard deviation 1, channel by channel.

    Measured on validation images where there are enough, since training images may be augmented,
    which moves both. Not asked of pixels in [0, 1], nor in [-1, 1], with or without noise: there
    the standard deviation is at most 0.5, or all of it inside.
    """
    x = _without_augmentation(case)
    if x is None:
        yield "normalisation: not measured, needs 200 images without augmentation"
        return
    claims = x.min() < -0.05 and x.std() > 0.5 and not (x.min() >= -1.001 and x.max() <= 1.001)
    if not claims or case.scale != 1 or x.ndim < 2:
        return
    if _has_imagenets_statistics(x):
        yield "normalisation: with ImageNet's mean and std, as a network pretrained there wants it"
        return
    dims = (0, *range(2, x.ndim)) if x.ndim > 2 else (0, 1)
    mean, std = x.mean(dims).flatten(), x.std(dims).flatten()
    # Images differ in brightness: 5 standard errors of a mean over so many of them.
    error = x.flatten(2).mean(2).std(0) if x.ndim > 2 else x.mean(1).std()
    error = 5 * error.max().item() / math.sqrt(len(x))
    centre, scale = mean.abs().max().item(), std.log().abs().max().item()
    limit = max(OFF_CENTRE, error), max(OFF_SCALE, error)
    if centre > limit[0] or scale > limit[1]:
        strength = max(centre / limit[0], scale / limit[1])
        severity = "severe" if max(centre, scale) > 1 else "often harmless"
        yield Finding(
            "normalisation statistics of other data",
            "sign",
            f"over {len(x):,} images the worst channel has mean {centre:.2f} from 0 and "
            f"ln(standard deviation) {scale:.2f} from 0: {severity}",
            f"mean within {limit[0]:.2f}, ln(standard deviation) within {limit[1]:.2f}",
            f"0.1, or 5 standard errors; {BENCH}",
            strength,
        )


def _has_imagenets_statistics(x: Tensor) -> bool:
    """Do the usual constants bring each channel back to 0..1?"""
    if x.ndim != 4 or x.shape[1] != 3:
        return False
    pixels = x * IMAGENET_STD.view(3, 1, 1) + IMAGENET_MEAN.view(3, 1, 1)
    low, high = pixels.amin((0, 2, 3)), pixels.amax((0, 2, 3))
    return bool((low.abs() < 0.02).all() and ((high - 1).abs() < 0.02).all())


# -------------------------------------------------------------------------------------- labels


def labels_carry_signal(case: Case) -> Iterator[Finding | str]:
    """Neighbours share labels more often than by chance; else, what is learned transfers.

    First the label of the nearest other image, by pixels; where that is at chance, the pixels may
    be to blame, and the model itself is trained on half of the images and tried on the rest.
    """
    if len(case.x) < 200:
        return
    x, y = case.x[:1500], case.y[:1500]
    labels = classes(y)
    if len(labels.unique()) < 2:
        yield (
            f"labels: the first {len(y):,} examples all have the label {labels[0].item()}: is the "
            "training data sorted by class, and not shuffled?"
        )
        return
    if _above_chance(lambda labels: labels[1:] == labels[:-1], labels) > SORTED_Z:
        yield "labels: examples follow one of their own class: shuffle=True for the training data?"
    z = _neighbours_z(x, labels)
    if z >= LABELS_Z or not case.gives_an_output_a_class():
        return
    if case.val_x is not None and len(case.val_x) >= 200:
        if _transfer_z(case, x, y, case.val_x[:1000], case.val_y[:1000]) >= LABELS_Z:
            return
    elif (
        _transfer_z(case, x[: len(x) // 2], y[: len(x) // 2], x[len(x) // 2 :], y[len(x) // 2 :])
        >= LABELS_Z
    ):
        return
    yield Finding(
        "labels carry no signal",
        "sign",
        f"the nearest image has the same label no more often than a shuffled one (z = {z:.1f}, "
        f"{len(x):,} images), and what the model learns from some does not transfer to others",
        f"z at least {LABELS_Z:g} in one of the two",
        "permutation of the labels: 4 standard deviations; true labels have 10 to 80",
        5.0,
    )


def _neighbours_z(x: Tensor, y: Tensor) -> float:
    """1-nearest-neighbour label agreement, in standard deviations above permuted labels."""
    x = F.normalize(x.float().flatten(1) - x.float().mean(), dim=1)
    near = x @ x.T
    near.fill_diagonal_(-math.inf)
    nearest = near.argmax(1)
    return _above_chance(lambda labels: labels[nearest] == labels, y)


def _above_chance(agree: Callable[[Tensor], Tensor], y: Tensor) -> float:
    """By how many standard deviations more labels agree than in 200 permutations of them."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(y), generator=generator) for _ in range(200)]
    chance = torch.stack([agree(y[order]).double().mean() for order in orders])
    return ((agree(y).double().mean() - chance.mean()) / chance.std().clamp_min(1e-6)).item()


def _transfer_z(case: Case, x: Tensor, y: Tensor, other_x: Tensor, other_y: Tensor) -> float:
    """Train the model for 150 steps, and see whether it beats chance on other images.

    Each output is compared with its mean over the images: where most examples are of one class,
    the model may answer that one only, and still know the others when it sees them.
    """
    optimizer = _adam(case.model)
    if optimizer is None:
        return math.inf
    with torch.enable_grad(), case.mode(training=True):
        for step in range(150):
            start = step * 64 % max(len(x) - 63, 1)
            part = slice(start, start + 64)
            _step(case, optimizer, case.put(x[part]), y[part].to(case.where))
    with torch.no_grad(), case.mode(training=True):  # running statistics are not settled yet
        outputs = torch.cat([case.outputs(case.put(part)).cpu() for part in other_x.split(250)])
    guesses = (outputs - outputs.mean(0)).argmax(1)
    return _above_chance(lambda labels: labels == guesses, classes(other_y))


def _adam(model: nn.Module):
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, lr=1e-3) if parameters else None


def _step(case: Case, optimizer, x: Tensor, y: Tensor) -> Tensor:
    """One step of training; the loss before it."""
    loss = case.loss(case.outputs(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def splits_are_apart(case: Case) -> Iterator[Finding | str]:
    """No training image is a validation image."""
    train = case.x if case.raw is None else case.raw
    val = case.val_x if case.raw_val is None else case.raw_val
    both = torch.isin(fingerprints(val), fingerprints(train)).float().mean().item()
    batches_read = math.ceil(len(train) / max(case.batch_size, 1))
    if case.raw is None and length_hint(case.data) > batches_read:
        yield f"splits are apart: {len(train):,} training images were compared, and there are more"
    if both > OVERLAP:
        yield Finding(
            "training and validation overlap",
            "sign",
            f"{both:.1%} of {len(val):,} validation images are among {len(train):,} training ones",
            f"at most {OVERLAP:.0%}",
            "duplicates within Fashion-MNIST and CIFAR-10 stay below that",
            20.0,
        )


# -------------------------------------------------------------------------------- trained model


def running_statistics_fit(case: Case) -> Iterator[Finding | str]:
    """A trained model's running statistics are those of its training data."""
    with case.mode(training=True):  # a layer frozen in eval mode has statistics on purpose
        layers = {
            name: module
            for name, module in case.model.named_modules()
            if isinstance(getattr(module, "running_mean", None), Tensor)
            and int(getattr(module, "num_batches_tracked", None) or 0) >= 50
            and module.training
        }
    if not layers or len(case.x) < 200:
        return
    worst = max((_distance(case, layer), name) for name, layer in layers.items())
    (strength, mean, var), name = worst
    if strength > 1:
        yield Finding(
            "BatchNorm's running statistics are off",
            "sign",
            f"{name}: running means are off by {mean:.2f} standard deviations, ln(variance) by "
            f"{var:.2f} (median over channels)",
            f"{RUNNING_MEAN} and {RUNNING_VAR}",
            "healthy networks after one epoch stay below .19 and .18",
            strength,
        )


def _distance(case: Case, layer: nn.Module) -> tuple[float, float, float]:
    caught = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach()))
    try:
        with torch.no_grad(), case.mode(training=False):
            for part in case.x[:1000].split(250):
                case.raw_outputs(part.to(case.where))
    finally:
        hook.remove()
    x = torch.cat(caught).transpose(0, 1).flatten(1).float()  # C x values
    std, var = x.std(1).clamp_min(1e-6), x.var(1).clamp_min(1e-12)
    mean = ((x.mean(1) - layer.running_mean).abs() / std).median().item()
    ratio = (var / layer.running_var.clamp_min(1e-12)).log().abs().median().item()
    return max(mean / RUNNING_MEAN, ratio / RUNNING_VAR), mean, ratio


def generalisation_gap(case: Case, history, n_train: int, n_val: int) -> Iterator[str]:
    """Training accuracy stays above validation accuracy, by more than 5 standard errors."""
    rows = history.rows if hasattr(history, "rows") else list(history)
    if any("val_acc" not in row for row in rows[-3:]):
        raise ValueError("the history has no val_acc: train with a validation part")
    zs = [_two_proportions(row["train_acc"], row["val_acc"], n_train, n_val) for row in rows[-3:]]
    if len(zs) == 3 and min(zs) > 5:
        last = rows[-1]
        yield (
            f"generalisation gap: training accuracy {last['train_acc']:.3f}, validation "
            f"{last['val_acc']:.3f}, z above 5 for three epochs: no bug, but regularisation or "
            "more data would pay"
        )


def _two_proportions(p: float, q: float, n: int, m: int) -> float:
    pooled = (p * n + q * m) / (n + m)
    error = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / n + 1 / m))
    return (p - q) / error


# ------------------------------------------------------------------------------------ training


def loss_at_initialisation(case: Case) -> Iterator[str]:
    """A warning only: healthy networks may start above ln C."""
    x, y = case.batch(64)
    with torch.no_grad(), case.mode(training=True):
        outputs = case.outputs(x)
        loss = case.loss(outputs, y).item() / _added_up(case, outputs, y)
    if outputs.ndim == 2 and loss > 2 * math.log(max(outputs.shape[1], 2)):
        yield (
            f"the loss is {loss:.2f} before this training, more than twice ln C = "
            f"{math.log(outputs.shape[1]):.2f}: large initial weights or inputs"
        )


def _added_up(case: Case, outputs: Tensor, y: Tensor) -> int:
    """How many examples the loss adds up: all, with reduction="sum", which doubles with them."""
    half = len(y) // 2
    first, second = case.loss(outputs[:half], y[:half]), case.loss(outputs[half:], y[half:])
    added = math.isclose((first + second).item(), case.loss(outputs, y).item(), rel_tol=1e-3)
    return len(y) if added else 1


def learning_rate(case: Case, restore) -> Iterator[Finding | str]:
    """From the same weights and on the same batches: lr, and some that are smaller and larger.
    Which of them brings the loss down, in a few steps?"""
    optimizer = case.build_optimizer()
    if optimizer is None:
        return
    lr = max(_lr(optimizer, group) for group in optimizer.param_groups)
    start, own = _first_loss(case), _loss_after(case, restore, 1.0)
    fall = start - own
    if fall > LR_HIGH * start:  # no other could fall more than twice as far
        return
    common = {
        "kind": "sign",
        "source": f"a trial from the same weights on the same batches; {BENCH}",
        "strength": 3.0,
    }
    went = f"in {LR_STEPS} steps the loss went from {start:.3g} to {own:.3g} with lr {lr:g}, to"
    factors = (0.1, 0.01) if fall > LR_NOISE * start else (0.1, 0.01, 0.001)
    best, factor = min((_loss_after(case, restore, f), f) for f in factors)
    if start - best > LR_NOISE * start and fall < LR_HIGH * (start - best):
        yield Finding(
            "learning rate too high",
            measured=f"{went} {best:.3g} with {factor * lr:g}",
            threshold=f"at least {LR_HIGH:.0%} of the fall that a smaller lr brings",
            **common,
        )
        return
    if fall > LR_LOW * start or not _trains_all(case.model, optimizer):
        return  # too much for the rule below; or the last layer alone, which may be slow
    best, factor = min((_loss_after(case, restore, f), f) for f in (10.0, 100.0, 1000.0))
    if start - best > LR_NOISE * start and fall < LR_LOW * (start - best):
        yield Finding(
            "learning rate too low",
            measured=f"{went} {best:.3g} with {factor * lr:g}",
            threshold=f"at least {LR_LOW:.0%} of the fall that a larger lr brings",
            **common,
        )


def _lr(optimizer, group: dict) -> float:
    """What a schedule will warm up to; once steps were taken, what it has come to."""
    return group["lr"] if optimizer.state else own_lr(group)


def _trains_all(model: nn.Module, optimizer) -> bool:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return all(p.requires_grad and id(p) in held for p in model.parameters())


def _first_loss(case: Case) -> float:
    """The loss before training, on the batches that `_loss_after` takes its mean of."""
    with torch.no_grad(), case.mode(training=True):
        losses = [case.loss(case.outputs(x), y) for x, y in case.batches(LR_STEPS, LR_LAST)]
    return torch.stack(losses).mean().item()


def _loss_after(case: Case, restore, factor: float) -> float:
    """The mean loss of the last steps of a short training with factor · lr."""
    restore()
    seed(case.where, 0)
    optimizer = case.build_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = _lr(optimizer, group) * factor
    with torch.enable_grad(), case.mode(training=True):
        losses = [_step(case, optimizer, x, y) for x, y in case.batches(LR_STEPS)]
    restore()
    last = torch.stack(losses[-LR_LAST:]).cpu().double().mean().item()
    return last if math.isfinite(last) else math.inf


def overfits_one_batch(case: Case, restore) -> Iterator[Finding | str]:
    """32 images can be learned by heart in 200 steps of Adam. Not asked of a model that is
    partly frozen: the rest may be too small for that. Nor of one with a single output, whose
    answer nobody can read off it."""
    frozen = not all(p.requires_grad for p in case.model.parameters())
    if frozen or not case.gives_an_output_a_class():
        return
    x, y = case.batch(32)
    tries = []
    for lr in (1e-3, 1e-2):
        restore()
        seed(case.where, 0)
        tries.append(_by_heart(case, x, y, lr))
        if tries[-1][0] == 1:
            return
    accuracy, loss = max(tries)
    yield Finding(
        "cannot overfit one batch",
        "sign",
        f"after {OVERFIT_STEPS} steps of Adam on {len(x)} images the accuracy is {accuracy:.2f}, "
        f"the loss {loss:.3f}",
        "accuracy 1",
        "every healthy network of benchmarks/clinic.py",
        0.5,
    )


def _by_heart(case: Case, x: Tensor, y: Tensor, lr: float) -> tuple[float, float]:
    """(the best accuracy, the last loss) of a training on these images alone."""
    optimizer, best = torch.optim.Adam(case.model.parameters(), lr=lr), 0.0
    for step in range(OVERFIT_STEPS):
        with torch.enable_grad(), case.mode(training=True):
            loss = _step(case, optimizer, x, y).item()
        if step % 10 == 9:
            best = max(best, *(_accuracy(case, x, y, training) for training in (True, False)))
        if best == 1:
            break
    return best, loss


def _accuracy(case: Case, x: Tensor, y: Tensor, training: bool) -> float:
    with torch.no_grad(), case.mode(training=training):
        return (case.outputs(x).argmax(1) == classes(y)).float().mean().item()
