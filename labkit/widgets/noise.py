"""Two sliders, dropout's rate and the batch size: how much do both layers' means jump? (lab 03)"""

import math

import ipywidgets
import torch
from matplotlib.figure import Figure

from labkit.widgets.controls import Picker, slider, tidy

_BATCHES = 2000  # drawn for each histogram
_SIZES = tuple(2**k for k in range(1, 10))
_RANGE = (-1.5, 3.5)
_HEADROOM = 1.5  # of the axis, by the highest bar: the legend stands above it


def batch_noise(p: float = 0.5, batch_size: int = 32) -> Picker:
    """Sliders over dropout's p and the batch size that draw what Dropout and BatchNorm make of
    2,000 batches of one feature: the batch's mean after dropout, and the mean that is subtracted.

    p: from 0 to 0.9.  batch_size: a power of two from 2 to 512.
    """
    controls = {
        "p": slider(
            ipywidgets.FloatSlider,
            "Dropout p (probability)",
            value=p,
            min=0,
            max=0.9,
            step=0.05,
        ),
        "batch_size": slider(
            ipywidgets.SelectionSlider,
            "Batch size (images)",
            value=batch_size,
            options=_SIZES,
        ),
    }
    return Picker(draw_batch_noise, controls)


def draw_batch_noise(p: float, batch_size: int) -> Figure:
    """2,000 batches of a feature. Left: it is 1 everywhere, and it passes each of lab 03's three
    dropouts in training; the batch's mean. Right: it is normal, and BatchNorm subtracts
    the batch's mean."""
    generator = torch.Generator().manual_seed(0)
    kept = (torch.rand(_BATCHES, batch_size, generator=generator) >= p).float().mean(1)
    drawn = torch.randn(_BATCHES, batch_size, generator=generator).mean(1)
    figure = Figure(figsize=(7.6, 3.3))
    figure.subplots_adjust(0.1, 0.16, 0.99, 0.8, wspace=0.28)
    left, right = figure.subplots(1, 2)
    dropouts = {
        "inverted: mask · x / (1 - p)": (1 / (1 - p), "#009E73"),
        "original: mask · x": (1.0, "#E69F00"),
        "the report's: mask · x · (1 - p)": (1 - p, "#D55E00"),
    }
    for name, (scale, color) in dropouts.items():
        means = kept * scale
        label = f"{name}, {means.mean():.2f} ± {means.std():.2f}"
        _histogram(left, means, label, color, step=scale / batch_size)
    left.set_title("Dropout of x = 1: mean of the batch", fontsize=10)
    _histogram(right, drawn, f"0 ± {drawn.std():.2f}", "#0072B2")
    right.set_title("BatchNorm: the mean that it subtracts", fontsize=10)
    for ax, expected in ((left, 1), (right, 0)):
        ax.axvline(expected, ymax=1 / _HEADROOM, color="0.3", linewidth=1)  # not into the legend
        ax.set(xlim=_RANGE, xlabel="mean of a batch", ylabel="batches a bar")
        ax.set_ylim(0, _HEADROOM * ax.get_ylim()[1])
        ax.legend(frameon=False, fontsize=7, handlelength=1.2, loc="upper right")
        tidy(ax)
    figure.suptitle(f"p = {p:g}, batches of {batch_size}, {_BATCHES:,} of them", fontsize=10)
    return figure


def _histogram(ax, values: torch.Tensor, label: str, color: str, step: float | None = None) -> None:
    """About 60 bars. Where values lie `step` apart, each bar holds equally many of them, or one
    stands in the middle of its bar: else some bars would be twice as high by accident."""
    low, high = _RANGE
    width, start = (high - low) / 60, 0.0
    if step and step <= width:
        width, start = step * math.ceil(width / step), -step / 2
    elif step:
        width = step / (2 * round((step / width - 1) / 2) + 1)  # an odd part of it
        start = -width / 2
    bars = range(math.floor(low / width), math.ceil(high / width) + 2)
    edges = torch.tensor([start + bar * width for bar in bars], dtype=torch.float64)
    counts, _ = torch.histogram(values.double(), bins=edges)
    beyond = ((values < low) | (values > high)).float().mean().item()
    if beyond >= 0.005:
        label += f", {beyond:.0%} outside"
    ax.stairs(counts.numpy(), edges.numpy(), fill=True, alpha=0.6, color=color, label=label)
