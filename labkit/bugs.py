"""The bug catalogue: each bug is a function that turns a healthy set-up into the sick one.

    healthy = bugs.setup(model, images, labels, val_images, val_labels)
    sick = bugs.double_softmax(healthy)
    report = sick.diagnose()

`CATALOGUE` names all of them, with the cause that a diagnosis should name and the symptom in
words; `HEALTHY` holds variants that look sick and are not. A bug does not change the set-up that it
is given. `labkit.clinic` is measured on both: benchmarks/clinic.py.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import augment, clinic
from labkit.train import Recipe

# ------------------------------------------------------------------------- a healthy set-up


@dataclass(frozen=True)
class Batches:
    """Batches (x, y) of uint8 images; another shuffle at each pass, if `generator` is there.

    `transform` makes floats of a batch of images; `augment` names labkit's augmentations.
    """

    images: Tensor
    labels: Tensor
    transform: Callable[[Tensor], Tensor]
    batch_size: int = 64
    augment: tuple = ()
    generator: torch.Generator | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + (rest > 1)  # BatchNorm can't do with a single image

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.images)
        order = torch.arange(n)
        if self.generator is not None:
            order = torch.randperm(n, generator=self.generator)
        for chosen in order.split(self.batch_size):
            if len(chosen) > 1:
                images = augment.apply(self.augment, self.images[chosen], self.generator)
                yield self.transform(images), self.labels[chosen]


@dataclass(frozen=True)
class Normalize:
    """(x / 255 - mean) / std."""

    mean: Tensor
    std: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std


@dataclass(frozen=True)
class Setup:
    """All that a training run consists of, for one of its parts to be made sick.

    `optimizer` takes the model, `train` (model, loss, optimizer, batches) and runs one epoch,
    `evaluate` (model, batches) and returns the accuracy.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    data: Batches
    val: Batches
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    train: Callable
    evaluate: Callable

    def diagnose(self, **options) -> clinic.Report:
        """`labkit.diagnose` of this set-up, with all that it has to show."""
        return clinic.diagnose(
            self.model,
            self.loss,
            self.data,
            val=self.val,
            optimizer=self.optimizer,
            train=lambda model, optimizer, batches: self.train(
                model, self.loss, optimizer, batches
            ),
            evaluate=self.evaluate,
            **options,
        )

    def fit(self, epochs: int) -> list[float]:
        """Train the model, in place; the validation accuracy after each epoch."""
        optimizer = self.optimizer(self.model)
        accuracies = []
        for _ in range(epochs):
            self.train(self.model, self.loss, optimizer, self.data)
            accuracies.append(self.evaluate(self.model, self.val))
        return accuracies


def train_epoch(model, loss, optimizer, batches) -> None:
    """One epoch, as it should be."""
    model.train()
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model, batches) -> float:
    """The share of right answers, in eval mode."""
    model.eval()
    hits = [(model(x).argmax(1) == y).float() for x, y in batches]
    return torch.cat(hits).mean().item()


def setup(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    *,
    optimizer: Callable | None = None,
    normalize: bool = True,
    seed: int = 0,
) -> Setup:
    """A healthy set-up for uint8 images N x C x H x W: Adam with lr 0.001, batches of 64.

    Inputs are normalised with the training images' statistics, or only brought to [0, 1].
    """
    floats = images.float() / 255
    mean, std = floats.mean((0, 2, 3)).view(-1, 1, 1), floats.std((0, 2, 3)).view(-1, 1, 1)
    transform = Normalize(mean, std) if normalize else _to_unit
    generator = torch.Generator().manual_seed(seed)
    return Setup(
        model=model,
        loss=F.cross_entropy,
        data=Batches(images, labels, transform, generator=generator),
        val=Batches(val_images, val_labels, transform),
        optimizer=optimizer or adam(1e-3),
        train=train_epoch,
        evaluate=accuracy,
    )


def adam(lr: float) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """A function that gives a model's trainable parameters to Adam."""
    return lambda model: torch.optim.Adam(_trainable(model), lr=lr)


def sgd(lr: float, momentum: float = 0.9) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """The same for SGD."""
    return lambda model: torch.optim.SGD(_trainable(model), lr=lr, momentum=momentum)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _to_unit(images: Tensor) -> Tensor:
    return images.float() / 255


