"""What a model is made of: `summary(model, input_shape)` is one table, a row for each layer.

labkit.summary.summary(labkit.models.SimpleCNN(), (3, 32, 32))

`stage_sizes` sums it up by stages, `gradient_norms` says how large a gradient each layer gets.
"""

import contextlib
import functools
import html
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import layers
from labkit.train import own_random_numbers


@dataclass(frozen=True)
class Row:
    """One call of one layer, for one image.

    path: the layer's name in the model, "layer1.0.conv1".  kind: its class, "Conv2d".
    output_shape: without the batch, (C, H, W) or (features,).
    parameters: counted where the layer is first called, 0 where it is called again.
    macs: multiply-accumulates; None for a layer that has parameters but no rule to count by.
    activation_bytes: the memory of the output; 0 if it is the input's own memory (Flatten).
    """

    path: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int | None
    activation_bytes: int


@dataclass(frozen=True, repr=False)
class Summary:
    """The table of a model: print it, or let a notebook show it.

    model: its class.  input_shape: of one image, (C, H, W).  rows: in the order of the calls.
    parameters, weight_bytes: of the whole model, each parameter counted once.
    """

    model: str
    input_shape: tuple[int, ...]
    rows: tuple[Row, ...]
    parameters: int
    weight_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, of all layers that can be counted."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Memory of all layers' outputs for one image; training keeps about that for each."""
        return sum(row.activation_bytes for row in self.rows)

    def __repr__(self) -> str:
        table = [_HEADINGS, *self._cells(), ("Total", "", "", *self._totals())]
        widths = [max(len(line[i]) for line in table) for i in range(len(_HEADINGS))]
        aligned = [
            "  ".join(
                cell.rjust(width) if number else cell.ljust(width)
                for cell, width, number in zip(line, widths, _NUMBERS, strict=True)
            ).rstrip()
            for line in table
        ]
        rule = "-" * max(map(len, aligned))
        head, *body, total = aligned
        return "\n".join([self._title(), rule, head, rule, *body, rule, total, *self._notes()])

    def _repr_html_(self) -> str:
        def line(cells, tag):
            return "".join(
                f'<{tag} style="text-align:{"right" if number else "left"}">{html.escape(cell)}'
                f"</{tag}>"
                for cell, number in zip(cells, _NUMBERS, strict=True)
            )

        body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in self._cells())
        notes = "<br>".join(map(html.escape, self._notes()))
        return (
            f"<table><caption>{html.escape(self._title())}</caption>"
            f"<thead><tr>{line(_HEADINGS, 'th')}</tr></thead><tbody>{body}</tbody>"
            f"<tfoot><tr>{line(('Total', '', '', *self._totals()), 'th')}</tr></tfoot></table>"
            f"<p>{notes}</p>"
        )

    def _title(self) -> str:
        return f"{self.model} on one image of {_times(self.input_shape)}"

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.path,
                row.kind,
                _times(row.output_shape),
                f"{row.parameters:,}",
                "?" if row.macs is None else f"{row.macs:,}",
            )
            for row in self.rows
        ]

    def _totals(self) -> tuple[str, str]:
        return f"{self.parameters:,}", f"{self.macs:,}"

    def _notes(self) -> list[str]:
        notes = [
            f"Weights {_bytes(self.weight_bytes)}; "
            f"activations {_bytes(self.activation_bytes)} for each image."
        ]
        uncounted = sorted({row.kind for row in self.rows if row.macs is None})
        if uncounted:
            notes.append(f"No rule to count the multiply-accumulates of {', '.join(uncounted)}.")
        elsewhere = self.parameters - sum(row.parameters for row in self.rows)
        if elsewhere:
            notes.append(f"{elsewhere:,} parameters have no row: their layer was not called.")
        return notes


_HEADINGS = ("Layer", "Type", "Output shape", "Parameters", "Multiply-accumulates")
_NUMBERS = (False, False, False, True, True)


