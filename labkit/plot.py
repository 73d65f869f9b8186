"""Pictures of data and of results: each function takes what `load`, `fit` or `evaluate`
returns, draws with matplotlib and seaborn, and gives back the Axes.

Those that take a split, a history or an evaluation name its data in the title, so that a
stand-in can't be taken for the real thing; of the others the caller does. The colours are
Okabe and Ito's, which colour-blind readers can tell apart; a split has the same colour in
every lab.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from labkit import augment, study
from labkit.data import Split
from labkit.plot_architecture import architecture  # noqa: F401, so that it is plot.architecture
from labkit.plot_tuning import heat_map, reliability  # noqa: F401, in the same way
from labkit.train import Evaluation, History

COLORS = {"train": "#0072B2", "val": "#E69F00", "test": "#009E73"}
# For any other series, in this order.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")

_LABELS = {"train": "training", "val": "validation", "test": "test"}


def curves(history: History, axes=None) -> np.ndarray:
    """Loss and accuracy of a run against the epoch; the best epoch is marked.

    `axes`: two Axes to draw into; by default a new figure. Returns the two Axes.
    """
    if not history.rows:
        raise ValueError(
            f"The run on {history.data} has no finished epoch to draw: train for longer"
        )
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    frame = history.frame()
    quantities = ("loss", "Loss", "loss (nats)"), ("acc", "Accuracy", "accuracy (fraction)")
    for ax, (quantity, title, label) in zip(axes, quantities, strict=True):
        for split in ("train", "val"):
            column = f"{split}_{quantity}"
            if column in frame:
                ax.plot(
                    frame["epoch"],
                    frame[column],
                    color=COLORS[split],
                    marker="o" if len(frame) < 20 else None,
                    markersize=4,
                    label=_LABELS[split],
                )
        if "val_acc" in frame:
            ax.axvline(
                history.best["epoch"], color="0.6", linestyle=":", linewidth=1.2, label="best epoch"
            )
        ax.set(title=f"{title}, {history.data}", xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(ax)
    axes[0].legend(frameon=False)
    return np.asarray(axes)


def confusion(evaluation: Evaluation, normalize: bool = False, ax: Axes | None = None) -> Axes:
    """The confusion matrix: a row a true class, a column a predicted one.

    Counts of images, or with `normalize` each row divided by its sum, in percent.
    """
    counts = evaluation.confusion.numpy()
    c = len(evaluation.classes)
    if ax is None:
        _, ax = plt.subplots(figsize=(2.2 + 0.5 * c, 1.6 + 0.45 * c), layout="constrained")
    shown = _percent_of_rows(counts) if normalize else counts
    _heatmap(shown, evaluation.classes, ax, annot=True, fmt=".0f" if normalize else "d")
    unit = "% of the true class" if normalize else "images"
    ax.set_title(
        f"{evaluation.name}: accuracy {100 * evaluation.accuracy:.1f} %  ({unit})", fontsize=10
    )
    return ax


def confusions(
    matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str], title: str = ""
) -> np.ndarray:
    """Confusion matrices of several networks, two in a row: a row a true class, a column a
    predicted one, in percent of the row; what rounds to 0 stays empty.

    matrices: counts of images, C x C, by the name of the network; `labkit.study.confusions` has
        those of recorded runs. Returns the Axes. Raises ValueError for none, or another shape.
    """
    if not matrices:
        raise ValueError("confusions has no matrix to draw: give one or more, by name")
    c, rows = len(classes), math.ceil(len(matrices) / 2)
    arrays = {name: np.asarray(counts) for name, counts in matrices.items()}
    for name, counts in arrays.items():
        if counts.shape != (c, c):
            raise ValueError(
                f"the matrix of {name} has the shape {counts.shape}: give {c} x {c} counts, one "
                "row and one column a class"
            )
    figure, axes = plt.subplots(
        rows,
        2,
        figsize=(8.6, 0.7 + 4.1 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(arrays) :]:
        ax.set_axis_off()
    for ax, (name, counts) in zip(axes.flat, arrays.items(), strict=False):
        shown = _percent_of_rows(counts)
        texts = np.char.mod("%.0f", shown)
        _heatmap(shown, classes, ax, annot=np.where(texts == "0", "", texts), fmt="")
        accuracy = counts.trace() / max(counts.sum(), 1)
        ax.set_title(f"{name}: accuracy {100 * accuracy:.1f} %", fontsize=10)
        ax.label_outer()
    figure.suptitle(f"{title} (% of the true class)".strip(), fontsize=11)
    return axes


def _percent_of_rows(counts: np.ndarray) -> np.ndarray:
    return 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)


def _heatmap(shown: np.ndarray, classes: Sequence[str], ax: Axes, **options) -> None:
    """A confusion matrix with its numbers, without a colour bar."""
    sns.heatmap(
        shown,
        ax=ax,
        cmap="Blues",
        cbar=False,
        square=True,
        linewidths=0.5,
        linecolor="white",
        xticklabels=classes,
        yticklabels=classes,
        annot_kws={"fontsize": 8},
        **options,
    )
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(length=0, labelsize=8)
    plt.setp(ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")


def per_class(
    evaluation: Evaluation,
    beside: Mapping[str, Sequence[float]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The accuracy of each class (a fraction) as a bar, with its 95 % interval for this many
    images (`labkit.study.wilson`); a dashed line for all classes together.

    `beside`: name -> C accuracies to mark on the bars, another network's or a report's. A class
    without images has no bar. Raises ValueError where `beside` has another number of classes.
    """
    hits, counts = evaluation.confusion.diag().numpy(), evaluation.confusion.sum(1).numpy()
    c, there = len(counts), np.flatnonzero(counts)
    shares = hits[there] / counts[there]
    low, high = study.wilson(hits[there], counts[there])
    if ax is None:
        _, ax = plt.subplots(figsize=(max(5.0, 1.6 + 0.58 * c), 3.8), layout="constrained")
    ax.bar(there, shares, color=COLORS["test"], alpha=0.6)
    ax.errorbar(there, shares, [shares - low, high - shares], fmt="none", ecolor="0.2", capsize=4)
    ax.axhline(evaluation.accuracy, color="0.3", linestyle="--", linewidth=1, label="all classes")
    for i, (name, values) in enumerate((beside or {}).items()):
        if len(values) != c:
            raise ValueError(
                f"per_class(beside={{{name!r}: ...}}) has {len(values)} accuracies for {c} "
                f"classes of {evaluation.name}: give one a class"
            )
        style = {"color": PALETTE[3 + i % 4], "markeredgecolor": "white", "label": name}
        ax.plot(range(c), values, "DsoX"[i % 4], **style)
    ax.set(ylim=(0, 1.14), ylabel="accuracy (fraction)")  # the legend stands above the bars
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_title(f"{evaluation.name}: accuracy {100 * evaluation.accuracy:.1f} %", fontsize=10)
    ax.set_xticks(range(c), evaluation.classes, rotation=40, ha="right", rotation_mode="anchor")
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    _tidy(ax)
    return ax


