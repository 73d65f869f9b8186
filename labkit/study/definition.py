"""`Study`: a grid of configurations over seeds, run where runs are missing, read back as tables."""

import functools
import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from labkit import models, train
from labkit.data import Splits, available, load
from labkit.settings import is_number
from labkit.study import tables
from labkit.study.intervals import Difference, paired_difference
from labkit.train import History, Recipe

_RECIPE_FIELDS = frozenset(item.name for item in fields(Recipe))
_LOAD_OPTIONS = frozenset({"limit", "val_fraction"})


def grid(**choices) -> tuple[dict, ...]:
    """Every combination of the choices, the last one varying fastest.

    grid(lr=[0.1, 0.01], batchnorm=[False, True])    # four configurations
    """
    lists = [v if isinstance(v, list | tuple | range) else [v] for v in choices.values()]
    return tuple(dict(zip(choices, values, strict=True)) for values in itertools.product(*lists))


def by_name(config: Mapping) -> nn.Module:
    """The class of `labkit.models` that `config["model"]` names; what is not a recipe's goes to
    its constructor. Raises ValueError for another name, or an option that neither has."""
    name = config.get("model")
    kind = getattr(models, str(name), None)
    if not _is_network(kind):
        known = sorted(n for n, v in vars(models).items() if _is_network(v) and n[0] != "_")
        raise ValueError(
            f'labkit.models has no {name!r} for the key "model"; it has {", ".join(known)}'
        )
    others = {"model", "dataset", *_LOAD_OPTIONS, *_RECIPE_FIELDS}
    own = {key: value for key, value in config.items() if key not in others}
    options = inspect.signature(kind).parameters
    for key in own:
        if key not in options:
            has = ", ".join(options)
            raise ValueError(f"{key!r} is no option of {name}, which has {has}, nor of Recipe")
    return kind(**own)


def _is_network(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, nn.Module)


