"""The studies behind the labs, by name: each reported table measured again, over several seeds.

A recipe follows its report wherever the report says what it did; what it leaves open is ours,
and said beside it. `channels_last`, `bf16` and `fused` are there for speed, and a record names
them. `fused` is off where runs were recorded before it was there: they must repeat exactly.
"""

from dataclasses import replace

from labkit.augment import Crop, Erasing, Flip
from labkit.study import tables, variants
from labkit.study.definition import Study, grid
from labkit.train import Constant, Cosine, OneCycle, Plateau, Recipe, Step

SEEDS = (42, 43, 44, 45, 46)
_SLIM = {"limit": 6_000, "val_fraction": 0.2, "seed": 42}  # 4,800 pictures train
REPORTED_RESNETS = "cifar10_simple_and_resnet18"


def _like(study: Study, name: str, question: str, **changes) -> Study:
    """Another question to the same set-up, with a folder of its own, by its name."""
    return replace(study, name=name, question=question, folder=None, **changes)


# ----------------------------------------------------------------- lab 01, MNIST without torch


def _numpy(lr: float, batch_size: int, val_fraction: float = 0.1, momentum: float = 0.0) -> dict:
    sizes = {"batch_size": batch_size, "val_fraction": val_fraction, "hidden": 128}
    return {"optimizer": "sgd", "lr": lr, "momentum": momentum, **sizes}


numpy_mnist = Study(
    name="numpy_mnist",
    question="What do learning rate, batch size and validation share do to a network in NumPy?",
    data="mnist",
    configs=(
        _numpy(lr=0.02, momentum=0.9, batch_size=64),
        *(_numpy(lr, 32, fraction) for fraction in (0.1, 0.2) for lr in (0.1, 0.01, 0.001)),
        _numpy(lr=0.1, batch_size=256),
        # One picture a step, as in the report: these take minutes each.
        *(_numpy(*point) for point in ((0.001, 1), (0.001, 1, 0.2), (0.1, 1), (0.01, 1))),
    ),
    seeds=range(5),
    naming=("lr", "momentum", "batch_size", "val_fraction"),
    train=variants.in_numpy,
    recipe=Recipe(epochs=10),
)

# Predicted before they ran: at lr / batch size = 0.001 batches of 32 and of 256 end within half a
# point of single pictures; at 0.01 those of 32 do, and those of 256 lag.
numpy_scaling = _like(
    numpy_mnist,
    name="numpy_scaling",
    question="Is it the learning rate over the batch size that counts?",
    configs=(
        *(_numpy(*point) for point in ((0.032, 32), (0.32, 32), (0.256, 256), (2.56, 256))),
        _numpy(lr=0.8, batch_size=256),  # as much a picture as 0.1 for batches of 32
    ),
)

# ---------------------------------------------------------------- lab 02, softmax once or twice

double_softmax = Study(
    name="double_softmax",
    question="What does a second softmax cost, with which optimiser?",
    data="fashion_mnist",
    options={"val_fraction": 0.1, "seed": 42},
    configs=tuple(
        {"optimizer": optimizer, "lr": lr, "softmaxes": softmaxes}
        for optimizer, lr in (("sgd", 0.1), ("sgd", 1.0), ("adam", 0.01))
        for softmaxes in (1, 2)
    ),
    seeds=SEEDS,
    model=variants.linear,
    loss=variants.softmax_again,
    # d2l's own: batches of 256 raw pixels, plain SGD; 20 epochs are ours.
    recipe=Recipe(
        epochs=20, batch_size=256, momentum=0, normalize="none", keep="last", fused=False
    ),
)

# ------------------------------------------------------------ lab 03, BatchNorm and Dropout


def _regularised(model: str, batchnorm: bool, dropout: str = "none", lr: float = 1e-3) -> dict:
    sizes = {"epochs": 6, "batch_size": 100} if model == "MLP" else {"epochs": 3, "batch_size": 50}
    return {"model": model, "batchnorm": batchnorm, "dropout": dropout, "lr": lr, **sizes}


