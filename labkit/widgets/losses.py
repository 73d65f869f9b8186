"""A slider over the scale of the logits: one softmax and two (lab 02)."""

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from labkit.widgets.controls import Slider, slider, tidy

# The two losses of lab 02, in all of its pictures.
CORRECT, DOUBLE = "#404040", "#D55E00"
_KINDS = (("cross-entropy", CORRECT, "-"), ("double softmax", DOUBLE, "--"))
# Nats; a network that is wrong and sure of it loses more than the picture can show.
_TOP = 5.4


def logit_scale(num_classes: int = 10, start: float = 3.0) -> Slider:
    """A slider over the scale of the logits that draws both losses and both gradients of lab 02.

    start: the scale that it begins at, between 0.1 and 30.
    """
    control = slider(
        ipywidgets.FloatLogSlider,
        "Logit scale (×)",
        value=start,
        base=10,
        min=-1,
        max=1.48,
        step=0.04,
        readout_format=".2f",
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
