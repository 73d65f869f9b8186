"""Images per second of a training epoch, beside what people use: python benchmarks/epoch.py

A row is a network, with and without crop + flip. The columns: the arithmetic alone (one batch that
is there already, over and over), `labkit.fit`, a plain loop over torchvision's per-image transforms
in a DataLoader with 0 and 2 workers, d2l's, Lightning's and fastai's trainers over the faster of
the two loaders. All train the same network with Adam on the same drawn pixels (pixels do not matter
here); in the first two columns Adam is torch's fused one, as labkit takes it, elsewhere the one
that people use. What is timed is the second epoch, and the contenders take turns. The loaders get
fewer images, so that each takes a second or more; images per second is what is compared.

Contenders that are not installed are left out: pip install -c constraints.txt -e '.[bench]', and
d2l as in lab 02.
"""

import argparse
import logging
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
import torch.nn.functional as F
from heading import heading
from torch import nn
from torch.utils.data import DataLoader

import labkit
from labkit import models
from labkit.data import Split, Splits
from labkit.environment import import_d2l
from labkit.speedrun import Pictures
from labkit.train import Inputs, Recipe, build_optimizer

MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Case:
    """A network, its images, and how many of them an epoch has: for us, and for the loaders."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    images: int
    pictures: int


GRAY, COLOUR = (1, 28, 28), (3, 32, 32)
CASES = {
    "SoftmaxRegression": Case(models.SoftmaxRegression, GRAY, 60_000, 6_000),
    "MLP": Case(models.MLP, COLOUR, 8_000, 4_000),
    "ImprovedCNN": Case(models.ImprovedCNN, GRAY, 8_000, 6_000),
    "SimpleCNN": Case(models.SimpleCNN, COLOUR, 4_000, 4_000),
    "ResNet18": Case(models.ResNet18, COLOUR, 256, 256),
}


class Loader(DataLoader):
    """A DataLoader that notes when each epoch began."""

    def __iter__(self):
        self.began = time.perf_counter()
        return super().__iter__()

    def rate(self) -> float:
        """Images per second since the last epoch began."""
        return len(self.dataset) / (time.perf_counter() - self.began)


@dataclass(frozen=True)
class Round:
    """What a contender gets: a case, its data, the batch size, and where to train."""

    case: Case
    data: Splits
    augmented: bool
    batch_size: int
    device: torch.device

    @property
    def recipe(self) -> Recipe:
        augment = ("crop", "flip") if self.augmented else ()
        return Recipe(epochs=2, batch_size=self.batch_size, lr=1e-3, augment=augment)

    def network(self) -> nn.Module:
        torch.manual_seed(0)
        return self.case.build().to(self.device)

    def loader(self, workers: int) -> Loader:
        pictures = Pictures(self.data.train.subset(slice(self.case.pictures)), self.recipe)
        keep = {"persistent_workers": workers > 0, "pin_memory": self.device.type == "cuda"}
        options = {"shuffle": True, "drop_last": True, "num_workers": workers, **keep}
        return Loader(pictures, self.batch_size, **options)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# ------------------------------------------------------------------------ the contenders


def arithmetic(a: Round) -> float:
    """One batch, over and over: forward, backward, step."""
    model = a.network().train()
    optimizer = build_optimizer(model, a.recipe)
    train = a.data.train.subset(slice(a.batch_size)).to(a.device)
    x, y = Inputs(train, a.recipe, a.device)(train.images), train.labels
    steps = a.case.images // a.batch_size
    for step in range(steps + 5):
        if step == 5:  # the first ones allocate
            finish(a.device)
            began = time.perf_counter()
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    finish(a.device)
    return steps * a.batch_size / (time.perf_counter() - began)


def fit(a: Round) -> float:
    """labkit."""
    history = labkit.fit(a.network(), a.data, a.recipe, device=a.device, progress=False)
    return len(a.data.train) / history.rows[-1]["seconds"]


def plain_loop(a: Round, workers: int) -> float:
    """The loop of every tutorial."""
    model = a.network().train()
    optimizer, loader = adam(model), a.loader(workers)
    for _ in range(2):
        for x, y in loader:
            x, y = x.to(a.device), y.to(a.device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
    finish(a.device)
    return loader.rate()


def with_d2l(a: Round, workers: int) -> float:
    """d2l.Trainer, its picture switched off."""
    d2l = import_d2l()
    loader = a.loader(workers)

    class Model(d2l.Classifier):
        def __init__(self, net):
            super().__init__()
            self.net = net
            self.board.display = False

        def configure_optimizers(self):
            return adam(self)

    class Data(d2l.DataModule):
        def get_dataloader(self, train):
            return loader if train else None

    gpus = int(a.device.type == "cuda")
    d2l.Trainer(max_epochs=2, num_gpus=gpus).fit(Model(a.network()), Data())
    finish(a.device)
    return loader.rate()


def with_lightning(a: Round, workers: int) -> float:
    """Lightning's Trainer, without logger, checkpoints and bar."""
    lightning = import_module("lightning.pytorch")
    loader = a.loader(workers)

    class Model(lightning.LightningModule):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def training_step(self, batch, _):
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return adam(self)

    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {"accelerator": a.device.type, "devices": 1, **dict.fromkeys(off, False)}
    trainer = lightning.Trainer(max_epochs=2, **options)
    trainer.fit(Model(a.network()), loader)
    finish(a.device)
    return loader.rate()