@dataclass(frozen=True)
class Study:
    """A question, and the runs that answer it.

    data: what `load` takes, with `options`; a configuration may name another as "dataset", and
        its own "limit" and "val_fraction".
    configs: one dict of plain values a configuration, see `grid`. A key that `Recipe` has
        overrides `recipe`; `named` gives a plain name to a value that is none:
        ``named={"schedule": {"step": Step(10)}}``. ``augment="crop+flip"`` needs no name.
    model: builds the network from a configuration, by default by its name.
    naming: the keys that tell a run's name, by default those that differ between configurations.
    loss: gives the training loss for a configuration; by default cross-entropy.
    train: makes the whole record of one run, by default `train_one`. A "recipe" in it must be that
        of `recipe_for`.
    folder: where the runs lie, one JSON file each; by default data/runs/`name`.

        Study("widths", "Is wider better?", "mnist", grid(model="MLP", hidden=[64, 256]),
              Recipe(epochs=5), seeds=range(3)).run(workers=2)

    Raises ValueError where there is no run, where two have one name, for a seed in `configs`, for
    a value that JSON cannot hold, or where `configs` or `seeds` is no sequence.
    """

    name: str
    question: str
    data: str
    configs: tuple[dict, ...]
    recipe: Recipe
    seeds: tuple[int, ...] = (0, 1, 2)
    options: Mapping = field(default_factory=dict)
    named: Mapping[str, Mapping] = field(default_factory=dict)
    naming: tuple[str, ...] | None = None
    model: Callable[[dict], nn.Module] = by_name
    loss: Callable[[dict], Callable | None] | None = None
    train: "Callable[..., dict] | None" = None
    folder: Path | None = None

    def __post_init__(self):
        if isinstance(self.configs, Mapping):
            raise ValueError(
                f"configs={self.configs!r} is a dict: give a list of them, or grid(...)"
            )
        if is_number(self.seeds):
            raise ValueError(f"seeds={self.seeds!r}: give several, range({self.seeds!r}) or a list")
        object.__setattr__(self, "configs", tuple(self.configs))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        self._check_values()
        if self.folder is None:
            object.__setattr__(self, "folder", tables.folder("runs") / self.name)
        if self.naming is None:
            object.__setattr__(self, "naming", tuple(self._varying()))
        names = [self.label(config, seed) for config, seed in self.runs()]
        if not names or len(set(names)) < len(names):
            what = "no run" if not names else "two runs of one name"
            raise ValueError(f"The study {self.name!r} has {what}: look at its configs and seeds")

    def runs(self) -> list[tuple[dict, int]]:
        """(configuration, seed) of every run, all configurations of the first seed first."""
        return [(config, seed) for seed in self.seeds for config in self.configs]

    def _check_values(self) -> None:
        chosen = (v for values in (*self.configs, self.options) for v in values.values())
        for value in (*self.seeds, *chosen):
            try:
                json.dumps(value)
            except TypeError:
                raise ValueError(
                    f"The study {self.name!r} has {value!r} in its configs, options or seeds: give "
                    "plain numbers, words and lists"
                ) from None
        if any("seed" in config for config in self.configs):
            raise ValueError(
                f"The study {self.name!r} has a seed in its configs: give Study(seeds=...)"
            )

    def missing(self) -> list[tuple[dict, int]]:
        """The runs that no file records yet. Raises ValueError as `recorded` does."""
        there = {tables.key(run["config"], run["seed"]) for run in self.recorded()}
        return [run for run in self.runs() if tables.key(*run) not in there]

    def recorded(self) -> list[dict]:
        """The runs that a file records, as the files hold them; none that `select` left out.

        Raises ValueError for a run whose recipe, or whose options of `load`, are no longer the
        study's. A file without options counts as the study's.
        """
        mine, found = {tables.key(*run): run for run in self.runs()}, []
        for run in tables.runs_in(self.folder):
            planned = mine.get(tables.key(run["config"], run["seed"]))
            if planned is None:
                continue
            if "recipe" in run and Recipe.from_dict(run["recipe"]) != self.recipe_for(*planned):
                raise self._other("another recipe")
            wanted = self.options_for(run["config"])
            options = run["data"].get("options", wanted)
            if tables.as_text(options) != tables.as_text(wanted):
                raise self._other(f"other options, {options}")
            found.append(run)
        return found

    def check_data(self) -> None:
        """Raises ValueError where a run is recorded with a data set of another name, or with other
        images than those that the study's file or folder holds now."""
        now = {}
        for run in self.recorded():
            name = run["config"].get("dataset", self.data)
            path = Path(name).resolve()
            if run["data"]["name"] not in (path.name, path.stem):  # as `load` names a file
                raise self._other("another data set")
            # The images of a named set never change, but for what a JPEG decoder makes of them.
            if name not in available() and path.exists():
                key = tables.as_text([str(name), self.options_for(run["config"])])
                if key not in now:
                    now[key] = self.data_for(run["config"]).fingerprint
                if run["data"]["fingerprint"] != now[key]:
                    raise self._other(f"other images than {path.name} holds now")

    def check_files(self, missing: Iterable[tuple[dict, int]]) -> None:
        """Raises ValueError where the file of a missing run holds another configuration's."""
        for run in missing:
            if self.path(*run).exists():
                raise self._other(f"another configuration, {self.path(*run).name}")

    def _other(self, what: str) -> ValueError:
        return ValueError(
            f"{self.name} has runs in {self.folder} with {what}: give the study another "
            "name or folder, or delete them"
        )

    def run(self, workers: int = 1, **options) -> pd.DataFrame:
        """Run what is missing, in `workers` processes; return `frame()`. See `running.run`."""
        from labkit.study import running

        running.run(self, workers=workers, **options)
        return self.frame()

    def frame(self) -> pd.DataFrame:
        """The recorded runs, one row each; columns as in `study.records`."""
        return tables.one_row_each(self.recorded())

    def curves(self) -> pd.DataFrame:
        """The recorded curves, one row an epoch of a run."""
        return tables.one_row_an_epoch(self.recorded())

    def paired(self, a: Mapping, b: Mapping, metric: str = "test_accuracy") -> Difference:
        """`metric` of `a` minus that of `b`, seed by seed, with a 95 % interval.

        a, b: what singles out one configuration each: study.paired({"lr": 0.1}, {"lr": 0.01}).
        Raises ValueError where that is none, or several, where fewer than two seeds have both, or
        for a metric that no run has.
        """
        runs = self.recorded()
        if not runs:
            raise ValueError(f"{self.name} has no run recorded yet: study.run() trains them")
        return paired_difference(
            _one(runs, a, metric, self.name), _one(runs, b, metric, self.name), metric
        )

    def data_for(self, config: Mapping) -> Splits:
        """The images of a configuration. A stand-in is refused: its numbers are no record."""
        data = _load(config.get("dataset", self.data), **self.options_for(config))
        if data.stand_in:
            raise ValueError(
                f"The study {self.name!r} records runs on real data, not on a stand-in"
            )
        return data

    def options_for(self, config: Mapping) -> dict:
        """What `load` takes beside the name: the study's options, and the configuration's own."""
        own = {key: config[key] for key in _LOAD_OPTIONS & config.keys()}
        return {**self.options, **own}

    def recipe_for(self, config: Mapping, seed: int) -> Recipe:
        """The recipe with the configuration's own values and the seed."""
        own = {key: config[key] for key in _RECIPE_FIELDS & config.keys()}
        for key, values in self.named.items():
            if key in own:
                own[key] = values.get(own[key], own[key])
        if isinstance(own.get("augment"), str):
            own["augment"] = tuple(own["augment"].split("+")) if own["augment"] != "none" else ()
        return replace(self.recipe, **own, seed=seed)

    def label(self, config: Mapping, seed: int) -> str:
        """A run's name, for its file and its progress line."""
        parts = []
        for key in self.naming:
            value = config.get(key)
            if isinstance(value, bool):
                parts += [key] * value
            elif isinstance(value, str):
                parts.append(value)
            elif isinstance(value, int | float):
                parts.append(f"{key}{value:g}")
            elif value is not None:  # a list, which a file holds for a tuple, too
                parts.append(key + "x".join(map(str, value)))
        return re.sub(r"[^\w.+-]", "-", "_".join((*parts, f"seed{seed}")))

    def keys(self) -> list[str]:
        """What the configurations set, in their order."""
        return list(dict.fromkeys(key for config in self.configs for key in config))

    def _varying(self) -> list[str]:
        """The configurations' keys, in their order, that do not have one value in all of them."""
        return [key for key in self.keys() if len({str(c.get(key)) for c in self.configs}) > 1]

    def path(self, config: Mapping, seed: int) -> Path:
        """The file of a run."""
        return self.folder / f"{self.label(config, seed)}.json"

    def select(self, only: Mapping[str, str] | None = None, seeds: Iterable[int] | None = None):
        """The same study with the seeds given and the configurations whose values, as text, are
        those of `only`. Raises ValueError where none is left."""
        only, known = only or {}, self.keys()
        for key in only:
            if key not in known:
                raise ValueError(f"{self.name} has no setting {key!r}; it has {', '.join(known)}")
        configs = [c for c in self.configs if all(str(c.get(k)) == str(v) for k, v in only.items())]
        if not configs:
            wanted = ", ".join(f"{key}={value}" for key, value in only.items())
            there = "; ".join(
                f"{key}: {', '.join(sorted({str(c.get(key)) for c in self.configs}))}"
                for key in only
            )
            raise ValueError(f"{self.name} has no configuration with {wanted}; there is {there}")
        return replace(self, configs=configs, seeds=tuple(self.seeds if seeds is None else seeds))

    def __repr__(self) -> str:
        done = len(self.runs()) - len(self.missing())
        return f"Study({self.name}: {done} of {len(self.runs())} runs recorded)"


