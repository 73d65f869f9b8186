"""The explorer draws what is recorded, and trains the chosen point only when its button says so."""

import base64
import json
from dataclasses import replace

import pytest
from conftest import make_splits
from torch import nn

import labkit
from labkit import study, widgets

KEYS = ["lr", "width"]
POINTS = ((0.5, 0.6), (0.8, 0.9), (1.1, 1.1))  # the best accuracies; above 1 is a diverged run
SECONDS = 120  # far more than a test's training takes


def build(config):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, config["width"]), nn.ReLU(), nn.Linear(config["width"], 3)
    )


def record(config, seed, best, diverged=False):
    run = {"config": config, "seed": seed, "seconds": 0.2, "device": "cpu", "data": {"name": "s"}}
    rows = [
        {
            "epoch": epoch,
            "train_loss": 1.0 / epoch,
            "train_acc": 0.3,
            "val_loss": 1.2 / epoch,
            "val_acc": best - 0.1 * (2 - epoch),
            "lr": config["lr"],
            "seconds": 0.1,
        }
        for epoch in (1, 2)
    ]
    if diverged:  # in the second epoch, after a good first one
        return run | {"epochs": rows[:1], "test": {}, "diverged": "The loss became nan at step 3"}
    return run | {"epochs": rows, "test": {"accuracy": best, "loss": 1.0}}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A study of four points; its runs lie in a folder of the test's own."""
    monkeypatch.setattr(study.tables, "folder", lambda kind: tmp_path)
    return study.Study(
        name="small",
        question="How fast, how wide?",
        data="stripes",
        configs=study.grid(lr=[0.01, 0.1], width=[4, 8]),
        model=build,
        recipe=labkit.Recipe(epochs=3, batch_size=40, optimizer="sgd"),
    )


@pytest.fixture
def recorded(small):
    """Two points have two runs each; of a third both diverged."""
    small.folder.mkdir(parents=True)
    for config, values in zip(small.configs, POINTS, strict=False):
        for seed, best in enumerate(values):
            run = record(config, seed, best, diverged=best > 1)
            small.path(config, seed).write_text(json.dumps(run))
    return small


@pytest.fixture
def explorer(recorded):
    return widgets.explore(recorded, KEYS, make_splits())


def test_an_axis_of_lists_is_refused(small):
    configs = [{**config, "width": [config["width"]]} for config in small.configs]
    lists = replace(small, configs=configs)
    with pytest.raises(ValueError, match="small has lists on an axis, which no slider can show"):
        widgets.explore(lists, KEYS, make_splits())


def title(explorer):
    return explorer.draw(tuple(explorer.values.values())).get_suptitle()


def train_here(explorer):
    explorer.train_button.click()
    explorer.thread.join(SECONDS)
    assert not explorer.thread.is_alive()


def test_it_begins_with_the_best_recorded_point(explorer):
    assert explorer.values == {"lr": 0.01, "width": 8}
    assert title(explorer) == (
        "stripes, lr 0.01, width 8\nbest validation accuracy 0.850 (2 recorded runs), rank 1 of 2"
    )


def test_moving_a_slider_draws_the_curves_of_that_point_and_trains_nothing(explorer):
    before = explorer.image.value
    explorer.controls["width"].value = 4
    assert explorer.image.value != before
    assert "0.550 (2 recorded runs), rank 2 of 2" in title(explorer)
    means = [line.get_ydata()[-1] for line in explorer.draw((0.01, 4)).axes[1].lines]
    assert max(means) == pytest.approx(0.6)
    assert explorer.thread is None
    explorer.controls["width"].value = 8
    assert explorer.image.value == before


def test_the_axes_are_the_same_at_each_point(explorer):
    limits = [[ax.axis() for ax in explorer.draw(point).axes] for point in ((0.01, 4), (0.1, 8))]
    assert limits[0] == limits[1]


def test_what_diverged_and_what_is_not_recorded_says_so(explorer):
    explorer.controls["lr"].value = 0.1
    assert title(explorer).endswith("\nno run recorded yet")
    explorer.controls["width"].value = 4
    assert title(explorer).endswith("\n2 recorded runs, 2 diverged")


def test_it_works_without_any_record(small):
    explorer = widgets.explore(small, KEYS, make_splits())
    assert explorer.values == small.configs[0]
    assert title(explorer).endswith("no run recorded yet")
    train_here(explorer)
    assert explorer.status.value.startswith("Done.")


def test_the_button_trains_the_point_and_its_curve_is_that_of_fit(explorer):
    before = explorer.image.value
    train_here(explorer)
    history = explorer.live[0.01, 8]
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    assert history.recipe == explorer.study.recipe_for({"lr": 0.01, "width": 8}, seed=0)
    assert explorer.image.value != before
    assert explorer.progress.value == explorer.progress.max == 3
    assert explorer.status.value == f"Done. {history}"
    labels = explorer.draw((0.01, 8)).axes[1].get_legend_handles_labels()[1]
    assert labels == [
        "training",
        "training, trained here",
        "validation",
        "validation, trained here",
    ]


