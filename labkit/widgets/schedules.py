"""A slider over the length of a run: what each schedule makes of the learning rate (lab 07)."""

import ipywidgets
import torch
from matplotlib.figure import Figure

from labkit.train import Constant, Cosine, OneCycle, Step
from labkit.widgets.controls import Slider, slider, tidy


def schedules(start: int = 50) -> Slider:
    """A slider over the length of a run that draws four schedules of the learning rate (lab 07)."""
    control = slider(
        ipywidgets.IntSlider,
        "Length of the run (epochs)",
        value=start,
        min=2,
        max=60,
    )
    return Slider(draw_schedules, control)


def draw_schedules(epochs: int, lr: float = 0.01) -> Figure:
    """The learning rate of `lr` under each schedule, against the epoch, for a run of `epochs`."""
    figure = Figure(figsize=(7.2, 3.4))
    figure.subplots_adjust(0.1, 0.16, 0.98, 0.9)
    ax = figure.subplots()
    steps = max(4, 240 // epochs)  # an epoch: fine enough to look smooth, few enough to be quick
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
