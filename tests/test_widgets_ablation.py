"""The dropdowns of lab 08 show the chosen configuration among all, and say what is not there."""

import base64

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from labkit import widgets

KEYS = ["model", "batchnorm", "pooling"]
PNG = b"\x89PNG\r\n"
# The best epoch's accuracies; CNN without batchnorm and with max pooling has not been run.
LEVELS = {
    ("CNN", True, "avg"): (0.93, 0.95),
    ("CNN", True, "max"): (0.92, 0.92),
    ("CNN", False, "avg"): (0.90, 0.91),
    ("MLP", True, None): (0.88, 0.87),
    ("MLP", False, None): (0.86, 0.86),
    ("plain", None, None): (0.80, 0.81),
}


def make_curves(levels=LEVELS, epochs=5):
    """One row an epoch; the best one is the last but one. Files lack what a network has not."""
    rows = []
    for config, accuracies in levels.items():
        own = {k: v for k, v in zip(KEYS, config, strict=True) if v is not None}
        for seed, accuracy in enumerate(accuracies):
            for epoch in range(1, epochs + 1):
                value = accuracy - 0.01 * abs(epochs - 1 - epoch)
                rows.append({**own, "epoch": epoch, "val_acc": value, "seed": seed})
    return pd.DataFrame(rows)


@pytest.fixture
def picker():
    return widgets.ablation(make_curves(), KEYS, "clothes validation")


def choose(picker, **values):
    for name, value in values.items():
        picker.controls[name].value = value
    return picker.draw(**picker.values)


def title(figure):
    return figure.get_suptitle()


def test_it_begins_with_the_best_configuration(picker):
    assert picker.values == {"model": "CNN", "batchnorm": True, "pooling": "avg"}
    shown = title(picker.draw(**picker.values))
    assert shown == "clothes validation\nCNN + batchnorm, avg: 0.9400 (2 runs), rank 1 of 6"


def test_choosing_redraws_the_picture_and_choosing_back_restores_it(picker):
    before = picker.image.value
    picker.controls["batchnorm"].value = False
    assert bytes(picker.image.value).startswith(PNG)
    assert picker.image.value != before
    picker.controls["batchnorm"].value = True
    assert picker.image.value == before


def test_the_chosen_runs_are_drawn_as_they_were_recorded(picker):
    left, right = choose(picker, batchnorm=False).axes
    chosen = [line.get_ydata() for line in left.lines if line.get_color() == "#D55E00"]
    assert np.allclose(chosen, [[0.87, 0.88, 0.89, 0.90, 0.89], [0.88, 0.89, 0.90, 0.91, 0.90]])
    grey = right.lines[0]
    assert grey.get_ydata() == pytest.approx([0.94, 0.92, 0.905, 0.875, 0.86, 0.805])
    best = right.lines[-1]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (3, pytest.approx(0.905))


def test_a_combination_without_a_run_is_said_to_have_none(picker):
    assert "CNN, max: no run recorded yet" in title(choose(picker, batchnorm=False, pooling="max"))


def test_what_the_network_has_not_cannot_be_chosen_and_does_not_count(picker):
    assert "MLP + batchnorm: 0.8750" in title(choose(picker, model="MLP", pooling="max"))
    assert [control.disabled for control in picker.controls.values()] == [False, False, True]
    assert "plain: 0.8050" in title(choose(picker, model="plain"))
    assert [control.disabled for control in picker.controls.values()] == [False, True, True]
    choose(picker, model="CNN")
    assert not any(control.disabled for control in picker.controls.values())


def test_each_control_is_a_labelled_dropdown(picker):
    for name, control in picker.controls.items():
        assert isinstance(control, ipywidgets.Dropdown)
        assert control.description == name
    assert picker.controls["batchnorm"].options == (("off", False), ("on", True))
    assert picker.box.children[1] is picker.image


def test_zero_and_one_among_other_numbers_are_numbers():
    levels = {("CNN", True, 0.0): (0.9,), ("CNN", False, 0.3): (0.8,), ("CNN", False, 1.0): (0.7,)}
    controls = widgets.ablation(make_curves(levels), KEYS).controls
    assert controls["batchnorm"].options == (("off", False), ("on", True))
    assert controls["pooling"].options == (("0", 0.0), ("0.3", 0.3), ("1", 1.0))


def test_a_start_may_be_given():
    picker = widgets.ablation(make_curves(), KEYS, start={"model": "MLP", "batchnorm": False})
    assert title(picker.draw(**picker.values)).startswith("MLP: 0.8600")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"model": "RNN"}, "'model': 'RNN'.* is in no run; there are 'CNN', 'MLP', 'plain'"),
        ({"norm": True}, "start names 'norm': give values of model, batchnorm, pooling"),
    ],
)
def test_a_start_that_cannot_be_chosen_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        widgets.ablation(make_curves(), KEYS, start=start)


def test_readers_without_a_kernel_get_the_first_picture(picker):
    still = picker.image.value
    picker.controls["pooling"].value = "max"
    bundle = picker._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == still
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == picker.box.model_id
    assert bundle["text/plain"] == "Picker(model = CNN, batchnorm = on, pooling = max)"


def test_a_single_run_is_one_run_and_curves_may_differ_in_length():
    curves = make_curves({("CNN", True, "avg"): (0.9,), ("MLP", True, None): (0.8, 0.8)})
    curves = curves[~((curves["model"] == "MLP") & (curves["seed"] == 1) & (curves["epoch"] > 3))]
    picker = widgets.ablation(curves, KEYS)
    assert "(1 run), rank 1 of 2" in title(picker.draw(**picker.values))
    assert "(2 runs), rank 2 of 2" in title(choose(picker, model="MLP"))


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        (pd.DataFrame(), "no column 'model'.*labkit.study.epochs"),
        (make_curves().drop(columns="val_acc"), "no column 'val_acc'"),
        (make_curves().iloc[:0], "no row"),
    ],
)
def test_curves_without_runs_are_refused(curves, message):
    with pytest.raises(ValueError, match=message):
        widgets.ablation(curves, KEYS)


def test_a_picker_draws_what_its_function_returns_for_all_of_its_values():
    drawn = []

    def draw(**values):
        drawn.append(values)
        return Figure(figsize=(1, 1))

    controls = {
        "width": ipywidgets.IntSlider(value=3, description="Width"),
        "norm": ipywidgets.Checkbox(value=True, description="BatchNorm"),
    }
    picker = widgets.Picker(draw, controls)
    controls["width"].value = 5
    assert drawn == [{"width": 3, "norm": True}, {"width": 5, "norm": True}]
    assert repr(picker) == "Picker(Width = 5, BatchNorm = on)"
