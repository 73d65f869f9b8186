"""A slider that moves the test pictures sideways, while trained networks look at them (lab 04)."""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import ipywidgets
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import nn

from labkit.data import Split
from labkit.train import evaluate
from labkit.widgets.controls import Slider, slider, tidy

_FURTHEST, _SHOWN = 8, 6  # pixels to each side; pictures
_COLORS = ("#CC79A7", "#D55E00", "#0072B2", "#009E73")
_RIGHT, _WRONG = "#404040", "#D55E00"


def shift(models: Mapping[str, nn.Module], split: Split, start: int = 0) -> Slider:
    """A slider over the sideways shift of `split`, with what each network answers.

    models: trained networks by name.  split: at least six labelled images; every network looks at
    all of them at each of 17 shifts when the slider is made, so give it some hundreds.
    start: the shift that it begins at, in pixels, to the right if positive, up to 8.
    """
    moved = {pixels: _moved(split, pixels) for pixels in range(-_FURTHEST, _FURTHEST + 1)}
    results = {
        name: {pixels: evaluate(model, part) for pixels, part in moved.items()}
        for name, model in models.items()
    }
    control = slider(
        ipywidgets.IntSlider,
        "Shift to the right (pixels)",
        value=start,
        min=-_FURTHEST,
        max=_FURTHEST,
    )
    return Slider(lambda pixels: draw_shift(moved, results, pixels), control)


def _moved(split: Split, pixels: int) -> Split:
    """The images `pixels` to the right; what comes in is black."""
    return replace(split, images=F.pad(split.images, (pixels, -pixels)))


def draw_shift(moved: Mapping[int, Split], results: Mapping, pixels: int) -> Figure:
    """Left: the first images at this shift, each with the networks' answers, wrong ones in
    another colour and marked. Right: accuracy against the shift, a line a network.

    moved: shift -> images.  results: network -> shift -> what `labkit.evaluate` gives.
    """
    split = moved[pixels]
    figure = Figure(figsize=(7.6, 3.6))
    outer = figure.add_gridspec(
        1, 2, width_ratios=(3, 2), left=0.02, right=0.99, top=0.86, bottom=0.15, wspace=0.22
    )
    grid = outer[0].subgridspec(2, 3, hspace=0.55, wspace=0.1)
    for i in range(_SHOWN):
        ax = figure.add_subplot(grid[i // 3, i % 3])
        _draw_answers(ax, split, results, pixels, i)
    ax = figure.add_subplot(outer[1])
    for (name, by_shift), color in zip(results.items(), itertools.cycle(_COLORS)):
        ax.plot(list(by_shift), [by_shift[p].accuracy for p in by_shift], color=color)
        accuracy = by_shift[pixels].accuracy
        ax.plot(pixels, accuracy, "o", color=color, label=f"{name}: {accuracy:.2f}")
    ax.axvline(pixels, color="0.8", linewidth=1, zorder=0)
    ax.set(xlabel="shift (pixels)", ylabel="accuracy (fraction)", ylim=(0, 1))
    ax.legend(frameon=False, fontsize=8, loc="lower center")
    tidy(ax)
    figure.suptitle(f"{split.name}, {len(split):,} images, moved by {pixels} px", fontsize=10)
    return figure


def _draw_answers(ax, split: Split, results: Mapping, pixels: int, i: int) -> None:
    image = split.images[i].permute(1, 2, 0).expand(-1, -1, 3)
    ax.imshow(image.cpu().numpy())
    ax.axis("off")
    for row, (name, by_shift) in enumerate(results.items()):
        answer = int(by_shift[pixels].predictions[i])
        right = answer == int(split.labels[i])
        text = f"{name}: {split.classes[answer]}{'' if right else ' ✗'}"
        place = {"transform": ax.transAxes, "ha": "center", "fontsize": 7}
        ax.text(0.5, 1.16 - 0.13 * row, text, color=_RIGHT if right else _WRONG, **place)