def test_the_picture_grows_with_each_epoch(explorer):
    pictures, draw = [], explorer._redraw

    def note():
        draw()
        pictures.append(explorer.image.value)

    explorer._redraw = note
    train_here(explorer)
    assert len(set(pictures[:3])) == 3


def test_a_point_keeps_its_curve_while_another_is_looked_at(explorer):
    train_here(explorer)
    trained = explorer.image.value
    explorer.controls["width"].value = 4
    assert "trained here" not in str(explorer.draw((0.01, 4)).axes[1].get_legend_handles_labels())
    explorer.controls["width"].value = 8
    assert explorer.image.value == trained


def test_the_stop_button_ends_the_run_after_the_epoch(explorer, monkeypatch):
    recipe = labkit.Recipe(epochs=100_000, batch_size=40)
    monkeypatch.setattr(explorer, "_recipe", lambda point: recipe)
    explorer.train_button.click()
    assert explorer.train_button.disabled
    assert not explorer.stop_button.disabled
    explorer.stop_button.click()
    explorer.thread.join(SECONDS)
    assert not explorer.thread.is_alive()
    assert explorer.status.value.startswith("Stopped.")
    assert len(explorer.live[0.01, 8].rows) < 100_000
    assert not explorer.train_button.disabled
    assert explorer.stop_button.disabled


def test_a_run_that_diverges_or_fails_says_so_and_frees_the_button(explorer, monkeypatch):
    recipe = labkit.Recipe(epochs=3, optimizer="sgd", lr=1e30)
    monkeypatch.setattr(explorer, "_recipe", lambda point: recipe)
    train_here(explorer)
    assert explorer.status.value.startswith("Diverged: The loss became")
    assert not explorer.train_button.disabled
    explorer.data = None
    train_here(explorer)
    assert explorer.status.value.startswith("Failed: ")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_picture_that_cannot_be_drawn_frees_the_button(explorer, monkeypatch):
    def fails():
        raise KeyError("val_loss")

    monkeypatch.setattr(explorer, "_redraw", fails)
    train_here(explorer)
    assert not explorer.train_button.disabled
    assert explorer.stop_button.disabled


def test_the_button_trains_with_the_loss_of_the_study(recorded):
    flat = replace(recorded, loss=lambda config: lambda logits, y: 0 * logits.sum() + config["lr"])
    explorer = widgets.explore(flat, KEYS, make_splits())
    train_here(explorer)
    losses = [row["train_loss"] for row in explorer.live[0.01, 8].rows]
    assert losses == pytest.approx([0.01] * 3)


def test_what_is_trained_on_a_stand_in_says_so(recorded):
    shapes = replace(make_splits(), name="shapes (stand-in for stripes)", stand_in=True)
    explorer = widgets.explore(recorded, KEYS, shapes)
    train_here(explorer)
    labels = explorer.draw((0.01, 8)).axes[1].get_legend_handles_labels()[1]
    assert "training" in labels
    assert "validation, trained here on shapes (stand-in for stripes)" in labels


def test_readers_without_a_kernel_get_the_first_picture(explorer):
    still = explorer.image.value
    explorer.controls["width"].value = 4
    shown = explorer._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]) == still
    assert shown["text/plain"] == "Explorer(Learning rate (lr) = 0.01, width = 4)"


def test_the_controls_can_be_reached_by_keyboard_and_say_their_units(recorded):
    explorer = widgets.explore(recorded, KEYS, make_splits())
    (lr, width), buttons = explorer.box.children[:2], explorer.box.children[2].children
    assert not lr.disabled
    assert lr.description == "Learning rate (lr)"
    assert width.options == (("4", 4), ("8", 8))
    assert [button.description for button in buttons] == [
        "Train this point",
        "Stop after this epoch",
        "Epochs",
    ]


def test_one_key_is_enough_where_it_singles_out_a_point(recorded):
    explorer = widgets.explore(recorded.select({"width": 8}), ["lr"], make_splits())
    assert explorer.values == {"lr": 0.01}
    assert "0.850 (2 recorded runs), rank 1 of 1" in title(explorer)


def test_keys_that_do_not_single_out_a_point_are_refused(recorded):
    with pytest.raises(ValueError, match="do not single out a configuration of small"):
        widgets.explore(recorded, ["lr"], make_splits())
    with pytest.raises(ValueError, match="has no 'depth' everywhere; its keys are lr, width"):
        widgets.explore(recorded, ["lr", "depth"], make_splits())


def test_what_the_button_could_not_train_or_draw_is_refused(recorded):
    with pytest.raises(ValueError, match="stripes has no validation part to draw: load it with"):
        widgets.explore(recorded, KEYS, make_splits(val=False))
    with pytest.raises(ValueError, match="small trains its runs in a way of its own"):
        widgets.explore(replace(recorded, train=study.train_one), KEYS, make_splits())
    holes = replace(recorded, configs=recorded.configs[:3])
    with pytest.raises(ValueError, match="small has 3 of 4 combinations of lr, width: study.sel"):
        widgets.explore(holes, KEYS, make_splits())
