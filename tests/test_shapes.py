"""The built-in `shapes`: the same everywhere, any size, and drawn as the formulas say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import labkit
from labkit.data import shapes

coordinate = st.floats(-1.5, 1.5)


def at(name, x, y):
    """The signed distance of one point."""
    return float(shapes.SHAPES[name](np.array(x), np.array(y)))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Draw a tenth of the images: all of them take a second."""
    monkeypatch.setattr(shapes, "COUNTS", (1_000, 200))


def test_the_same_images_are_drawn_on_every_machine():
    assert labkit.load("shapes").fingerprint == "3b0f429c48fd11c8"
    assert labkit.load("shapes", size=(1, 28, 28)).fingerprint == "0a7dc0b96efbb841"


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 9, 9), (3, 20, 33), (3, 96, 64)])
def test_any_size_in_grey_or_colour_with_every_class_alike_often(shape):
    source = shapes.draw(shape, train=50, test=20)
    for (images, labels), count in ((source.train, 50), (source.test, 20)):
        assert images.shape == (count, *shape)
        assert images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [count // 10] * 10
    assert len(source.classes) == 10


def test_size_asks_for_a_square_in_colour_or_for_channels_height_and_width():
    assert labkit.load("shapes", size=16, limit=100).shape == (3, 16, 16)
    assert labkit.load("shapes", size=(1, 12, 20), limit=100).shape == (1, 12, 20)


def test_no_two_images_are_alike():
    images, _ = shapes.draw((1, 16, 16), train=500, test=10).train
    assert len(np.unique(images.reshape(500, -1), axis=0)) == 500


def test_the_whole_range_of_brightness_occurs_and_the_middle_is_common():
    images, _ = shapes.draw((1, 28, 28), train=500, test=10).train
    assert images.min() == 0
    assert images.max() == 255
    assert 0.2 < (images / 255).mean() < 0.8


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_each_shape_fills_the_unit_circle_and_stays_within_it(name):
    angle = np.linspace(0, 2 * np.pi, 360)
    assert (shapes.SHAPES[name](1.01 * np.cos(angle), 1.01 * np.sin(angle)) > 0).all()
    x, y = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(-1, 1, 201))
    inside = shapes.SHAPES[name](x, y) < 0
    assert np.hypot(x, y)[inside].max() > 0.8
    assert 0.8 < inside.sum() * 0.01**2 < 2.4  # of pi, the area of the circle


@pytest.mark.parametrize("name", shapes.CLASSES)
@settings(max_examples=40, deadline=None)
@given(ax=coordinate, ay=coordinate, bx=coordinate, by=coordinate)
def test_a_distance_never_changes_faster_than_one_moves(name, ax, ay, bx, by):
    moved = np.hypot(ax - bx, ay - by)
    assert abs(at(name, ax, ay) - at(name, bx, by)) <= 1.001 * moved + 1e-12


def test_distances_by_hand():
    assert at("circle", 3, 4) == pytest.approx(5 - 0.85)
    assert at("square", 1, 0) == pytest.approx(0.3)
    assert at("ring", 0, 0) == pytest.approx(0.68 - 0.22)
    assert at("ring", 0.68, 0) == pytest.approx(-0.22)
    assert at("cross", 0.6, 0.6) > 0 > at("cross", 0.6, 0)
    assert at("crescent", -0.7, 0) < 0 < at("crescent", 0.5, 0)
    assert at("arrow", 0.8, 0) < 0 < at("arrow", 0.8, 0.3)
    assert at("heart", 0, -0.6) > 0 > at("heart", 0, 0.6)
    # A star has five points, a hexagon six corners: count the crossings along a circle.
    for name, radius, corners in (("star", 0.8, 5), ("hexagon", 0.85, 6)):
        angle = np.linspace(0, 2 * np.pi, 2000)
        inside = shapes.SHAPES[name](radius * np.cos(angle), radius * np.sin(angle)) < 0
        assert np.sum(inside[1:] & ~inside[:-1]) == corners
