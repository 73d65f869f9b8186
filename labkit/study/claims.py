"""The conclusions of the five reports, each with the recorded runs that test it.

A claim is a contrast: the reported one is read from the report's table, the measured one from our
records; no number stands here. `judge()` computes every verdict anew.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from labkit.study import tables
from labkit.study.intervals import interval, side

VERDICTS = ("holds", "does not hold", "undecided", "one seed", "not recorded")


@dataclass(frozen=True)
class Contrast:
    """What changes if `change` is made to the rows that `base` singles out of a table.

    source: a reported table or a study.  metric: a column, or an expression of columns such as
    "train_acc - val_acc".  Without `change` it is the metric itself.  A base that leaves columns
    open means several rows: those that agree in the columns `over` are paired, and the effect is
    the mean over the pairs; a seed that lacks some of them is left out, so that a study stopped
    half way does not compare other networks with each seed.  unit: 0.01 where the table has per
    cent.
    """

    source: str
    base: Mapping
    change: Mapping | None = None
    metric: str = "test_accuracy"
    over: tuple[str, ...] = ()
    unit: float = 1.0

    def reported(self) -> float:
        """The effect as the report gives it, a fraction."""
        table = tables.reported(self.source).assign(seed=0)
        return float(self._effects(table).mean())

    def measured(self) -> pd.Series:
        """Our effect, a fraction, seed by seed; empty where no run, or none but diverged ones, is
        recorded."""
        frame = tables.records(self.source)
        nothing = frame.empty or ("diverged" in frame and frame["diverged"].notna().all())
        return pd.Series(dtype=float) if nothing else self._effects(frame)

    def _effects(self, frame: pd.DataFrame) -> pd.Series:
        keys = ["seed", *self.over]
        frame = frame.assign(value=frame.eval(self.metric) * self.unit)
        values = tables.where(frame, self.base).groupby(keys, dropna=False)["value"].mean()
        if self.change is not None:
            after = tables.where(frame, {**self.base, **self.change})
            values = after.groupby(keys, dropna=False)["value"].mean() - values
        values = values.dropna()
        pairs = values.groupby(list(self.over), dropna=False).ngroups if self.over else 1
        seeds = values.groupby("seed").agg(["mean", "size"])
        return seeds.loc[seeds["size"] == pairs, "mean"].rename("value")


@dataclass(frozen=True)
class Claim:
    """A sentence of a report, and how it is tested.

    reported: what the report found, or None where it gives no number.  measured: our contrast.
    sign: +1 where the report says "more", -1 where it says "less".  reaches: the claim is a level,
    and our runs must reach the reported one.
    """

    lab: str
    text: str
    measured: Contrast
    reported: Contrast | None = None
    sign: int = 1
    reaches: bool = False

    def effects(self) -> pd.Series:
        """Our effect, a fraction, seed by seed; of a level, ours minus the reported one."""
        ours = self.measured.measured()
        return ours - self.reported.reported() if self.reaches else ours

    def judge(self) -> dict:
        """One row of `judge()`."""
        claimed = self.reported.reported() if self.reported else math.nan
        effects = self.effects()
        n = len(effects)
        mean, low, high = interval(effects) if n > 1 else (effects.mean(), math.nan, math.nan)
        return {
            "lab": self.lab,
            "claim": self.text,
            "reported": claimed,
            "effect": mean,
            "low": low,
            "high": high,
            "seeds": n,
            "verdict": _verdict(self.sign, low, high, n),
            "unit": "nats" if "loss" in self.measured.metric else "points",
            "level": self.reaches,
            "study": self.measured.source,
        }


def judge(claims: tuple[Claim, ...] | None = None) -> pd.DataFrame:
    """A row a claim: lab, claim, reported (effect or level), our effect with its 95 % interval
    over seeds, number of seeds, verdict (one of `VERDICTS`), unit, whether it is a level, study.
    Accuracies are fractions; "points" says that they are shown as percentage points.

    Of a level the effect is ours minus the reported one. "holds": the whole interval lies on the
    claimed side of 0; "does not hold": on the other; "undecided": it holds 0.
    """
    return pd.DataFrame([claim.judge() for claim in (CLAIMS if claims is None else claims)])


class Page:
    """Rows of `judge` as a reader wants them, in a notebook with a link to each claim's lab.

    columns: some of lab, claim, reported, measured, 95 % interval, seeds, verdict; else all.
    """

    def __init__(self, rows: pd.DataFrame, columns: list[str] | None = None):
        self.rows, self.columns = rows, columns

    def _table(self, lab) -> pd.DataFrame:
        rows = [
            {
                "lab": lab(row["lab"]),
                "claim": row["claim"],
                "reported": _shown(row["reported"], row, "" if row["level"] else "+"),
                "measured": _shown(row["effect"], row, "+"),
                "95 % interval": " to ".join(
                    text for text in (_shown(row[end], row, "+") for end in ("low", "high")) if text
                ),
                "seeds": row["seeds"],
                "verdict": f"{_MARKS.get(row['verdict'], '')} {row['verdict']}".strip(),
            }
            for row in self.rows.to_dict("records")
        ]
        return pd.DataFrame(rows, columns=_COLUMNS)[self.columns or _COLUMNS]

    def _repr_html_(self) -> str:
        table = self._table(_link)
        words = [column for column in table if column != "lab"]
        table[words] = table[words].map(lambda value: html.escape(str(value)))
        table = table.to_html(index=False, escape=False)
        for cell in ("<td", "<th"):
            table = table.replace(f"{cell}>", f'{cell} style="text-align:left">')
        return table

    def __repr__(self) -> str:
        return self._table(str).to_string(index=False)


_COLUMNS = ["lab", "claim", "reported", "measured", "95 % interval", "seeds", "verdict"]
_MARKS = {"holds": "✔", "does not hold": "✘", "undecided": "?"}
LABS = {
    "01": "01_numpy_network",
    "02": "02_double_softmax",
    "03": "03_batchnorm_and_dropout",
    "04": "04_mlp_against_cnn",
    "05": "05_ten_imagenet_classes",
    "06": "06_small_cnn",
    "07": "07_resnet18",
    "08": "08_ablation",
    "09": "09_hyperparameters",
}


def _link(lab: str) -> str:
    return f'<a href="{LABS[lab]}.ipynb">{lab}</a>' if lab in LABS else html.escape(lab)


def _shown(value: float, row: dict, sign: str) -> str:
    if math.isnan(value):
        return ""
    if row["unit"] == "nats":
        return f"{value:{sign}.3f} nats"
    return f"{100 * value:{sign}.2f}"


def _verdict(sign: int, low: float, high: float, n: int) -> str:
    if n < 2:
        return "one seed" if n else "not recorded"
    there = side(low, high)
    return "undecided" if there == 0 else "holds" if there == sign else "does not hold"


# ------------------------------------------------------------------------------- the claims


def _told(values: Mapping | None) -> dict | None:
    """Our configuration's values with the tables' name for the learning rate."""
    return values and {"learning_rate" if k == "lr" else k: v for k, v in values.items()}


def _numpy(text: str, base: Mapping, change: Mapping | None = None, **options) -> Claim:
    """A claim about the table numpy_mnist: our study has its columns, but for one name."""
    reported = Contrast("numpy_mnist", _told(base), _told(change), "val_acc")
    measured = Contrast("numpy_mnist", {"momentum": 0, **base}, change, "val_acc")
    return Claim("01", text, measured, reported, **options)


_ONE = {"batch_size": 1, "lr": 0.001, "val_fraction": 0.1}
_CNN = {"model": "cnn", "dropout_kind": "2d", "batch_size": 100, "lr": 1e-3}
_CNN |= {"batchnorm": 1, "dropout": 0.0}
_MLP = {"model": "mlp", "batch_size": 500, "lr": 1e-3, "batchnorm": 1, "dropout": 0.5}
_OURS = {"batchnorm": True, "lr": 1e-3}


def _regularised(text: str, told: tuple, ours: tuple, **options) -> Claim:
    """A claim about the table mlp_cnn_cifar10, tested on lab 03's small networks."""
    reported = Contrast("mlp_cnn_cifar10", *map(_told, told), "test_acc")
    measured = Contrast("batchnorm_dropout", *ours)
    return Claim("03", f"{text} (ours: quick size)", measured, reported, **options)


