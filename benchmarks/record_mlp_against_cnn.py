"""Record the runs of lab 04: python benchmarks/record_mlp_against_cnn.py

Trains the lab's networks in its quick mode, on Fashion-MNIST as it is and with permuted pixels, and
on CIFAR-10, ten seeds each, and writes one JSON file a run to data/runs/mlp_against_cnn/. The wide
CNN also at the report's 256 channels, for which quick mode has no time: three seeds. A run whose
file is there is skipped, and a file is there whole or not at all, so a killed recording is
continued by calling it again. On one quiet core 25 minutes, of which 20 for the 256 channels.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

import labkit
from labkit import models
from labkit.data import Split, Splits

STUDY = "mlp_against_cnn"
FOLDER = Path(__file__).parents[1] / "data" / "runs" / STUDY
SHIFTS = range(5)  # pixels
RECIPE = labkit.Recipe(
    epochs=4, batch_size=64, lr=3e-3, schedule=labkit.OneCycle(), channels_last=True
)


def point(dataset: str, model: str, permuted: bool = False, channels: int | None = None) -> dict:
    """The configuration of a run."""
    config = {"dataset": dataset, "model": model, "permuted": permuted}
    return config if channels is None else {**config, "channels": channels}


CONFIGS = [
    *(
        point("fashion_mnist", model, permuted)
        for model in ("ImprovedNN", "ImprovedCNN")
        for permuted in (False, True)
    ),
    point("fashion_mnist", "BaselineNN"),
    point("fashion_mnist", "BaselineCNN"),
    point("cifar10", "MLP"),
    point("cifar10", "WideCNN", channels=24),
]
RUNS = [(config, seed) for seed in range(10) for config in CONFIGS]
RUNS += [(point("cifar10", "WideCNN", channels=256), seed) for seed in range(3)]


def permute(data: Splits) -> Splits:
    """The same random order of pixels for every image, that of the lab."""
    side = data.shape[1]
    order = torch.randperm(side * side, generator=torch.Generator().manual_seed(0))

    def one(split: Split) -> Split:
        return replace(split, images=split.images.flatten(2)[:, :, order].view_as(split.images))

    return replace(data, train=one(data.train), val=one(data.val), test=one(data.test))


def moved(split: Split, pixels: int) -> Split:
    """A quarter of the images moved to the right, left, down and up; what comes in is black."""
    pads = [(pixels, -pixels, 0, 0), (-pixels, pixels, 0, 0)]
    pads += [(0, 0, pixels, -pixels), (0, 0, -pixels, pixels)]
    quarters = zip(split.images.chunk(4), pads, strict=True)
    return replace(split, images=torch.cat([F.pad(images, pad) for images, pad in quarters]))


def record(config: dict, seed: int, data: Splits) -> dict:
    """Train and test one network; `seed` draws the weights and the order of the images."""
    recipe = replace(RECIPE, seed=seed)
    if config["dataset"] == "cifar10":
        recipe = replace(recipe, batch_size=128)
    if config["permuted"]:
        data = permute(data)
    sizes = {"channels": config["channels"]} if "channels" in config else {}
    torch.manual_seed(seed)
    model = getattr(models, config["model"])(**sizes)
    history = labkit.fit(model, data, recipe, device="cpu", progress=False)
    test = labkit.evaluate(model, data.test, batch_size=250)
    run = {"study": STUDY, "config": config, "seed": seed, **history.to_dict()}
    run["data"]["stand_in"] = data.stand_in
    run["test"] = {"loss": test.loss, "accuracy": test.accuracy}
    if config["dataset"] == "fashion_mnist" and not config["permuted"]:
        some = data.test.subset(slice(0, 2000))
        for pixels in SHIFTS:
            shifted = labkit.evaluate(model, moved(some, pixels), batch_size=250)
            run["test"][f"accuracy_shift{pixels}"] = shifted.accuracy
    return run


def save(run: dict, path: Path) -> None:
    """Write beside the place, then rename."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(run, indent=1) + "\n")
    os.replace(partial, path)


def main() -> None:
    torch.set_num_threads(1)
    sets = {
        "fashion_mnist": labkit.load("fashion_mnist", limit=5_000),
        "cifar10": labkit.load("cifar10", limit=4_000),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    for config, seed in RUNS:
        name = f"{config['dataset']}_{config['model']}"
        name += str(config.get("channels", "")) + ("_permuted" if config["permuted"] else "")
        path = FOLDER / f"{name}_seed{seed}.json"
        if path.exists():
            continue
        run = record(config, seed, sets[config["dataset"]])
        save(run, path)
        print(
            f"{path.stem:42} test {run['test']['accuracy']:.4f}  {run['seconds']:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
