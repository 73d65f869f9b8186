"""A model's answers on a split."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.data import Split, Splits
from labkit.settings import is_whole
from labkit.train import devices
from labkit.train.inputs import Inputs, check_model, check_split
from labkit.train.recipe import Recipe


@dataclass(frozen=True)
class Evaluation:
    """A model's answers on one split: `logits` N x C and `labels` N, both on the CPU."""

    logits: Tensor
    split: Split
    loss: float

    @property
    def labels(self) -> Tensor:
        return self.split.labels

    @property
    def images(self) -> Tensor:
        return self.split.images

    @property
    def classes(self) -> tuple[str, ...]:
        return self.split.classes

    @property
    def name(self) -> str:
        return self.split.name

    @property
    def predictions(self) -> Tensor:
        """The class with the highest logit, N."""
        return self.logits.argmax(1)

    @property
    def accuracy(self) -> float:
        """The fraction of images that are classified correctly."""
        return (self.predictions == self.labels).sum().item() / len(self.labels)

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, N x C."""
        return self.logits.softmax(1)

    @property
    def confidence(self) -> Tensor:
        """The probability that the model gives to its own prediction, N."""
        return self.probabilities.amax(1)

    @property
    def confusion(self) -> Tensor:
        """C x C counts; row: true class, column: predicted class."""
        c = len(self.classes)
        return torch.bincount(self.labels * c + self.predictions, minlength=c * c).view(c, c)

    def __repr__(self) -> str:
        return f"Evaluation({self.name}: accuracy {self.accuracy:.4f}, loss {self.loss:.4f})"


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    recipe: Recipe | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
) -> Evaluation:
    """The model's answers on a split, never augmented, always in eval mode.

    Images are normalised as in the recipe that `fit` trained the model with (it leaves it
    on the model as `labkit_recipe`); `recipe` overrides that. `loss` takes (logits N x C,
    labels N) and defaults to cross-entropy. The model's modes are left as they were.
    `batch_size` changes the speed alone; `device` defaults to where the model is. Raises
    ValueError for what is no model, an empty split, a batch size below 1, or a model with the
    wrong number of outputs.
    """
    check_model("evaluate", model)
    check_split(split)
    if batch_size is not None and (not is_whole(batch_size) or batch_size < 1):
        raise ValueError(f"evaluate(batch_size={batch_size!r}): give a whole number, 1 or more")
    batch_size = batch_size and int(batch_size)
    recipe = recipe or getattr(model, "labkit_recipe", None) or Recipe()
    where = devices.device(device) if device else _where(model)
    model.to(where)
    if isinstance(loss, nn.Module):
        loss.to(where)
    moved = split.to(where)
    inputs = Inputs(split, recipe, where)
    logits = logits_of(model, moved, inputs, batch_size, recipe.bf16)
    value = (loss or F.cross_entropy)(logits, moved.labels).item()
    return Evaluation(logits.cpu(), split.to("cpu"), value)


def predict(model: nn.Module, images: Tensor, data: Splits) -> Tensor:
    """The classes, int64 N, that the model gives to images without labels, in their order.

    images: uint8 N x C x H x W, as `labkit.data.read_csv` reads a competition's test file.
    data: what the model was trained on; its statistics normalise these images too.

    Raises ValueError for what is no model or no data, and for images of another type or size.

        images, _ = labkit.data.read_csv("test.csv")
        labels = labkit.predict(model, images, data)
    """
    check_model("predict", model)
    if not isinstance(data, Splits):
        raise ValueError(
            f"predict got a {type(data).__name__} for data: give what the model was trained on, as "
            "labkit.load returned it"
        )
    fits = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.dim() == 4
    if not fits or not len(images) or tuple(images.shape[1:]) != data.shape:
        got = (
            f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images)
        )
        raise ValueError(
            f"predict takes uint8 images N x {' x '.join(map(str, data.shape))}, as {data.name} "
            f"has them, got {got}: read them with labkit.data.read_csv, or as load does"
        )
    unlabelled = replace(data.train, images=images, labels=torch.zeros(len(images)).long())
    return evaluate(model, unlabelled).predictions


def _where(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def _eval_mode(model: nn.Module):
    """All modules in eval mode; each gets its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def logits_of(
    model: nn.Module, split: Split, inputs: Inputs, batch_size: int | None, bf16: bool
) -> Tensor:
    """N x C logits on the split's device, in eval mode, without gradients."""
    if batch_size is None:  # on a CPU what fits into its cache, on a GPU what keeps it busy
        batch_size = 250 if split.images.device.type == "cpu" else 1000
    with _eval_mode(model), torch.no_grad(), devices.autocast(split.images.device, bf16):
        parts = [model(inputs(images)) for images in split.images.split(batch_size)]
    check_logits(parts[0], split)
    return torch.cat(parts).float()


def check_logits(logits: Tensor, split: Split) -> None:
    """Raises ValueError for what are no N x C logits of the split's classes."""
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"The model gives a {type(logits).__name__}, and a tensor of logits is needed: wrap it "
            "in a module whose forward returns that alone"
        )
    if logits.ndim != 2 or logits.shape[1] != len(split.classes):
        raise ValueError(
            f"The model gives outputs of shape {tuple(logits.shape)}, but {split.name} has "
            f"{len(split.classes)} classes: its last layer must give a logit a class"
        )
