"""Several confusion matrices side by side."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from labkit import plot

CLASSES = ("shirt", "coat", "bag")
COUNTS = {
    "MLP": np.array([[90, 60, 0], [30, 70, 0], [0, 1, 999]]),
    "CNN": np.array([[120, 30, 0], [0, 100, 0], [0, 0, 1000]]),
    "half a percent": np.array([[199, 1, 0], [0, 1, 0], [0, 0, 1]]),
    "empty row": np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]]),
}


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def texts(ax):
    return np.array([text.get_text() for text in ax.texts]).reshape(3, 3).tolist()


def test_a_row_is_in_percent_of_its_true_class_and_zeros_are_left_out():
    axes = plot.confusions(COUNTS, CLASSES)
    assert texts(axes[0, 0]) == [["60", "40", ""], ["30", "70", ""], ["", "", "100"]]
    assert texts(axes[1, 0])[0] == ["100", "", ""]


def test_an_odd_number_of_networks_leaves_a_place_empty():
    axes = plot.confusions({"MLP": COUNTS["MLP"]}, CLASSES)
    assert axes.shape == (1, 2)
    assert not axes[0, 1].axison


def test_each_network_has_its_name_and_its_accuracy():
    axes = plot.confusions(COUNTS, CLASSES, "clothes test")
    titles = [ax.get_title() for ax in axes.flat]
    assert titles == [
        "MLP: accuracy 92.7 %",
        "CNN: accuracy 97.6 %",
        "half a percent: accuracy 99.5 %",
        "empty row: accuracy 100.0 %",
    ]
    assert "clothes test" in axes[0, 0].figure.get_suptitle()


def test_a_class_without_images_is_a_row_of_nothing():
    axes = plot.confusions(COUNTS, CLASSES)
    assert texts(axes[1, 1])[1] == ["", "", ""]


def test_the_lower_left_one_names_the_classes():
    ax = plot.confusions(COUNTS, CLASSES)[1, 0]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(CLASSES)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(CLASSES)


def test_lists_are_taken_as_files_hold_them():
    axes = plot.confusions({"MLP": COUNTS["MLP"].tolist()}, CLASSES)
    assert texts(axes[0, 0])[0] == ["60", "40", ""]


def test_a_matrix_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"MLP has the shape \(2, 2\): give 3 x 3"):
        plot.confusions({"MLP": np.eye(2)}, CLASSES)
    with pytest.raises(ValueError, match="no matrix to draw"):
        plot.confusions({}, CLASSES)
    assert not plt.get_fignums()