# ------------------------------------------------------------------------ the model's outputs


class WithOutput(nn.Module):
    """A model with something more behind its last layer."""

    def __init__(self, model: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.model(x))


def _with_output(healthy: Setup, function: Callable[[Tensor], Tensor]) -> Setup:
    return replace(healthy, model=WithOutput(copy.deepcopy(healthy.model), function))


def double_softmax(healthy: Setup) -> Setup:
    """Softmax in forward, and again in the loss."""
    return _with_output(healthy, _softmax)


def relu_output(healthy: Setup) -> Setup:
    """ReLU on the last layer, as on all others."""
    return _with_output(healthy, torch.relu)


def sigmoid_output(healthy: Setup) -> Setup:
    """A sigmoid a class, and cross-entropy."""
    return _with_output(healthy, torch.sigmoid)


def batch_softmax(healthy: Setup) -> Setup:
    """softmax(dim=0) in forward: the wrong dimension."""
    return _with_output(healthy, _batch_softmax)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def _batch_softmax(logits: Tensor) -> Tensor:
    return logits.softmax(0)


# ------------------------------------------------------------------------------ its layers


class ShrinkingDropout(nn.Module):
    """Multiplies by a mask and by (1 - p) while training: E = (1 - p)² x."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand_like(x) > self.p) * (1 - self.p)


class UnscaledDropout(nn.Module):
    """A mask, and nothing that makes up for it: E = (1 - p) x."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > self.p) if self.training else x


class AlwaysDropout(nn.Module):
    """F.dropout with the default of its `training`, which is True: it drops in evaluation, too."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p)


class TestScaledDropout(nn.Module):
    """The original dropout: the mask alone in training, times (1 - p) in evaluation. Healthy."""

    __test__ = False  # no test, whatever pytest thinks of the name

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > self.p) if self.training else x * (1 - self.p)


class StuckBatchNorm(nn.Module):
    """A hand-written BatchNorm whose update is lost: a local variable gets it."""

    def __init__(self, num_features: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.ndim)]
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(dims), x.var(dims, correction=0)
            running_mean = 0.9 * self.running_mean + 0.1 * mean  # noqa: F841  the bug
        shape = [1, -1] + [1] * (x.ndim - 2)
        x_hat = (x - mean.view(shape)) / (var.view(shape) + self.eps).sqrt()
        return self.weight.view(shape) * x_hat + self.bias.view(shape)


class BatchStatistics(StuckBatchNorm):
    """A hand-written BatchNorm that takes the batch's statistics in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # it keeps running statistics, and never asks for them
            dims = [0, *range(2, x.ndim)]
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(dims), 0.1)
                self.running_var.lerp_(x.var(dims), 0.1)
        mode, self.training = self.training, True
        y = super().forward(x)
        self.training = mode
        return y


