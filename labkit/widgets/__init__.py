"""Sliders and dropdowns: move one, by mouse or with the keys, and its picture is drawn anew.

A focused slider moves with the arrow keys; a focused dropdown opens with Space, and the arrow keys
and Enter choose (JupyterLab keeps the arrow keys of a closed one for itself).

Each draws into a `widgets.Image` through `observe`, which looks the same in JupyterLab, Colab and
Voila. The output carries a still picture of the first position beside the live one, so that a
reader on GitHub, where no kernel runs, sees that instead.
"""

from labkit.widgets.ablation import ablation, draw_ablation
from labkit.widgets.controls import Picker, Slider
from labkit.widgets.descent import draw_gradient_descent, gradient_descent
from labkit.widgets.explore import Explorer, explore
from labkit.widgets.losses import CORRECT, DOUBLE, draw_logit_scale, logit_scale
from labkit.widgets.noise import batch_noise, draw_batch_noise
from labkit.widgets.schedules import draw_schedules, schedules
from labkit.widgets.shift import draw_shift, shift
from labkit.widgets.strength import augmentation, draw_augmentation
from labkit.widgets.target import draw_target, target

__all__ = [
    "CORRECT",
    "DOUBLE",
    "Explorer",
    "Picker",
    "Slider",
    "ablation",
    "augmentation",
    "batch_noise",
    "draw_ablation",
    "draw_augmentation",
    "draw_batch_noise",
    "draw_gradient_descent",
    "draw_logit_scale",
    "draw_schedules",
    "draw_shift",
    "draw_target",
    "explore",
    "gradient_descent",
    "logit_scale",
    "schedules",
    "shift",
    "target",
]