def _mlp(text: str, base: Mapping, change: Mapping | None = None, **options) -> Claim:
    """A claim about the table mlp_cnn_cifar10, tested at the report's own size."""
    reported = Contrast("mlp_cnn_cifar10", _told(base), _told(change), "test_acc")
    return Claim("03", text, Contrast("mlp_cnn_cifar10", base, change), reported, **options)


def _imagenet(text: str, model: str, other: str | None = None, sign: int = 1) -> Claim:
    """A claim about the table imagenet10: a level, or one network against another."""
    base, change = {"model": other or model}, other and {"model": model}
    reported = Contrast("imagenet10", base, change, "test_acc")
    measured = Contrast("imagenet10", base, change)
    return Claim("05", text, measured, reported, sign, reaches=other is None)


_RESNET = {"model": "resnet18", "stem": "imagenet", "normalize": 1}
_RESNET |= {"augment": "crop+flip+rotation", "learning_rate": 1e-3, "schedule": "step/10x0.5"}
_RESNET_18 = {"stem": "imagenet", "normalize": "train", "augment": "crop+flip+rotation"}
_RESNET_18 |= {"lr": 1e-3, "schedule": "step/10x0.5"}
_SLIM = {"lr": 1e-3, "schedule": "step"}


def _resnet(text: str, key: str, told: tuple, ours: tuple) -> Claim:
    """A claim about ResNet-18 in the report's own size: `key` goes from one value to the other."""
    before, base = {**_RESNET, key: told[0]}, {**_RESNET_18, key: ours[0]}
    reported = Contrast("cifar10_simple_and_resnet18", before, {key: told[1]}, "test_acc")
    return Claim("07", text, Contrast("cifar10_resnet18", base, {key: ours[1]}), reported)


