"""Heat maps show means over seeds and what diverged; reliability diagrams show the bins."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_splits

from labkit import calibration, plot, study
from labkit.train import Evaluation


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


NAN = float("nan")
CELLS = {
    (0.1, 16): [0.5, 0.6, 0.7],
    (0.1, 64): [0.4, NAN, 0.6],
    (0.3, 16): [NAN, NAN],
    (0.3, 64): [0.2],
}
RUNS = pd.DataFrame(
    [
        {"lr": lr, "batch_size": batch_size, "seed": seed, "test_accuracy": accuracy}
        for (lr, batch_size), accuracies in CELLS.items()
        for seed, accuracy in enumerate(accuracies)
    ]
)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_cell_is_the_mean_over_its_seeds_with_its_interval():
    ax = plot.heat_map(RUNS, "lr", "batch_size", title="slim CNN")
    mean, _, high = study.interval([0.5, 0.6, 0.7])
    assert texts(ax)[0] == f"{mean:.3f}\n± {high - mean:.3f}"
    assert texts(ax)[3] == "0.200"
    shown = np.ma.filled(ax.collections[0].get_array(), NAN).ravel()
    np.testing.assert_allclose(shown, [0.6, 0.5, NAN, 0.2])
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("slim CNN", "batch_size", "lr")


def test_diverged_runs_are_counted_and_not_averaged():
    ax = plot.heat_map(RUNS, "lr", "batch_size")
    assert texts(ax)[1].endswith("\n2 of 3")
    assert texts(ax)[2] == "diverged"


def test_a_cell_without_a_run_says_so():
    ax = plot.heat_map(RUNS[:6], "lr", "batch_size")
    assert len(texts(ax)) == 2
    ax = plot.heat_map(RUNS.drop([6, 7]), "lr", "batch_size")
    assert texts(ax)[2] == "no run"


def test_the_best_cell_is_framed_and_words_may_name_the_rows():
    runs = RUNS.assign(schedule=RUNS["lr"].map({0.1: "step", 0.3: "constant"}))
    ax = plot.heat_map(runs, "schedule", "batch_size")
    (frame,) = ax.patches
    assert frame.get_xy() == (0, 1)  # step, batch size 16
    assert [label.get_text() for label in ax.get_yticklabels()] == ["constant", "step"]


def test_where_everything_diverged_there_is_no_frame():
    ax = plot.heat_map(RUNS[RUNS["test_accuracy"].isna()], "lr", "batch_size")
    assert not ax.patches


def test_what_is_no_table_of_runs_is_refused():
    with pytest.raises(ValueError, match="no column 'dropout'"):
        plot.heat_map(RUNS, "lr", "dropout")
    with pytest.raises(ValueError, match="no row"):
        plot.heat_map(RUNS[:0], "lr", "batch_size")


@pytest.fixture
def evaluation():
    split = make_splits().test
    noise = torch.randn(len(split), 3, generator=torch.Generator().manual_seed(0))
    logits = 2 * torch.nn.functional.one_hot(split.labels, 3) + 2 * noise
    return Evaluation(logits, split, loss=0.0)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_bars_are_the_accuracies_of_the_bins(evaluation, temperature):
    axes = plot.reliability(evaluation, temperature, bins=5)
    probabilities = (evaluation.logits / temperature).softmax(1)
    table = calibration.reliability(probabilities, evaluation.labels, 5)
    heights = [bar.get_height() for bar in axes[0].patches]
    np.testing.assert_allclose(heights, table["accuracy"])
    shares = [bar.get_height() for bar in axes[1].patches]
    np.testing.assert_allclose(shares, table["images"] / len(evaluation.labels))


def test_the_title_names_data_temperature_and_error(evaluation):
    (above, _) = plot.reliability(evaluation, 2.0)
    probabilities = (evaluation.logits / 2).softmax(1)
    error = calibration.expected_calibration_error(probabilities, evaluation.labels, 10)
    assert above.get_title() == f"stripes test, T = 2.00\ncalibration error {error:.3f}"


def test_reliability_draws_into_axes_that_are_given(evaluation):
    _, axes = plt.subplots(2, 1)
    assert plot.reliability(evaluation, axes=axes)[0] is axes[0]
    assert "T =" not in axes[0].get_title()