batchnorm_dropout = Study(
    name="batchnorm_dropout",
    question="Lab 03's quick runs, ten seeds each: what three seeds cannot decide",
    data="cifar10",
    options={"limit": 3_000, "seed": 42},
    configs=(
        *(_regularised("MLP", bn, kind) for bn in (False, True) for kind in ("none", "Dropout")),
        _regularised("MLP", True, "the report's"),
        _regularised("CNN", False),
        *(_regularised("CNN", True, kind) for kind in variants.DROPOUTS),
        *(_regularised("CNN", bn, lr=lr) for lr in (1e-2, 3e-2) for bn in (False, True)),
        # Predicted before they ran: the best plain CNN of the five rates stays below the best
        # with BatchNorm, by two points or more.
        *(_regularised("CNN", bn, lr=lr) for lr in (3e-4, 3e-3) for bn in (False, True)),
    ),
    seeds=range(10),
    naming=("model", "batchnorm", "dropout", "lr"),
    model=variants.small_regularised,
    recipe=Recipe(keep="last", fused=False),
)

# Predicted after a look at three or four seeds: with settled statistics Dropout costs nothing any
# more (in front of the pooling, where it shifts them), and Dropout2d as much as before. Without
# BatchNorm, Dropout costs nothing either.
dropout_statistics = _like(
    batchnorm_dropout,
    name="dropout_statistics",
    question="Does Dropout harm what the CNN learns, or what its BatchNorm remembers?",
    configs=(
        *(_regularised("CNN", True, kind) for kind in ("none", "Dropout", "Dropout2d")),
        _regularised("CNN", True, "Dropout") | {"behind_pooling": True},
        *(_regularised("CNN", False, kind) for kind in ("none", "Dropout")),
    ),
    naming=("model", "batchnorm", "dropout", "behind_pooling"),
    train=variants.also_settled,
)

mlp_cnn_cifar10 = Study(
    name="mlp_cnn_cifar10",
    question="BatchNorm, Dropout, batch size and learning rate, in the report's own sizes",
    data="cifar10",
    options={"val_fraction": 0.1, "seed": 42},
    configs=tables.reported("mlp_cnn_cifar10")
    .rename(columns={"learning_rate": "lr"})
    .filter(["model", "batchnorm", "dropout", "dropout_kind", "batch_size", "lr"])
    .to_dict("records"),
    seeds=SEEDS[:3],
    model=variants.regularised,
    recipe=Recipe(epochs=50, channels_last=True),
)

# ------------------------------------------------------------------- lab 04, MLP against CNN


def _pair(dataset: str, model: str, permuted: bool = False, **sizes) -> dict:
    own = {"batch_size": 128} if dataset == "cifar10" else {}
    pair = {"dataset": dataset, "model": model, "permuted": permuted, "limit": 4_000}
    return {**pair, **own, **sizes}


mlp_vs_cnn = Study(
    name="mlp_vs_cnn",
    question="Lab 04's quick runs, ten seeds each: pixels permuted, pictures moved, and in colour",
    data="fashion_mnist",
    configs=(
        *(
            _pair("fashion_mnist", model, permuted)
            for model in ("ImprovedNN", "ImprovedCNN")
            for permuted in (False, True)
        ),
        *(_pair("fashion_mnist", model) for model in ("BaselineNN", "BaselineCNN")),
        _pair("cifar10", "MLP"),
        _pair("cifar10", "WideCNN", channels=24),
        _pair("cifar10", "WideCNN", channels=256),  # the report's width: ten minutes a run
    ),
    seeds=range(10),
    naming=("dataset", "model", "channels", "permuted"),
    model=variants.whatever_the_pixels,
    train=variants.permuted_or_moved,
    recipe=Recipe(
        epochs=4, batch_size=64, lr=3e-3, schedule=OneCycle(), channels_last=True, fused=False
    ),
)

