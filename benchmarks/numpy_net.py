"""The NumPy network beside the same one in torch: python benchmarks/numpy_net.py

A row is a batch size, and the images per second of one training epoch of 784-128-10 with SGD in
float32. The images are random, which takes as long as real ones. The two take turns, so that
whatever else the machine does hits both; the numbers are medians over rounds. Both run on one
thread unless OMP_NUM_THREADS says otherwise.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy and torch are imported

import numpy as np
import torch
from heading import heading

from labkit import numpy_net

BATCH_SIZES = (1, 32, 256)
LR = 0.01


def numpy_epoch(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Callable[[], None]:
    """A function that trains the NumPy network for one epoch."""
    rng = np.random.default_rng(0)
    model = numpy_net.Sequential(
        numpy_net.Linear(784, 128, rng), numpy_net.ReLU(), numpy_net.Linear(128, 10, rng)
    )
    optimizer = numpy_net.SGD(model.parameters(), lr=LR)

    def epoch() -> None:
        for x, y in numpy_net.minibatches(images, labels, batch_size, rng):
            _, dlogits = numpy_net.cross_entropy(model.forward(x), y)
            model.backward(dlogits)
            optimizer.step()

    return epoch


def torch_epoch(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Callable[[], None]:
    """A function that trains the torch network for one epoch."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    model = torch.nn.Sequential(
        torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def epoch() -> None:
        for chosen in torch.randperm(len(x)).split(batch_size):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()

    return epoch


def seconds(run: Callable[[], None]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(images: np.ndarray, labels: np.ndarray, batch_size: int, rounds: int) -> list[float]:
    """Median seconds of one epoch of ours and of torch's, after one to warm up."""
    pair = [make(images, labels, batch_size) for make in (numpy_epoch, torch_epoch)]
    times = [[seconds(epoch) for epoch in pair] for _ in range(rounds + 1)]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5_000, help="images in an epoch")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.random((arguments.images, 784), dtype=np.float32)
    labels = rng.integers(0, 10, arguments.images)

    title = (
        f"Images per second of one training epoch of {arguments.images:,} images, 784-128-10, "
        f"median of {arguments.rounds} interleaved rounds, {torch.get_num_threads()} thread(s)"
    )
    heading(title, "numpy", "torch")
    print(f"{'batch size':>10} {'ours':>9} {'torch':>9} {'ratio':>6}")
    for batch_size in BATCH_SIZES:
        ours, theirs = measure(images, labels, batch_size, arguments.rounds)
        print(
            f"{batch_size:>10} {arguments.images / ours:9,.0f} {arguments.images / theirs:9,.0f} "
            f"{theirs / ours:6.2f}"
        )


if __name__ == "__main__":
    main()