def _small_stem(text: str, change: Mapping | None, metric: str, **options) -> Claim:
    """A claim about ResNet-18 with the CIFAR stem; the table and our study have the same keys."""
    base = {"stem": "cifar", "batch_size": 128, "augment": "crop+flip", "schedule": "step/10x0.1"}
    reported = Contrast("cifar10_simple_and_resnet18", base, change, metric)
    return Claim(
        "07", text, Contrast("cifar10_resnet18", base, change, metric), reported, **options
    )


_RESNET_18_CLAIMS = (
    _resnet("Normalising the pixels helps ResNet-18", "normalize", (0, 1), ("none", "train")),
    _resnet("Augmentation helps ResNet-18", "augment", *2 * (("none", "crop+flip+rotation"),)),
    _small_stem(
        "RandomErasing lowers ResNet-18's validation accuracy",
        {"augment": "crop+flip+erasing"},
        "val_acc",
        sign=-1,
    ),
    *(
        _small_stem(
            f"In batches of {size} ResNet-18 fits its training pictures worse than in 128",
            {"batch_size": size},
            "train_acc",
            sign=-1,
        )
        for size in (32, 256)
    ),
    _small_stem(
        "A constant learning rate of 0.01 fits ResNet-18's training pictures worse than steps",
        {"schedule": "constant"},
        "train_acc",
        sign=-1,
    ),
)


def _of_a_relative(claim: Claim) -> Claim:
    """The same claim, tested on a ResNet that trains in minutes without a GPU."""
    measured = replace(claim.measured, source="small_resnet")
    return replace(claim, text=f"{claim.text} (ours: a small relative)", measured=measured)


