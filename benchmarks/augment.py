"""Augmentation of whole batches beside torchvision's image by image: python benchmarks/augment.py

Both crop, flip, rotate and normalise 32 x 32 colour images, drawn by code: pixels do not matter
here. torchvision works as its documentation shows it, on PIL images one after another. One
process, one thread; the two take turns, and the numbers are medians over rounds.
"""

import argparse
import platform
import statistics
import time

import torch

import labkit
from labkit import augment
from labkit.data import import_torchvision

import_torchvision()
from torchvision.transforms import v2  # noqa: E402

ROWS = [("crop",), ("flip",), ("rotation",), ("crop", "flip"), ("crop", "flip", "rotation")]
THEIRS = {
    "crop": v2.RandomCrop(32, padding=4),
    "flip": v2.RandomHorizontalFlip(),
    "rotation": v2.RandomRotation(15),
}


def batched(images: torch.Tensor, names: tuple[str, ...], inputs, generator) -> None:
    """labkit: batches of 128, augmented and normalised as `fit` does."""
    transforms = augment.build(names)
    for batch in images.split(128):
        inputs(augment.apply(transforms, batch, generator))


def one_by_one(pictures: list, names: tuple[str, ...]) -> None:
    """torchvision: PIL image to augmented, normalised tensor, then a batch of them."""
    transform = v2.Compose(
        [
            *(THEIRS[name] for name in names),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )
    for start in range(0, len(pictures), 128):
        torch.stack([transform(picture) for picture in pictures[start : start + 128]])


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    split = labkit.load("shapes", limit=1_000).train
    pictures = [v2.functional.to_pil_image(image) for image in split.images]
    inputs = labkit.train.Inputs(split, labkit.Recipe(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    print(
        f"Images per second, median of {arguments.rounds} interleaved rounds, one thread\n"
        f"torch {torch.__version__}, torchvision {import_torchvision().__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}\n"
    )
    print(f"{'augmentation':<24} {'labkit':>10} {'torchvision':>12} {'ratio':>6}")
    for names in ROWS:
        rounds = [
            (
                seconds(batched, split.images, names, inputs, generator),
                seconds(one_by_one, pictures, names),
            )
            for _ in range(arguments.rounds)
        ]
        ours, theirs = map(statistics.median, zip(*rounds, strict=True))
        rate = len(split)
        print(
            f"{' + '.join(names):<24} {rate / ours:10,.0f} {rate / theirs:12,.0f} "
            f"{theirs / ours:6.1f}"
        )


if __name__ == "__main__":
    main()
