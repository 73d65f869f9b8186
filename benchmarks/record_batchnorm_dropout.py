"""Record the runs of lab 03: python benchmarks/record_batchnorm_dropout.py

Trains the lab's MLP and CNN in its quick sizes, with and without BatchNorm, with each dropout, and
at three learning rates, ten seeds each, and writes one JSON file a run to
data/runs/batchnorm_dropout/. The lab trains three of the seeds live; the others say what three
cannot. A run whose file is there is skipped, and a file is there whole or not at all, so a killed
recording is continued by calling it again. Ten minutes on one core.
"""

import json
import os
from pathlib import Path

import torch
from torch import nn

import labkit
from labkit import layers, models

STUDY = "batchnorm_dropout"
FOLDER = Path(__file__).parents[1] / "data" / "runs" / STUDY
SEEDS = range(10)


class ReportDropout(layers.Dropout):
    """Wrong on purpose: mask · x · (1 - p) in training, x in evaluation, as the report says."""

    def forward(self, x):
        return super().forward(x) * (1 - self.p) ** 2 if self.training else x


DROPOUTS = {
    "none": None,
    "Dropout": layers.Dropout,
    "Dropout2d": layers.Dropout2d,
    "the report's": ReportDropout,
}


def point(model: str, batchnorm: bool, dropout: str = "none", lr: float = 1e-3) -> dict:
    """The configuration of a run."""
    return {"model": model, "batchnorm": batchnorm, "dropout": dropout, "lr": lr}


CONFIGS = [
    *(point("MLP", bn, dropout) for bn in (False, True) for dropout in ("none", "Dropout")),
    point("MLP", True, "the report's"),
    point("CNN", False),
    *(point("CNN", True, dropout) for dropout in DROPOUTS),
    *(point("CNN", bn, lr=lr) for lr in (1e-2, 3e-2) for bn in (False, True)),
]


def build(config: dict) -> nn.Module:
    dropout = DROPOUTS[config["dropout"]]
    if config["model"] == "MLP":
        norm = layers.BatchNorm1d if config["batchnorm"] else None
        return models.MLP(hidden=256, norm=norm, dropout=dropout, p=0.5)
    norm = layers.BatchNorm2d if config["batchnorm"] else None
    return models.WideCNN(channels=8, norm=norm, dropout=dropout, p=0.3)


def record(config: dict, seed: int, data) -> dict:
    """Train and test one network; `seed` draws the weights, the batches and the masks."""
    epochs, batch_size = (6, 100) if config["model"] == "MLP" else (3, 50)
    recipe = labkit.Recipe(
        epochs=epochs, batch_size=batch_size, lr=config["lr"], seed=seed, keep="last"
    )
    torch.manual_seed(seed)
    model = build(config)
    history = labkit.fit(model, data, recipe, device="cpu", progress=False)
    test = labkit.evaluate(model, data.test)
    run = {"study": STUDY, "config": config, "seed": seed, **history.to_dict()}
    run["data"]["stand_in"] = data.stand_in
    run["test"] = {"loss": test.loss, "accuracy": test.accuracy}
    return run


def save(run: dict, path: Path) -> None:
    """Write beside the place, then rename."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(run, indent=1) + "\n")
    os.replace(partial, path)


def main() -> None:
    torch.set_num_threads(1)
    data = labkit.load("cifar10", limit=3_000, seed=42)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for config in CONFIGS:
            norm = "bn" if config["batchnorm"] else "plain"
            dropout = config["dropout"].replace(" ", "_").replace("'", "")
            path = FOLDER / f"{config['model']}_{norm}_{dropout}_lr{config['lr']}_seed{seed}.json"
            if path.exists():
                continue
            run = record(config, seed, data)
            save(run, path)
            accuracy = run["test"]["accuracy"]
            print(f"{path.stem:42} test {accuracy:.4f}  {run['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