def _schedule(text: str, change: Mapping, ours: Mapping, base=None, told=None, **options) -> Claim:
    """A claim about ResNet-18's learning rates, tested on lab 09's slim CNN."""
    reported = Contrast("cifar10_simple_and_resnet18", _RESNET | (told or {}), change, "test_acc")
    measured = Contrast("cifar10_schedules", _SLIM | (base or {}), ours)
    return Claim("09", text, measured, reported, **options)


_FACTORS = ("batchnorm", "dropout", "residual", "pooling")


def _ablation(text: str, base: Mapping, change: Mapping | None = None, **options) -> Claim:
    """A claim about the table fashion_ablation. Factors that `base` leaves open are paired."""
    flag = {"batchnorm": "use_bn", "dropout": "use_dropout", "residual": "use_residual"}

    def theirs(values: Mapping) -> dict:
        names = {"ImprovedCNN": "improved_cnn", "ImprovedNN": "improved_nn"}
        names |= {"BaselineCNN": "baseline_cnn", "BaselineNN": "baseline_nn"}
        return {flag.get(key, key): names.get(value, value) for key, value in values.items()}

    fixed = {*base, *(change or {})}
    free = () if "model" in (change or {}) else tuple(f for f in _FACTORS if f not in fixed)
    reported = Contrast(
        "fashion_ablation",
        theirs(base),
        change and theirs(change),
        "best_val_acc",
        tuple(flag.get(f, f) for f in free),
        0.01,
    )
    ours = tuple(f for f in free if base["model"] == "ImprovedCNN" or f in ("batchnorm", "dropout"))
    measured = Contrast("fashion_ablation", base, change, "best_val_acc", ours)
    return Claim("08", text, measured, reported, **options)


_BEST = {"model": "ImprovedCNN", "batchnorm": True, "dropout": False, "residual": False}
_BEST |= {"pooling": "avg"}

