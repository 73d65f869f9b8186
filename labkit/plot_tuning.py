"""Heat maps over seeds and reliability diagrams; `labkit.plot` hands them on."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from labkit import calibration, study
from labkit.train import Evaluation

_BARS, _RIGHT, _FRAME = "#0072B2", "0.3", "#D55E00"


def heat_map(
    runs: pd.DataFrame,
    rows: str,
    columns: str,
    value: str = "test_accuracy",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A coloured cell for each pair of `rows` and `columns`: the mean of `value` over its runs.

    runs: one row a run, as `labkit.study.records` gives them; choose the configurations first, so
    that a cell holds the seeds of one. Below the mean stands the half width of its 95 % interval
    (`labkit.study.interval`), where a cell has two finite runs. Runs without a finite value, that
    is, diverged ones, are left out of the mean and counted. The highest mean is framed.

    Raises ValueError for a column that is missing, or where there is no run.
    """
    missing = [name for name in (rows, columns, value) if name not in runs]
    if missing or runs.empty:
        what = f"no column {missing[0]!r}" if missing else "no row"
        raise ValueError(f"the runs have {what}: give labkit.study.records of a recorded study")
    cells = runs.groupby([rows, columns])[value].agg(list).unstack()
    means, texts = cells.map(_mean), cells.map(_text)
    if ax is None:
        size = (1.6 + 0.95 * cells.shape[1], 1.3 + 0.62 * cells.shape[0])
        _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.set_facecolor("0.9")
    means = means.astype(float)
    there = means.notna().to_numpy().any()
    low, high = (np.nanmin(means), np.nanmax(means)) if there else (0, 1)
    labels = {"xticklabels": _words(cells.columns), "yticklabels": _words(cells.index)}
    sns.heatmap(means, ax=ax, cmap="viridis", vmin=low, vmax=high, linewidths=1, **labels)
    for (i, j), text in np.ndenumerate(texts.to_numpy()):
        dark = means.iloc[i, j] < (low + high) / 2
        style = {"color": "white" if dark else "black", "fontsize": 8}
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", **style)
    if there:
        i, j = np.unravel_index(np.nanargmax(means), means.shape)
        ax.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor=_FRAME, linewidth=3))
    ax.set(xlabel=columns, ylabel=rows)
    ax.set_title(title, fontsize=10)
    ax.tick_params(axis="y", rotation=0)
    return ax


def _words(values) -> list[str]:
    return [value if isinstance(value, str) else f"{value:g}" for value in values]


def _finite(values) -> list[float]:
    """The finite ones of a cell's values; a cell without a run holds NaN in place of a list."""
    return [v for v in values if np.isfinite(v)] if isinstance(values, list) else []


def _mean(values) -> float:
    finite = _finite(values)
    return float(np.mean(finite)) if finite else np.nan


def _text(values) -> str:
    """0.573 ± 0.012, and how many of the runs these are, where some diverged."""
    if not isinstance(values, list):
        return "no run"
    finite = _finite(values)
    if not finite:
        return "diverged"
    lines = [f"{np.mean(finite):.3f}"]
    if len(finite) > 1:
        mean, _, high = study.interval(finite)
        lines.append(f"± {high - mean:.3f}")
    if len(finite) < len(values):
        lines.append(f"{len(finite)} of {len(values)}")
    return "\n".join(lines)


def reliability(
    evaluation: Evaluation, temperature: float = 1.0, bins: int = 10, axes=None
) -> np.ndarray:
    """A reliability diagram: how often the model is right (above) in each bin of confidence, and
    how many of its answers lie there (below).

    The probabilities are softmax(logits / temperature). A whisker is the 95 % interval of a bin's
    accuracy for this many images (`labkit.study.wilson`); on the dashed line a model is as sure
    as it may be, below it is too sure. The title holds the expected calibration error, with the
    same bins. `axes`: two Axes to draw into, by default a new figure. Returns the two.
    """
    probabilities = (evaluation.logits / temperature).softmax(1)
    table = calibration.reliability(probabilities, evaluation.labels, bins)
    error = calibration.expected_calibration_error(probabilities, evaluation.labels, bins)
    if axes is None:
        _, axes = plt.subplots(
            2, 1, figsize=(4.4, 4.6), sharex=True, height_ratios=(3, 1), layout="constrained"
        )
    above, below = axes
    middle, width = (table["low"] + table["high"]) / 2, 0.94 / bins
    there = table[table["images"] > 0]
    low, high = study.wilson(there["hits"], there["images"])
    above.bar(middle, table["accuracy"], width, color=_BARS, alpha=0.6, label="accuracy")
    whiskers = np.array([there["accuracy"] - low, high - there["accuracy"]])
    above.errorbar(middle[there.index], there["accuracy"], whiskers, fmt="none", ecolor="0.2")
    above.plot(there["confidence"], there["confidence"], "D", color=_FRAME, label="confidence")
    above.plot([0, 1], [0, 1], "--", color=_RIGHT, linewidth=1)
    above.set(ylim=(0, 1), ylabel="fraction")
    above.legend(frameon=False, fontsize=8, loc="upper left")
    heated = f", T = {temperature:.2f}" if temperature != 1 else ""
    above.set_title(f"{evaluation.name}{heated}\ncalibration error {error:.3f}", fontsize=10)
    below.bar(middle, table["images"] / table["images"].sum(), width, color="0.6")
    below.set(xlim=(0, 1), xlabel="confidence (probability)", ylabel="share")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return np.asarray(axes)
