"""The architectures: parameters by hand, outputs against torchvision, wrong input refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import layers, models
from labkit.data import import_torchvision


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def linear(in_features, out_features):
    """Parameters of a Linear layer: a weight for each pair, a bias for each output."""
    return in_features * out_features + out_features


def conv(in_channels, out_channels, kernel, bias=True):
    """Parameters of a convolution: one kernel for each pair of channels."""
    return in_channels * out_channels * kernel**2 + out_channels * bias


def bn(features):
    """Parameters of a BatchNorm: a weight and a bias for each feature."""
    return 2 * features


MODELS = {
    # name: (constructor, shape of an image, parameters as reported or published, by hand)
    "SoftmaxRegression": (models.SoftmaxRegression, (1, 28, 28), 7_850, linear(784, 10)),
    "MLP": (
        models.MLP,
        (3, 32, 32),
        3_159_050,
        linear(3072, 1024) + bn(1024) + linear(1024, 10),
    ),
    "WideCNN": (
        models.WideCNN,
        (3, 32, 32),
        1_723_146,
        conv(3, 256, 5) + conv(256, 256, 5) + 2 * bn(256) + linear(256 * 5 * 5, 10),
    ),
    "BaselineNN": (
        models.BaselineNN,
        (1, 28, 28),
        80_506,
        linear(784, 96) + linear(96, 48) + linear(48, 10),
    ),
    "BaselineCNN": (
        models.BaselineCNN,
        (1, 28, 28),
        76_218,
        conv(1, 24, 3) + linear(24 * 7 * 7, 64) + linear(64, 10),
    ),
    "SimpleCNN": (
        models.SimpleCNN,
        (3, 32, 32),
        114_186,
        (conv(3, 32, 3) + bn(32))
        + (conv(32, 64, 3) + bn(64))
        + (conv(64, 128, 3) + bn(128))
        + linear(128 * 4 * 4, 10),
    ),
    "SimpleCNN of two convolutions": (
        lambda: models.SimpleCNN(channels=(32, 64)),
        (3, 32, 32),
        60_554,
        conv(3, 32, 3) + bn(32) + conv(32, 64, 3) + bn(64) + linear(64 * 8 * 8, 10),
    ),
    "TwoLayerNN": (
        models.TwoLayerNN,
        (3, 64, 64),
        6_297_098,
        linear(12_288, 512) + linear(512, 10),
    ),
    "ResidualMLP": (
        models.ResidualMLP,
        (3, 64, 64),
        7_351_818,
        linear(12_288, 512) + 4 * (linear(512, 512) + bn(512)) + linear(512, 10),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_counted_by_hand(name):
    build, image, expected, by_hand = MODELS[name]
    model = build()
    assert parameters(model) == expected == by_hand
    assert model(torch.randn(4, *image)).shape == (4, 10)


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_improved_nn_parameters(batchnorm, dropout):
    model = models.ImprovedNN(batchnorm=batchnorm, dropout=dropout)
    by_hand = linear(784, 180) + linear(180, 90) + linear(90, 10)
    by_hand += batchnorm * (bn(180) + bn(90))
    assert parameters(model) == by_hand == (159_040 if batchnorm else 158_500)
    assert model(torch.randn(4, 1, 28, 28)).shape == (4, 10)


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize(
    ("batchnorm", "residual", "expected"),
    [
        (False, False, 161_898),
        (True, False, 162_170),
        (False, True, 163_146),
        (True, True, 163_418),
    ],
)
def test_improved_cnn_parameters(batchnorm, residual, expected, dropout, pooling):
    model = models.ImprovedCNN(
        batchnorm=batchnorm, dropout=dropout, residual=residual, pooling=pooling
    )
    by_hand = conv(1, 24, 3) + conv(24, 48, 3) + linear(48 * 7 * 7, 64) + linear(64, 10)
    by_hand += batchnorm * (bn(24) + bn(48) + bn(64))
    by_hand += residual * (conv(1, 24, 1) + conv(24, 48, 1))
    assert parameters(model) == by_hand == expected
    assert model(torch.randn(4, 1, 28, 28)).shape == (4, 10)


def stage(before, after, bias=False, norm=bn, downsample=True):
    """Two BasicBlocks; the first may have to bring x to the new shape."""
    count = conv(before, after, 3, bias) + 3 * conv(after, after, 3, bias) + 4 * norm(after)
    return count + downsample * (conv(before, after, 1, bias) + norm(after))


@pytest.mark.parametrize(
    ("stem", "expected", "first"),
    [("imagenet", 11_181_642, conv(3, 64, 7, False)), ("cifar", 11_173_962, conv(3, 64, 3, False))],
)
def test_resnet18_parameters(stem, expected, first):
    by_hand = first + bn(64) + stage(64, 64, downsample=False)
    by_hand += stage(64, 128) + stage(128, 256) + stage(256, 512) + linear(512, 10)
    assert parameters(models.ResNet18(stem=stem)) == by_hand == expected


def test_resnet18_without_normalisation_has_biases_instead():
    model = models.ResNet18(norm=None)
    options = {"bias": True, "norm": lambda _: 0}
    by_hand = conv(3, 64, 7) + stage(64, 64, downsample=False, **options)
    by_hand += sum(stage(n // 2, n, **options) for n in (128, 256, 512)) + linear(512, 10)
    assert parameters(model) == by_hand
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("training", [True, False])
def test_resnet18_is_torchvisions(training):
    torch.manual_seed(0)
    theirs = import_torchvision().models.resnet18(num_classes=10)
    for module in theirs.modules():  # statistics that are not those of a fresh model
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = models.ResNet18(stem="imagenet", num_classes=10)
    ours.load_state_dict(theirs.state_dict())
    ours.train(training), theirs.train(training)
    x = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    theirs.load_state_dict(ours.state_dict())


def test_resnet18_starts_like_torchvisions():
    torch.manual_seed(0)
    ours = models.ResNet18().state_dict()
    theirs = import_torchvision().models.resnet18(num_classes=10).state_dict()
    for name in ("conv1.weight", "layer3.0.conv2.weight", "layer4.0.downsample.0.weight"):
        assert ours[name].std().item() == pytest.approx(theirs[name].std().item(), rel=0.05)


@pytest.mark.parametrize(
    ("stem", "sides"), [("imagenet", [8, 8, 4, 2, 1]), ("cifar", [32, 32, 16, 8, 4])]
)
def test_what_the_stems_leave_of_32_pixels(stem, sides):
    model = models.ResNet18(stem=stem)
    x = model.maxpool(model.relu(model.bn1(model.conv1(torch.randn(2, 3, 32, 32)))))
    seen = [x.shape[-1]]
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        seen.append(x.shape[-1])
    assert seen == sides


def gradient_of_first_layer(shortcut):
    torch.manual_seed(0)
    model = models.ResNet(
        blocks=(6, 6, 6, 6), channels=(8, 8, 16, 16), stem="cifar", norm=None, shortcut=shortcut
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # torch's own initial values, made for no depth
            module.reset_parameters()
    F.cross_entropy(model(torch.randn(8, 3, 16, 16)), torch.arange(8)).backward()
    return model.conv1.weight.grad.norm().item(), model.fc.weight.grad.norm().item()


def test_gradients_vanish_in_a_deep_network_without_shortcuts():
    plain, plain_last = gradient_of_first_layer(shortcut=False)
    residual, residual_last = gradient_of_first_layer(shortcut=True)
    assert plain < 1e-6 * plain_last
    assert residual > 1e-2 * residual_last


@pytest.mark.parametrize("block", [models.BasicBlock(4, 4), models.BasicBlock(4, 8, stride=2)])
def test_a_block_whose_branch_is_zero_passes_its_input_on(block):
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 4, 6, 6)
    expected = x if block.downsample is None else block.downsample(x)
    torch.testing.assert_close(block(x), F.relu(expected))


def test_plain_block_has_no_way_around():
    block = models.BasicBlock(4, 8, stride=2, shortcut=False)
    nn.init.zeros_(block.bn2.weight)
    assert block.downsample is None
    assert torch.equal(block(torch.randn(2, 4, 6, 6)), torch.zeros(2, 8, 3, 3))


@pytest.mark.parametrize(
    ("build", "norms", "dropouts", "image"),
    [
        (
            models.MLP,
            (layers.BatchNorm1d, nn.BatchNorm1d),
            (layers.Dropout, nn.Dropout),
            (3, 32, 32),
        ),
        (
            models.WideCNN,
            (layers.BatchNorm2d, nn.BatchNorm2d),
            (layers.Dropout2d, nn.Dropout2d),
            (3, 32, 32),
        ),
    ],
)
def test_hand_written_layers_stand_in_for_torchs(build, norms, dropouts, image):
    ours, theirs = (
        build(norm=norm, dropout=dropout, p=0.3)
        for norm, dropout in zip(norms, dropouts, strict=True)
    )
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, *image)
    logits = []
    for model in (ours, theirs):
        torch.manual_seed(5)
        logits.append(model(x))
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    assert any(isinstance(module, dropouts[0]) for module in ours.modules())


@pytest.mark.parametrize("build", [models.MLP, models.WideCNN])
def test_norm_and_dropout_can_be_left_out(build):
    kinds = {type(module) for module in build(norm=None, dropout=None).modules()}
    assert not {k for k in kinds if "Norm" in k.__name__ or "Dropout" in k.__name__}


def test_simple_cnn_takes_other_sizes():
    model = models.SimpleCNN(channels=(8, 16), in_channels=1, image_size=28, num_classes=4)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 4)


@pytest.mark.parametrize("size", [32, 64, 97])
def test_residual_cnn_takes_any_image_size(size):
    assert models.ResidualCNN()(torch.randn(2, 3, size, size)).shape == (2, 10)


def test_residual_cnn_learns_what_it_is_shown():
    torch.manual_seed(0)
    model = models.ResidualCNN(channels=(8, 16, 32), num_classes=4, p=0.0)
    x, y = torch.randn(16, 3, 32, 32), torch.arange(16) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(1) == y).all()


@pytest.mark.parametrize(
    ("build", "batch", "message"),
    [
        (models.BaselineNN, (8, 3, 32, 32), r"in_features=784\) .* \(8, 3, 32, 32\): .* 3072"),
        (models.SoftmaxRegression, (784,), r"cannot take a batch of shape \(784,\)"),
        (models.SimpleCNN, (8, 1, 28, 28), r"N x 3 x 32 x 32, got \(8, 1, 28, 28\)"),
        (models.SimpleCNN, (3, 32, 32), r"N x 3 x 32 x 32, got \(3, 32, 32\)"),
        (models.ImprovedCNN, (8, 1, 32, 32), r"N x 1 x 28 x 28, got .* and image_size"),
        (models.ResNet18, (8, 1, 28, 28), r"N x 3 x H x W, got \(8, 1, 28, 28\).*in_channels\."),
    ],
)
def test_a_batch_of_other_images_is_refused(build, batch, message):
    with pytest.raises(ValueError, match=message):
        build()(torch.randn(batch))


@pytest.mark.parametrize(("build", "image"), [(v[0], v[1]) for v in MODELS.values()])
def test_bytes_are_refused(build, image):
    with pytest.raises(ValueError, match=r"takes float images, got torch.uint8"):
        build()(torch.zeros(2, *image, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.ResNet18(stem="mnist"), 'stem is "imagenet" or "cifar", got \'mnist\''),
        (lambda: models.ResNet(blocks=(2, 2)), "four stages"),
        (lambda: models.ImprovedCNN(pooling="mean"), 'pooling is "avg" or "max", got \'mean\''),
        (lambda: models.SimpleCNN(channels=()), "at least one block"),
        (lambda: models.SimpleCNN(image_size=4), "3 poolings of 4 x 4 pixels"),
        (lambda: models.WideCNN(image_size=15), "at least 16 x 16 pixels"),
        (lambda: models.MLP(norm=nn.BatchNorm1d(1024)), "norm is a layer class"),
        (lambda: models.MLP(dropout=0.5), "dropout is a layer class .* got 0.5"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