def with_fastai(a: Round, workers: int) -> float:
    """fastai's Learner, with torch's Adam; it wants to validate, so it gets two images for it."""
    fastai = import_module("fastai.vision.all")
    loader = a.loader(workers)
    two = DataLoader(torch.utils.data.Subset(loader.dataset, range(2)), 2)
    learner = fastai.Learner(
        fastai.DataLoaders(loader, two, device=a.device),
        a.network(),
        loss_func=F.cross_entropy,
        opt_func=lambda groups, **options: fastai.OptimWrapper(groups, torch.optim.Adam, **options),
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(2, lr=1e-3)
    finish(a.device)
    return loader.rate()


TRAINERS = {"d2l": with_d2l, "lightning": with_lightning, "fastai": with_fastai}


# ----------------------------------------------------------------------------- the table


def drawn(case: Case) -> Splits:
    """Random pixels and labels, as much as the case wants."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (case.images, *case.shape), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, 10, case.images))
    channels = case.shape[0]
    classes = tuple(map(str, range(10)))
    train = Split(images, labels, classes, "drawn", (MEAN,) * channels, (STD,) * channels)
    return Splits("drawn", train, None, train.subset(slice(2)), "0" * 16)


LOOPS = {"loop, 0": 0, "loop, 2": 2}


def measure(a: Round, rounds: int, trainers: dict | None) -> dict[str, float]:
    """Median images per second of every contender, and our share of the arithmetic."""
    rates = {}
    for _ in range(rounds):
        found = {"arithmetic": arithmetic(a), "fit": fit(a)}
        found["share"] = found["fit"] / found["arithmetic"]
        if trainers is not None:
            found |= {name: plain_loop(a, workers) for name, workers in LOOPS.items()}
            faster = LOOPS[max(LOOPS, key=found.get)]
            found |= {name: trainer(a, faster) for name, trainer in trainers.items()}
        for name, rate in found.items():
            rates.setdefault(name, []).append(rate)
    return {name: statistics.median(values) for name, values in rates.items()}


def installed() -> dict:
    """The trainers that can be imported here."""
    found = {}
    for name, trainer in TRAINERS.items():
        try:
            import_d2l() if name == "d2l" else import_module(name)
            found[name] = trainer
        except ImportError:
            print(f"{name} is not installed: left out")
    return found


def quiet() -> None:
    """The frameworks' advice would tear the table apart."""
    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--ours", action="store_true", help="the first two columns only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    quiet()
    device = torch.device(arguments.device)
    trainers = None if arguments.ours else installed()
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    title = (
        f"Images per second of a training epoch, batches of {arguments.batch_size}, median of "
        f"{arguments.rounds} interleaved rounds, {arguments.threads} threads"
    )
    heading(title, "torch", "torchvision", where=where)
    names = ["arithmetic", "fit", "share", *([] if trainers is None else [*LOOPS, *trainers])]
    print(f"{'network':<18}{'augmented':<13}" + "".join(f"{name:>12}" for name in names))
    for name in arguments.only:
        data = drawn(CASES[name])
        for augmented in (False, True):
            a = Round(CASES[name], data, augmented, arguments.batch_size, device)
            rates = measure(a, arguments.rounds, trainers)
            cells = [f"{rates[key]:12,.{2 if key == 'share' else 0}f}" for key in names]
            print(f"{name:<18}{'crop + flip' if augmented else 'no':<13}" + "".join(cells))


if __name__ == "__main__":
    main()
