"""Record the runs of lab 01: python benchmarks/record_numpy_mnist.py

Trains the NumPy network on MNIST for ten epochs, once for each configuration and seed, and
writes one JSON file a run to data/runs/numpy_mnist/. A run whose file is there is skipped, and a
file is there whole or not at all, so a killed recording is continued by calling it again. The
mini-batch runs take minutes, those with batch size 1 an hour or two.
"""

import itertools
import json
import os
import platform
import time
from functools import lru_cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy is imported

import numpy as np

import labkit
from labkit.numpy_net import SGD, Linear, ReLU, Sequential, evaluate, fit

STUDY = "numpy_mnist"
FOLDER = Path(__file__).parents[1] / "data" / "runs" / STUDY
EPOCHS, HIDDEN, SEEDS = 10, 128, range(5)


def point(lr: float, batch_size: int, val_fraction: float = 0.1, momentum: float = 0.0) -> dict:
    """The configuration of a run."""
    return {
        "optimizer": "sgd",
        "lr": lr,
        "momentum": momentum,
        "batch_size": batch_size,
        "val_fraction": val_fraction,
        "hidden": HIDDEN,
    }


MINI_BATCHES = [
    point(lr=0.02, momentum=0.9, batch_size=64),
    *(point(lr, 32, fraction) for fraction in (0.1, 0.2) for lr in (0.1, 0.01, 0.001)),
    point(lr=0.1, batch_size=256),
]
# The first three are the rows of the original report.
SINGLE_IMAGES = [point(0.001, 1), point(0.001, 1, 0.2), point(0.1, 1), point(0.01, 1)]


@lru_cache(maxsize=2)
def load(val_fraction: float, seed: int):
    """MNIST's splits, and (images (N, 784) in 0..1, labels (N,)) of each."""
    data = labkit.load("mnist", val_fraction=val_fraction, seed=seed)
    arrays = [
        (split.images.flatten(1).numpy().astype(np.float32) / 255, split.labels.numpy())
        for split in (data.train, data.val, data.test)
    ]
    return data, arrays


def record(config: dict, seed: int) -> dict:
    """Train and test one network; `seed` draws the split, the weights and the batches."""
    data, (train, val, test) = load(config["val_fraction"], seed)
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    model = Sequential(
        Linear(784, config["hidden"], rng), ReLU(), Linear(config["hidden"], 10, rng)
    )
    optimizer = SGD(model.parameters(), config["lr"], config["momentum"])
    rows = fit(
        model, optimizer, train, val, epochs=EPOCHS, batch_size=config["batch_size"], seed=seed
    )
    seconds = time.perf_counter() - start
    loss, accuracy = evaluate(model, *test)
    return {
        "study": STUDY,
        "config": config,
        "seed": seed,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "stand_in": data.stand_in,
        },
        "epochs": rows,
        "test": {"loss": loss, "accuracy": accuracy},
        "seconds": seconds,
        "device": "cpu",
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


def save(run: dict, path: Path) -> None:
    """Write beside the place, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(run, indent=1) + "\n")
    os.replace(partial, path)


def main() -> None:
    for configs in (MINI_BATCHES, SINGLE_IMAGES):
        for seed, config in itertools.product(SEEDS, configs):
            name = "lr{lr}_momentum{momentum}_bs{batch_size}_val{val_fraction}".format(**config)
            path = FOLDER / f"{name}_seed{seed}.json"
            if path.exists():
                continue
            run = record(config, seed)
            save(run, path)
            print(f"{path.stem:42} val {run['epochs'][-1]['val_acc']:.4f}  {run['seconds']:.0f} s")


if __name__ == "__main__":
    main()
