"""The sliders of labs 03 and 04: what they draw is what was measured."""

import numpy as np
import pytest
import torch
from conftest import make_splits
from torch import nn

import labkit
from labkit import widgets
from labkit.widgets.shift import _moved


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return {name: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for name in ("MLP", "CNN")}


@pytest.fixture
def split():
    return make_splits(n=60).test


def test_a_shifted_split_has_its_columns_to_the_right_and_black_behind(split):
    moved = _moved(split, 3)
    assert torch.equal(moved.images[..., 3:], split.images[..., :-3])
    assert (moved.images[..., :3] == 0).all()
    assert torch.equal(_moved(_moved(split, -2), 0).images[..., :-2], split.images[..., 2:])


def test_the_shift_slider_shows_each_networks_accuracy_at_its_position(networks, split):
    slider = widgets.shift(networks, split, start=2)
    before = slider.image.value
    slider.control.value = -4
    assert slider.image.value != before
    moved = {p: _moved(split, p) for p in (-4, 0)}
    results = {
        name: {p: labkit.evaluate(model, part) for p, part in moved.items()}
        for name, model in networks.items()
    }
    figure = widgets.draw_shift(moved, results, -4)
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    accuracies = [labkit.evaluate(model, moved[-4]).accuracy for model in networks.values()]
    assert legend == [f"{n}: {a:.2f}" for n, a in zip(networks, accuracies, strict=True)]
    answers = [text.get_text() for text in figure.axes[0].texts]
    right = results["MLP"][-4].predictions[0] == split.labels[0]
    assert answers[0].endswith("✗") != right


def test_each_of_many_networks_has_its_curve(networks, split):
    result = {0: labkit.evaluate(networks["MLP"], split)}
    results = {f"MLP {i}": result for i in range(5)}
    legend = widgets.draw_shift({0: split}, results, 0).axes[-1].get_legend()
    assert len(legend.get_texts()) == 5


def legend(p, batch_size):
    left, right = widgets.draw_batch_noise(p, batch_size).axes
    texts = left.get_legend().get_texts() + right.get_legend().get_texts()
    return [text.get_text().split(", ")[-1].split(" ± ") for text in texts]


def test_only_the_right_dropout_keeps_the_mean_and_larger_batches_jump_less():
    (torch_mean, torch_std), (plain, _), (report, _), (_, mean_std) = legend(0.5, 32)
    assert float(torch_mean) == pytest.approx(1, abs=0.02)
    assert float(plain) == pytest.approx(0.5, abs=0.02)
    assert float(report) == pytest.approx(0.25, abs=0.02)
    assert float(torch_std) == pytest.approx(1 / 32**0.5, abs=0.02)  # sqrt(p / (1 - p) / n)
    assert float(mean_std) == pytest.approx(1 / 32**0.5, abs=0.02)
    assert float(legend(0.5, 512)[0][1]) < float(torch_std) / 3


@pytest.mark.parametrize(("p", "batch_size"), [(0.5, 32), (0.25, 8), (0.9, 512), (0.6, 64)])
def test_each_bar_of_the_noise_holds_as_many_possible_means_as_the_next(p, batch_size):
    left, _ = widgets.draw_batch_noise(p, batch_size).axes
    for patch, scale in zip(left.patches, (1 / (1 - p), 1, 1 - p), strict=True):
        possible = np.arange(batch_size + 1) * scale / batch_size
        counts, _ = np.histogram(possible, patch.get_data().edges)
        inside = counts[counts > 0][1:-1]
        assert len(set(inside)) <= 1, counts


def test_a_possible_mean_stands_in_the_middle_of_its_bar_and_what_is_left_out_is_told():
    left, _ = widgets.draw_batch_noise(0.9, 2).axes
    bars = left.patches[0].get_data()
    middles = (bars.edges[:-1] + bars.edges[1:])[bars.values > 0] / 2
    assert middles.tolist() == pytest.approx([0.0])  # 5 and 10 lie outside
    assert "19% outside" in left.get_legend().get_texts()[0].get_text()
    assert "outside" not in left.get_legend().get_texts()[1].get_text()


def test_both_sliders_of_the_noise_move_the_picture():
    picker = widgets.batch_noise()
    pictures = {picker.image.value}
    picker.controls["p"].value = 0.3
    pictures.add(picker.image.value)
    picker.controls["batch_size"].value = 4
    pictures.add(picker.image.value)
    assert len(pictures) == 3
