"""The accuracy of each class as a bar with its interval."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from labkit import plot, study
from labkit.data import Split
from labkit.train import Evaluation


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def evaluation(hits, counts):
    """Answers of which hits[c] of counts[c] are right in class c; the wrong ones say the next."""
    labels = torch.arange(len(hits)).repeat_interleave(torch.tensor(counts))
    said = labels.clone()
    for label, (right, count) in enumerate(zip(hits, counts, strict=True)):
        wrong = (labels == label).nonzero().flatten()[right:count]
        said[wrong] = (label + 1) % len(hits)
    logits = 5.0 * torch.nn.functional.one_hot(said, len(hits))
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    names = tuple(f"class {label}" for label in range(len(hits)))
    return Evaluation(logits, Split(images, labels, names, "drawn test", (0.5,), (0.2,)), 0.0)


def bars(ax):
    return {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in ax.patches}


def intervals(ax):
    [segments] = [part.get_segments() for part in ax.collections]
    return {round(low[0]): (low[1], high[1]) for low, high in segments}


def test_bars_are_the_classes_accuracies_and_their_errors_wilsons():
    ax = plot.per_class(evaluation([30, 0, 5], [40, 10, 5]))
    assert bars(ax) == pytest.approx({0: 0.75, 1: 0.0, 2: 1.0})
    for label, (hits, n) in enumerate([(30, 40), (0, 10), (5, 5)]):
        assert intervals(ax)[label] == pytest.approx(study.wilson(hits, n))
    [line] = [line for line in ax.get_lines() if line.get_label() == "all classes"]
    assert line.get_ydata()[0] == pytest.approx(35 / 55)


def test_the_picture_names_its_data_and_its_classes():
    ax = plot.per_class(evaluation([3, 2], [4, 4]))
    assert ax.get_title() == "drawn test: accuracy 62.5 %"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["class 0", "class 1"]
    assert ax.get_ylabel() == "accuracy (fraction)"


def test_others_are_marked_on_the_bars_in_colours_of_their_own():
    _, given = plt.subplots()
    others = {"reported": [0.1, 0.9], "another": [0.4, 0.5]}
    ax = plot.per_class(evaluation([3, 2], [4, 4]), others, ax=given)
    assert ax is given
    lines = {line.get_label(): line for line in ax.get_lines()}
    for name, values in others.items():
        np.testing.assert_array_equal(lines[name].get_ydata(), values)
    assert lines["reported"].get_color() != lines["another"].get_color()
    assert {"reported", "another"} < {text.get_text() for text in ax.get_legend().get_texts()}


def test_a_class_without_images_has_no_bar_but_keeps_its_place():
    ax = plot.per_class(evaluation([3, 0, 1], [4, 0, 4]))
    assert bars(ax) == pytest.approx({0: 0.75, 2: 0.25})
    assert len(ax.get_xticklabels()) == 3


def test_another_number_of_classes_beside_is_refused():
    with pytest.raises(ValueError, match=r"'reported'.* has 3 accuracies for 2 classes"):
        plot.per_class(evaluation([3, 2], [4, 4]), {"reported": [0.1, 0.2, 0.3]})
