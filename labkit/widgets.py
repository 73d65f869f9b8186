"""Sliders and dropdowns: move one, by mouse or with the keys, and its picture is drawn anew.

A focused slider moves with the arrow keys; a focused dropdown opens with Space, and the arrow keys
and Enter choose (JupyterLab keeps the arrow keys of a closed one for itself).

Each draws into a `widgets.Image` through `observe`, which looks the same in JupyterLab, Colab and
Voila. The output carries a still picture of the first position beside the live one, so that a
reader on GitHub, where no kernel runs, sees that instead.
"""

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labkit import augment
from labkit.data import Split
from labkit.train import Constant, Cosine, OneCycle, Step
from labkit.widgets_controls import Picker, Slider, tidy, word
from labkit.widgets_explore import Explorer, explore  # noqa: F401, so that it is widgets.explore
from labkit.widgets_noise import batch_noise  # noqa: F401, in the same way
from labkit.widgets_shift import shift  # noqa: F401, in the same way

# The two losses of lab 02, in all of its pictures.
CORRECT, DOUBLE = "#404040", "#D55E00"
_KINDS = (("cross-entropy", CORRECT, "-"), ("double softmax", DOUBLE, "--"))
# Nats; a network that is wrong and sure of it loses more than the picture can show.
_TOP = 5.4


def logit_scale(num_classes: int = 10, start: float = 3.0) -> Slider:
    """A slider over the scale of the logits that draws both losses and both gradients of lab 02.

    start: the scale that it begins at, between 0.1 and 30.
    """
    control = ipywidgets.FloatLogSlider(
        value=start,
        base=10,
        min=-1,
        max=1.48,
        step=0.04,
        description="Logit scale (×)",
        readout_format=".2f",
        style={"description_width": "initial"},
        layout={"width": "95%", "max_width": "600px"},
    )
    return Slider(lambda scale: draw_logit_scale(scale, num_classes), control)