def images(split: Split, per_class: int = 8, seed: int = 0) -> np.ndarray:
    """A grid of random images, a row a class. Returns the Axes, C x per_class."""
    chosen, generator = [], torch.Generator().manual_seed(seed)
    for label in range(len(split.classes)):
        members = (split.labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[:per_class]])
    figure, axes = plt.subplots(
        len(chosen),
        per_class,
        figsize=(0.75 * per_class + 1.4, 0.75 * len(chosen) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (name, members) in enumerate(zip(split.classes, chosen, strict=True)):
        for column in range(per_class):
            ax = axes[row, column]
            ax.axis("off")
            if column < len(members):
                show(split.images[members[column]], ax)
        axes[row, 0].text(
            -0.15, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=9
        )
    figure.suptitle(split.name, fontsize=11)
    return axes


def show(image: Tensor, ax: Axes, title: str = "") -> Axes:
    """One uint8 image C x H x W, without a frame."""
    pixels = image.cpu().permute(1, 2, 0).numpy()
    grey = pixels.shape[2] == 1
    ax.imshow(pixels[..., 0] if grey else pixels, cmap="gray" if grey else None, vmin=0, vmax=255)
    ax.axis("off")
    if title:
        ax.set_title(title, fontsize=8)
    return ax


def augmentations(
    split: Split,
    transforms=("crop", "flip", "rotation", "erasing"),
    index: int = 0,
    n: int = 8,
    seed: int = 0,
) -> np.ndarray:
    """`n` draws of each transform for one image, a row a transform, the image itself first.

    `transforms`: names or transforms, see `labkit.augment`. Returns the Axes.
    """
    built = augment.build(transforms)
    generator = torch.Generator().manual_seed(seed)
    image = split.images[index].cpu()
    figure, axes = plt.subplots(
        len(built),
        n + 1,
        figsize=(0.85 * (n + 1) + 0.9, 0.95 * len(built) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, transform in enumerate(built):
        drawn = transform(image.repeat(n, 1, 1, 1), generator)
        show(image, axes[row, 0], "original" if row == 0 else "")
        for column in range(n):
            show(drawn[column], axes[row, column + 1])
        name = augment.to_dict(transform)["name"]
        axes[row, 0].text(
            -0.15, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=9
        )
    figure.suptitle(f"{split.name}: {split.classes[split.labels[index]]}", fontsize=11)
    return axes


def mistakes(evaluation: Evaluation, n: int = 12) -> np.ndarray:
    """The mistakes that the model is surest of, with its confidence. Returns the Axes."""
    wrong = (evaluation.predictions != evaluation.labels).nonzero().flatten()
    confidence = evaluation.confidence
    worst = wrong[confidence[wrong].argsort(descending=True)][:n]
    columns = min(6, max(n, 1))
    rows = max(math.ceil(len(worst) / columns), 1)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.5 * columns, 1.85 * rows + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, index in zip(axes.flat, worst, strict=False):
        said = evaluation.classes[evaluation.predictions[index]]
        truth = evaluation.classes[evaluation.labels[index]]
        show(evaluation.images[index], ax, f"{said} {100 * confidence[index]:.0f} %\nis {truth}")
    figure.suptitle(
        f"{evaluation.name}: {len(wrong)} mistakes of {len(evaluation.labels)}", fontsize=11
    )
    return axes


def over_seeds(
    results: Mapping[str, Sequence[float]], title: str = "", ax: Axes | None = None
) -> Axes:
    """Test accuracies (fractions) of several seeds: a row a name, a dot a seed, a bar for the 95 %
    interval of the mean (`labkit.study.interval`), which is also written beside it."""
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 0.9 + 0.45 * len(results)), layout="constrained")
    for row, values in enumerate(results.values()):
        mean, low, high = study.interval(values)
        ax.plot([low, high], [row, row], color="0.75", linewidth=7, solid_capstyle="butt")
        ax.plot(values, [row] * len(values), "o", color=COLORS["test"], alpha=0.7, markersize=6)
        ax.plot(mean, row, "|", color="black", markersize=15, markeredgewidth=1.5)
        beside = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 9}
        ax.text(1.02, row, f"{mean:.3f} ± {high - mean:.3f}", **beside)
    ax.set_yticks(range(len(results)), results)
    ax.set(title=title, xlabel="test accuracy (fraction)", ylim=(len(results) - 0.4, -0.6))
    _tidy(ax)
    return ax


def effects(table: pd.DataFrame, title: str = "", ax: Axes | None = None) -> Axes:
    """A row a claim of `labkit.study.judge`: our effect with its 95 % interval, and the reported
    one as a diamond, in percentage points.

    Full dots: the interval lies on one side of 0; hollow ones: it doesn't, or there is none.
    Levels, and effects on a loss, are left out. Raises ValueError where nothing is left to draw.
    """
    if len(table):
        table = table[~table["level"].astype(bool) & table["unit"].eq("points")]
    if table.empty:
        raise ValueError("effects has no claim to draw: give rows of judge in points, not levels")
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 1 + 0.36 * len(table)), layout="constrained")
    ax.axvline(0, color="0.6", linewidth=1)
    decided = table["low"] * table["high"] > 0
    for row, (claim, sure) in enumerate(zip(table.to_dict("records"), decided, strict=True)):
        ax.plot([100 * claim["low"], 100 * claim["high"]], [row, row], color=PALETTE[0], lw=2)
        face = PALETTE[0] if sure else "white"
        ax.plot(100 * claim["effect"], row, "o", color=PALETTE[0], markerfacecolor=face)
        ax.plot(100 * claim["reported"], row, "D", color=PALETTE[1], markersize=5)
    names = ["\n".join(textwrap.wrap(claim, 52)) for claim in table["claim"]]
    ax.set_yticks(range(len(table)), names, fontsize=7)
    ax.set(title=title, xlabel="effect (percentage points)", ylim=(len(table) - 0.4, -0.6))
    handles = [
        ax.plot([], [], "o-", color=PALETTE[0], label="measured, 95 % interval")[0],
        ax.plot([], [], "o-", color=PALETTE[0], mfc="white", label="undecided")[0],
        ax.plot([], [], "D", color=PALETTE[1], markersize=5, label="reported")[0],
    ]
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    _tidy(ax)
    return ax


