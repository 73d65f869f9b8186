"""What the hand-written layers cost beside torch.nn: python benchmarks/layers.py

A row is one layer at a shape of the labs, and the time of its forward and backward pass. The two
take turns, so that whatever else the machine does hits both; the numbers are medians over rounds.
"""

import argparse
import statistics
import time

import torch
from heading import heading
from torch import nn

from labkit import layers

ROWS = [
    # layer, argument, shape of the batch, where it stands
    ("BatchNorm2d", 64, (128, 64, 32, 32), "ResNet18, first stage"),
    ("BatchNorm2d", 32, (128, 32, 32, 32), "SimpleCNN, first block"),
    ("BatchNorm2d", 256, (100, 256, 10, 10), "WideCNN, second block"),
    ("BatchNorm2d", 512, (128, 512, 4, 4), "ResNet18, last stage"),
    ("BatchNorm1d", 1024, (500, 1024), "MLP"),
    ("Dropout", 0.5, (500, 1024), "MLP"),
    ("Dropout", 0.5, (100, 256, 10, 10), "WideCNN, second block"),
    ("Dropout2d", 0.5, (100, 256, 10, 10), "WideCNN, second block"),
]


def seconds(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> float:
    """One forward and backward pass."""
    layer.zero_grad()
    x.grad = None
    start = time.perf_counter()
    layer(x).backward(dy)
    return time.perf_counter() - start


def measure(name: str, argument, shape: tuple[int, ...], rounds: int) -> tuple[float, float]:
    """Median seconds of our layer and of torch's, in training."""
    pair = getattr(layers, name)(argument), getattr(nn, name)(argument)
    x, dy = torch.randn(shape, requires_grad=True), torch.randn(shape)
    for layer in pair:
        seconds(layer, x, dy)
    times = [[seconds(layer, x, dy) for layer in pair] for _ in range(rounds)]
    ours, theirs = zip(*times, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="more only on a machine at rest")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    title = (
        f"Forward and backward in training, median of {arguments.rounds} interleaved rounds, "
        f"{arguments.threads} thread(s)"
    )
    heading(title, "torch")
    print(f"{'layer':<12} {'batch':<20} {'where':<24} {'ours':>9} {'torch':>9} {'ratio':>6}")
    for name, argument, shape, where in ROWS:
        ours, theirs = measure(name, argument, shape, arguments.rounds)
        print(
            f"{name:<12} {' x '.join(map(str, shape)):<20} {where:<24} "
            f"{ours * 1e3:6.1f} ms {theirs * 1e3:6.1f} ms {ours / theirs:6.2f}"
        )


if __name__ == "__main__":
    main()
