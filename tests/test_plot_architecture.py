"""The picture of a model: what its boxes are, how large, and that the text fits."""

import itertools

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Polygon
from torch import nn

from labkit import models
from labkit.plot_architecture import architecture


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def texts(ax):
    """What stands above the boxes and below them, from left to right."""
    above, below = ax.texts[0 : 2 * boxes(ax) : 2], ax.texts[1 : 2 * boxes(ax) : 2]
    return [text.get_text() for text in above], [text.get_text() for text in below]


def boxes(ax):
    return len(faces(ax))


def faces(ax):
    """The front face of each box as (width, height); each box has two more faces."""
    fronts = [patch for patch in ax.patches if isinstance(patch, Polygon)][::3]
    corners = [front.get_xy() for front in fronts]
    return [(xy[:, 0].max() - xy[:, 0].min(), xy[:, 1].max() - xy[:, 1].min()) for xy in corners]


def test_simple_cnn_as_boxes():
    ax = architecture(models.SimpleCNN(), (3, 32, 32))
    above, below = texts(ax)
    assert above == [
        *("3×32×32", "32×32×32", "32×16×16", "64×16×16", "64×8×8", "128×8×8", "128×4×4", "10")
    ]
    assert below[1] == "Conv2d\n3×3\nBatchNorm2d\nReLU"
    assert below[2] == "MaxPool2d\n2×2"
    assert below[-2:] == ["MaxPool2d\n2×2\nDropout 0.5", "Linear"]
    assert ax.get_title() == "SimpleCNN: 114,186 parameters, 10,571,776 multiply-accumulates"


def test_boxes_are_to_scale():
    sizes = faces(architecture(models.SimpleCNN(), (3, 32, 32)))
    heights = [height for _, height in sizes]
    assert heights[:7] == pytest.approx([1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8])
    thickness = {32: sizes[1][0], 64: sizes[3][0], 128: sizes[5][0]}
    assert thickness[64] - thickness[32] == pytest.approx(thickness[128] - thickness[64])
    assert thickness[64] > thickness[32]


def test_resnet18_has_a_box_a_stage():
    above, below = texts(architecture(models.ResNet18(), (3, 32, 32)))
    assert below == [
        "input",
        "Conv2d\n7×7 /2\nBatchNorm2d\nReLU",
        "MaxPool2d\n3×3 /2",
        *["BasicBlock\n× 2"] * 4,
        "Adaptive\nAvgPool2d",
        "Linear",
    ]
    assert above[3:7] == ["64×8×8", "128×4×4", "256×2×2", "512×1×1"]


def test_a_long_network_is_drawn_by_its_children():
    layers = [nn.Conv2d(n, n + 1, 3, padding=1) for n in range(1, 21)]
    model = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), nn.Linear(21 * 64, 10))
    _, below = texts(architecture(model, (1, 8, 8)))
    assert below == ["input", "0\n20 Conv2d\nFlatten", "Linear"]


def test_models_of_linear_layers():
    above, below = texts(architecture(models.MLP(norm=None), (3, 32, 32)))
    assert above == ["3×32×32", "1024", "10"]
    assert below == ["input", "Linear\nReLU\nDropout 0.5", "Linear"]
    above, _ = texts(architecture(nn.Sequential(nn.Linear(7, 5)), (7,)))
    assert above == ["7", "5"]


def test_a_list_of_modules_is_opened():
    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = nn.ModuleList([nn.Linear(8, 4), nn.Linear(4, 2)])

        def forward(self, x):
            for step in self.steps:
                x = step(x)
            return x

    above, _ = texts(architecture(Chain(), (8,)))
    assert above == ["8", "4", "2"]


def test_a_single_layer_can_be_drawn():
    above, below = texts(architecture(nn.Conv2d(3, 8, (1, 3), stride=2), (3, 9, 9)))
    assert above == ["3×9×9", "8×5×4"]
    assert below == ["input", "Conv2d\n1×3 /2"]


@pytest.mark.parametrize(
    ("model", "image"),
    [
        (models.SimpleCNN(), (3, 32, 32)),
        (models.ResNet18(), (3, 32, 32)),
        (models.ResidualCNN(), (3, 64, 64)),
        (models.ImprovedCNN(residual=True), (1, 28, 28)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labels_do_not_overlap(model, image):
    ax = architecture(model, image)
    ax.figure.canvas.draw()
    extents = [text.get_window_extent() for text in ax.texts if text.get_text()]
    for one, other in itertools.combinations(extents, 2):
        assert not one.overlaps(other)
    width, height = ax.figure.canvas.get_width_height()
    for extent in extents:
        assert extent.x0 >= 0
        assert extent.x1 <= width
        assert extent.y0 >= 0
        assert extent.y1 <= height
    # At 600 pixels wide the letters are still at least 8 pixels high.
    pixels = extents[0].height * min(1, 600 / width)
    assert pixels >= 8


def test_it_draws_into_the_axes_that_it_is_given():
    _, ax = plt.subplots()
    assert architecture(models.BaselineNN(), (1, 28, 28), ax=ax) is ax


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="did not take images of 1 x 28 x 28"):
        architecture(models.SimpleCNN(), (1, 28, 28))
