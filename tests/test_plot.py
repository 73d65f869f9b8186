"""Pictures: they show the right numbers, name their data, and give back the Axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import labkit
from labkit import plot


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def history(stripes, make_model):
    recipe = labkit.Recipe(epochs=4, batch_size=32)
    return labkit.fit(make_model(), stripes, recipe, progress=False)


class Rigged(nn.Module):
    """Says class 0 for the first 100 images, with growing confidence, and the truth after them."""

    def __init__(self, labels):
        super().__init__()
        self.logits = 9.0 * nn.functional.one_hot(labels, 3)
        self.logits[:100] = torch.tensor([1.0, 0, 0]) * torch.arange(1, 101)[:, None] / 10

    def forward(self, x):
        return self.logits[: len(x)]


@pytest.fixture
def evaluation(stripes):
    return labkit.evaluate(Rigged(stripes.test.labels), stripes.test)


def test_curves_show_each_column_of_the_history_and_mark_the_best_epoch(history):
    axes = plot.curves(history)
    frame = history.frame()
    for ax, quantity in zip(axes, ("loss", "acc"), strict=True):
        lines = {line.get_label(): line for line in ax.get_lines()}
        np.testing.assert_allclose(lines["training"].get_ydata(), frame[f"train_{quantity}"])
        np.testing.assert_allclose(lines["validation"].get_ydata(), frame[f"val_{quantity}"])
        assert lines["best epoch"].get_xdata()[0] == history.best["epoch"]
        assert "stripes" in ax.get_title()
        assert ax.get_xlabel() == "epoch"
    assert lines["training"].get_color() == plot.COLORS["train"]


def test_curves_draw_into_given_axes_and_refuse_an_empty_history(history):
    _, given = plt.subplots(1, 2)
    assert plot.curves(history, axes=given)[0] is given[0]
    history.rows.clear()
    with pytest.raises(ValueError, match="no finished epoch"):
        plot.curves(history)


def test_confusion_shows_counts_or_percent_of_the_true_class(evaluation):
    counts = plot.confusion(evaluation)
    shown = [text.get_text() for text in counts.texts]
    assert shown == [str(int(value)) for value in evaluation.confusion.flatten()]
    shares = plot.confusion(evaluation, normalize=True)
    percent = 100 * evaluation.confusion / evaluation.confusion.sum(1, keepdim=True)
    assert [text.get_text() for text in shares.texts] == [f"{v:.0f}" for v in percent.flatten()]
    assert "stripes test" in counts.get_title()
    assert (counts.get_xlabel(), counts.get_ylabel()) == ("predicted", "true")


def test_images_come_a_row_a_class(stripes):
    axes = plot.images(stripes.train, per_class=5)
    assert axes.shape == (3, 5)
    for label, row in enumerate(axes):
        assert row[0].texts[0].get_text() == f"class {label}"
        for ax in row:
            stripe = np.asarray(ax.images[0].get_array())[:, 2 * label]
            assert stripe.min() >= 100


def test_show_takes_grey_and_colour():
    _, (left, right) = plt.subplots(1, 2)
    plot.show(torch.zeros(1, 5, 5, dtype=torch.uint8), left)
    plot.show(torch.zeros(3, 5, 5, dtype=torch.uint8), right, "title")
    assert left.images[0].get_array().shape == (5, 5)
    assert right.images[0].get_array().shape == (5, 5, 3)
    assert right.get_title() == "title"


def test_augmentations_show_the_original_and_each_draw(stripes):
    axes = plot.augmentations(stripes.train, ("flip", "crop"), n=6)
    assert axes.shape == (2, 7)
    original = stripes.train.images[0, 0].numpy()
    np.testing.assert_array_equal(axes[0, 0].images[0].get_array(), original)
    for ax in axes[0, 1:]:
        drawn = np.asarray(ax.images[0].get_array())
        assert (drawn == original).all() or (drawn == original[:, ::-1]).all()
    assert [row[0].texts[0].get_text() for row in axes] == ["flip", "crop"]


def test_mistakes_come_with_the_surest_first(evaluation, stripes):
    axes = plot.mistakes(evaluation, n=6).flatten()
    wrong = [i for i in range(100) if stripes.test.labels[i] != 0]
    surest = wrong[-1]
    np.testing.assert_array_equal(
        np.asarray(axes[0].images[0].get_array()), stripes.test.images[surest, 0].numpy()
    )
    said, truth = axes[0].get_title().split("\n")
    assert said.startswith("class 0 ")
    assert truth == f"is class {stripes.test.labels[surest]}"
    percents = [float(ax.get_title().split("\n")[0].split()[-2]) for ax in axes]
    assert percents == sorted(percents, reverse=True)
    assert f"{len(wrong)} mistakes of 240" in axes[0].figure.get_suptitle()


def test_a_faultless_model_has_no_mistakes_to_show(stripes):
    model = Rigged(stripes.test.labels)
    model.logits = 9.0 * nn.functional.one_hot(stripes.test.labels, 3)
    axes = plot.mistakes(labkit.evaluate(model, stripes.test))
    assert "0 mistakes" in axes[0, 0].figure.get_suptitle()
    assert not any(ax.images for ax in axes.flat)


def test_gradient_norms_draw_a_line_a_network_and_a_dot_a_layer():
    tables = {
        name: pd.DataFrame({"layer": list("abc"), "depth": [1, 2, 3], "norm": norms})
        for name, norms in (("plain", [0.0, 1e-9, 1.0]), ("residual", [0.5, 0.4, 0.3]))
    }
    ax = plot.gradient_norms(tables, "Gradients, stripes train")
    plain, residual = ax.get_lines()
    assert ax.get_yscale() == "log"
    assert (list(plain.get_xdata()), list(plain.get_ydata())) == ([2, 3], [1e-9, 1.0])
    np.testing.assert_array_equal(residual.get_ydata(), tables["residual"]["norm"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["plain", "residual"]
    assert ax.get_title() == "Gradients, stripes train"
    _, given = plt.subplots()
    assert plot.gradient_norms(tables, ax=given) is given


def test_effects_tell_decided_from_undecided_and_measured_from_reported():
    row = {"claim": "x", "reported": 0.02, "effect": 0.01, "low": 0.005, "high": 0.015}
    row |= {"level": False, "unit": "points"}
    rows = [row, {**row, "low": -0.01}, {**row, "low": np.nan, "high": np.nan}]
    ax = plot.effects(pd.DataFrame(rows), "Claims")
    faces = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"]
    assert [face == "white" for face in faces[:3]] == [False, True, True]
    diamonds = [line.get_xdata() for line in ax.lines if line.get_marker() == "D"]
    assert np.concatenate(diamonds).tolist() == pytest.approx([2, 2, 2])
    legend = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert legend == ["measured, 95 % interval", "undecided", "reported"]
    assert ax.get_title() == "Claims"


def test_effects_leave_out_what_is_no_difference_in_points():
    row = {"claim": "kept", "reported": 0.02, "effect": 0.01, "low": 0.005, "high": 0.015}
    row |= {"level": False, "unit": "points"}
    others = [{**row, "claim": "level", "level": True}, {**row, "claim": "loss", "unit": "nats"}]
    ax = plot.effects(pd.DataFrame([others[0], row, others[1]]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["kept"]
    for nothing in (pd.DataFrame(others), pd.DataFrame()):
        with pytest.raises(ValueError, match="no claim to draw"):
            plot.effects(nothing)