def train_one(
    study: Study,
    config: dict,
    seed: int,
    *,
    device: str | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[History], bool | None] | None = None,
    data: Splits | None = None,
    measure: Callable[[nn.Module, Splits], dict] | None = None,
) -> dict:
    """Train and test one configuration; the record as JSON will hold it.

    The seed draws the weights, the batches and the augmentation; the split of the data is the
    study's. A run whose loss became NaN is a result too: "diverged" says where, "test" is empty.
    data: other images than the configuration's.  measure: further test metrics, by name.
    """
    data = study.data_for(config) if data is None else data
    torch.manual_seed(seed)
    model = study.model(config)
    options = {"device": device, "checkpoint": checkpoint, "on_epoch": on_epoch}
    if study.loss is not None:
        options["loss"] = study.loss(config)
    fit = functools.partial(
        train.fit, model, data, study.recipe_for(config, seed), progress=False, **options
    )
    run = record(study, config, seed, model, data, fit)
    if run["test"] and measure:
        run["test"] |= measure(model, data)
    return run


def record(
    study: Study,
    config: dict,
    seed: int,
    model: nn.Module,
    data: Splits,
    fit: Callable[[], History],
) -> dict:
    """What every run of a network in torch records: `fit()`, then the test of `model`.

    Where the loss became NaN, "diverged" says so, and "test" is empty. A run that the stop button
    ended is no result: KeyboardInterrupt goes on, and the checkpoint stays.
    """
    try:
        history, diverged = fit(), {}
        if history.interrupted:
            raise KeyboardInterrupt
        test = train.evaluate(model, data.test)
    except train.Diverged as error:
        history, test, diverged = error.history, None, {"diverged": str(error)}
    run = {"study": study.name, "config": config, "seed": seed, **history.to_dict(), **diverged}
    run["data"]["stand_in"] = data.stand_in
    run["parameters"] = sum(p.numel() for p in model.parameters())
    run["test"] = {"loss": test.loss, "accuracy": test.accuracy} if test else {}
    if test:
        run["confusion"] = test.confusion.tolist()
    return run


def _load(name: str, **options) -> Splits:
    """`load`, whose last two answers stay in memory until a file changes: a worker trains many
    runs on the same images."""
    files = () if name in available() else (Path(name), *Path(name).rglob("*"))
    stamps = tuple(sorted((str(f), f.stat().st_mtime_ns) for f in files if f.exists()))
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    return _remembered(name, stamps, **plain)


@functools.lru_cache(maxsize=2)
def _remembered(name: str, stamps: tuple, **options) -> Splits:
    return load(name, **options)


def _one(runs: list[dict], chosen: Mapping, metric: str, name: str) -> pd.DataFrame:
    """The rows of one configuration, a row a seed."""
    frame = tables.one_row_each(runs)
    for column in (*chosen, metric):
        if column not in frame:
            raise ValueError(f"{name} has no column {column!r}; it has {', '.join(frame.columns)}")
    rows = tables.where(frame, chosen)
    configs = {tables.key(runs[i]["config"], seed=0) for i in rows.index}
    if len(configs) != 1:
        count = "several configurations" if configs else "no recorded run"
        raise ValueError(f"{dict(chosen)} means {count} of {name}: name exactly one configuration")
    return rows
