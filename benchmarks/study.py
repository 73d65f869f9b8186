"""Two workers against one process with two threads: python benchmarks/study.py

The same eight small runs of a CNN on drawn shapes, from nothing, both ways in turn, several rounds;
a row a way, with the median of the wall times, and the ratio with its range. It wants two quiet
cores.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from heading import heading

import labkit
from labkit import study

ROUNDS, RUNS, CORES, SLIM = 3, 8, 2, (8, 16, 32)


def make_study(folder: Path) -> study.Study:
    """Eight runs of some seconds on 4,000 drawn shapes, from a file like any data set."""
    path = folder / "shapes.npz"
    if not path.exists():
        data = labkit.load("shapes", seed=0)
        arrays = {}
        for part, split in (("train", data.train.subset(slice(0, 4000))), ("test", data.test)):
            arrays[f"x_{part}"] = split.images.permute(0, 2, 3, 1).squeeze().numpy()
            arrays[f"y_{part}"] = split.labels.numpy()
        np.savez(path, **arrays)
    shape = labkit.load(str(path)).shape
    return study.Study(
        name="benchmark",
        question="How much faster are two workers?",
        data=str(path),
        configs=study.grid(
            model="SimpleCNN", channels=[SLIM], in_channels=shape[0], image_size=shape[1]
        ),
        recipe=labkit.Recipe(epochs=8, batch_size=64, channels_last=True),
        seeds=range(RUNS),
    )


def seconds(eight: study.Study, workers: int) -> float:
    """From nothing to eight records, with `workers` processes on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(CORES)
        fresh = replace(eight, folder=Path(folder) / "runs")
        began = time.perf_counter()
        fresh.run(workers=workers, device="cpu", progress=False)
        return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        eight = make_study(Path(folder))
        model, epochs = eight.configs[0]["model"], eight.recipe.epochs
        heading(f"{RUNS} runs of {model}, {epochs} epochs, median of {ROUNDS} rounds", "torch")
        times = [(seconds(eight, 1), seconds(eight, CORES)) for _ in range(ROUNDS)]
    one, two = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    print(f"{f'one process, {CORES} threads':<28}{one:6.1f} s")
    print(f"{f'{CORES} processes, one thread':<28}{two:6.1f} s")
    print(f"ratio {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