# ---------------------------------------------------------------------- lab 05, Imagenette

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
    model=variants.imagenet,
    recipe=Recipe(
        batch_size=64,
        optimizer="adamw",
        weight_decay=0.05,
        schedule=OneCycle(),
        label_smoothing=0.1,
        channels_last=True,
        bf16=True,
        fused=False,
    ),
)

# ------------------------------------------------------------- labs 06 and 07, CIFAR-10

cifar10_simple = Study(
    name="cifar10_simple",
    question="The small CNN for 80 epochs, as in the report",
    data="cifar10",
    options={"val_fraction": 0.1, "seed": 42},
    configs=({"model": "SimpleCNN"},),
    seeds=SEEDS,
    naming=("model",),
    recipe=Recipe(
        epochs=80,
        batch_size=128,
        lr=1e-3,
        schedule=Step(every=10, factor=0.5),
        augment=("crop", "flip", "rotation"),
        channels_last=True,
    ),
)


def _resnet(row: dict) -> dict:
    """A reported row; the ImageNet stem's report leaves out its epochs, both their optimisers."""
    cifar = row["stem"] == "cifar"
    return {
        "model": "ResNet18",
        "stem": row["stem"],
        "batch_size": row["batch_size"],
        "normalize": "train" if row["normalize"] else "none",
        "augment": row["augment"] if isinstance(row["augment"], str) else "none",
        "lr": row["learning_rate"],
        "schedule": row["schedule"],
        "optimizer": "sgd" if cifar else "adam",
        "epochs": 50 if cifar else 30,
    }


_OURS = {  # lab 07's own recipe: half the epochs, and a schedule that knows how many
    "model": "ResNet18",
    "stem": "cifar",
    "batch_size": 128,
    "normalize": "train",
    "augment": "crop+flip",
    "lr": 0.1,
    "schedule": "one_cycle",
    "optimizer": "sgd",
    "epochs": 24,
    "nesterov": True,
    "weight_decay": 5e-4,
    "label_smoothing": 0.1,
}

cifar10_resnet18 = Study(
    name="cifar10_resnet18",
    question="Two stems, what each report tried with them, and a recipe of ours",
    data="cifar10",
    options={"val_fraction": 0.1, "seed": 42},
    configs=(
        *(
            _resnet(row)
            for row in tables.reported(REPORTED_RESNETS).to_dict("records")
            if row["model"] == "resnet18"
        ),
        _OURS,
    ),
    seeds=SEEDS[:3],
    naming=("stem", "batch_size", "normalize", "augment", "lr", "schedule"),
    named={
        "schedule": {
            "constant": Constant(),
            "one_cycle": OneCycle(),
            "step/10x0.5": Step(every=10, factor=0.5),
            **{f"step/{every}x0.1": Step(every=every, factor=0.1) for every in (10, 20, 40)},
        }
    },
    recipe=Recipe(channels_last=True, bf16=True),
)


def _falls_later(config: dict, batch_size: int, every: int) -> dict:
    return {**config, "batch_size": batch_size, "schedule": f"step/{every}x0.1"}


_RELATIVES = tuple({**config, "model": "ResNet10"} for config in cifar10_resnet18.configs)
_SECOND_REPORT = next(config for config in _RELATIVES if config["stem"] == "cifar")

small_resnet = _like(
    cifar10_resnet18,
    name="small_resnet",
    question="What the reports tried with ResNet-18, on a small relative and 4,800 pictures",
    configs=(
        *_RELATIVES,
        # As many steps before the rate falls as the reports' batches of 32, and of 128, make.
        _falls_later(_SECOND_REPORT, batch_size=128, every=40),
        _falls_later(_SECOND_REPORT, batch_size=256, every=20),
    ),
    options=_SLIM,
    model=variants.small_resnet,
    recipe=replace(cifar10_resnet18.recipe, bf16=False),
)

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
        fused=False,
    ),
)

_REPORTS_BEST = {"model": "ImprovedCNN", "batchnorm": True, "pooling": "avg"}

