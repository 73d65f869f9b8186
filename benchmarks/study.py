"""Eight small runs, in three ways: python benchmarks/study.py

One after the other in one process, which has all cores' threads; in several processes, as
`labkit study run --workers 2` does it; and several at a time in one process, a Python thread each.
The runs are the same (a CNN on drawn shapes, from nothing to eight records), the ways take turns;
a row a way, with the median of the wall times and the ratio to the first with its range. It wants a
machine that does nothing else. `--device cuda` measures a GPU, where a run alone leaves much idle:
try `--at-once 4`.

Threads share torch's random numbers, so runs made in that way can't be repeated: it is here to be
compared, and no option of `study.run`.
"""

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from heading import heading

import labkit
from labkit import study

ROUNDS, RUNS, SLIM = 3, 8, (8, 16, 32)


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


def in_processes(eight: study.Study, at_once: int, device: str) -> None:
    eight.run(workers=at_once, device=device, progress=False)


def in_threads(eight: study.Study, at_once: int, device: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = [replace(eight, configs=[config], seeds=[seed]) for config, seed in eight.runs()]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda run: in_processes(run, 1, device), runs))
    torch.set_num_threads(threads)


def seconds(way, eight: study.Study, at_once: int, device: str) -> float:
    """From nothing to eight records."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = replace(eight, folder=Path(folder) / "runs")
        began = time.perf_counter()
        way(fresh, at_once, device)
        took = time.perf_counter() - began
        assert not fresh.missing()
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--at-once", type=int, default=2, metavar="N")
    arguments = parser.parse_args()
    n, device = arguments.at_once, arguments.device
    ways = {
        "one after the other": (in_processes, 1),
        f"{n} processes": (in_processes, n),
        f"{n} at a time, one process": (in_threads, n),
    }
    with tempfile.TemporaryDirectory() as folder:
        eight = make_study(Path(folder))
        model, epochs = eight.configs[0]["model"], eight.recipe.epochs
        where = labkit.train.device_name(torch.device(device))
        title = f"{RUNS} runs of {model}, {epochs} epochs, on {where}, median of {ROUNDS} rounds"
        heading(title, "torch")
        rounds = [
            [seconds(way, eight, at_once, device) for way, at_once in ways.values()]
            for _ in range(ROUNDS)
        ]
    for name, times in zip(ways, zip(*rounds, strict=True), strict=True):
        ratios = sorted(first / took for (first, *_), took in zip(rounds, times, strict=True))
        spread = f"{statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"{name:<28}{statistics.median(times):6.1f} s   ratio {spread}")


if __name__ == "__main__":
    main()