def gradient_norms(
    tables: Mapping[str, pd.DataFrame], title: str = "", ax: Axes | None = None
) -> Axes:
    """The gradient's length in each layer, from the input on the left to the output on the right.

    `tables`: what `labkit.summary.gradient_norms` gives, by the name of the network; a network
    has its line, a layer its dot. The scale is logarithmic, and a norm of 0 has no dot.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for (name, table), color in zip(tables.items(), itertools.cycle(PALETTE)):
        shown = table[table["norm"] > 0]
        ax.plot(shown["depth"], shown["norm"], "o-", color=color, markersize=3, label=name)
    ax.set(yscale="log", xlabel="layer, counted from the input", ylabel="‖∂loss / ∂weight‖")
    ax.set_title(title, fontsize=11)
    ax.legend(frameon=False, fontsize=9)
    _tidy(ax)
    return ax


def filters(
    weight: Tensor, title: str = "Filters", columns: int = 12, unit: str = "weight"
) -> Axes:
    """The weights that lead to each output, as pictures: N x C x H x W with C = 1 or 3.

    `conv.weight` of a first layer has that shape; the rows of a Linear layer on images get it by
    `linear.weight.view(-1, C, H, W)`. One scale for all pictures, zero in its middle: one channel
    runs from blue (negative) over white to red, three are colours about mid-grey. `unit`
    names the bar beside one channel. Raises ValueError for another shape.
    """
    if weight.dim() != 4 or weight.shape[1] not in (1, 3) or not weight.numel():
        raise ValueError(
            f"filters draws weights N x C x H x W with C = 1 or 3, got {tuple(weight.shape)}: give "
            "a first layer's conv.weight, or linear.weight.view(-1, C, H, W)"
        )
    pictures = weight.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    limit = np.abs(pictures).max() or 1.0
    if weight.shape[1] == 3:
        return _grid(pictures / (2 * limit) + 0.5, title, columns)
    return _grid(pictures[..., 0], title, columns, unit, cmap="RdBu_r", vmin=-limit, vmax=limit)


def feature_maps(maps: Tensor, title: str = "Feature maps", columns: int = 12) -> Axes:
    """What a layer makes of one image, C x H x W, a picture a channel.

    One scale for all channels, from the smallest value (or zero) to the largest. Raises ValueError
    for another shape.
    """
    if maps.dim() != 3 or not maps.numel():
        raise ValueError(
            f"feature_maps draws the maps of one image, C x H x W, got {tuple(maps.shape)}: "
            "give layer(images)[0]"
        )
    pictures = maps.detach().float().cpu().numpy()
    scale = {"vmin": min(pictures.min(), 0), "vmax": pictures.max()}
    return _grid(pictures, title, columns, "activation", cmap="viridis", **scale)


def _grid(pictures: np.ndarray, title: str, columns: int, unit: str = "", **scale) -> Axes:
    """Small pictures in rows of `columns`, in one Axes, since dozens of them take seconds to lay
    out; `unit` names the colour bar, if there is to be one."""
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height = pictures.shape[1] / pictures.shape[2]  # of a picture that is 1 wide
    side = min(max(7.4 / columns, 0.62), 1.2)  # inches: a dozen fill the page
    size = (side * columns + 1.0, side * rows * height + 0.5)
    _, ax = plt.subplots(figsize=size, layout="constrained")
    for i, picture in enumerate(pictures):
        left, top = 1.1 * (i % columns), (height + 0.1) * (i // columns)
        shown = ax.imshow(picture, extent=(left, left + 1, top + height, top), **scale)
    ax.set(xlim=(-0.1, 1.1 * columns), ylim=((height + 0.1) * rows, -0.1), xticks=[], yticks=[])
    ax.set_facecolor("0.8")
    ax.spines[:].set_visible(False)
    if unit:
        ax.figure.colorbar(shown, ax=ax, label=unit, fraction=0.05, pad=0.02)
    ax.set_title(title, fontsize=11)
    return ax


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
