"""The picture of a model; `labkit.plot` hands it on as `plot.architecture`."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon
from torch import nn

from labkit.summary import summary, trace

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLORS = {
    "input": "#BBBBBB",
    "convolution": "#56B4E9",
    "block": "#0072B2",
    "pooling": "#E69F00",
    "linear": "#009E73",
    "other": "#CC79A7",
}
_KINDS = {"Conv": "convolution", "Linear": "linear", "Pool": "pooling"}
_MOST_BLOCKS = 12

# Lengths in columns: one block takes one column, and the tallest is as tall as a column is wide.
_FLATTEST = 0.03
_WIDTH = 0.045  # for each doubling of the channels
_DEPTH = (0.22, 0.16)  # how far the back of the tallest block lies to the right and above
_TEXT_BELOW = -(1 + _DEPTH[1]) / 2 - 0.1
_LINE = 0.17
_INCHES = 0.74  # of a column


@dataclass(frozen=True)
class _Block:
    """One box: the shape that comes out of it, and the lines of text below it."""

    kind: str
    shape: tuple[int, ...]
    text: tuple[str, ...]


def architecture(model: nn.Module, input_shape: tuple[int, ...], ax: Axes | None = None) -> Axes:
    """Draw a model as the boxes that an image of ``input_shape``, (C, H, W), turns into.

    A box is as tall as its feature maps, as wide as the logarithm of its number of channels; above
    it stands its shape, below it what made it: a layer with its kernel (and "/2" for stride 2), and
    the layers after it that keep the shape. A module of several layers is one box, equal boxes
    in a row are drawn once with their number, and a long model by its top-level children. What
    ``forward`` does without a layer is not seen.

    Raises ValueError if ``input_shape`` is no shape or does not fit the model.
    """
    totals = summary(model, input_shape)
    blocks = _blocks(model, totals.input_shape)
    lines = max(len(block.text) for block in blocks)
    bottom, top = _TEXT_BELOW - _LINE * (lines + 0.5), -_TEXT_BELOW + 0.2
    if ax is None:
        size = (max(5.0, _INCHES * len(blocks)), _INCHES * (top - bottom) + 0.3)
        _, ax = plt.subplots(figsize=size, layout="constrained")

    largest = max(side for block in blocks for side in _sides(block.shape)[1:])
    edges = [_draw(ax, block, column, largest) for column, block in enumerate(blocks)]
    for (_, right), (left, _) in itertools.pairwise(edges):
        ax.annotate(
            "",
            xy=(left - 0.02, 0),
            xytext=(right + 0.02, 0),
            arrowprops={"arrowstyle": "->", "color": "0.5", "shrinkA": 0, "shrinkB": 0},
        )
    ax.set_title(
        f"{totals.model}: {totals.parameters:,} parameters, {totals.macs:,} multiply-accumulates",
        fontsize=9,
    )
    ax.set(xlim=(-0.6, len(blocks) - 0.4), ylim=(bottom, top), aspect="equal")
    ax.axis("off")
    return ax


def _blocks(model: nn.Module, input_shape: tuple[int, ...]) -> list[_Block]:
    """The boxes from left to right, the input first."""
    lists = (nn.ModuleList, nn.ModuleDict)
    for opened in ((*lists, nn.Sequential), lists):
        blocks = _run_lengths(_calls(model, input_shape, opened))
        if len(blocks) <= _MOST_BLOCKS:
            break
    return blocks


def _calls(model: nn.Module, input_shape: tuple[int, ...], opened: tuple) -> list[_Block]:
    """A box for each module that is called, once the modules in `opened` are unpacked."""
    units = set(_units(model, opened))
    blocks = [_Block("input", input_shape, ("input",))]

    def record(path, module, _x, output):
        shape = tuple(output.shape[1:])
        kind = _kind(module)
        if kind == "other" and math.prod(shape) == math.prod(blocks[-1].shape):
            last = blocks.pop()  # BatchNorm, ReLU, Dropout, Flatten: no box of its own
            blocks.append(replace(last, text=last.text + _text(path, module)))
        else:
            blocks.append(_Block(kind, shape, _text(path, module)))

    trace(model, input_shape, lambda m: m in units and not isinstance(m, nn.Identity), record)
    return blocks


def _units(module: nn.Module, opened: tuple) -> Iterator[nn.Module]:
    children = list(module.children())
    if not children:
        yield module
    for child in children:
        if isinstance(child, opened):
            yield from _units(child, opened)
        else:
            yield child


def _run_lengths(blocks: list[_Block]) -> list[_Block]:
    """Equal neighbours as one box that says how many they are."""
    runs = []
    for block, run in itertools.groupby(blocks):
        count = len(list(run))
        runs.append(block if count == 1 else replace(block, text=(*block.text, f"× {count}")))
    return runs


def _kind(module: nn.Module) -> str:
    if next(module.children(), None) is not None:
        return "block"
    name = type(module).__name__
    return next((kind for part, kind in _KINDS.items() if part in name), "other")


def _text(path: str, module: nn.Module) -> tuple[str, ...]:
    """The lines below a box: BasicBlock; Conv2d, 7×7 /2; layer1, 2 BasicBlock."""
    name = type(module).__name__
    if isinstance(module, nn.Sequential):
        kinds = {type(child).__name__ for child in module}
        return path, f"{len(module)} {kinds.pop() if len(kinds) == 1 else 'modules'}"
    # A long name, AdaptiveAvgPool2d, is broken before its second capital letter.
    lines = tuple(re.split(r"(?<=[a-z])(?=[A-Z])", name, maxsplit=1) if len(name) > 12 else [name])
    kernel = getattr(module, "kernel_size", None)
    if kernel is not None:
        stride = _pair(module.stride)
        usual = (1, 1) if _kind(module) == "convolution" else _pair(kernel)
        size = "×".join(map(str, _pair(kernel)))
        lines += (size if stride == usual else f"{size} /{stride[0]}",)
    elif isinstance(getattr(module, "p", None), float):
        lines = (f"{name} {module.p:g}",)
    return lines


def _pair(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width; a vector has one pixel."""
    if len(shape) < 3:
        return math.prod(shape), 1, 1
    return math.prod(shape[:-2]), shape[-2], shape[-1]


def _draw(ax: Axes, block: _Block, column: int, largest: int) -> tuple[float, float]:
    """Draw a box and its text; return where its left and right edges are."""
    channels, height, width = _sides(block.shape)
    thick = _WIDTH * (1 + math.log2(channels))
    tall = max(_FLATTEST, height / largest)
    back, up = (step * max(_FLATTEST, width / largest) for step in _DEPTH)
    left, bottom = column - (thick + back) / 2, -(tall + up) / 2

    def corner(right: bool, top: bool, behind: bool) -> tuple[float, float]:
        x = left + thick * right + back * behind
        return x, bottom + tall * top + up * behind

    faces = {  # in the order of the corners around each; how light each is
        ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)): 1.0,
        ((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)): 0.85,
        ((1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0)): 0.7,
    }
    color = to_rgb(_COLORS[block.kind])
    for corners, light in faces.items():
        face = [corner(*which) for which in corners]
        shade = tuple(light * part for part in color)
        ax.add_patch(Polygon(face, facecolor=shade, edgecolor="black", linewidth=0.5))
    shape = "×".join(map(str, block.shape))
    ax.text(column, bottom + tall + up + 0.06, shape, ha="center", va="bottom", fontsize=7.5)
    ax.text(column, _TEXT_BELOW, "\n".join(block.text), ha="center", va="top", fontsize=7.5)
    return left, left + thick + back