fashion_float32 = _like(
    fashion_ablation,
    name="fashion_float32",
    question="Is it bfloat16 that keeps the ablation's runs below the report's?",
    configs=(_REPORTS_BEST,),
    naming=("model",),
    recipe=replace(fashion_ablation.recipe, bf16=False),
)

# Predicted before they ran: SGD is ahead of Adam, a pixel to each side ahead of none and of the
# stronger changes, and their best ends between 93.9 and 94.3 % in validation. Predicted after six
# runs, and before any of it: so does the report's own recipe with pictures moved by a pixel.
fashion_recipes = _like(
    fashion_ablation,
    name="fashion_recipes",
    question="Is it the recipe that keeps the ablation's best network below the report's?",
    configs=(
        *(
            {**_REPORTS_BEST, **optimizer, "augment": augment}
            for optimizer in (
                {"optimizer": "adam", "lr": 3e-3, "weight_decay": 0.0},
                {"optimizer": "sgd", "nesterov": True, "lr": 0.1, "weight_decay": 5e-4},
            )
            for augment in ("flip", "crop1+flip", "crop2+flip+erasing")
        ),
        {**_REPORTS_BEST, "schedule": "plateau", "batch_size": 64, "augment": "crop1+flip"},
    ),
    seeds=SEEDS[:3],
    naming=("schedule", "optimizer", "augment"),
    named={
        "augment": {
            "crop1+flip": (Crop(1), Flip()),
            "crop2+flip+erasing": (Crop(2), Flip(), Erasing()),
        },
        "schedule": {"plateau": fashion_ablation.recipe.schedule},
    },
    recipe=replace(fashion_ablation.recipe, batch_size=128, schedule=OneCycle()),
)

# ------------------------------------------------------- lab 09, hyperparameters of a slim CNN

cifar10_grid = Study(
    name="cifar10_grid",
    question="Learning rate, batch size and dropout of a slim CNN: every combination",
    data="cifar10",
    options=_SLIM,
    configs=grid(
        model="CNN",
        lr=[0.001, 0.003, 0.01, 0.03, 0.1],
        batch_size=[16, 64, 256, 1024],
        dropout=[0.0, 0.3, 0.6],
    ),
    seeds=SEEDS[:3],
    model=variants.slim,
    recipe=Recipe(epochs=8, optimizer="sgd", momentum=0.9, channels_last=True, fused=False),
)

cifar10_schedules = Study(
    name="cifar10_schedules",
    question="Lab 07's grid of learning rates and schedules, on a slim CNN",
    data="cifar10",
    options=_SLIM,
    configs=grid(
        model="CNN",
        dropout=0.3,
        lr=[1e-2, 1e-3, 1e-4],
        schedule=["constant", "step", "cosine", "one_cycle"],
    ),
    seeds=SEEDS[:3],
    named={
        "schedule": {
            "constant": Recipe().schedule,
            "step": Step(every=5, factor=0.5),
            "cosine": Cosine(),
            "one_cycle": OneCycle(),
        }
    },
    model=variants.slim,
    recipe=Recipe(epochs=20, batch_size=64, channels_last=True, fused=False),
)

cifar10_dropout = Study(
    name="cifar10_dropout",
    question="Dropout up to 0.7: does training accuracy fall below validation accuracy?",
    data="cifar10",
    options=_SLIM,
    configs=grid(model=["MLP", "CNN"], dropout=[0.0, 0.1, 0.3, 0.5, 0.7]),
    seeds=SEEDS[:3],
    model=variants.slim,
    recipe=Recipe(epochs=20, batch_size=64, keep="last", channels_last=True, fused=False),
)

# ------------------------------------------------------------------------- lab 12, on the clock


def _changed(config: dict, change: str, **values) -> dict:
    """The configuration with one thing changed: "on" says what it is a change of."""
    return {**config, **values, "change": change, "on": config["change"]}


def _ladder(start: dict, *changes: tuple[str, dict]) -> list[dict]:
    """The start, and a configuration for each change, which has all changes before it as well."""
    configs = [start]
    for change, values in changes:
        configs.append(_changed(configs[-1], change, **values))
    return configs