def draw_logit_scale(scale: float, num_classes: int = 10) -> Figure:
    """Cross-entropy and double softmax where one logit is `scale` and all others are 0.

    The network prefers class 0. Upper row: that is the label; lower row: another class is.
    Left: both losses (nats) against the scale. Right: both gradients at this scale, class by class.
    """
    # Margins by hand: a layout engine would take most of the time that a drag leaves for a frame.
    figure = Figure(figsize=(7.2, 5.4))
    figure.subplots_adjust(0.075, 0.1, 0.99, 0.94, wspace=0.25, hspace=0.5)
    axes = figure.subplots(2, 2)
    labels = {"right": 0, "wrong": num_classes // 2}
    for (left, right), (verdict, label) in zip(axes, labels.items(), strict=True):
        _draw_losses(left, scale, label, num_classes)
        left.set_title(f"Sure and {verdict}: loss", fontsize=10)
        _draw_gradients(right, scale, label, num_classes)
        right.set_title(f"Sure and {verdict}: gradient at scale {scale:.2g}", fontsize=10)
    return figure


def _losses(scales: torch.Tensor, label: int, num_classes: int):
    """Logits S x C for S scales, and S losses of each kind: cross-entropy, double softmax."""
    favourite = F.one_hot(torch.tensor(0), num_classes)
    logits = (scales[:, None] * favourite).requires_grad_()
    labels = torch.full((len(scales),), label)
    correct = F.cross_entropy(logits, labels, reduction="none")
    double = F.cross_entropy(logits.softmax(1), labels, reduction="none")
    return logits, correct, double


def _draw_losses(ax, scale, label, num_classes) -> None:
    scales = torch.logspace(-1, 1.48, 100)
    _, *curves = _losses(scales, label, num_classes)
    _, *points = _losses(torch.tensor([float(scale)]), label, num_classes)
    ax.axvline(scale, color="0.8", linewidth=1)
    for curve, point, (name, color, style) in zip(curves, points, _KINDS, strict=True):
        value = abs(point.item())  # torch's loss of a perfect answer is -0.0
        ax.plot(scales, curve.detach(), style, color=color, label=f"{name}: {value:.2f}")
        ax.plot(scale, min(value, _TOP), "o" if value <= _TOP else "^", color=color)
    ax.legend(frameon=False, fontsize=9, loc="upper right" if label == 0 else "upper left")
    ax.set(xscale="log", ylim=(-0.3, 6.3), xlabel="logit scale (×)", ylabel="loss (nats)")
    ax.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    ax.minorticks_off()
    tidy(ax)


def _draw_gradients(ax, scale, label, num_classes) -> None:
    logits, *losses = _losses(torch.tensor([float(scale)]), label, num_classes)
    classes = torch.arange(num_classes).numpy()
    for loss, (_, color, _), aside in zip(losses, _KINDS, (-0.2, 0.2), strict=True):
        (gradient,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
        ax.bar(classes + aside, gradient[0].numpy(), 0.4, color=color)
    ax.axhline(0, color="0.3", linewidth=0.8)
    names = {0: "favourite = label"} if label == 0 else {0: "favourite", label: "label"}
    ax.set_xticks(list(names), names.values(), fontsize=9)
    ax.get_xticklabels()[0].set_horizontalalignment("left" if label == 0 else "center")
    ax.set(xlim=(-1, num_classes), ylim=(-1.1, 1.1), xlabel="class", ylabel="∂loss / ∂logit")
    tidy(ax)


def gradient_descent(start: float = 0.1) -> Slider:
    """A slider over the learning rate that draws twelve steps down the loss w² (lab 00)."""
    control = ipywidgets.FloatSlider(
        value=start,
        min=0.02,
        max=1.1,
        step=0.02,
        description="Learning rate (lr)",
        readout_format=".2f",
        style={"description_width": "initial"},
        layout={"width": "95%", "max_width": "600px"},
    )
    return Slider(draw_gradient_descent, control)


def draw_gradient_descent(lr: float, w: float = 1.5, steps: int = 12) -> Figure:
    """`steps` steps of gradient descent on the loss w², from `w`: on the hill, and as a curve."""
    path = [w]
    for _ in range(steps):
        path.append(path[-1] - lr * 2 * path[-1])
    path = torch.tensor(path)
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    hill, loss = figure.subplots(1, 2)
    ground = torch.linspace(-2.6, 2.6, 100)
    hill.plot(ground, ground**2, color="0.7")
    hill.plot(path, path**2, "o-", color="#0072B2", linewidth=1, markersize=4, alpha=0.8)
    hill.plot(path[0], path[0] ** 2, "o", color="#D55E00", label="start")
    hill.set(title="The hill", xlabel="w", ylabel="loss w²", xlim=(-2.6, 2.6), ylim=(-0.3, 7))
    hill.legend(frameon=False, loc="upper center")
    loss.plot(path**2, "o-", color="#0072B2", linewidth=1, markersize=4)
    loss.set(title=f"lr = {lr:.2f}", xlabel="step", ylabel="loss w²", ylim=(-0.3, 7))
    for ax in (hill, loss):
        tidy(ax)
    return figure


# What each strength is called, its unit, the transform at that strength, and where it begins.
_STRENGTHS = {
    "rotation": ("Rotation up to ± (degrees)", augment.Rotation, 180, 15),
    "crop": ("Crop padding (pixels)", augment.Crop, 16, 4),
}


def augmentation(split: Split, name: str = "rotation", index: int = 0) -> Slider:
    """A slider over the strength of an augmentation that draws it on one image (lab 06).

    name: "rotation", up to 180 degrees, or "crop", up to 16 pixels of padding; it begins at what
    `labkit.augment` takes by itself. Raises ValueError for another name.
    """
    if name not in _STRENGTHS:
        raise ValueError(f"There is no slider for {name!r}; there are {', '.join(_STRENGTHS)}")
    description, transform, strongest, start = _STRENGTHS[name]
    control = ipywidgets.IntSlider(
        value=start,
        min=1,
        max=strongest,
        description=description,
        style={"description_width": "initial"},
        layout={"width": "95%", "max_width": "600px"},
    )
    return Slider(lambda strength: draw_augmentation(split, transform(strength), index), control)


def draw_augmentation(split: Split, transform, index: int = 0, columns: int = 6) -> Figure:
    """Two rows of one image: first as it is, then as `transform` changes it.

    The draws are the same at every strength, so that a picture changes steadily with it.
    """
    image = split.images[index].cpu()
    n = 2 * columns - 1
    drawn = transform(image.repeat(n, 1, 1, 1), torch.Generator().manual_seed(0))
    tiles = F.pad(torch.cat([image[None], drawn]), (1, 1, 1, 1), value=255)  # white between them
    rows = [torch.cat(list(row), dim=2) for row in tiles.split(columns)]
    pixels = torch.cat(rows, dim=1).expand(3, -1, -1).permute(1, 2, 0)  # grey becomes colour
    figure = Figure(figsize=(7.2, 2.8))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.88)
    ax = figure.subplots()
    ax.imshow(pixels.numpy())
    label = split.classes[split.labels[index]]
    ax.set_title(f"{split.name}, {label}: the image itself, then {transform}", fontsize=10)
    ax.axis("off")
    return figure


def schedules(start: int = 50) -> Slider:
    """A slider over the length of a run that draws four schedules of the learning rate (lab 07)."""
    control = ipywidgets.IntSlider(
        value=start,
        min=2,
        max=60,
        description="Length of the run (epochs)",
        style={"description_width": "initial"},
        layout={"width": "95%", "max_width": "600px"},
    )
    return Slider(draw_schedules, control)


def draw_schedules(epochs: int, lr: float = 0.01) -> Figure:
    """The learning rate of `lr` under each schedule, against the epoch, for a run of `epochs`."""
    figure = Figure(figsize=(7.2, 3.4))
    figure.subplots_adjust(0.1, 0.16, 0.98, 0.9)
    ax = figure.subplots()
    steps = 10  # an epoch: fine enough to look smooth
    shown = {
        "constant": Constant(),
        "step: half, every 10 epochs": Step(every=10, factor=0.5),
        "cosine": Cosine(),
        "one cycle": OneCycle(),
    }
    for (name, schedule), color in zip(shown.items(), _SERIES, strict=True):
        rates = _learning_rates(schedule, lr, epochs, steps)
        ax.plot([i / steps for i in range(len(rates))], rates, color=color, label=name)
    ax.set(xlabel="epoch", ylabel="learning rate", xlim=(0, 60), ylim=(0, 1.4 * lr))
    ax.set_title(f"{epochs} epochs, lr = {lr:g}", fontsize=10)
    ax.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
    tidy(ax)
    return figure


_SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


def _learning_rates(schedule, lr: float, epochs: int, steps: int) -> list[float]:
    """The learning rate at each of epochs · steps steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = schedule.build(optimizer, epochs, steps)
    rates = []
    for _ in range(epochs * steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


# ------------------------------------------------------------------------------- ablation

_CHOSEN = "#D55E00"


def ablation(
    curves: pd.DataFrame, keys: Sequence[str], title: str = "", start: Mapping | None = None
) -> Picker:
    """Dropdowns over the configurations of a study that show one of them among all (lab 08).

    curves: one row an epoch of a run, as `labkit.study.epochs` gives them: columns epoch, val_acc
        (a fraction), seed and `keys`. A configuration without a key has NaN there; the dropdowns of
        keys that no configuration of the first one's value has are greyed out.
    keys: the columns that a dropdown chooses from, the kind of network first.
    title: names the data.
    start: the values that it begins with; by default those of the best configuration.

    Raises ValueError for a column that is missing, or where there is no run.
    """
    missing = [name for name in (*keys, "epoch", "val_acc", "seed") if name not in curves]
    if missing or curves.empty:
        what = f"no column {missing[0]!r}" if missing else "no row"
        raise ValueError(f"the curves have {what}: give labkit.study.epochs of a recorded study")
    runs = _runs_by_configuration(curves, list(keys))
    best = max(runs, key=lambda config: _level(runs[config]))
    chosen = dict(zip(keys, best, strict=True)) | dict(start or {})
    controls = {}
    for i, key in enumerate(keys):
        values = sorted({config[i] for config in runs} - {None}, key=str)
        controls[key] = ipywidgets.Dropdown(
            options=[(word(value), value) for value in values],
            value=values[0] if chosen[key] is None else chosen[key],
            description=key,
            style={"description_width": "initial"},
            layout={"width": "max-content"},
        )

    def draw(**values) -> Figure:
        config = _configuration(values, runs)
        for control, value in zip(controls.values(), config, strict=True):
            control.disabled = value is None
        return draw_ablation(runs, config, keys, title)

    return Picker(draw, controls)


def _runs_by_configuration(curves: pd.DataFrame, keys: list[str]) -> dict[tuple, list]:
    """Configuration -> the validation accuracies, epoch by epoch, of each of its runs; None stands
    for a key that it does not have."""
    runs: dict[tuple, list] = {}
    for (*config, _seed), run in curves.groupby([*keys, "seed"], dropna=False, sort=False):
        config = tuple(None if pd.isna(v) else bool(v) if v in (0, 1) else v for v in config)
        runs.setdefault(config, []).append(run.sort_values("epoch")["val_acc"].to_numpy())
    return runs


def _configuration(values: Mapping, runs: Mapping[tuple, list]) -> tuple:
    """What is chosen, without the keys that no configuration of its first value has."""
    first, *others = values.values()
    alike = [config for config in runs if config[0] == first]
    has = [any(config[i] is not None for config in alike) for i in range(1, len(values))]
    return first, *(value if there else None for value, there in zip(others, has, strict=True))


def _level(curves: list) -> float:
    """The best validation accuracy of a run, on average over the runs."""
    return float(np.mean([curve.max() for curve in curves]))


def draw_ablation(
    runs: Mapping[tuple, list], config: tuple, keys: Sequence[str], title: str = ""
) -> Figure:
    """One configuration among all of a study. Left: validation accuracy against the epoch, a line
    a run, the others' means in grey. Right: all configurations by rank, each at the best epoch's
    accuracy on average over its runs, and a dash for each run of the one.

    runs: configuration, its values in the order of `keys`, -> curves, an array for each run.
    config: the one; if it is not in `runs`, the title says that it is not recorded yet.
    """
    figure = Figure(figsize=(7.6, 3.7))
    figure.subplots_adjust(0.105, 0.14, 0.99, 0.83, wspace=0.06)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    ranking = sorted(runs, key=lambda other: -_level(runs[other]))
    levels = [_level(runs[other]) for other in ranking]
    for other in ranking:
        shortest = min(map(len, runs[other]))
        mean = np.mean([curve[:shortest] for curve in runs[other]], axis=0)
        left.plot(range(1, shortest + 1), mean, color="0.82", linewidth=1)
    right.plot(range(1, len(levels) + 1), levels, "o", color="0.7", markersize=4)
    found = "no run recorded yet"
    if config in runs:
        rank = ranking.index(config) + 1
        _draw_chosen(left, right, runs[config], rank)
        count = f"{len(runs[config])} run{'s' * (len(runs[config]) > 1)}"
        found = f"{levels[rank - 1]:.4f} ({count}), rank {rank} of {len(ranking)}"
    low, high = levels[-1], max(curve.max() for curves in runs.values() for curve in curves)
    left.set_ylim(low - 0.6 * (high - low) - 0.01, high + 0.1 * (high - low) + 0.002)
    left.set(xlabel="epoch", ylabel="validation accuracy (fraction)")
    right.set(xlabel="rank", xlim=(0, len(levels) + 1))
    figure.suptitle(f"{title}\n{_config_name(config, keys)}: {found}".strip(), fontsize=10)
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        tidy(ax)
    return figure


def _draw_chosen(left, right, curves: list, rank: int) -> None:
    for curve in curves:
        left.plot(range(1, len(curve) + 1), curve, color=_CHOSEN, linewidth=1.2, alpha=0.8)
        right.plot(rank, curve.max(), "_", color=_CHOSEN, markersize=9)
    right.plot(rank, _level(curves), "o", color=_CHOSEN, markersize=7)


def _config_name(config: tuple, keys: Sequence[str]) -> str:
    """ImprovedCNN + batchnorm, avg: the values, and of what is on or off the names that are on."""
    on = [key for key, value in zip(keys, config, strict=True) if value is True]
    values = [value for value in config[1:] if value is not None and not isinstance(value, bool)]
    return ", ".join([" + ".join([str(config[0]), *on]), *map(str, values)])
