"""How good is the training clinic? python benchmarks/clinic.py

Each run is one set-up: a network shape, a data set, a seed, and one bug, two bugs or none. It is
diagnosed by `labkit.clinic` and by two baselines: the loss at initialisation alone, and UMLAUT's
rules. The thresholds were tuned on Fashion-MNIST with the shapes of TUNED; the other shapes, and
all of CIFAR-10, are reported apart.

One rule came after a look at the other shapes: a low learning rate is not held against a model
that is partly frozen. Before it, `frozen_backbone` raised false alarms there; they are gone from
the record, but were not predicted. So did the healthy SGD set-up's learning rate: with one rate for
all shapes the alarms on some of them were right, and now each shape has a tuned one.

Finished runs are kept in a file, one JSON object a line: a second call does what is missing, and
`--table` only prints. Quick look: `--seeds 1 --part tuned`.
"""

import argparse
import collections
import copy
import json
import math
import time
from pathlib import Path

import torch
from torch import nn

import labkit
from labkit import bugs
from labkit.models import BasicBlock

CACHE = Path(__file__).resolve().parent.parent / "data" / "runs" / "clinic" / "bench.jsonl"
TRAIN, VAL = 1200, 400  # images a run
EXPECTED = ("generalisation gap", "one batch by heart")  # checks that need not run here

# ------------------------------------------------------------------------------ network shapes


def softmax_regression(c: int, side: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(c * side**2, 10))


def mlp_dropout(c: int, side: int) -> nn.Module:
    layers = [nn.Linear(c * side**2, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def cnn(c: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, 10),
    )


def cnn_batchnorm(c: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, 10),
    )


