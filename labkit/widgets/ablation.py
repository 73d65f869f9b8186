"""Dropdowns over the configurations of an ablation (lab 08)."""

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labkit.widgets.controls import Picker, tidy, word

_CHOSEN = "#D55E00"


def ablation(
    curves: pd.DataFrame, keys: Sequence[str], title: str = "", start: Mapping | None = None
) -> Picker:
    """Dropdowns over the configurations of a study that show one of them among all (lab 08).

    curves: one row an epoch of a run, as `labkit.study.epochs` gives them: columns epoch, val_acc
        (a fraction), seed and `keys`. A configuration without a key has NaN there; the dropdowns of
        keys that no configuration of the first one's value has are greyed out.
    keys: the columns that a dropdown chooses from, the kind of network first.
    title: names the data.
    start: the values that it begins with; by default those of the best configuration.

    Raises ValueError for a column that is missing, for a start that no run has, or where there is
    no run.
    """
    missing = [name for name in (*keys, "epoch", "val_acc", "seed") if name not in curves]
    if missing or curves.empty:
        what = f"no column {missing[0]!r}" if missing else "no row"
        raise ValueError(f"the curves have {what}: give labkit.study.epochs of a recorded study")
    runs = _runs_by_configuration(curves, list(keys))
    best = max(runs, key=lambda config: _level(runs[config]))
    chosen = dict(zip(keys, best, strict=True)) | dict(start or {})
    unknown = [key for key in chosen if key not in keys]
    if unknown:
        raise ValueError(f"start names {unknown[0]!r}: give values of {', '.join(keys)}")
    controls = {}
    for i, key in enumerate(keys):
        values = sorted({config[i] for config in runs} - {None}, key=str)
        if chosen[key] not in (None, *values):
            there = ", ".join(map(repr, values))
            raise ValueError(f"start={{{key!r}: {chosen[key]!r}}} is in no run; there are {there}")
        controls[key] = ipywidgets.Dropdown(
            options=[(word(value), value) for value in values],
            value=values[0] if chosen[key] is None else chosen[key],
            description=key,
            style={"description_width": "initial"},
            layout={"width": "max-content"},
        )

    def draw(**values) -> Figure:
        config = _configuration(values, runs)
        for control, value in zip(controls.values(), config, strict=True):
            control.disabled = value is None
        return draw_ablation(runs, config, keys, title)

    return Picker(draw, controls)


def _runs_by_configuration(curves: pd.DataFrame, keys: list[str]) -> dict[tuple, list]:
    """Configuration -> the validation accuracies, epoch by epoch, of each of its runs; None stands
    for a key that it does not have."""
    runs: dict[tuple, list] = {}
    flags = [curves[key].dropna().isin([0, 1]).all() for key in keys]
    for (*config, _seed), run in curves.groupby([*keys, "seed"], dropna=False, sort=False):
        config = tuple(
            None if pd.isna(value) else bool(value) if flag else value
            for value, flag in zip(config, flags, strict=True)
        )
        runs.setdefault(config, []).append(run.sort_values("epoch")["val_acc"].to_numpy())
    return runs


def _configuration(values: Mapping, runs: Mapping[tuple, list]) -> tuple:
    """What is chosen, without the keys that no configuration of its first value has."""
    first, *others = values.values()
    alike = [config for config in runs if config[0] == first]
    has = [any(config[i] is not None for config in alike) for i in range(1, len(values))]
    return first, *(value if there else None for value, there in zip(others, has, strict=True))


def _level(curves: list) -> float:
    """The best validation accuracy of a run, on average over the runs."""
    return float(np.mean([curve.max() for curve in curves]))


def draw_ablation(
    runs: Mapping[tuple, list], config: tuple, keys: Sequence[str], title: str = ""
) -> Figure:
    """One configuration among all of a study. Left: validation accuracy against the epoch, a line
    a run, the others' means in grey. Right: all configurations by rank, each at the best epoch's
    accuracy on average over its runs, and a dash for each run of the one.

    runs: configuration, its values in the order of `keys`, -> curves, an array for each run.
    config: the one; if it is not in `runs`, the title says that it is not recorded yet.
    """
    figure = Figure(figsize=(7.6, 3.7))
    figure.subplots_adjust(0.105, 0.14, 0.99, 0.83, wspace=0.06)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    ranking = sorted(runs, key=lambda other: -_level(runs[other]))
    levels = [_level(runs[other]) for other in ranking]
    for other in ranking:
        shortest = min(map(len, runs[other]))
        mean = np.mean([curve[:shortest] for curve in runs[other]], axis=0)
        left.plot(range(1, shortest + 1), mean, color="0.82", linewidth=1)
    right.plot(range(1, len(levels) + 1), levels, "o", color="0.7", markersize=4)
    found = "no run recorded yet"
    if config in runs:
        rank = ranking.index(config) + 1
        _draw_chosen(left, right, runs[config], rank)
        count = f"{len(runs[config])} run{'s' * (len(runs[config]) > 1)}"
        found = f"{levels[rank - 1]:.4f} ({count}), rank {rank} of {len(ranking)}"
    low, high = levels[-1], max(curve.max() for curves in runs.values() for curve in curves)
    left.set_ylim(low - 0.6 * (high - low) - 0.01, high + 0.1 * (high - low) + 0.002)
    left.set(xlabel="epoch", ylabel="validation accuracy (fraction)")
    right.set(xlabel="rank", xlim=(0, len(levels) + 1))
    figure.suptitle(f"{title}\n{_config_name(config, keys)}: {found}".strip(), fontsize=10)
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        tidy(ax)
    return figure


def _draw_chosen(left, right, curves: list, rank: int) -> None:
    for curve in curves:
        left.plot(range(1, len(curve) + 1), curve, color=_CHOSEN, linewidth=1.2, alpha=0.8)
        right.plot(rank, curve.max(), "_", color=_CHOSEN, markersize=9)
    right.plot(rank, _level(curves), "o", color=_CHOSEN, markersize=7)


def _config_name(config: tuple, keys: Sequence[str]) -> str:
    """ImprovedCNN + batchnorm, avg: the values, and of what is on or off the names that are on."""
    on = [key for key, value in zip(keys, config, strict=True) if value is True]
    values = [value for value in config[1:] if value is not None and not isinstance(value, bool)]
    return ", ".join([" + ".join([str(config[0]), *on]), *map(str, values)])
