"""Pictures of weights, of what layers make of an image, and of accuracies over seeds."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from labkit import plot, study


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def drawn(ax):
    return [np.asarray(image.get_array()) for image in ax.images]


def test_filters_are_the_weights_on_a_scale_with_zero_in_the_middle():
    conv = nn.Conv2d(1, 10, kernel_size=3)
    ax = plot.filters(conv.weight, "ten filters", columns=4)
    np.testing.assert_array_equal(np.stack(drawn(ax)), conv.weight.detach()[:, 0])
    limit = conv.weight.abs().max().item()
    assert {image.get_clim() for image in ax.images} == {(-limit, limit)}
    assert ax.get_title() == "ten filters"


def test_pictures_stand_in_rows_and_do_not_touch():
    ax = plot.filters(torch.randn(5, 1, 4, 2), columns=2)
    places = [image.get_extent() for image in ax.images]  # left, right, bottom, top
    assert len({(left, right) for left, right, *_ in places}) == 2
    assert len({(bottom, top) for *_, bottom, top in places}) == 3
    assert places[0][1] < places[1][0]
    assert places[0][2] < places[2][3]
    assert all(
        bottom - top == pytest.approx(2 * (right - left)) for left, right, bottom, top in places
    )
    (x0, x1), (y1, y0) = ax.get_xlim(), ax.get_ylim()
    assert x0 < min(place[0] for place in places)
    assert max(place[1] for place in places) < x1
    assert y0 < min(place[3] for place in places)
    assert max(place[2] for place in places) < y1


def test_colour_filters_are_colours_about_mid_grey():
    weight = torch.zeros(2, 3, 4, 5)
    weight[0, 0] = 2.0  # red, as strong as it gets
    weight[1, 2] = -2.0  # no blue at all
    red, yellow = drawn(plot.filters(weight))
    assert red.shape == (4, 5, 3)
    np.testing.assert_allclose(red[0, 0], [1, 0.5, 0.5])
    np.testing.assert_allclose(yellow[0, 0], [0.5, 0.5, 0])


def test_filters_of_a_linear_layer_are_its_rows():
    linear = nn.Linear(6, 2)
    pictures = drawn(plot.filters(linear.weight.view(-1, 1, 2, 3)))
    np.testing.assert_array_equal(pictures[1], linear.weight.detach()[1].reshape(2, 3))


def test_weights_that_are_all_zero_can_be_drawn():
    assert (np.stack(drawn(plot.filters(torch.zeros(2, 1, 3, 3)))) == 0).all()
    assert (np.stack(drawn(plot.filters(torch.zeros(2, 3, 3, 3)))) == 0.5).all()


def test_feature_maps_are_a_picture_a_channel_on_one_scale():
    maps = torch.randn(5, 6, 7).relu()
    ax = plot.feature_maps(maps, columns=3)
    np.testing.assert_array_equal(np.stack(drawn(ax)), maps)
    assert {image.get_clim() for image in ax.images} == {(0, maps.max().item())}
    below = plot.feature_maps(maps - 1)
    assert below.images[0].get_clim()[0] == (maps - 1).min().item()


@pytest.mark.parametrize("shape", [(10, 784), (8, 24, 3, 3), (0, 1, 3, 3)])
def test_weights_that_are_no_pictures_are_refused(shape):
    with pytest.raises(ValueError, match=r"got \(.*linear.weight.view"):
        plot.filters(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (16,), (0, 4, 4)])
def test_maps_of_more_than_one_image_are_refused(shape):
    with pytest.raises(ValueError, match=r"layer\(images\)\[0\]"):
        plot.feature_maps(torch.zeros(shape))


def test_seeds_are_dots_around_the_interval_of_their_mean():
    results = {"MLP": [0.80, 0.81, 0.85], "CNN": [0.90, 0.90, 0.93]}
    ax = plot.over_seeds(results, "two models")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["MLP", "CNN"]
    bar, dots, mean = ax.lines[:3]
    assert dots.get_xdata().tolist() == results["MLP"]
    expected = study.interval(results["MLP"])
    np.testing.assert_allclose([*mean.get_xdata(), *bar.get_xdata()], expected)
    assert ax.texts[0].get_text() == f"0.820 ± {expected[2] - 0.82:.3f}"
    assert ax.get_title() == "two models"
    _, given = plt.subplots()
    assert plot.over_seeds(results, ax=given) is given


def test_the_picture_of_a_model_is_found_here():
    assert plot.architecture(nn.Linear(4, 2), (4,)).texts
