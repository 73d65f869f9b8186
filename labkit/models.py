"""Every architecture of the labs, as plain modules: build one, print it, train it.

Sizes are arguments, and their defaults are those of the course reports that the labs start from.
A model takes float images, ``N x C x H x W``, and gives logits, ``N x num_classes``: no softmax at
the end, because the loss brings it.
"""

import itertools
import math

from torch import Tensor, nn

# -- Networks of linear layers: the first thing that they do is to flatten the image ------------


class SoftmaxRegression(nn.Module):
    """One linear layer: logits = W · pixels + b. Labs 00 and 02, Fashion-MNIST.

    784 · 10 + 10 = 7,850 parameters.
    """

    def __init__(self, in_features: int = 784, num_classes: int = 10):
        super().__init__()
        self.in_features = in_features
        self.fc = nn.Linear(in_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(_flatten(self, x))


class MLP(nn.Module):
    """Linear-BatchNorm-ReLU-Dropout-Linear. Lab 03, CIFAR-10.

    ``norm`` and ``dropout`` are layer classes, of ``labkit.layers`` or of ``torch.nn``, or None to
    leave the layer out; ``p`` is the probability of dropping. 3,159,050 parameters, 3,157,002
    without ``norm``.
    """

    def __init__(
        self,
        in_features: int = 3072,
        hidden: int = 1024,
        num_classes: int = 10,
        norm: type[nn.Module] | None = nn.BatchNorm1d,
        dropout: type[nn.Module] | None = nn.Dropout,
        p: float = 0.5,
    ):
        super().__init__()
        self.in_features = in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.bn1 = _norm(norm, hidden)
        self.relu = nn.ReLU()
        self.dropout = _dropout(dropout, p)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.fc1(_flatten(self, x))))
        return self.fc2(self.dropout(x))


class BaselineNN(nn.Module):
    """784-96-48-10 with ReLU in between. Lab 08, Fashion-MNIST.

    (784 · 96 + 96) + (96 · 48 + 48) + (48 · 10 + 10) = 80,506 parameters.
    """

    def __init__(
        self, in_features: int = 784, hidden: tuple[int, int] = (96, 48), num_classes: int = 10
    ):
        super().__init__()
        self.in_features = in_features
        self.fc1 = nn.Linear(in_features, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], num_classes)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.fc1(_flatten(self, x)))
        x = self.relu(self.fc2(x))
        return self.fc3(x)


class ImprovedNN(nn.Module):
    """784-180-90-10, each hidden layer Linear-BatchNorm-ReLU-Dropout. Lab 08, Fashion-MNIST.

    158,500 parameters, and 2 · (180 + 90) = 540 more with ``batchnorm``. Where the report put its
    dropout and at which rate is not known: here it follows each activation, with ``p``.
    """

    def __init__(
        self,
        in_features: int = 784,
        hidden: tuple[int, int] = (180, 90),
        num_classes: int = 10,
        batchnorm: bool = True,
        dropout: bool = False,
        p: float = 0.25,
    ):
        super().__init__()
        norm = nn.BatchNorm1d if batchnorm else None
        self.in_features = in_features
        self.fc1 = nn.Linear(in_features, hidden[0])
        self.bn1 = _norm(norm, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.bn2 = _norm(norm, hidden[1])
        self.fc3 = nn.Linear(hidden[1], num_classes)
        self.relu = nn.ReLU()
        self.dropout = _dropout(nn.Dropout if dropout else None, p)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.bn1(self.fc1(_flatten(self, x)))))
        x = self.dropout(self.relu(self.bn2(self.fc2(x))))
        return self.fc3(x)


class TwoLayerNN(nn.Module):
    """Linear-ReLU-Linear on 64 x 64 colour images. Lab 05, Imagenette.

    The report does not give its hidden size; 512 is ours.
    """

    def __init__(self, in_features: int = 3 * 64 * 64, hidden: int = 512, num_classes: int = 10):
        super().__init__()
        self.in_features = in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu(self.fc1(_flatten(self, x))))


class ResidualMLP(nn.Module):
    """A deeper MLP whose hidden layers are residual blocks. Lab 05, Imagenette.

    Linear to ``hidden`` features, ``blocks`` times `ResidualLinear`, Linear to the classes. The
    report does not give its sizes; 512 features and four blocks are ours.
    """

    def __init__(
        self,
        in_features: int = 3 * 64 * 64,
        hidden: int = 512,
        blocks: int = 4,
        num_classes: int = 10,
        p: float = 0.3,
    ):
        super().__init__()
        self.in_features = in_features
        self.fc1 = nn.Linear(in_features, hidden)
        self.blocks = nn.Sequential(*[ResidualLinear(hidden, p) for _ in range(blocks)])
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.blocks(self.fc1(_flatten(self, x))))


