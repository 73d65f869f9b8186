"""Stages and gradients of a model: the numbers are torch's, and the model is left as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import models
from labkit.summary import gradient_norms, stage_sizes, summary

# ---------------------------------------------------------------------------- stage sizes


@pytest.mark.parametrize(
    ("stem", "sides", "macs"),
    [("imagenet", (16, 8, 8, 4, 2, 1), 37_220_352), ("cifar", (32, 32, 32, 16, 8, 4), None)],
)
def test_the_stages_of_resnet18_halve_the_picture_and_add_up(stem, sides, macs):
    model = models.ResNet18(stem=stem)
    table = stage_sizes(model, (3, 32, 32)).set_index("stage")
    names = ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    assert [shape[-1] for shape in table.loc[names, "output_shape"]] == list(sides)
    assert table.loc["avgpool", "output_shape"] == (512, 1, 1)
    assert table.loc["fc", "output_shape"] == (10,)
    assert table["macs"].sum() == summary(model, (3, 32, 32)).macs
    assert macs in (None, table["macs"].sum())
    assert table["parameters"].sum() == sum(p.numel() for p in model.parameters())


def test_stages_come_in_the_order_of_their_calls():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(5, 2), nn.Linear(3, 5)

        def forward(self, x):
            return self.last(self.first(x))

    table = stage_sizes(Backwards(), (3,))
    assert table.values.tolist() == [["first", (5,), 20, 15], ["last", (2,), 12, 10]]


@pytest.mark.parametrize("wrong", [models.ResNet18, None])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(ValueError, match="model is a module"):
        stage_sizes(wrong, (3, 32, 32))
    with pytest.raises(ValueError, match="model is a module"):
        gradient_norms(wrong, torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.long))


# -------------------------------------------------------------------------- gradient norms


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 16, 16, generator=generator), torch.arange(6) % 10


def test_the_norms_are_those_of_backward(batch):
    torch.manual_seed(0)
    model = models.ResNet((1, 1, 1, 1), (4, 4, 8, 8), stem="cifar")
    table = gradient_norms(model, *batch)
    F.cross_entropy(model.train()(batch[0]), batch[1]).backward()
    for row in table.itertuples():
        expected = model.get_submodule(row.layer).weight.grad.norm().item()
        assert row.norm == pytest.approx(expected, rel=1e-4)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    assert len(table) == len(matrices)
    assert table["depth"].tolist() == list(range(1, len(matrices) + 1))
    assert (table["layer"].iloc[0], table["layer"].iloc[-1]) == ("conv1", "fc")


def test_another_loss_has_other_gradients(batch):
    model = models.ResNet((1, 1, 1, 1), (4, 4, 8, 8), stem="cifar")
    once = gradient_norms(model, *batch)["norm"]
    doubled = gradient_norms(model, *batch, loss=lambda z, y: 2 * F.cross_entropy(z, y))["norm"]
    torch.testing.assert_close(torch.tensor(doubled), torch.tensor(2 * once), rtol=1e-3, atol=0)


def test_frozen_and_unused_layers():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.fc = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 3)
            self.beside, self.never = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            self.beside(x)  # called, but the loss doesn't depend on it
            return self.fc(self.frozen(x))

    table = gradient_norms(Half(), torch.randn(5, 4), torch.arange(5) % 3).set_index("layer")
    assert list(table.index) == ["beside", "fc"]
    assert table.loc["beside", "norm"] == 0 < table.loc["fc", "norm"]


def test_the_model_is_left_as_it_was_by_a_look_at_its_gradients(batch):
    torch.manual_seed(0)
    model = nn.Sequential(models.ResNet((1, 1, 1, 1), (4, 4, 8, 8)), nn.Dropout(0.5)).eval()
    model[0].layer1.train()
    model[0].fc.weight.grad = torch.ones_like(model[0].fc.weight)
    modes = [module.training for module in model.modules()]
    state, random_numbers = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    with torch.no_grad():  # even where someone has switched gradients off
        gradient_norms(model, *batch)

    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[0].fc.weight.grad, torch.ones_like(model[0].fc.weight))
    assert model[0].conv1.weight.grad is None
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model", "x", "y", "message"),
    [
        (nn.Linear(4, 3), torch.zeros(5, 4), torch.zeros(4).long(), "5 images and y 4 labels"),
        (nn.Linear(4, 3), torch.zeros(5, 7), torch.zeros(5).long(), r"not take the batch \(5, 7\)"),
        (nn.ReLU(), torch.zeros(5, 4), torch.zeros(5).long(), "no layer with a trainable matrix"),
    ],
)
def test_what_has_no_gradient_is_refused(model, x, y, message):
    with pytest.raises(ValueError, match=message):
        gradient_norms(model, x, y)
    assert not any(module._forward_hooks for module in model.modules())


def deep(norm, shortcut, own_init=False):
    torch.manual_seed(0)
    model = models.ResNet((6, 6, 6, 6), (8, 8, 16, 16), stem="cifar", norm=norm, shortcut=shortcut)
    for module in model.modules():
        if own_init and isinstance(module, nn.Conv2d):
            module.reset_parameters()  # torch's default, made for no depth
    return model


def first_over_last(table):
    return table["norm"].iloc[0] / table["norm"].iloc[-1]


def test_gradients_of_50_plain_layers_vanish_or_explode_and_shortcuts_help(batch):
    vanishing = first_over_last(gradient_norms(deep(None, False, own_init=True), *batch))
    exploding = first_over_last(gradient_norms(deep(nn.BatchNorm2d, False), *batch))
    residual = first_over_last(gradient_norms(deep(nn.BatchNorm2d, True), *batch))
    assert vanishing < 1e-10
    assert exploding > 100
    assert 0.1 < residual < exploding / 10