def summary(model: nn.Module, input_shape: tuple[int, ...]) -> Summary:
    """What the model is made of, layer by layer, for images of ``input_shape``.

    ``input_shape`` is (C, H, W), without the batch. A row is a layer that contains no other, or has
    parameters of its own; Identity is left out, and so is what ``forward`` does without a layer,
    ``x + y`` or ``F.relu(x)``.

    A multiplication with its addition counts as one: Conv and Linear take one for each weight that
    an output value sees (the bias is free), BatchNorm 4 a value, average pooling k + 1 an output
    value with k input values, and all else 0.

    The model runs once in evaluation mode; its mode, buffers and hooks and torch's random numbers
    are afterwards as they were. Raises ValueError for a shape that is none or does not fit.

    >>> summary(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28)).macs
    7840
    """
    rows: list[Row] = []
    seen: set[nn.Parameter] = set()

    def record(path: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        own = [p for p in module.parameters(recurse=False) if p not in seen]
        seen.update(own)
        rows.append(
            Row(
                path=path or type(module).__name__,
                kind=type(module).__name__,
                output_shape=tuple(output.shape[1:]),
                parameters=sum(p.numel() for p in own),
                macs=_macs(module, x, output),
                activation_bytes=_new_bytes(x, output),
            )
        )

    trace(model, input_shape, _is_layer, record)
    parameters = list(model.parameters())
    return Summary(
        model=type(model).__name__,
        input_shape=tuple(input_shape),
        rows=tuple(rows),
        parameters=sum(p.numel() for p in parameters),
        weight_bytes=sum(p.numel() * p.element_size() for p in parameters),
    )


def stage_sizes(model: nn.Module, input_shape: tuple[int, ...]) -> pd.DataFrame:
    """What each stage of the model makes of one image, and what that costs.

    A stage is a module that the model holds directly, ResNet18's ``conv1`` or ``layer1``. Columns:
    ``stage``, its name; ``output_shape``, (C, H, W) or (features,); ``parameters`` and ``macs``,
    those of all layers in it, counted as by `summary`. A row a stage, in the order of the calls.
    Leaves the model as `summary` does, and raises what `summary` raises.
    """
    _check_model(model)
    shapes: dict[str, tuple[int, ...]] = {}
    stages = set(model.children())

    def record(path: str, module: nn.Module, x: Tensor, output: Tensor) -> None:
        shapes[path] = tuple(output.shape[1:])

    trace(model, input_shape, stages.__contains__, record)
    rows = summary(model, input_shape).rows
    table = []
    for stage, shape in shapes.items():
        own = [row for row in rows if row.path.split(".")[0] == stage]
        parameters, macs = sum(row.parameters for row in own), sum(row.macs or 0 for row in own)
        table.append((stage, shape, parameters, macs))
    return pd.DataFrame(table, columns=["stage", "output_shape", "parameters", "macs"])


def gradient_norms(
    model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor] | None = None
) -> pd.DataFrame:
    """How long the gradient of the loss is in each layer, for one batch, in training mode.

    x: a batch as the model is fed it, N x C x H x W.  y: its labels, N.  loss: takes (logits
    N x C, labels N), cross-entropy by default.

    A row for each layer with a matrix or a kernel, in the order of the first calls; a convolution
    in a shortcut is one of them, and what is frozen is left out. Columns: ``layer``, its name;
    ``depth``, 1 for the first called; ``norm``, the Euclidean length of d loss / d weight.

    Parameters, their ``.grad``, modes, buffers and torch's random numbers are afterwards as they
    were. Raises ValueError for a batch that does not fit, or a model without such a layer.
    """
    _check_model(model)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} images and y {len(y)} labels: give one label an image.")
    weights: dict[str, nn.Parameter] = {}

    def hook(path, module, *_):
        weights.setdefault(path, module.weight)

    handles = [
        module.register_forward_hook(functools.partial(hook, path))
        for path, module in model.named_modules()
        if _has_trainable_matrix(module)
    ]
    try:
        with _as_it_was(model, training=True), torch.enable_grad():
            value = (loss or F.cross_entropy)(model(x), y)
            if not weights:
                raise ValueError(
                    f"{type(model).__name__} called no layer with a trainable matrix or kernel, "
                    "such as nn.Linear or nn.Conv2d: there is no gradient to measure."
                )
            gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(
            f"{type(model).__name__} did not take the batch {tuple(x.shape)}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    norms = [0.0 if gradient is None else gradient.norm().item() for gradient in gradients]
    columns = {"layer": list(weights), "depth": range(1, len(norms) + 1), "norm": norms}
    return pd.DataFrame(columns)


def _has_trainable_matrix(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() > 1 and weight.requires_grad


# Two images, not one: a normalisation without running statistics takes the batch's, and one image
# of one value per channel has none.
_IMAGES = 2

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    layers.BatchNorm1d,
    layers.BatchNorm2d,
)


def trace(
    model: nn.Module,
    input_shape: tuple[int, ...],
    wanted: Callable[[nn.Module], bool],
    record: Callable[[str, nn.Module, Tensor, Tensor], None],
) -> None:
    """Run the model once; after each call of a wanted module, record(path, module, x, output).

    x and output have a batch of two. Of several outputs the first counts, and a call that gives no
    tensor is passed over. Leaves the model as `summary` does, and raises what `summary` raises.
    """
    shape = _check_shape(input_shape)
    _check_model(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise ValueError(
                f"{name} has no shape yet: pass one batch through the lazy layers first."
            )

    def hook(path, module, inputs, output):
        output = output[0] if isinstance(output, tuple | list) else output
        if isinstance(output, Tensor):
            x = next((value for value in inputs if isinstance(value, Tensor)), output)
            record(path, module, x, output)

    handles = [
        module.register_forward_hook(functools.partial(hook, path))
        for path, module in model.named_modules()
        if wanted(module)
    ]
    try:
        with _as_it_was(model, training=False), torch.no_grad():
            _run(model, shape)
    finally:
        for handle in handles:
            handle.remove()


def _run(model: nn.Module, shape: tuple[int, ...]) -> None:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    images = torch.zeros(_IMAGES, *shape, dtype=like.dtype, device=like.device)
    try:
        model(images)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{type(model).__name__} did not take images of {_times(shape)}: {error}"
        ) from error


@contextlib.contextmanager
def _as_it_was(model: nn.Module, training: bool) -> Iterator[None]:
    """One mode inside; outside, the modes, buffers and random numbers from before."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with own_random_numbers(where):
            model.train(training)
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, buffer in buffers.items():
            model.get_buffer(name).copy_(buffer)


def _is_layer(module: nn.Module) -> bool:
    return not isinstance(module, nn.Identity) and (
        next(module.children(), None) is None or _has_parameters(module)
    )


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _macs(module: nn.Module, x: Tensor, output: Tensor) -> int | None:
    """Multiply-accumulates of one call for one image; None if there is no rule."""
    values = output[0].numel()
    if isinstance(module, _CONVOLUTIONS):
        return values * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return values * module.in_features
    if isinstance(module, _BATCH_NORMS):
        return 4 * values
    if isinstance(module, nn.AvgPool2d):
        kernel = module.kernel_size
        k = kernel**2 if isinstance(kernel, int) else math.prod(kernel)
        return values * (k + 1)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return values * (x[0].numel() // values + 1)
    return None if _has_parameters(module) else 0


def _new_bytes(x: Tensor, output: Tensor) -> int:
    """Memory that the output takes beyond its input's."""
    if output.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
        return 0
    return output[0].numel() * output.element_size()


def _check_model(model) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a module, such as nn.Linear(784, 10), got {model!r}.")


def _check_shape(input_shape) -> tuple[int, ...]:
    try:
        shape = tuple(map(operator.index, input_shape))
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ValueError(
            f"input_shape is that of one image, such as (3, 32, 32), got {input_shape!r}."
        )
    return shape


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _bytes(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:,.1f} KiB"
    return f"{count / 2**20:,.1f} MiB"
