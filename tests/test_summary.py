"""The table of a model: counted by the rule, beside torch's own counter, and with no trace left."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from labkit import layers, models
from labkit.data import import_torchvision
from labkit.summary import summary


def torch_macs(model, input_shape):
    """Half of what torch's flop counter counts: it leaves out BatchNorm and pooling."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("build", "macs", "by_torch"),
    [(models.SimpleCNN, 10_571_776, 10_342_400), (models.ResNet18, 37_220_352, 37_016_576)],
)
def test_multiply_accumulates_are_those_reported(build, macs, by_torch):
    model = build()
    assert summary(model, (3, 32, 32)).macs == macs
    assert torch_macs(model, (3, 32, 32)) == by_torch
    assert by_torch < macs < 1.03 * by_torch


def test_simple_cnn_row_by_row():
    table = summary(models.SimpleCNN(), (3, 32, 32))
    counted = [(r.kind, r.output_shape, r.parameters, r.macs) for r in table.rows]
    block = [
        ("Conv2d", (32, 32, 32), 896, 32 * 32 * 32 * 27),
        ("BatchNorm2d", (32, 32, 32), 64, 4 * 32 * 32 * 32),
        ("ReLU", (32, 32, 32), 0, 0),
        ("MaxPool2d", (32, 16, 16), 0, 0),
    ]
    assert counted[:4] == block
    assert counted[-2:] == [("Dropout", (2048,), 0, 0), ("Linear", (10,), 20_490, 20_480)]
    assert table.parameters == 114_186
    assert table.weight_bytes == 4 * 114_186


@pytest.mark.parametrize(
    ("layer", "input_shape", "macs"),
    [
        (nn.Conv2d(6, 8, 3, groups=2, padding=1), (6, 5, 5), 8 * 25 * (3 * 9)),
        (nn.Conv2d(6, 8, 3, stride=2, bias=False), (6, 5, 5), 8 * 4 * (6 * 9)),
        (nn.Linear(7, 5), (3, 7), 3 * 5 * 7),
        (nn.BatchNorm1d(7), (7,), 4 * 7),
        (layers.BatchNorm2d(3), (3, 4, 4), 4 * 48),
        (nn.AvgPool2d(2), (3, 4, 4), 12 * (4 + 1)),
        (nn.AvgPool2d((1, 2)), (3, 4, 4), 24 * (2 + 1)),
        (nn.AdaptiveAvgPool2d(1), (3, 4, 4), 3 * (16 + 1)),
        (nn.MaxPool2d(2), (3, 4, 4), 0),
    ],
)
def test_counting_rule(layer, input_shape, macs):
    assert summary(layer, input_shape).macs == macs


def test_a_layer_without_a_rule_is_named_and_not_counted_as_nothing():
    table = summary(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)), (4,))
    assert table.rows[1].macs is None
    assert table.macs == 24
    assert "No rule to count the multiply-accumulates of LayerNorm." in str(table)
    assert "?" in str(table)


def test_activation_memory_is_that_of_the_outputs():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 2))
    table = summary(model, (1, 5, 5))
    # The ReLU writes into the convolution's output, and Flatten only looks at it in another way.
    assert [r.activation_bytes for r in table.rows] == [4 * 36, 0, 0, 4 * 2]
    assert table.activation_bytes == 152
    assert summary(model.double(), (1, 5, 5)).activation_bytes == 304


def test_a_layer_called_twice_has_two_rows_and_its_parameters_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x):
            return self.fc(self.fc(x))

    table = summary(Twice(), (5,))
    assert [(r.path, r.parameters, r.macs) for r in table.rows] == [("fc", 30, 25), ("fc", 0, 25)]
    assert table.parameters == 30


def test_tied_weights_are_counted_once():
    model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    model[1].weight = model[0].weight
    table = summary(model, (5,))
    assert table.parameters == sum(r.parameters for r in table.rows) == 25


def test_parameters_outside_of_layers_are_counted():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.scale = nn.Parameter(torch.ones(3))
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            return self.fc(x) * self.scale, x

    table = summary(Scaled(), (4,))
    assert [(r.path, r.parameters) for r in table.rows] == [("fc", 15), ("Scaled", 3)]
    assert table.parameters == 24
    assert "6 parameters have no row: their layer was not called." in str(table)


def test_a_module_that_gives_no_tensor_has_no_row():
    class Keys(nn.Module):
        def forward(self, x):
            return {"x": x}

    assert summary(Keys(), (4,)).rows == ()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_networks_of_torchvision_add_up(name):
    model = getattr(import_torchvision().models, name)(num_classes=10)
    table = summary(model, (3, 64, 64))
    assert sum(row.parameters for row in table.rows) == sum(p.numel() for p in model.parameters())
    by_torch = sum(row.macs for row in table.rows if row.kind in ("Conv2d", "Linear"))
    assert by_torch == torch_macs(model, (3, 64, 64))


def test_a_vision_transformer_adds_up():
    model = import_torchvision().models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    table = summary(model, (3, 32, 32))
    assert table.parameters == sum(p.numel() for p in model.parameters())
    assert "No rule to count the multiply-accumulates of Encoder, LayerNorm, Mult" in str(table)


def test_batch_statistics_of_single_pixels_are_no_obstacle():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False))
    assert summary(model, (4,)).macs == 12 + 12


class Noisy(nn.Module):
    """Counts its calls in a buffer and draws random numbers, even in evaluation."""

    def __init__(self):
        super().__init__()
        self.net = models.ResNet18()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return self.net(x + torch.randn_like(x))


def test_the_model_is_left_as_it_was():
    model = Noisy().train()
    model.net.layer1.eval()  # a part that is frozen
    model.net.fc.register_forward_hook(lambda *_: None)
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    state, random_numbers = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    summary(model, (3, 32, 32))

    assert [module.training for module in model.modules()] == modes
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_model_is_left_as_it_was_after_an_error():
    model = models.SimpleCNN().train()
    with pytest.raises(ValueError, match="did not take images of 1 x 28 x 28"):
        summary(model, (1, 28, 28))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


def test_text_lines_up():
    table = summary(models.SimpleCNN(), (3, 32, 32))
    assert str(table) == repr(table)
    lines = str(table).splitlines()
    assert lines[0] == "SimpleCNN on one image of 3 x 32 x 32"
    assert max(map(len, lines)) <= 100
    assert "features.4   Conv2d       64 x 16 x 16      18,496             4,718,592" in lines
    assert lines[-2].split() == ["Total", "114,186", "10,571,776"]
    assert lines[-1] == "Weights 446.0 KiB; activations 728.0 KiB for each image."


def test_html_holds_the_same_table():
    table = summary(models.ResNet18(), (3, 32, 32))
    assert "Weights 42.7 MiB; activations 598.0 KiB for each image." in table._repr_html_()
    cells = table._repr_html_().split("<tr>")
    assert len(cells) - 1 == 1 + len(table.rows) + 1
    assert '<td style="text-align:right">9,408</td>' in cells[2]
    assert "37,220,352" in cells[-1]


@pytest.mark.parametrize("shape", [(), (3, 0, 32), (3, 32.5), 32, "3x32x32", None])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape is that of one image, such as"):
        summary(nn.Linear(4, 3), shape)


def test_a_class_in_place_of_a_model_is_refused():
    with pytest.raises(ValueError, match="model is a module"):
        summary(models.SimpleCNN, (3, 32, 32))


def test_lazy_layers_are_refused_and_stay_lazy():
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(ValueError, match=r"1\.weight has no shape yet"):
        summary(model, (1, 28, 28))
    assert isinstance(model[1], nn.LazyLinear)
