"""Sliders over a recorded grid, and a button that trains the chosen point while you watch."""

import math
import threading
from collections.abc import Mapping

import ipywidgets
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labkit import train
from labkit.data import Splits
from labkit.study import Study, tables
from labkit.train import Diverged, History
from labkit.widgets.controls import bundle, png, tidy, word

_COLORS = {"train": "#0072B2", "val": "#E69F00"}
_LABELS = {"train": "training", "val": "validation"}
_NAMES = {
    "lr": "Learning rate (lr)",
    "batch_size": "Batch size (images)",
    "dropout": "Dropout (probability)",
    "schedule": "Schedule",
    "model": "Model",
}


class Explorer:
    """A slider for each key of a study's grid, the recorded curves of the chosen point, and two
    buttons: one trains that point in a thread of its own, the other stops it.

    Made by `explore`. Nothing is trained before the button is pressed. While it trains, the
    kernel is free for other cells; a cell that trains too shares torch's random numbers with it,
    so that neither can be repeated exactly.
    """

    def __init__(self, study: Study, keys, data: Splits, seed: int, device):
        self.study, self.data, self.seed, self.device = study, data, seed, device
        self.keys = list(keys)
        self.curves, self.runs = study.curves(), study.frame()
        self.live: dict[tuple, History] = {}  # what was trained here, by the point's values
        self.thread: threading.Thread | None = None
        self._stop, self._drawing = threading.Event(), threading.Lock()
        self._limits = _loss_limits(self.curves)
        self._stand_in = f" on {data.name}" if data.stand_in else ""
        self._build()

    def _build(self) -> None:
        start = _best_point(self.runs, self.keys) or self._point(self.study.configs[0])
        self.controls = {}
        for key, value in zip(self.keys, start, strict=True):
            values = sorted({config[key] for config in self.study.configs})
            self.controls[key] = ipywidgets.SelectionSlider(
                options=[(word(v), v) for v in values],
                value=value,
                description=_NAMES.get(key, key),
                style={"description_width": "180px"},
                layout={"width": "95%", "max_width": "600px"},
            )
            self.controls[key].observe(lambda _: self._redraw(), names="value")
        self.train_button = _button("Train this point", "play")
        self.stop_button = _button("Stop after this epoch", "stop")
        self.stop_button.disabled = True
        self.train_button.on_click(lambda _: self._start())
        self.stop_button.on_click(lambda _: self._stop.set())
        self.progress = ipywidgets.IntProgress(
            0, 0, 1, description="Epochs", layout={"width": "220px"}
        )
        self.status = ipywidgets.Label("Nothing is being trained.")
        self.image = ipywidgets.Image(format="png", value=b"", layout={"max_width": "100%"})
        self._redraw()
        self.still = self.image.value
        row = ipywidgets.Box(
            [self.train_button, self.stop_button, self.progress],
            layout={"display": "flex", "flex_flow": "row wrap"},
        )
        self.box = ipywidgets.VBox([*self.controls.values(), row, self.status, self.image])

    @property
    def values(self) -> dict:
        """What is chosen, by key."""
        return {key: control.value for key, control in self.controls.items()}

    def _point(self, config: Mapping) -> tuple:
        return tuple(config[key] for key in self.keys)

    def _redraw(self) -> None:
        with self._drawing:  # the thread draws, too
            self.image.value = png(self.draw(self._point(self.values)))

    # ------------------------------------------------------------------ the picture

    def draw(self, point: tuple) -> Figure:
        """Loss and accuracy against the epoch at a point, the values in the order of the keys:
        recorded runs as thin lines and their mean as a thick one, a run made here as dots. The
        axes are the same at each point."""
        figure = Figure(figsize=(7.6, 3.6))
        figure.subplots_adjust(0.08, 0.14, 0.99, 0.82, wspace=0.2)
        axes = figure.subplots(1, 2)
        recorded = _at(self.curves, self.keys, point)
        live = self.live.get(point)
        for ax, quantity in zip(axes, ("loss", "acc"), strict=True):
            for part, color in _COLORS.items():
                column = f"{part}_{quantity}"
                _draw_recorded(ax, recorded, column, color, _LABELS[part])
                if live is not None and live.rows:
                    frame = live.frame()
                    label = f"{_LABELS[part]}, trained here{self._stand_in}"
                    ax.plot(frame["epoch"], frame[column], "o", color=color, label=label)
            ax.set(xlabel="epoch", xlim=(0.5, self._recipe(point).epochs + 0.5))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
            ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
            ax.tick_params(bottom=False, left=False)  # marks take long to draw
            tidy(ax)
        axes[0].set(ylabel="loss (nats)", ylim=self._limits)
        axes[1].set(ylabel="accuracy (fraction)", ylim=(0, 1))
        if axes[1].get_legend_handles_labels()[0]:
            axes[1].legend(frameon=False, fontsize=8, loc="upper left")
        figure.suptitle(self._title(point), fontsize=10)
        return figure

    def _title(self, point: tuple) -> str:
        values = ", ".join(f"{k} {word(v)}" for k, v in zip(self.keys, point, strict=True))
        runs = _at(self.runs, self.keys, point)
        if runs.empty:
            return f"{self.data.name}, {values}\nno run recorded yet"
        best = runs["best_val_acc"].dropna()
        diverged = runs["diverged"].notna().sum() if "diverged" in runs else 0
        lost = f", {diverged} diverged" if diverged else ""
        count = f"{len(runs)} recorded run{'s' * (len(runs) > 1)}{lost}"
        if best.empty:
            return f"{self.study.data}, {values}\n{count}"
        return (
            f"{self.study.data}, {values}\n"
            f"best validation accuracy {best.mean():.3f} ({count}), "
            f"rank {_rank(self.runs, self.keys, point)}"
        )

    # ------------------------------------------------------------------ training

    def _recipe(self, point: tuple) -> train.Recipe:
        return self.study.recipe_for(self._config(point), self.seed)

    def _config(self, point: tuple) -> dict:
        return next(c for c in self.study.configs if self._point(c) == point)

    def _start(self) -> None:
        point = self._point(self.values)
        self.train_button.disabled, self.stop_button.disabled = True, False
        self._stop.clear()
        self.progress.value, self.progress.max = 0, self._recipe(point).epochs
        self.status.value = f"Training {', '.join(map(word, point))} ..."
        self.thread = threading.Thread(target=self._work, args=(point,), daemon=True)
        self.thread.start()

    def _work(self, point: tuple) -> None:
        try:
            self.status.value = self._fit(point)
        except Diverged as error:
            self.status.value = f"Diverged: {error}"
        except Exception as error:  # nobody sees a thread's traceback
            self.status.value = f"Failed: {type(error).__name__}: {error}"
        finally:
            self.stop_button.disabled = True
            try:
                self._redraw()
            finally:
                self.train_button.disabled = False  # the last: who sees it finds the rest done

    def _fit(self, point: tuple) -> str:
        config = self._config(point)
        torch.manual_seed(self.seed)
        model = self.study.model(config)

        def on_epoch(history: History) -> bool:
            self.live[point] = history
            row = history.rows[-1]
            self.progress.value = row["epoch"]
            self.status.value = (
                f"Epoch {row['epoch']}: validation accuracy {row['val_acc']:.3f}, "
                f"{row['seconds']:.1f} s an epoch"
            )
            self._redraw()
            return self._stop.is_set()

        options = {"progress": False, "device": self.device, "on_epoch": on_epoch}
        if self.study.loss is not None:
            options["loss"] = self.study.loss(config)
        history = train.fit(model, self.data, self._recipe(point), **options)
        return f"Stopped. {history}" if history.stopped else f"Done. {history}"

    def __repr__(self) -> str:
        chosen = (f"{c.description} = {word(c.value)}" for c in self.controls.values())
        return f"Explorer({', '.join(chosen)})"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """The live box, and the still picture for readers without a kernel."""
        return bundle(self.box, self.still, repr(self))