def _on_the_clock(name: str, question: str, configs: list[dict]) -> Study:
    """A speed run on CIFAR-10."""
    return Study(
        name=name,
        question=question,
        data="cifar10",
        options={"val_fraction": 0.1, "seed": 42},
        configs=configs,
        seeds=SEEDS,
        naming=("change",),
        named={
            "schedule": {"constant": Constant(), "one_cycle": OneCycle(), "step": Step(every=10)}
        },
        model=variants.timed_network,
        train=variants.on_the_clock,
        recipe=Recipe(keep="last", fused=False),
    )


_PLAIN_LOOP = {
    "on": None,
    "feed": "loader",
    "steps": None,
    "average": 0.0,
    "compiled": False,
    "channels_last": False,
    "bf16": False,
    "label_smoothing": 0.0,
}
_SAME_STEP_SOONER = (
    ("images in memory", {"feed": "memory"}),
    ("channels last", {"channels_last": True}),
    ("bfloat16", {"bf16": True}),
)
_CPU_LADDER = _ladder(
    {
        "change": "lab 06",  # the report's recipe, until it halves its learning rate
        "model": "SimpleCNN",
        "width": 32,
        "p": 0.5,
        "epochs": 6,
        "batch_size": 128,
        "lr": 1e-3,
        "schedule": "constant",
        "augment": "crop+flip+rotation",
        "read_every": 3_200,
        "stop_at": 0.62,
        **_PLAIN_LOOP,
    },
    *_SAME_STEP_SOONER,
    ("no augmentation", {"augment": "none"}),
    ("no dropout", {"p": 0.0}),
    ("one cycle", {"schedule": "one_cycle", "lr": 5e-3, "epochs": 1, "steps": 175}),
    ("batches of 64", {"batch_size": 64, "steps": 300, "read_every": 1_600}),
    ("half the channels", {"width": 16, "steps": 350}),
)

speed_run = _on_the_clock(
    name="speed_run",
    question="How long do two cores take to 60 % on CIFAR-10, and what makes it shorter?",
    configs=(
        *_CPU_LADDER,
        # Each of these was tried on the last rung, and none is in a later one.
        _changed(_CPU_LADDER[-1], "label smoothing", label_smoothing=0.1),
        _changed(_CPU_LADDER[-1], "averaged weights", average=0.95),
        _changed(_CPU_LADDER[-1], "SGD", optimizer="sgd", lr=0.1, nesterov=True),
        _changed(_CPU_LADDER[-1], "batches of 32", batch_size=32, steps=600),
        _changed(_CPU_LADDER[-1], "a quarter of the channels", width=8, steps=1_000),
        _changed(_CPU_LADDER[-1], "fused update", fused=True),
        _changed(_CPU_LADDER[-1], "compiled", compiled=True),
    ),
)

speed_run_gpu = _on_the_clock(
    name="speed_run_gpu",
    question="How long does a GPU take to 94 % on CIFAR-10, and what makes it shorter?",
    configs=_ladder(
        {
            "change": "lab 07",
            "model": "ResNet18",
            "epochs": 50,
            "batch_size": 128,
            "lr": 0.01,
            "schedule": "step",
            "augment": "crop+flip",
            "read_every": 45_000,
            "stop_at": 0.945,
            **_PLAIN_LOOP,
        },
        *_SAME_STEP_SOONER,
        (
            "one cycle of SGD",
            {
                "optimizer": "sgd",
                "nesterov": True,
                "lr": 0.2,
                "weight_decay": 5e-4,
                "schedule": "one_cycle",
                "epochs": 20,
            },
        ),
        ("batches of 512", {"batch_size": 512, "lr": 0.4}),
        ("label smoothing", {"label_smoothing": 0.1}),
        ("averaged weights", {"average": 0.99}),
        ("fused update", {"fused": True}),
        ("compiled", {"compiled": True}),
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
