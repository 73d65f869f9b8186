"""Augmentation of whole batches beside what people use: python benchmarks/augment.py

All crop, flip, rotate and normalise 32 x 32 colour images, drawn by code: pixels do not matter
here. torchvision works as its documentation shows it, both its first transforms and the second, on
PIL images one after another; kornia works on whole batches of floats, as labkit does on bytes. One
process, one thread; they take turns, and the numbers are medians over rounds.

kornia is left out where it is not installed: pip install -c constraints.txt -e '.[bench]'
"""

import argparse
import statistics
import time
from importlib import import_module
from types import ModuleType

import torch
from heading import heading

import labkit
from labkit import augment
from labkit.data import import_torchvision

import_torchvision()
from torchvision import transforms as v1  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

ROWS = [("crop",), ("flip",), ("rotation",), ("crop", "flip"), ("crop", "flip", "rotation")]
MEAN, STD = (0.5,) * 3, (0.25,) * 3


def batched(images: torch.Tensor, names: tuple[str, ...], inputs, generator) -> None:
    """labkit: batches of 128, augmented and normalised as `fit` does."""
    transforms = augment.build(names)
    for batch in images.split(128):
        inputs(augment.apply(transforms, batch, generator))


def one_by_one(pictures: list, names: tuple[str, ...], module: ModuleType) -> None:
    """torchvision: PIL image to augmented, normalised tensor, then a batch of them."""
    theirs = {
        "crop": module.RandomCrop(32, padding=4),
        "flip": module.RandomHorizontalFlip(),
        "rotation": module.RandomRotation(15),
    }
    if module is v1:
        to_tensor = [v1.ToTensor()]
    else:
        to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    steps = [*(theirs[name] for name in names), *to_tensor, module.Normalize(MEAN, STD)]
    transform = module.Compose(steps)
    for start in range(0, len(pictures), 128):
        torch.stack([transform(picture) for picture in pictures[start : start + 128]])


def with_kornia(images: torch.Tensor, names: tuple[str, ...], kornia: ModuleType) -> None:
    """kornia: batches of 128, as floats in [0, 1]."""
    theirs = {
        "crop": kornia.RandomCrop((32, 32), padding=4),
        "flip": kornia.RandomHorizontalFlip(),
        "rotation": kornia.RandomRotation(15.0, resample="nearest"),
    }
    normalize = kornia.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    transform = kornia.AugmentationSequential(*(theirs[name] for name in names), normalize)
    for batch in images.split(128):
        transform(batch.float() / 255)


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
    contenders = {
        "labkit": lambda names: batched(split.images, names, inputs, generator),
        "torchvision v1": lambda names: one_by_one(pictures, names, v1),
        "torchvision v2": lambda names: one_by_one(pictures, names, v2),
    }
    try:
        kornia = import_module("kornia.augmentation")
        contenders["kornia"] = lambda names: with_kornia(split.images, names, kornia)
    except ImportError:
        print("kornia is not installed: left out")
    title = f"Images per second, median of {arguments.rounds} interleaved rounds, one thread"
    heading(title, "torch", "torchvision")
    print(f"{'augmentation':<24}" + "".join(f"{name:>16}" for name in contenders))
    for names in ROWS:
        rounds = [
            [seconds(contender, names) for contender in contenders.values()]
            for _ in range(arguments.rounds)
        ]
        rates = [len(split) / statistics.median(times) for times in zip(*rounds, strict=True)]
        print(f"{' + '.join(names):<24}" + "".join(f"{rate:16,.0f}" for rate in rates))


if __name__ == "__main__":
    main()
