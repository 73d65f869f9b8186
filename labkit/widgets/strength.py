"""A slider over the strength of an augmentation (lab 06)."""

import ipywidgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from labkit import augment
from labkit.data import Split
from labkit.widgets.controls import Slider, slider

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
    control = slider(
        ipywidgets.IntSlider,
        description,
        value=start,
        min=1,
        max=strongest,
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
