"""The sliders redraw their picture, and leave a still one for readers without a kernel."""

import base64

import ipywidgets
import pytest
import torch
import torch.nn.functional as F
from conftest import make_splits
from matplotlib.figure import Figure

import labkit
from labkit import augment, widgets

PNG = b"\x89PNG\r\n"


@pytest.fixture
def slider():
    return widgets.logit_scale()


def test_moving_the_slider_draws_another_picture(slider):
    before = slider.image.value
    slider.control.value = 20.0
    assert bytes(slider.image.value).startswith(PNG)
    assert slider.image.value != before


def test_moving_back_draws_the_first_picture_again(slider):
    before = slider.image.value
    slider.control.value = 20.0
    slider.control.value = 3.0
    assert slider.image.value == before


def test_a_slider_draws_what_its_function_returns_at_its_position():
    drawn = []

    def draw(value):
        drawn.append(value)
        return Figure(figsize=(1, 1))

    slider = widgets.Slider(draw, ipywidgets.FloatSlider(value=2.0, description="Height (m)"))
    slider.control.value = 5.0
    assert drawn == [2.0, 5.0]


def test_readers_without_a_kernel_get_the_picture_of_the_first_position(slider):
    still = slider.image.value
    slider.control.value = 20.0
    bundle = slider._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == still
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == slider.box.model_id


def test_the_text_names_quantity_and_unit_and_does_not_change_from_run_to_run(slider):
    assert slider._repr_mimebundle_()["text/plain"] == "Slider(Logit scale (×) = 3)"


def test_the_slider_stands_above_its_picture_and_can_be_focused(slider):
    assert slider.box.children == (slider.control, slider.image)
    assert not slider.control.disabled


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize(("row", "label"), [(0, 0), (1, 5)])
def test_the_picture_shows_the_losses_and_gradients_of_torch(scale, row, label):
    logits = torch.zeros(1, 10)
    logits[0, 0] = scale
    logits.requires_grad_()
    labels = torch.tensor([label])
    correct = F.cross_entropy(logits, labels)
    double = F.cross_entropy(logits.softmax(1), labels)

    left, right = widgets.draw_logit_scale(scale).axes[2 * row : 2 * row + 2]
    written = [text.get_text() for text in left.get_legend().get_texts()]
    assert written == [
        f"cross-entropy: {abs(correct.item()):.2f}",
        f"double softmax: {double.item():.2f}",
    ]
    for loss, bars in zip((correct, double), right.containers, strict=True):
        (gradient,) = torch.autograd.grad(loss, logits)
        heights = torch.tensor([bar.get_height() for bar in bars])
        torch.testing.assert_close(heights, gradient[0].double(), check_dtype=False)


def test_a_loss_above_the_frame_is_marked_at_its_edge():
    wrong = widgets.draw_logit_scale(20.0).axes[2]
    top = wrong.get_ylim()[1]
    markers = {line.get_marker(): line for line in wrong.lines}
    assert "^" in markers
    assert markers["^"].get_ydata()[0] < top


def test_the_hill_shows_the_steps_that_the_formula_gives():
    figure = widgets.draw_gradient_descent(lr=0.3, w=1.0, steps=4)
    loss = figure.axes[1].lines[0].get_ydata()
    expected = [(1 - 2 * 0.3) ** (2 * step) for step in range(5)]
    assert loss == pytest.approx(expected, rel=1e-5)
    assert "lr = 0.30" in figure.axes[1].get_title()


def test_the_learning_rate_slider_redraws_the_hill():
    slider = widgets.gradient_descent()
    before = slider.image.value
    slider.control.value = 0.5
    assert slider.image.value != before


# ---------------------------------------------------------------------- augmentation


def tiles(figure):
    """The twelve pictures of `draw_augmentation`, without their white frames, and the title."""
    pixels = torch.as_tensor(figure.axes[0].images[0].get_array())
    rows = pixels.view(2, 10, 6, 10, 3)[:, 1:-1, :, 1:-1]
    return rows.transpose(1, 2).flatten(0, 1), figure.axes[0].get_title()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transform", [augment.Rotation(40), augment.Crop(2)])
def test_the_first_picture_is_the_image_and_the_others_are_the_transforms(channels, transform):
    split = make_splits(shape=(channels, 8, 8)).train
    pictures, title = tiles(widgets.draw_augmentation(split, transform, index=5))
    image = split.images[5]
    drawn = transform(image.repeat(11, 1, 1, 1), torch.Generator().manual_seed(0))
    expected = torch.cat([image[None], drawn]).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    assert torch.equal(pictures, expected)
    assert title == f"stripes train, class 2: the image itself, then {transform}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rotation", "Slider(Rotation up to ± (degrees) = 15)"),
        ("crop", "Slider(Crop padding (pixels) = 4)"),
    ],
)
def test_the_strength_of_an_augmentation_redraws_its_pictures(name, text):
    slider = widgets.augmentation(make_splits().train, name)
    assert repr(slider) == text
    before = slider.image.value
    slider.control.value += 1  # what an arrow key does
    assert slider.image.value != before


def test_an_augmentation_without_a_slider_is_named():
    with pytest.raises(ValueError, match="no slider for 'flip'; there are rotation, crop"):
        widgets.augmentation(make_splits().train, "flip")


@pytest.mark.parametrize("epochs", [2, 35])
def test_the_schedules_are_those_that_training_uses(epochs, stripes, quick_fit, make_model):
    lines = {line.get_label(): line for line in widgets.draw_schedules(epochs).axes[0].lines}
    for name, schedule in (
        ("constant", labkit.Constant()),
        ("step: half, every 10 epochs", labkit.Step(10, 0.5)),
        ("cosine", labkit.Cosine()),
        ("one cycle", labkit.OneCycle()),
    ):
        steps = len(lines[name].get_ydata()) // epochs
        batch_size = len(stripes.train) // steps  # as many steps an epoch as are drawn
        recipe = {"lr": 0.01, "schedule": schedule, "batch_size": batch_size, "optimizer": "sgd"}
        rows = quick_fit(make_model(), stripes, epochs=epochs, **recipe).rows
        drawn = lines[name].get_ydata()[steps - 1 :: steps]  # the last step of each epoch
        assert drawn == pytest.approx([row["lr"] for row in rows])


def test_moving_the_slider_of_the_schedules_draws_a_longer_run():
    slider = widgets.schedules(start=20)
    before = slider.image.value
    slider.control.value = 40
    assert slider.image.value != before
    assert repr(slider) == "Slider(Length of the run (epochs) = 40)"