def explore(
    study: Study, keys, data: Splits, *, seed: int = 0, device: str | torch.device | None = None
) -> Explorer:
    """Sliders over the grid of a study, the curves of the chosen point, and a button that trains
    it now (lab 09).

    study: its recorded runs are drawn, as many as there are; it begins with the best of them.
    keys: the names of the grid's axes, a slider each. They must single out a configuration.
    data: what the button trains on, with a validation part. The same images as the study's make
        the curves comparable.
    seed: of the run made here; none of the study's makes it a run more.

    Raises ValueError where the keys are not in every configuration or hold lists, where two
    configurations agree in all of them, where a combination of their values is missing, for data
    without a validation part, and for a study with a `train` of its own.
    """
    if data.val is None:
        raise ValueError(
            f"{data.name} has no validation part to draw: load it with val_fraction above 0"
        )
    if study.train is not None:
        raise ValueError(
            f"{study.name} trains its runs in a way of its own, which the button cannot: explore a "
            "study without train="
        )
    keys = list(keys)
    lacking = [key for key in keys if any(key not in config for config in study.configs)]
    if lacking:
        raise ValueError(
            f"{study.name} has no {lacking[0]!r} everywhere; its keys are {', '.join(study.keys())}"
        )
    if any(isinstance(config[key], list | tuple) for config in study.configs for key in keys):
        raise ValueError(
            f"{study.name} has lists on an axis, which no slider can show: leave it out"
        )
    points = [tuple(config[key] for key in keys) for config in study.configs]
    if len(set(points)) < len(points):
        raise ValueError(
            f"{', '.join(keys)} do not single out a configuration of {study.name}: name more keys, "
            "or study.select() some configurations first"
        )
    whole = math.prod(len(set(values)) for values in zip(*points, strict=True))
    if len(points) < whole:
        raise ValueError(
            f"{study.name} has {len(points)} of {whole} combinations of {', '.join(keys)}: "
            "study.select() configurations that are a whole grid"
        )
    return Explorer(study, keys, data, seed, device)