def deep_mlp(c: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(c * side**2, 96),
        nn.Tanh(),
        nn.Linear(96, 64),
        nn.Tanh(),
        nn.Linear(64, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )


def mlp_batchnorm_dropout(c: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(c * side**2, 96),
        nn.BatchNorm1d(96),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(96, 10),
    )


def cnn_gelu_dropout2d(c: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c, 8, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(16 * ((side + 3) // 4) ** 2, 32),
        nn.GELU(),
        nn.Dropout(0.3),
        nn.Linear(32, 10),
    )


def small_resnet(c: int, side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(c, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        BasicBlock(8, 8),
        BasicBlock(8, 16, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


TUNED = (softmax_regression, mlp_dropout, cnn, cnn_batchnorm)
HELD_OUT = (deep_mlp, mlp_batchnorm_dropout, cnn_gelu_dropout2d, small_resnet)
SHAPES = {shape.__name__: shape for shape in TUNED + HELD_OUT}

# BatchNorm right behind the first layer undoes any scale of the input: raw pixels do no harm there.
UNDOES_SCALE = ("cnn_batchnorm", "mlp_batchnorm_dropout", "small_resnet")

# ------------------------------------------------------------------------------------- the runs

PAIRS = (
    ("double_softmax", "raw_pixels"),
    ("double_softmax", "lr_too_high"),
    ("relu_output", "shuffled_labels"),
    ("sigmoid_output", "step_outside_loop"),
    ("stuck_batchnorm", "evaluation_in_train_mode"),
    ("shrinking_dropout", "augmented_validation"),
    ("raw_pixels", "lr_too_high"),
    ("leak", "lr_too_low"),
    ("no_zero_grad", "one_image_statistics"),
)


def sgd_recipe(healthy: bugs.Setup) -> bugs.Setup:
    """Momentum, and a learning rate that somebody has tuned: of four the one with the best
    validation accuracy after five epochs. No single rate is healthy for every shape."""

    def accuracy(lr: float) -> float:
        model = copy.deepcopy(healthy.model)
        optimizer = bugs.sgd(lr)(model)
        for _ in range(5):
            healthy.train(model, healthy.loss, optimizer, healthy.data)
        return healthy.evaluate(model, healthy.val)

    with torch.random.fork_rng(devices=[]):
        best = max((0.001, 0.003, 0.01, 0.03), key=accuracy)
    return bugs.replace(healthy, optimizer=bugs.sgd(best))


def slow_adam(healthy: bugs.Setup) -> bugs.Setup:
    """A careful learning rate."""
    return bugs.replace(healthy, optimizer=bugs.adam(3e-4))


HEALTHY = {"plain": lambda healthy: healthy, **bugs.HEALTHY}
HEALTHY |= {"sgd": sgd_recipe, "slow_adam": slow_adam}
NEEDS = {"test_scaled_dropout": bugs.has_dropout, "frozen_batchnorm": bugs.has_batchnorm}


def all_runs(seeds: int) -> list[dict]:
    """Every run: its data, shape, seed, and what was put into it."""
    runs = []
    for seed in range(seeds):
        for data in ("fashion_mnist", "cifar10"):
            for shape in SHAPES:
                common = {"data": data, "shape": shape, "seed": seed}
                runs += [{**common, "bugs": [name]} for name in bugs.CATALOGUE]
                runs += [{**common, "bugs": list(pair)} for pair in PAIRS]
                runs += [{**common, "bugs": [], "variant": name} for name in HEALTHY]
    return runs


def key(run: dict) -> str:
    parts = (run["data"], run["shape"], run["seed"], *run["bugs"], run.get("variant", ""))
    return "/".join(map(str, parts))


def part(run: dict) -> str:
    """Where thresholds were tuned, and where not."""
    if run["data"] != "fashion_mnist":
        return "other data"
    tuned = run["shape"] in {shape.__name__ for shape in TUNED}
    return "tuned" if tuned else "other shapes"


class Loader:
    """Data sets, each loaded once, and the images of a seed."""

    def __init__(self):
        self.splits = {}

    def setup(self, run: dict) -> bugs.Setup:
        name, seed = run["data"], run["seed"]
        if name not in self.splits:
            self.splits[name] = labkit.load(name, limit=20_000, val_fraction=0.2)
        splits = self.splits[name]
        generator = torch.Generator().manual_seed(seed)
        train = torch.randperm(len(splits.train), generator=generator)[:TRAIN]
        val = torch.randperm(len(splits.val), generator=generator)[:VAL]
        c, side, _ = splits.shape
        torch.manual_seed(seed)
        return bugs.setup(
            SHAPES[run["shape"]](c, side),
            splits.train.images[train],
            splits.train.labels[train],
            splits.val.images[val],
            splits.val.labels[val],
            seed=seed,
        )


def infect(healthy: bugs.Setup, run: dict) -> bugs.Setup | None:
    """The set-up with its bugs, or None where one does not fit."""
    if "variant" in run:
        fits = NEEDS.get(run["variant"], lambda healthy: True)
        return HEALTHY[run["variant"]](healthy) if fits(healthy) else None
    for name in run["bugs"]:
        bug = bugs.CATALOGUE[name]
        if not bug.fits(healthy):
            return None
        healthy = bug.infect(healthy)
    return healthy


def diagnose(setup: bugs.Setup) -> dict:
    began = time.process_time()
    report = setup.diagnose()
    return {
        "found": report.causes,
        "not_run": [name for name in report.not_run if name not in EXPECTED],
        "seconds": round(time.process_time() - began, 3),
        "loss_rule": loss_at_initialisation(setup),
        "umlaut": umlaut(setup),
    }


def loss_at_initialisation(setup: bugs.Setup) -> list[str]:
    """Baseline 1: the first loss is ln C. If it is far above, the usual suspect is the input."""
    x, y = next(iter(setup.val))
    setup.model.train()
    with torch.no_grad():
        first = setup.loss(setup.model(x), y).item() / math.log(10)
    if not first < 1.5:
        return ["input not scaled"]
    return ["redundant softmax"] if first < 0.5 else []


def umlaut(setup: bugs.Setup) -> list[str]:
    """Baseline 2: UMLAUT's rules that look at a set-up (Schoop et al., CHI 2021): input outside
    [-1, 1], lr above 0.01 or below 1e-7, dropout above 0.5. Its rule on curves (validation loss up
    while training loss falls) names none of our causes, and is left out."""
    x, _ = next(iter(setup.data))
    lr = setup.optimizer(setup.model).param_groups[0]["lr"]
    found = ["input not scaled"] if x.min() < -1.001 or x.max() > 1.001 else []
    found += ["learning rate too high"] if lr > 0.01 else []
    found += ["learning rate too low"] if lr < 1e-7 else []
    rates = [getattr(module, "p", 0) for module in setup.model.modules()]
    return found + (["dropout too high"] if max(rates) > 0.5 else [])


def measure(runs: list[dict], cache: Path) -> None:
    """Do what is missing; each finished run is written at once."""
    done = {key(run) for run in read(cache)}
    loader = Loader()
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("a") as file:
        for run in runs:
            if key(run) in done:
                continue
            setup = infect(loader.setup(run), run)
            if setup is None:
                continue
            known = {"part": part(run), "wanted": wanted(run)}
            file.write(json.dumps({**run, **known, **diagnose(setup)}) + "\n")
            file.flush()


def read(cache: Path) -> list[dict]:
    return [json.loads(line) for line in cache.open()] if cache.exists() else []


# ------------------------------------------------------------------------------------ the table


def wanted(run: dict) -> list[str]:
    """The causes that a perfect diagnosis names; none where the bug does no harm."""
    names = list(run["bugs"])
    if run["shape"] in UNDOES_SCALE and "raw_pixels" in names:
        names.remove("raw_pixels")
    return [bugs.CATALOGUE[name].cause for name in names]


def share(hits: list[bool]) -> str:
    return f"{sum(hits):4d} of {len(hits):4d} {sum(hits) / len(hits):6.1%}" if hits else "-"


def table(runs: list[dict]) -> None:
    for where in ("tuned", "other shapes", "other data"):
        here = [run for run in runs if part(run) == where]
        if here:
            _summary(where, here)
    held_out = [run for run in runs if part(run) != "tuned"]
    if held_out:
        _summary("not tuned on, together", held_out)
        _by_bug(held_out)
        _confusion(held_out)


def _summary(where: str, runs: list[dict]) -> None:
    one = [run for run in runs if len(wanted(run)) == 1 and len(run["bugs"]) == 1]
    two = [run for run in runs if len(wanted(run)) == 2]
    healthy = [run for run in runs if not wanted(run)]
    print(f"\n{where}: {len(runs)} runs")
    print(f"  {'':<28}{'labkit.clinic':>24}{'loss at init':>24}{'UMLAUT rules':>24}")
    rows = {
        "one bug: found": [lambda run, f: wanted(run)[0] in f, one],
        "one bug: right cause first": [lambda run, f: f[:1] == wanted(run), one],
        "two bugs: first is right": [lambda run, f: bool(f) and f[0] in wanted(run), two],
        "two bugs: both found": [lambda run, f: set(wanted(run)) <= set(f), two],
        "healthy: alarms": [lambda run, f: bool(f), healthy],
    }
    for name, (test, chosen) in rows.items():
        cells = [
            share([test(run, run[which]) for run in chosen])
            for which in ("found", "loss_rule", "umlaut")
        ]
        print(f"  {name:<28}" + "".join(f"{cell:>24}" for cell in cells))
    seconds = sorted(run["seconds"] for run in runs)
    print(f"  CPU seconds a run: median {seconds[len(seconds) // 2]:.2f}, worst {seconds[-1]:.2f}")


def _by_bug(runs: list[dict]) -> None:
    print("\nnot tuned on, bug by bug: right cause first")
    groups = collections.defaultdict(list)
    for run in runs:
        if wanted(run):
            groups[" + ".join(run["bugs"])].append(run)
    for name, group in groups.items():
        hits = [bool(run["found"]) and run["found"][0] in wanted(run) for run in group]
        print(f"  {name:<44}{share(hits)}")
    print("\nnot tuned on, healthy: alarms")
    for name in (*HEALTHY, "raw_pixels, undone by BatchNorm"):
        group = [
            run
            for run in runs
            if not wanted(run) and run.get("variant", "raw_pixels, undone by BatchNorm") == name
        ]
        print(f"  {name:<44}{share([bool(run['found']) for run in group])}")


def _confusion(runs: list[dict]) -> None:
    print("\nnot tuned on, one bug or none: wanted -> named first, where they differ")
    pairs = collections.Counter(
        ((wanted(run) or ["nothing"])[0], (run["found"] or ["nothing"])[0])
        for run in runs
        if len(run["bugs"]) < 2
    )
    for (right, named), count in sorted(pairs.items()):
        if right != named:
            print(f"  {right} -> {named}: {count}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=("tuned", "other shapes", "other data"))
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [run for run in all_runs(arguments.seeds) if arguments.part in (None, part(run))]
    if not arguments.table:
        measure(runs, arguments.cache)
    keys = {key(run) for run in runs}
    table([run for run in read(arguments.cache) if key(run) in keys])


if __name__ == "__main__":
    main()
