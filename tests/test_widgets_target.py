"""The slider of lab 12 tells how long each rung took to a target, and which never got there."""

import pandas as pd
import pytest

from labkit import speedrun, widgets

# Accuracy after each second, seed by seed.
RUNS = {
    "start": ([0.2, 0.4, 0.6, 0.7], [0.2, 0.3, 0.6, 0.6]),
    "faster": ([0.4, 0.7], [0.5, 0.65]),
    "tried": ([0.3, 0.35], [0.3, 0.61]),
}


def make_curves():
    rows = [
        {"change": change, "seed": seed, "epoch": i, "seconds": 1.0, "val_acc": accuracy}
        for change, runs in RUNS.items()
        for seed, accuracies in enumerate(runs)
        for i, accuracy in enumerate(accuracies, start=1)
    ]
    return pd.DataFrame(rows)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_to_target_has_a_row_a_run():
    times = speedrun.to_target(make_curves(), 0.6)
    assert times["change"].tolist() == ["start"] * 2 + ["faster"] * 2 + ["tried"] * 2
    assert times["seconds"].tolist()[:2] == pytest.approx([3.0, 3.0])
    assert times["seconds"].isna().tolist() == [False] * 4 + [True, False]
    assert times["epochs"].dropna().tolist() == pytest.approx(times["seconds"].dropna().tolist())


def test_to_target_of_no_runs_has_its_columns():
    empty = speedrun.to_target(make_curves().iloc[:0], 0.6)
    assert list(empty.columns) == ["change", "seed", "seconds", "epochs"]


def test_the_picture_says_who_reached_the_target():
    times = speedrun.to_target(make_curves(), 0.6)
    figure = widgets.draw_target(times, list(RUNS), 0.6, title="stripes")
    assert texts(figure) == ["3.0 s", "1.7 s", "2.0 s (1 of 2)"]
    assert "stripes" in figure.axes[0].get_title()
    assert "60%" in figure.axes[0].get_title()
    none = widgets.draw_target(speedrun.to_target(make_curves(), 0.69), list(RUNS), 0.69)
    assert texts(none)[2] == "never"
    nobody = widgets.draw_target(speedrun.to_target(make_curves(), 0.9), list(RUNS), 0.9)
    assert texts(nobody) == ["never"] * 3


def test_the_slider_moves_the_picture():
    one = widgets.target(make_curves(), list(RUNS), "stripes")
    before = one.image.value
    one.control.value = 0.35
    assert one.image.value != before


def test_rungs_without_a_run_are_left_out_and_no_run_is_refused():
    one = widgets.target(make_curves(), ["start", "not yet"])
    assert one.control.value == 0.6
    for curves in (make_curves(), pd.DataFrame()):
        with pytest.raises(ValueError, match="no recorded run"):
            widgets.target(curves, ["not yet"])