CLAIMS = (
    # lab 01, numpy_mnist
    Claim(
        "01",
        "The network in NumPy reaches the reported validation accuracy (ours: mini-batches of 64)",
        Contrast("numpy_mnist", {"batch_size": 64}, None, "val_acc"),
        Contrast("numpy_mnist", {"learning_rate": 0.001, "val_fraction": 0.1}, None, "val_acc"),
        reaches=True,
    ),
    _numpy(
        "With single images a learning rate of 0.1 is worse than 0.001", _ONE, {"lr": 0.1}, sign=-1
    ),
    _numpy("Holding back 20 % for validation costs accuracy", _ONE, {"val_fraction": 0.2}, sign=-1),
    Claim(
        "01",
        "Holding back 20 % costs accuracy with mini-batches of 32, too (over three learning rates)",
        Contrast(
            "numpy_mnist",
            {"batch_size": 32, "val_fraction": 0.1},
            {"val_fraction": 0.2},
            "val_acc",
            over=("lr",),
        ),
        sign=-1,
    ),
    # lab 02, the double softmax
    Claim(
        "02",
        "With a second softmax the training loss stays high",
        Contrast(
            "double_softmax",
            {"optimizer": "sgd", "lr": 0.1, "softmaxes": 1},
            {"softmaxes": 2},
            "train_loss",
        ),
    ),
    *(
        Claim(
            "02",
            f"A second softmax costs test accuracy with {name}, learning rate {lr:g}",
            Contrast(
                "double_softmax",
                {"optimizer": name.lower(), "lr": lr, "softmaxes": 1},
                {"softmaxes": 2},
            ),
            sign=-1,
        )
        for name, lr in (("SGD", 0.1), ("SGD", 1.0), ("Adam", 0.01))
    ),
    # lab 03, mlp_cnn_cifar10
    _regularised(
        "BatchNorm raises the CNN's accuracy",
        ({**_CNN, "batchnorm": 0}, {"batchnorm": 1}),
        ({"model": "CNN", "dropout": "none", **_OURS, "batchnorm": False}, {"batchnorm": True}),
    ),
    _regularised(
        "BatchNorm raises the accuracy of the MLP with Dropout",
        ({**_MLP, "batchnorm": 0}, {"batchnorm": 1}),
        ({"model": "MLP", "dropout": "Dropout", **_OURS, "batchnorm": False}, {"batchnorm": True}),
    ),
    _regularised(
        "Dropout raises the accuracy of the MLP",
        ({**_MLP, "dropout": 0.0}, {"dropout": 0.5}),
        ({"model": "MLP", "dropout": "none", **_OURS}, {"dropout": "Dropout"}),
    ),
    _regularised(
        "Dropout2d lowers the accuracy of the CNN",
        (_CNN, {"dropout": 0.3}),
        ({"model": "CNN", "dropout": "none", **_OURS}, {"dropout": "Dropout2d"}),
        sign=-1,
    ),
    _regularised(
        "For the CNN with BatchNorm a learning rate of 0.01 is worse than 0.001",
        (_CNN, {"lr": 1e-2}),
        ({"model": "CNN", "dropout": "none", **_OURS}, {"lr": 1e-2}),
        sign=-1,
    ),
    _mlp(
        "The MLP with BatchNorm and Dropout reaches the reported test accuracy",
        _MLP,
        reaches=True,
    ),
    _mlp(
        "BatchNorm raises the accuracy of the MLP with Dropout (ours: the report's size)",
        {**_MLP, "batchnorm": 0},
        {"batchnorm": 1},
    ),
    _mlp(
        "Dropout raises the accuracy of the MLP (ours: the report's size)",
        {**_MLP, "dropout": 0.0},
        {"dropout": 0.5},
    ),
    *(
        _mlp(f"For the MLP with Dropout {text}", _MLP, change, sign=-1)
        for text, change in (
            ("batches of 50 are worse than 500", {"batch_size": 50}),
            ("a learning rate of 0.01 is worse than 0.001", {"lr": 1e-2}),
        )
    ),
    # lab 04, mlp_cnn_cifar10 and fashion_ablation, at lab 04's quick size
    Claim(
        "04",
        "A CNN beats an MLP on CIFAR-10 (ours: the report's width, quick size)",
        Contrast(
            "mlp_vs_cnn",
            {"dataset": "cifar10", "model": "MLP"},
            {"model": "WideCNN", "channels": 256},
        ),
        Contrast("mlp_cnn_cifar10", _told(_MLP), _told(_CNN), "test_acc"),
    ),
    *(
        Claim(
            "04",
            f"{name}CNN beats {name}NN on Fashion-MNIST (ours: quick size)",
            Contrast(
                "mlp_vs_cnn",
                {"dataset": "fashion_mnist", "permuted": False, "model": f"{name}NN"},
                {"model": f"{name}CNN"},
            ),
            Contrast(
                "fashion_ablation", {"experiment": nn}, {"experiment": cnn}, "test_acc", unit=0.01
            ),
        )
        for name, nn, cnn in (
            ("Baseline", "baseline_nn", "baseline_cnn"),
            ("Improved", "bn1_do0", "bn1_do0_res0_poolavg"),
        )
    ),
    # lab 05, imagenet10
    _imagenet("The CNN reaches the reported test accuracy", "cnn"),
    _imagenet("The two-layer network reaches the reported test accuracy", "two_layer"),
    _imagenet("The residual MLP reaches the reported test accuracy", "residual_mlp"),
    _imagenet("The CNN beats the residual MLP", "cnn", "residual_mlp"),
    # The report's two numbers differ by a single picture: it says, and we test, "no better".
    _imagenet(
        "The residual MLP is no better than two layers", "residual_mlp", "two_layer", sign=-1
    ),
    # lab 06, the small CNN
    Claim(
        "06",
        "The small CNN reaches the reported test accuracy in 80 epochs",
        Contrast("cifar10_simple", {}),
        Contrast("cifar10_simple_and_resnet18", {"model": "simple_cnn"}, None, "test_acc"),
        reaches=True,
    ),
    # lab 07, ResNet-18
    Claim(
        "07",
        "ResNet-18 with ImageNet's stem reaches the reported test accuracy",
        Contrast("cifar10_resnet18", _RESNET_18),
        Contrast("cifar10_simple_and_resnet18", _RESNET, None, "test_acc"),
        reaches=True,
    ),
    _small_stem(
        "ResNet-18 with a stem for CIFAR reaches the reported validation accuracy",
        None,
        "val_acc",
        reaches=True,
    ),
    *_RESNET_18_CLAIMS,
    *map(_of_a_relative, _RESNET_18_CLAIMS),
    # lab 08, fashion_ablation
    Claim(
        "08",
        "The best CNN of the ablation reaches the reported validation accuracy",
        Contrast("fashion_ablation", _BEST, None, "best_val_acc"),
        Contrast(
            "fashion_ablation",
            {"experiment": "bn1_do0_res0_poolavg"},
            None,
            "best_val_acc",
            unit=0.01,
        ),
        reaches=True,
    ),
    _ablation("Dropout costs the best CNN a little", _BEST, {"dropout": True}, sign=-1),
    _ablation(
        "BatchNorm raises the CNN on average over what else is in it",
        {"model": "ImprovedCNN", "batchnorm": False},
        {"batchnorm": True},
    ),
    _ablation(
        "BatchNorm raises the NN",
        {"model": "ImprovedNN", "batchnorm": False},
        {"batchnorm": True},
    ),
    _ablation(
        "Dropout raises the CNN a little on average over what else is in it",
        {"model": "ImprovedCNN", "dropout": False},
        {"dropout": True},
    ),
    _ablation(
        "1 x 1 shortcuts lower the CNN on average over what else is in it",
        {"model": "ImprovedCNN", "residual": False},
        {"residual": True},
        sign=-1,
    ),
    *(
        _ablation(
            f"{'With' if norm else 'Without'} BatchNorm maximum pooling is {word} than average "
            "pooling, on average over what else is in it",
            {"model": "ImprovedCNN", "batchnorm": norm, "pooling": "avg"},
            {"pooling": "max"},
            sign=sign,
        )
        for norm, word, sign in ((True, "worse", -1), (False, "better", 1))
    ),
    _ablation("A plain CNN beats a plain NN", {"model": "BaselineNN"}, {"model": "BaselineCNN"}),
    _ablation("The best CNN beats the plain one", {"model": "BaselineCNN"}, _BEST),
    # lab 09, the learning rates of lab 07 on a slim CNN
    *(
        _schedule(
            f"{when} a learning rate of {lr:g} is {word} than 0.001 (ours: a slim CNN)",
            {"learning_rate": lr},
            {"lr": lr},
            base,
            base,
            sign=sign,
        )
        for when, base, lr, word, sign in (
            ("With steps", {}, 1e-2, "worse", -1),
            ("With steps", {}, 1e-4, "worse", -1),
            ("Without a schedule", {"schedule": "constant"}, 1e-2, "worse", -1),
            ("Without a schedule", {"schedule": "constant"}, 1e-4, "better", 1),
        )
    ),
    *(
        _schedule(
            f"At a learning rate of {lr:g} a constant one is {word} than steps (ours: a slim CNN)",
            {"schedule": "constant"},
            {"schedule": "constant"},
            {"lr": lr},
            {"learning_rate": lr},
            sign=sign,
        )
        for lr, word, sign in ((1e-2, "worse", -1), (1e-3, "worse", -1), (1e-4, "better", 1))
    ),
    *(
        Claim(
            "09",
            f"With Dropout at 0.7 the {model}'s training accuracy falls below validation accuracy "
            f"(ours: a slim {model})",
            Contrast(
                "cifar10_dropout",
                {"model": model, "dropout": 0.7},
                None,
                "train_acc - val_acc",
            ),
            sign=-1,
        )
        for model in ("MLP", "CNN")
    ),
)
