"""What some studies do otherwise than `train_one` with `by_name`: their networks, losses, images.

Everything here has a name that a worker in another process can import.
"""

import platform
import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit import layers, models, numpy_net, speedrun, train
from labkit.data import Split, Splits
from labkit.study.definition import Study, by_name, record, train_one

# ------------------------------------------------------------------------- a network in NumPy


def in_numpy(study: Study, config: dict, seed: int, **_) -> dict:
    """The record of a network trained by `numpy_net`; the seed draws the split, too."""
    data = replace(study, options={**study.options, "seed": seed}).data_for(config)
    sets = [
        (split.images.flatten(1).numpy().astype(np.float32) / 255, split.labels.numpy())
        for split in (data.train, data.val, data.test)
    ]
    began = time.perf_counter()
    rng, hidden = np.random.default_rng(seed), config["hidden"]
    model = numpy_net.Sequential(
        numpy_net.Linear(sets[0][0].shape[1], hidden, rng),
        numpy_net.ReLU(),
        numpy_net.Linear(hidden, len(data.classes), rng),
    )
    optimizer = numpy_net.SGD(model.parameters(), config["lr"], config["momentum"])
    sizes = {"epochs": study.recipe.epochs, "batch_size": config["batch_size"]}
    test, diverged = {}, {}
    try:
        rows = numpy_net.fit(model, optimizer, *sets[:2], seed=seed, **sizes)
    except numpy_net.Diverged as error:
        rows, diverged = error.history, {"diverged": str(error)}
    seconds = time.perf_counter() - began
    if not diverged:
        test["loss"], test["accuracy"] = numpy_net.evaluate(model, *sets[2])
    return {
        "study": study.name,
        "config": config,
        "seed": seed,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "stand_in": data.stand_in,
        },
        "epochs": rows,
        "test": test,
        "seconds": seconds,
        "device": "cpu",
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    } | diverged


# ---------------------------------------------------------------- softmax once, softmax twice


def linear(config: dict) -> nn.Module:
    """Softmax regression, as logits."""
    return models.SoftmaxRegression()


def softmax_again(config: dict):
    """Cross-entropy of what `config["softmaxes"]` makes of logits: 1 is right, 2 is d2l's bug."""
    return None if config["softmaxes"] == 1 else _double_softmax


def _double_softmax(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.softmax(1), y)


# ----------------------------------------------------------------- BatchNorm and Dropout, lab 03