def _swap(model: nn.Module, kinds, build: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy of the model with each layer of those kinds replaced."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, kinds):
                setattr(parent, name, build(child))
    return model


_DROPOUTS = (nn.Dropout, nn.Dropout2d)
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def has_dropout(healthy: Setup) -> bool:
    """Can a dropout bug be put into it?"""
    return any(isinstance(module, _DROPOUTS) for module in healthy.model.modules())


def has_batchnorm(healthy: Setup) -> bool:
    """Can a BatchNorm bug be put into it?"""
    return any(isinstance(module, _BATCHNORMS) for module in healthy.model.modules())


def depends_on_mode(healthy: Setup) -> bool:
    """Is it another model in eval mode?"""
    return has_dropout(healthy) or has_batchnorm(healthy)


def _with_dropout(healthy: Setup, kind: type[nn.Module]) -> Setup:
    model = _swap(healthy.model, _DROPOUTS, lambda old: kind(old.p))
    return replace(healthy, model=model)


def _with_batchnorm(healthy: Setup, kind: type[nn.Module]) -> Setup:
    model = _swap(healthy.model, _BATCHNORMS, lambda old: kind(old.num_features))
    return replace(healthy, model=model)


def shrinking_dropout(healthy: Setup) -> Setup:
    """Survivors are multiplied by (1 - p), where 1 / (1 - p) is right."""
    return _with_dropout(healthy, ShrinkingDropout)


def unscaled_dropout(healthy: Setup) -> Setup:
    """Neither training nor evaluation makes up for what was dropped."""
    return _with_dropout(healthy, UnscaledDropout)


def always_dropout(healthy: Setup) -> Setup:
    """F.dropout(x, p) in forward, without `training=self.training`."""
    return _with_dropout(healthy, AlwaysDropout)


def stuck_batchnorm(healthy: Setup) -> Setup:
    """Running statistics are never updated."""
    return _with_batchnorm(healthy, StuckBatchNorm)


def batch_statistics(healthy: Setup) -> Setup:
    """BatchNorm uses the batch's own statistics in evaluation."""
    return _with_batchnorm(healthy, BatchStatistics)


# -------------------------------------------------------------------------------- the data


def raw_pixels(healthy: Setup) -> Setup:
    """No / 255."""
    return _with_transform(healthy, lambda images: images.float())


def divided_twice(healthy: Setup) -> Setup:
    """/ 255 in the transform, and again in the loop."""
    return _with_transform(healthy, lambda images: images.float() / 255**2)


def one_image_statistics(healthy: Setup) -> Setup:
    """Normalised with the mean and standard deviation of the first training image."""
    first = healthy.data.images[0].float() / 255
    mean = first.mean((1, 2)).view(-1, 1, 1)
    std = first.std((1, 2)).clamp_min(1e-3).view(-1, 1, 1)
    return _with_transform(healthy, Normalize(mean, std))


def _with_transform(healthy: Setup, transform: Callable[[Tensor], Tensor]) -> Setup:
    return replace(
        healthy,
        data=replace(healthy.data, transform=transform),
        val=replace(healthy.val, transform=transform),
    )


def shuffled_labels(healthy: Setup) -> Setup:
    """Images were shuffled, and labels with another shuffle."""
    return replace(
        healthy,
        data=replace(healthy.data, labels=_shuffled(healthy.data.labels, 1)),
        val=replace(healthy.val, labels=_shuffled(healthy.val.labels, 2)),
    )


def _shuffled(labels: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return labels[torch.randperm(len(labels), generator=generator)]


def leak(healthy: Setup) -> Setup:
    """A fifth of the validation images come from the training set."""
    data, val = healthy.data, healthy.val
    n = max(1, len(val.images) // 5)
    images, labels = val.images.clone(), val.labels.clone()
    images[:n], labels[:n] = data.images[-n:], data.labels[-n:]
    return replace(healthy, val=replace(val, images=images, labels=labels))


def augmented_validation(healthy: Setup) -> Setup:
    """The validation set goes through the training set's crop and flip."""
    recipe = Recipe(augment=("crop", "flip"))
    val = replace(healthy.val, augment=recipe.augment, generator=torch.Generator().manual_seed(3))
    return replace(healthy, val=val)


# ------------------------------------------------------------------------- the training loop


def step_outside_loop(healthy: Setup) -> Setup:
    """optimizer.step() is indented one level too little: one step an epoch."""

    def train(model, loss, optimizer, batches):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
        optimizer.step()

    return replace(healthy, train=train)


def no_backward(healthy: Setup) -> Setup:
    """loss.backward() is missing, and nobody complains."""

    def train(model, loss, optimizer, batches):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y)
            optimizer.step()

    return replace(healthy, train=train)


def no_zero_grad(healthy: Setup) -> Setup:
    """Gradients of all batches so far pile up."""

    def train(model, loss, optimizer, batches):
        model.train()
        for x, y in batches:
            loss(model(x), y).backward()
            optimizer.step()

    return replace(healthy, train=train)


def evaluation_in_train_mode(healthy: Setup) -> Setup:
    """No model.eval() before validation."""

    @torch.no_grad()
    def evaluate(model, batches):
        hits = [(model(x).argmax(1) == y).float() for x, y in batches]
        return torch.cat(hits).mean().item()

    return replace(healthy, evaluate=evaluate)


def forgotten_layer(healthy: Setup) -> Setup:
    """The optimiser got the parameters of the last layer only."""

    def optimizer(model):
        built = healthy.optimizer(model)
        last = {id(p) for p in _trainable(model)[-2:]}
        for group in built.param_groups:
            group["params"] = [p for p in group["params"] if id(p) in last]
        return built

    return replace(healthy, optimizer=optimizer)


def lr_too_high(healthy: Setup) -> Setup:
    """The learning rate is 300 times what it should be."""
    return _with_lr(healthy, 300)


def lr_too_low(healthy: Setup) -> Setup:
    """The learning rate is a 1000th of what it should be."""
    return _with_lr(healthy, 1e-3)


def _with_lr(healthy: Setup, factor: float) -> Setup:
    def optimizer(model):
        built = healthy.optimizer(model)
        for group in built.param_groups:
            group["lr"] *= factor
        return built

    return replace(healthy, optimizer=optimizer)


# ------------------------------------------------------------- healthy, whatever it looks like


def log_softmax_output(healthy: Setup) -> Setup:
    """log_softmax in forward and cross-entropy: the second log_softmax changes nothing."""
    return _with_output(healthy, _log_softmax)


def probabilities_and_log(healthy: Setup) -> Setup:
    """Softmax in forward, and a loss of one's own that takes probabilities."""
    return replace(_with_output(healthy, _softmax), loss=_minus_log)


def accumulation(healthy: Setup) -> Setup:
    """Gradients of four batches, then one step."""

    def train(model, loss, optimizer, batches):
        model.train()
        optimizer.zero_grad()
        for number, (x, y) in enumerate(batches, 1):
            (loss(model(x), y) / 4).backward()
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()

    return replace(healthy, train=train)


def frozen_backbone(healthy: Setup) -> Setup:
    """All but the last layer are frozen, on purpose."""
    model = copy.deepcopy(healthy.model)
    for p in list(model.parameters())[:-2]:
        p.requires_grad_(False)
    return replace(healthy, model=model)


def batchnorm_on_raw_pixels(healthy: Setup) -> Setup:
    """Pixels 0..255, and a BatchNorm as first layer that takes care of them."""
    sick = raw_pixels(healthy)
    channels = healthy.data.images.shape[1]
    model = nn.Sequential(nn.BatchNorm2d(channels), copy.deepcopy(healthy.model))
    return replace(sick, model=model)


def he_head(healthy: Setup) -> Setup:
    """A last layer with He's initialisation: the loss starts far above ln C."""
    model = copy.deepcopy(healthy.model)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nn.init.kaiming_normal_(last.weight)
    return replace(healthy, model=model)


def test_scaled_dropout(healthy: Setup) -> Setup:
    """The original dropout, which scales in evaluation."""
    return _with_dropout(healthy, TestScaledDropout)


test_scaled_dropout.__test__ = False


def minus_one_to_one(healthy: Setup) -> Setup:
    """Pixels brought to [-1, 1], as is common."""
    half = torch.full((1, 1, 1), 0.5)
    return _with_transform(healthy, Normalize(half, half))


def augmented_training(healthy: Setup) -> Setup:
    """Crop and flip, on training images alone."""
    return replace(
        healthy, data=replace(healthy.data, augment=Recipe(augment=("crop", "flip")).augment)
    )


def shuffled_validation(healthy: Setup) -> Setup:
    """Validation batches come in another order each time."""
    return replace(healthy, val=replace(healthy.val, generator=torch.Generator().manual_seed(4)))


class WithFrozenBatchNorm(nn.Sequential):
    """A model whose BatchNorm layers stay in eval mode, whatever train() says."""

    def train(self, mode: bool = True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BATCHNORMS):
                module.training = False
        return self


def frozen_batchnorm(healthy: Setup) -> Setup:
    """BatchNorm layers are frozen in eval mode while the rest trains, as in fine-tuning."""
    return replace(healthy, model=WithFrozenBatchNorm(copy.deepcopy(healthy.model)).train())


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(1)


def _minus_log(probabilities: Tensor, labels: Tensor) -> Tensor:
    return -probabilities.gather(1, labels[:, None]).clamp_min(1e-12).log().mean()


# --------------------------------------------------------------------------------- catalogue


@dataclass(frozen=True)
class Bug:
    """One entry. `infect` turns a healthy set-up into the sick one, `cause` is what a diagnosis
    should name, `symptom` what a student sees, `fits` says whether a set-up can have it."""

    infect: Callable[[Setup], Setup]
    cause: str
    symptom: str
    fits: Callable[[Setup], bool] = lambda healthy: True

    @property
    def name(self) -> str:
        return self.infect.__name__


CATALOGUE = {
    bug.name: bug
    for bug in (
        Bug(
            double_softmax,
            "redundant softmax",
            "The loss falls a little and stays above 1.46, whatever the learning rate; some "
            "classes are never answered.",
        ),
        Bug(
            relu_output,
            "ReLU before cross-entropy",
            "With some seeds classes are never answered, with others there is nothing to see.",
        ),
        Bug(
            sigmoid_output,
            "sigmoid before cross-entropy",
            "The loss stays above 1.46, though accuracy is decent.",
        ),
        Bug(
            batch_softmax,
            "softmax over the batch dimension",
            "The loss hardly moves, and the same image gets another answer in another batch.",
        ),
        Bug(
            shrinking_dropout,
            "dropout changes the expectation",
            "Training accuracy is far below validation accuracy, and both are low.",
            has_dropout,
        ),
        Bug(
            unscaled_dropout,
            "dropout changes the expectation",
            "Validation loss is higher than training loss from the first epoch on.",
            has_dropout,
        ),
        Bug(
            always_dropout,
            "evaluation is random",
            "Evaluating twice gives two numbers, though model.eval() is called.",
            has_dropout,
        ),
        Bug(
            stuck_batchnorm,
            "BatchNorm's running statistics are never updated",
            "Training looks fine; validation accuracy is low and jumps about.",
            has_batchnorm,
        ),
        Bug(
            batch_statistics,
            "examples influence each other in evaluation",
            "Accuracy depends on the batch size of the evaluation; a single image gets nonsense.",
            has_batchnorm,
        ),
        Bug(
            raw_pixels,
            "input not scaled",
            "The first losses are huge, or accuracy stays at chance.",
        ),
        Bug(
            divided_twice,
            "input scaled down twice",
            "The loss stays at ln C for a long time.",
        ),
        Bug(
            one_image_statistics,
            "normalisation statistics of other data",
            "Nothing to see, or a slower start.",
        ),
        Bug(
            shuffled_labels,
            "labels carry no signal",
            "Validation accuracy stays at chance, while training accuracy slowly rises.",
        ),
        Bug(
            leak,
            "training and validation overlap",
            "Validation is better than the test.",
        ),
        Bug(
            augmented_validation,
            "validation transform is random",
            "Validation accuracy is lower than the test's, and evaluating twice gives two numbers.",
        ),
        Bug(
            step_outside_loop,
            "gradients never used",
            "Each epoch brings next to nothing, though the loss does fall.",
        ),
        Bug(
            no_backward,
            "no backward pass",
            "Accuracy stays at chance, and the loss is the same after each epoch.",
        ),
        Bug(
            no_zero_grad,
            "stale gradients",
            "The loss falls at first, then swings and grows.",
        ),
        Bug(
            evaluation_in_train_mode,
            "evaluation runs in train mode",
            "Evaluating twice gives two numbers, and each may look plausible.",
            depends_on_mode,
        ),
        Bug(
            forgotten_layer,
            "parameters not in the optimiser",
            "The model learns, but as badly as a linear one.",
            lambda healthy: len(_trainable(healthy.model)) > 2,
        ),
        Bug(
            lr_too_high,
            "learning rate too high",
            "The loss jumps, or is NaN, or stays at ln C from the first steps on.",
        ),
        Bug(
            lr_too_low,
            "learning rate too low",
            "The loss falls in a straight line, and hardly.",
        ),
    )
}

HEALTHY = {
    variant.__name__: variant
    for variant in (
        log_softmax_output,
        probabilities_and_log,
        accumulation,
        frozen_backbone,
        batchnorm_on_raw_pixels,
        he_head,
        test_scaled_dropout,
        minus_one_to_one,
        augmented_training,
        shuffled_validation,
        frozen_batchnorm,
    )
}