class ResidualLinear(nn.Module):
    """x + Dropout(ReLU(BatchNorm(Linear(x)))): as many features out as in."""

    def __init__(self, features: int, p: float):
        super().__init__()
        self.fc = nn.Linear(features, features)
        self.bn = nn.BatchNorm1d(features)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.relu(self.bn(self.fc(x))))


# -- Networks of convolutions -------------------------------------------------------------------


class WideCNN(nn.Module):
    """Twice Conv5x5-BatchNorm-ReLU-Dropout-MaxPool to 256 channels, then Linear. Lab 03.

    The convolutions are not padded: 32 -> 28 -> 14 -> 10 -> 5 pixels, and Linear sees
    256 · 5 · 5 = 6,400 features. ``norm``, ``dropout`` and ``p`` as in `MLP`; by default without
    dropout, as in most of the report's runs. 1,723,146 parameters, 1,722,122 without ``norm``.

    Raises ValueError for images of less than 16 x 16 pixels.
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 256,
        image_size: int = 32,
        num_classes: int = 10,
        norm: type[nn.Module] | None = nn.BatchNorm2d,
        dropout: type[nn.Module] | None = None,
        p: float = 0.5,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        pixels = ((image_size - 4) // 2 - 4) // 2
        if pixels < 1:
            raise ValueError(
                f"WideCNN needs images of at least 16 x 16 pixels, got image_size={image_size}."
            )
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=5)
        self.bn1 = _norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=5)
        self.bn2 = _norm(norm, channels)
        self.relu = nn.ReLU()
        self.dropout = _dropout(dropout, p)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(channels * pixels**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(self, x)
        x = self.pool(self.dropout(self.relu(self.bn1(self.conv1(x)))))
        x = self.pool(self.dropout(self.relu(self.bn2(self.conv2(x)))))
        return self.fc(x.flatten(1))


class BaselineCNN(nn.Module):
    """Conv3x3 to 24 channels, pooled to 7 x 7, then 1176-64-10. Lab 08, Fashion-MNIST.

    (9 · 24 + 24) + (1176 · 64 + 64) + (64 · 10 + 10) = 76,218 parameters. The report does not say
    how it pooled from 28 to 7 pixels; here it is one 4 x 4 max pooling.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: int = 24,
        hidden: int = 64,
        image_size: int = 28,
        num_classes: int = 10,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        self.conv = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(4)
        self.fc1 = nn.Linear(channels * (image_size // 4) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(self, x)
        x = self.pool(self.relu(self.conv(x)))
        x = self.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class ImprovedCNN(nn.Module):
    """Two blocks Conv3x3 to 24 and 48 channels, each pooled 2 x 2, then 2352-64-10. Lab 08.

    (9 · 24 + 24) + (9 · 24 · 48 + 48) + (2352 · 64 + 64) + (64 · 10 + 10) = 161,898 parameters.
    ``batchnorm`` after both convolutions and the hidden layer: 2 · (24 + 48 + 64) = 272 more.
    ``residual``, a 1 x 1 convolution around each 3 x 3 one: (24 + 24) + (24 · 48 + 48) = 1,248
    more; the sum goes through ReLU, as in a ResNet. ``pooling`` is "avg" or "max". Where the
    report put its dropout and at which rate is not known: here it follows the hidden layer's
    activation, with ``p``.

    Raises ValueError for another ``pooling``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, int] = (24, 48),
        hidden: int = 64,
        image_size: int = 28,
        num_classes: int = 10,
        batchnorm: bool = True,
        dropout: bool = False,
        residual: bool = False,
        pooling: str = "avg",
        p: float = 0.25,
    ):
        super().__init__()
        if pooling not in ("avg", "max"):
            raise ValueError(f'pooling is "avg" or "max", got {pooling!r}.')
        self.in_channels = in_channels
        self.image_size = image_size
        self.block1 = ConvBlock(in_channels, channels[0], batchnorm, residual)
        self.block2 = ConvBlock(channels[0], channels[1], batchnorm, residual)
        self.pool = nn.AvgPool2d(2) if pooling == "avg" else nn.MaxPool2d(2)
        self.fc1 = nn.Linear(channels[1] * (image_size // 4) ** 2, hidden)
        self.bn = _norm(nn.BatchNorm1d if batchnorm else None, hidden)
        self.relu = nn.ReLU()
        self.dropout = _dropout(nn.Dropout if dropout else None, p)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(self, x)
        x = self.pool(self.block1(x))
        x = self.pool(self.block2(x))
        x = self.dropout(self.relu(self.bn(self.fc1(x.flatten(1)))))
        return self.fc2(x)


class ConvBlock(nn.Module):
    """ReLU(BatchNorm(Conv3x3(x)) + Conv1x1(x)), the second term only if ``residual``."""

    def __init__(self, in_channels: int, out_channels: int, batchnorm: bool, residual: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.bn = _norm(nn.BatchNorm2d if batchnorm else None, out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1) if residual else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn(self.conv(x))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return self.relu(out)


class SimpleCNN(nn.Module):
    """Blocks of Conv3x3-BatchNorm-ReLU-MaxPool, one for each of ``channels``, then Linear. Lab 06.

    Three blocks take 32 x 32 pixels to 4 x 4, and Linear sees 128 · 4 · 4 = 2,048 features.
    (896 + 64) + (18,496 + 128) + (73,856 + 256) + 20,490 = 114,186 parameters.
    ``channels=(32, 64)`` builds the network with two convolutions.

    Raises ValueError if the poolings leave no pixel.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 128),
        in_channels: int = 3,
        image_size: int = 32,
        num_classes: int = 10,
        p: float = 0.5,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        pixels = image_size // 2 ** len(channels)
        if not channels or pixels < 1:
            raise ValueError(
                f"channels={channels} means {len(channels)} poolings of {image_size} x "
                f"{image_size} pixels: give at least one block, and leave at least one pixel."
            )
        blocks = []
        for before, after in itertools.pairwise((in_channels, *channels)):
            blocks += [
                nn.Conv2d(before, after, kernel_size=3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(p)
        self.fc = nn.Linear(channels[-1] * pixels**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(self, x)
        x = self.features(x)
        return self.fc(self.dropout(x.flatten(1)))


class ResidualCNN(nn.Module):
    """A slim residual network for images of 64 x 64 pixels. Lab 05, Imagenette.

    Conv3x3-BatchNorm-ReLU-MaxPool to ``channels[0]``, then a `BasicBlock` per further entry, each
    of which halves the picture: 64 -> 32 -> 16 -> 8 -> 4 pixels. The average of what is left goes
    through Dropout to Linear, so that any image size will do. 1.2 million parameters. The report
    does not describe its CNN; this one is ours, meant to beat it on the same 3,600 images.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        in_channels: int = 3,
        num_classes: int = 10,
        p: float = 0.2,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.blocks = nn.Sequential(
            *[BasicBlock(before, after, stride=2) for before, after in itertools.pairwise(channels)]
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(p)
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        _check_images(self, x)
        x = self.avgpool(self.blocks(self.stem(x)))
        return self.fc(self.dropout(x.flatten(1)))


class BasicBlock(nn.Module):
    """ReLU(Conv3x3-BatchNorm-ReLU-Conv3x3-BatchNorm(x) + x): the building block of ResNet18.

    Where the block halves the picture (``stride=2``) or changes the number of channels, x has to
    be brought to the new shape first: a 1 x 1 convolution with BatchNorm, called ``downsample``.
    ``norm=None`` leaves the normalisation out and gives the convolutions a bias;
    ``shortcut=False`` leaves the sum out, which makes it two plain layers.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016 (arXiv:1512.03385),
    figure 2 and option B. Names as in torchvision.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        norm: type[nn.Module] | None = nn.BatchNorm2d,
        shortcut: bool = True,
    ):
        super().__init__()
        bias = norm is None
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=bias)
        self.bn1 = _norm(norm, channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn2 = _norm(norm, channels)
        self.shortcut = shortcut
        self.downsample = None
        if shortcut and (stride != 1 or in_channels != channels):
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=bias),
                _norm(norm, channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.shortcut:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class ResNet(nn.Module):
    """A residual network of four stages with ``blocks[i]`` times `BasicBlock` each.

    ``stem="imagenet"`` is the original's 7 x 7 convolution of stride 2 and 3 x 3 max pooling, made
    for 224 x 224 pixels; it leaves 8 x 8 of 32 x 32. ``stem="cifar"`` is a 3 x 3 convolution of
    stride 1 and no pooling, and leaves all of them. Stages 2 to 4 halve the picture and take
    ``channels[i]`` channels. ``norm`` and ``shortcut`` as in `BasicBlock`; without shortcuts,
    ``ResNet(blocks=(6, 6, 6, 6), channels=(16, 16, 32, 32), stem="cifar", shortcut=False)`` is a
    plain network of 50 layers.

    Raises ValueError for another ``stem``, and unless there are four stages.

    Source: He et al., 2016 (arXiv:1512.03385). Names and initialisation as in torchvision.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        channels: tuple[int, int, int, int] = (64, 128, 256, 512),
        stem: str = "imagenet",
        in_channels: int = 3,
        num_classes: int = 10,
        norm: type[nn.Module] | None = nn.BatchNorm2d,
        shortcut: bool = True,
    ):
        super().__init__()
        if len(blocks) != 4 or len(channels) != 4:
            raise ValueError(
                "ResNet has four stages: give four numbers of blocks and of channels, "
                f"got blocks={blocks}, channels={channels}."
            )
        self.in_channels = in_channels
        bias = norm is None
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_channels, channels[0], 7, stride=2, padding=3, bias=bias)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        elif stem == "cifar":
            self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=bias)
            self.maxpool = nn.Identity()
        else:
            raise ValueError(f'stem is "imagenet" or "cifar", got {stem!r}.')
        self.bn1 = _norm(norm, channels[0])
        self.relu = nn.ReLU()

        def stage(before: int, after: int, count: int, stride: int) -> nn.Sequential:
            first = BasicBlock(before, after, stride, norm, shortcut)
            others = [BasicBlock(after, after, 1, norm, shortcut) for _ in range(count - 1)]
            return nn.Sequential(first, *others)

        self.layer1 = stage(channels[0], channels[0], blocks[0], stride=1)
        self.layer2 = stage(channels[0], channels[1], blocks[1], stride=2)
        self.layer3 = stage(channels[1], channels[2], blocks[2], stride=2)
        self.layer4 = stage(channels[2], channels[3], blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels[3], num_classes)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        _check_images(self, x)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class ResNet18(ResNet):
    """`ResNet` of 1 + 4 · 2 · 2 + 1 = 18 layers with weights. Lab 07, CIFAR-10.

    With ``stem="imagenet"`` it is ``torchvision.models.resnet18(num_classes=10)``: 11,181,642
    parameters, and each can load the other's ``state_dict``. With ``stem="cifar"`` 11,173,962.
    """

    def __init__(
        self,
        stem: str = "imagenet",
        in_channels: int = 3,
        num_classes: int = 10,
        norm: type[nn.Module] | None = nn.BatchNorm2d,
        shortcut: bool = True,
    ):
        super().__init__(
            blocks=(2, 2, 2, 2),
            stem=stem,
            in_channels=in_channels,
            num_classes=num_classes,
            norm=norm,
            shortcut=shortcut,
        )


# -- What the models share ----------------------------------------------------------------------


def _norm(norm: type[nn.Module] | None, num_features: int) -> nn.Module:
    return nn.Identity() if norm is None else _layer_class("norm", norm)(num_features)


def _dropout(dropout: type[nn.Module] | None, p: float) -> nn.Module:
    return nn.Identity() if dropout is None else _layer_class("dropout", dropout)(p)


def _layer_class(name: str, value: type[nn.Module]) -> type[nn.Module]:
    if not callable(value) or isinstance(value, nn.Module):
        raise ValueError(
            f"{name} is a layer class such as nn.BatchNorm2d or nn.Dropout, or None; got {value!r}."
        )
    return value


def _flatten(model: nn.Module, x: Tensor) -> Tensor:
    """The images as rows of pixels, N x in_features."""
    _check_float(model, x)
    pixels = math.prod(x.shape[1:])
    if x.dim() < 2 or pixels != model.in_features:
        raise ValueError(
            f"{type(model).__name__}(in_features={model.in_features}) cannot take a batch of shape "
            f"{tuple(x.shape)}: each image has {pixels} values; build it with that in_features."
        )
    return x.flatten(1)


def _check_images(model: nn.Module, x: Tensor) -> None:
    """Refuse a batch of other images than the model was built for."""
    _check_float(model, x)
    size = getattr(model, "image_size", None)  # None: the model takes any size
    height, width = ("H", "W") if size is None else (size, size)
    if x.dim() != 4 or x.shape[1] != model.in_channels or (size and x.shape[2:] != (size, size)):
        raise ValueError(
            f"{type(model).__name__} was built for a batch of shape N x {model.in_channels} x "
            f"{height} x {width}, got {tuple(x.shape)}: check the batch, or give the model other "
            f"in_channels{'' if size is None else ' and image_size'}."
        )


def _check_float(model: nn.Module, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(
            f"{type(model).__name__} takes float images, got {x.dtype}: images.float() / 255 makes "
            "them from bytes."
        )
