"""A slider over the learning rate: steps down a hill (lab 00)."""

import ipywidgets
import torch
from matplotlib.figure import Figure

from labkit.widgets.controls import Slider, slider, tidy


def gradient_descent(start: float = 0.1) -> Slider:
    """A slider over the learning rate that draws twelve steps down the loss w² (lab 00)."""
    control = slider(
        ipywidgets.FloatSlider,
        "Learning rate (lr)",
        value=start,
        min=0.02,
        max=1.1,
        step=0.02,
        readout_format=".2f",
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
    hill.set(title="The valley", xlabel="w", ylabel="loss w²", xlim=(-2.6, 2.6), ylim=(-0.3, 7))
    hill.legend(frameon=False, loc="upper center")
    loss.plot(path**2, "o-", color="#0072B2", linewidth=1, markersize=4)
    loss.set(title=f"lr = {lr:.2f}", xlabel="step", ylabel="loss w²", ylim=(-0.3, 7))
    for ax in (hill, loss):
        tidy(ax)
    return figure