def _button(description: str, icon: str) -> ipywidgets.Button:
    layout = {"width": "max-content"}
    return ipywidgets.Button(description=description, icon=icon, layout=layout)


def _at(frame: pd.DataFrame, keys: list[str], point: tuple) -> pd.DataFrame:
    """The rows of a point."""
    return tables.where(frame, dict(zip(keys, point, strict=True)))


def _levels(runs: pd.DataFrame, keys: list[str]) -> pd.Series:
    """The best epoch's validation accuracy of each point, on average over its runs that did not
    diverge."""
    if runs.empty:
        return pd.Series(dtype=float)
    levels = runs.groupby(keys)["best_val_acc"].mean()
    return levels.dropna().sort_values(ascending=False)


def _best_point(runs: pd.DataFrame, keys: list[str]) -> tuple | None:
    levels = _levels(runs, keys)
    if levels.empty:
        return None
    return levels.index[0] if len(keys) > 1 else (levels.index[0],)


def _rank(runs: pd.DataFrame, keys: list[str], point: tuple) -> str:
    levels = _levels(runs, keys)
    mine = levels.loc[point if len(keys) > 1 else point[0]]
    return f"{int((levels > mine).sum()) + 1} of {len(levels)}"


def _loss_limits(curves: pd.DataFrame) -> tuple[float, float]:
    """From 0 to what nearly all recorded losses stay below."""
    if curves.empty:
        return 0.0, 3.0
    losses = curves[["train_loss", "val_loss"]].to_numpy().ravel()
    return 0.0, float(np.clip(np.quantile(losses[np.isfinite(losses)], 0.97), 2.5, 5.0))


def _draw_recorded(ax, runs: pd.DataFrame, column: str, color: str, label: str) -> None:
    if runs.empty:
        return
    seeds = runs.pivot(index="epoch", columns="seed", values=column)
    ax.plot(seeds.index, seeds, color=color, linewidth=0.8, alpha=0.5)
    ax.plot(seeds.index, seeds.mean(axis=1), color=color, linewidth=2, label=label)