class ReportDropout(layers.Dropout):
    """Wrong on purpose: mask · x · (1 - p) in training, x in evaluation, as the report says."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 - self.p) ** 2 if self.training else x


DROPOUTS = {
    "none": None,
    "Dropout": layers.Dropout,
    "Dropout2d": layers.Dropout2d,
    "the report's": ReportDropout,
}


def small_regularised(config: dict) -> nn.Module:
    """Lab 03's quick networks: an MLP with 256 hidden units, a CNN with 8 channels.

    Where `config["behind_pooling"]` says so, the CNN's dropout stands behind its pooling.
    """
    dropout = DROPOUTS[config["dropout"]]
    if config["model"] == "MLP":
        norm = layers.BatchNorm1d if config["batchnorm"] else None
        return models.MLP(hidden=256, norm=norm, dropout=dropout, p=0.5)
    norm = layers.BatchNorm2d if config["batchnorm"] else None
    model = models.WideCNN(channels=8, norm=norm, dropout=dropout, p=0.3)
    if config.get("behind_pooling"):
        model.dropout, model.pool = model.pool, model.dropout
    return model


def also_settled(study: Study, config: dict, seed: int, **options) -> dict:
    """Trains, and tests a second time with settled statistics: "settled_accuracy" and "_loss"."""
    return train_one(study, config, seed, measure=when_settled, **options)


def when_settled(model: nn.Module, data: Splits) -> dict:
    """How the model does on the test pictures once its BatchNorm has seen what evaluation shows it.

    The training pictures go through the model as in evaluation, Dropout off; only its BatchNorm
    layers are in training mode, so that their running statistics become those without Dropout.
    """
    recipe, where = model.labkit_recipe, next(model.parameters()).device
    inputs = train.Inputs(data.train, recipe, where)
    model.eval()
    for module in model.modules():
        if isinstance(module, layers.BatchNorm2d):
            module.train()
    with torch.no_grad():
        for images in data.train.images.split(recipe.batch_size):
            model(inputs(images.to(where)))
    settled = train.evaluate(model, data.test)
    return {"settled_accuracy": settled.accuracy, "settled_loss": settled.loss}


def regularised(config: dict) -> nn.Module:
    """The report's MLP and CNN in their own sizes, with torch's layers."""
    kind = {"1d": nn.Dropout, "2d": nn.Dropout2d}[config["dropout_kind"]]
    options = {"dropout": kind if config["dropout"] else None, "p": config["dropout"]}
    if config["model"] == "mlp":
        return models.MLP(norm=nn.BatchNorm1d if config["batchnorm"] else None, **options)
    return models.WideCNN(norm=nn.BatchNorm2d if config["batchnorm"] else None, **options)


# ------------------------------------------------------- permuted pixels, moved pictures, lab 04


def whatever_the_pixels(config: dict) -> nn.Module:
    """The network by its name: it does not know in which order its pixels come."""
    return by_name({key: value for key, value in config.items() if key != "permuted"})


def permuted_or_moved(study: Study, config: dict, seed: int, **options) -> dict:
    """Trains on permuted pixels where `config` says so; otherwise it also tests on moved pictures
    of clothes, as "accuracy_shift0" to "accuracy_shift4"."""
    data = study.data_for(config)
    if config["permuted"]:
        return train_one(study, config, seed, data=permute(data), **options)
    clothes = config["dataset"] == "fashion_mnist"
    return train_one(
        study, config, seed, data=data, measure=at_each_shift if clothes else None, **options
    )


def permute(data: Splits) -> Splits:
    """The same random order of pixels for every image."""
    side = data.shape[1]
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))

    def one(split: Split) -> Split:
        return replace(split, images=split.images.flatten(2)[:, :, order].view_as(split.images))

    return replace(data, train=one(data.train), val=one(data.val), test=one(data.test))


def at_each_shift(model: nn.Module, data: Splits) -> dict:
    """Test accuracy on 2,000 pictures moved by 0 to 4 pixels, in each direction a quarter."""
    some = data.test.subset(slice(0, 2000))
    return {
        f"accuracy_shift{pixels}": train.evaluate(model, move(some, pixels)).accuracy
        for pixels in range(5)
    }


def move(split: Split, pixels: int) -> Split:
    """A quarter of the images moved to the right, left, down and up; what comes in is black."""
    pads = [(pixels, -pixels, 0, 0), (-pixels, pixels, 0, 0)]
    pads += [(0, 0, pixels, -pixels), (0, 0, -pixels, pixels)]
    quarters = zip(split.images.chunk(4), pads, strict=True)
    return replace(split, images=torch.cat([F.pad(images, pad) for images, pad in quarters]))


# ----------------------------------------------------------------------- ten classes of ImageNet


def imagenet(config: dict) -> nn.Module:
    """The three networks for 64 x 64 pictures, by the names that the report gives them."""
    kinds = {
        "two_layer": models.TwoLayerNN,
        "residual_mlp": models.ResidualMLP,
        "cnn": models.ResidualCNN,
    }
    return kinds[config["model"]]()


# ------------------------------------------------------------- a relative of ResNet-18, lab 07


def small_resnet(config: dict) -> nn.Module:
    """Lab 07's small relative: one block a stage, 8 to 64 channels."""
    return models.ResNet((1, 1, 1, 1), (8, 16, 32, 64), stem=config["stem"])


# --------------------------------------------------------------- hyperparameters, lab 09


def slim(config: dict) -> nn.Module:
    """Lab 09's networks: a CNN with 16, 32 and 64 channels, or an MLP with 256 hidden units."""
    if config["model"] == "MLP":
        return models.MLP(hidden=256, p=config["dropout"])
    return models.SimpleCNN((16, 32, 64), p=config["dropout"])


# ------------------------------------------------------------------------ on the clock, lab 12


def on_the_clock(
    study: Study, config: dict, seed: int, *, device: str | None = None, on_epoch=None, **_
) -> dict:
    """The record of a run with a stopwatch: its "epochs" are readings, see `speedrun.timed`."""
    data, recipe = study.data_for(config), study.recipe_for(config, seed)
    torch.manual_seed(seed)
    model = study.model(config)
    fit = partial(
        speedrun.timed,
        model,
        data,
        recipe,
        every=config["read_every"] // recipe.batch_size,
        device=device,
        on_reading=on_epoch,
        **{key: config[key] for key in ("steps", "stop_at", "feed", "average", "compiled")},
    )
    return record(study, config, seed, model, data, fit)


def timed_network(config: dict) -> nn.Module:
    """`SimpleCNN`, whose blocks have `width`, twice and four times as many channels, with dropout
    `p`; or `ResNet18` for small images."""
    if config["model"] == "ResNet18":
        return models.ResNet18(stem="cifar")
    width = config["width"]
    return models.SimpleCNN((width, 2 * width, 4 * width), p=config["p"])
