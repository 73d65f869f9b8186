"""The studies behind the labs, by name: each reported table measured again, over several seeds.

A recipe follows its report wherever the report says what it did; what it leaves open is ours,
and said beside it. `channels_last` and `bf16` are there for speed; a record names both.
"""

from labkit import models
from labkit.augment import Crop, Erasing, Flip
from labkit.study.definition import Study, grid
from labkit.train import OneCycle, Plateau, Recipe

SEEDS = (42, 43, 44, 45, 46)

# ------------------------------------------------------------------- lab 08, Fashion-MNIST

fashion_ablation = Study(
    name="fashion_ablation",
    question="Which of BatchNorm, Dropout, shortcuts and pooling pays on Fashion-MNIST?",
    data="fashion_mnist",
    options={"val_fraction": 0.1, "seed": 42},
    configs=(
        *grid(
            model="ImprovedCNN",
            batchnorm=[True, False],
            dropout=[False, True],
            residual=[False, True],
            pooling=["avg", "max"],
        ),
        *grid(model="ImprovedNN", batchnorm=[True, False], dropout=[False, True]),
        *grid(model=["BaselineCNN", "BaselineNN"]),
    ),
    seeds=SEEDS,
    recipe=Recipe(
        epochs=40,
        batch_size=64,
        lr=1e-3,
        weight_decay=1e-4,
        schedule=Plateau(factor=0.5, patience=2),
        label_smoothing=0.1,
        augment=("flip",),
        channels_last=True,
        bf16=True,
    ),
)

# ---------------------------------------------------------------------- lab 05, Imagenette

_IMAGENET10 = {
    "two_layer": models.TwoLayerNN,
    "residual_mlp": models.ResidualMLP,
    "cnn": models.ResidualCNN,
}


def _imagenet10_model(config: dict):
    return _IMAGENET10[config["model"]]()


imagenet10 = Study(
    name="imagenet10",
    question="How far do 3,600 pictures take a two-layer network, a residual MLP and a CNN?",
    data="imagenette",
    options={"seed": 42},
    # The report gives the epochs of its three networks and nothing else; the recipes are ours.
    configs=(
        {"model": "cnn", "epochs": 60, "lr": 2e-3, "augment": "crop8+flip+erasing"},
        {"model": "two_layer", "epochs": 30, "lr": 3e-4, "augment": "crop+flip"},
        {"model": "residual_mlp", "epochs": 50, "lr": 3e-4, "augment": "crop+flip"},
    ),
    seeds=SEEDS,
    named={"augment": {"crop8+flip+erasing": (Crop(8), Flip(), Erasing())}},
    naming=("model",),
    model=_imagenet10_model,
    recipe=Recipe(
        batch_size=64,
        optimizer="adamw",
        weight_decay=0.05,
        schedule=OneCycle(),
        label_smoothing=0.1,
        channels_last=True,
        bf16=True,
    ),
)


def _named() -> dict[str, Study]:
    return {value.name: value for value in globals().values() if isinstance(value, Study)}


def names() -> list[str]:
    """The studies that `get` knows."""
    return list(_named())


def get(name: str) -> Study:
    """A study by its name. Raises ValueError for an unknown one."""
    if name not in _named():
        raise ValueError(f"There is no study {name!r}; there are {', '.join(_named())}")
    return _named()[name]
