"""A slider over the accuracy that a speed run asks for (lab 12)."""

from collections.abc import Sequence

import ipywidgets
import pandas as pd
from matplotlib.figure import Figure

from labkit import speedrun
from labkit.widgets.controls import Slider, slider, tidy


def target(
    curves: pd.DataFrame, changes: Sequence[str], title: str = "", start: float = 0.6
) -> Slider:
    """A slider over the target that shows how long each rung of a ladder took to it (lab 12).

    curves: a row a reading, as `Study.curves()` of a speed run has them.
    changes: the rungs to show, from the top; those without a run are left out.
    title: names the data.

    Raises ValueError where no run of these is recorded.
    """
    some = curves[curves["change"].isin(list(changes))] if len(curves) else curves
    if some.empty:
        raise ValueError("there is no recorded run: give the curves of a recorded speed run")
    shown = [change for change in changes if change in set(some["change"])]
    longest = some.groupby(["change", "seed"])["seconds"].sum().max()

    def draw(accuracy: float) -> Figure:
        return draw_target(speedrun.to_target(some, accuracy), shown, accuracy, longest, title)

    control = slider(
        ipywidgets.FloatSlider,
        "Target (validation accuracy)",
        value=start,
        min=0.3,
        max=0.62,
        step=0.01,
        readout_format=".2f",
    )
    return Slider(draw, control)


def draw_target(
    times: pd.DataFrame,
    changes: Sequence[str],
    accuracy: float,
    longest: float | None = None,
    title: str = "",
) -> Figure:
    """Seconds until the target, a row a change: a dot a run, a bar for the mean of the runs that
    reached it. times: as `labkit.speedrun.to_target` gives them; longest: the axis' end, seconds.
    """
    figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(changes)))
    figure.subplots_adjust(0.27, 0.55 / figure.get_figheight(), 0.9, 0.9)
    ax = figure.subplots()
    longest = longest or times["seconds"].max()
    longest = 1.0 if pd.isna(longest) else longest  # no run reached it
    for row, change in enumerate(changes):
        seconds = times.loc[times["change"] == change, "seconds"]
        reached = seconds.dropna()
        text = "never" if reached.empty else f"{reached.mean():.1f} s"
        if len(reached):
            ax.barh(row, reached.mean(), color=_BAR, height=0.62)
            ax.plot(reached, [row] * len(reached), "o", color=_DOT, markersize=4)
        if 0 < len(reached) < len(seconds):
            text += f" ({len(reached)} of {len(seconds)})"
        end = reached.max() if len(reached) else 0
        ax.text(end + 0.015 * longest, row, text, va="center", fontsize=9)
    ax.set_yticks(range(len(changes)), changes, fontsize=9)
    ax.set(xlim=(0, 1.05 * longest), ylim=(len(changes) - 0.4, -0.6))
    ax.set_xlabel("seconds of training", fontsize=9)
    ax.set_title(f"{title}{': ' if title else ''}time to {accuracy:.0%} validation", fontsize=10)
    tidy(ax)
    return figure


_BAR, _DOT = "#9ECAE1", "#0072B2"
