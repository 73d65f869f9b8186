"""Batch normalisation and dropout by hand, to be read beside their papers.

Each class takes the constructor arguments that its namesake in ``torch.nn`` has had since torch
2.6, and keeps the same names in its ``state_dict``, so that the two can stand in for each other and
weights move between them.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _NormalizeBatch(torch.autograd.Function):
    """y = weight · (x - mean) / sqrt(var + eps) + bias with the statistics of this very batch.

    Autograd could derive the backward pass from the forward one, but it would write a dozen
    intermediate tensors as large as the input and take about eight times as long as torch.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        # A mean in bfloat16 would be good to two digits: statistics are float32 or better.
        dtype = torch.promote_types(x.dtype, torch.float32)
        dims, per_channel = _all_but_channels(x), _shape_per_channel(x)

        mean = x.mean(dims, keepdim=True, dtype=dtype)  # 1 x C x 1 x 1
        centred = x - mean  # N x C x H x W
        var = centred.square().mean(dims, keepdim=True)  # 1 x C x 1 x 1
        inv_std = torch.rsqrt(var + eps)
        x_hat = centred.mul_(inv_std)  # in place: allocating is dearer than multiplying
        y = torch.addcmul(bias.view(per_channel), weight.view(per_channel), x_hat)

        ctx.save_for_backward(x_hat, weight, inv_std)
        mean, var = mean.flatten(), var.flatten()
        ctx.mark_non_differentiable(mean, var)
        return y.to(x.dtype), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, _dmean, _dvar):
        x_hat, weight, inv_std = ctx.saved_tensors
        dims, per_channel = _all_but_channels(dy), _shape_per_channel(dy)
        n = dy.numel() / dy.shape[1]  # values per channel

        dbias = dy.sum(dims, dtype=x_hat.dtype)
        dweight = (dy * x_hat).sum(dims)
        # dx = weight / std · (dy - mean(dy) - x_hat · mean(dy · x_hat)): every x also moved the
        # mean and the variance, and the last two terms are the gradients through these.
        dx = dy - dbias.view(per_channel) / n
        dx.addcmul_(x_hat, dweight.view(per_channel), value=-1 / n)
        dx.mul_(weight.view(per_channel) * inv_std)
        return dx, dweight, dbias, None


def _all_but_channels(x: Tensor) -> list[int]:
    """The dimensions that a statistic per channel is taken over: all of N x C x ... but C."""
    return [dim for dim in range(x.dim()) if dim != 1]


def _shape_per_channel(x: Tensor) -> list[int]:
    """The shape that lets one value per channel broadcast against N x C x ...: 1 x C x 1 ..."""
    return [1, -1] + [1] * (x.dim() - 2)


class _BatchNorm(nn.Module):
    """What BatchNorm1d and BatchNorm2d share: everything but the shape that they accept."""

    shapes: dict[int, str]  # number of dimensions -> how the shape is written

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats

        # Parameters are trained by the optimiser; buffers are not, but they too belong to the
        # model: state_dict() holds them, and to(device) moves them.
        options = {"device": device, "dtype": dtype}
        if affine:
            self.weight = nn.Parameter(torch.ones(num_features, **options))
            self.bias = nn.Parameter(torch.zeros(num_features, **options))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features, **options))
            self.register_buffer("running_var", torch.ones(num_features, **options))
            self.register_buffer("num_batches_tracked", torch.tensor(0, device=device))
        else:
            self.register_buffer("running_mean", None)
            self.register_buffer("running_var", None)
            self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        weight = self.weight if self.affine else x.new_ones(self.num_features)
        bias = self.bias if self.affine else x.new_zeros(self.num_features)

        if self.training or not self.track_running_stats:
            y, mean, var = _NormalizeBatch.apply(x, weight, bias, self.eps)
            if self.training and self.track_running_stats:
                self._track(mean, var, values_per_channel=x.numel() // self.num_features)
            return y

        # With fixed statistics the layer is one multiplication and one addition per channel.
        scale = weight * torch.rsqrt(self.running_var + self.eps)
        shift = bias - self.running_mean * scale
        per_channel = _shape_per_channel(x)
        return torch.addcmul(shift.view(per_channel), scale.view(per_channel), x).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, values_per_channel: int) -> None:
        """Move the running statistics towards those of this batch."""
        self.num_batches_tracked += 1
        if not values_per_channel:  # a batch without images has no statistics
            return
        momentum = self.momentum
        if momentum is None:  # the plain average over all batches so far
            momentum = 1 / self.num_batches_tracked.item()
        # The batch is divided by its own, biased variance. What is kept for evaluation estimates
        # the variance of all the data, and that takes Bessel's correction.
        unbiased_var = var * values_per_channel / (values_per_channel - 1)
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased_var - self.running_var)

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        if x.dim() not in self.shapes:
            raise ValueError(
                f"{name} expects a batch of shape {' or '.join(self.shapes.values())}, "
                f"got {tuple(x.shape)}."
            )
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"{name}({self.num_features}) expects {self.num_features} channels in dimension 1, "
                f"got {x.shape[1]} in a batch of shape {tuple(x.shape)}."
            )
        if self.training and x.numel() == self.num_features:
            raise ValueError(
                f"{name} cannot train on a batch of shape {tuple(x.shape)}: one value per channel "
                "has no variance; use a larger batch, or model.eval() to predict."
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of vectors, ``N x C``, or of sequences, ``N x C x L``.

    In training every channel is shifted and scaled to mean 0 and variance 1 over the batch (the
    biased variance), then multiplied by ``weight`` and shifted by ``bias``; the running mean and
    the running (unbiased) variance follow the batches with step ``momentum``, or average all of
    them if ``momentum=None``. In evaluation the running statistics take the batch's place, unless
    ``track_running_stats=False``.

    Raises ValueError for another number of dimensions or of channels, and in training for a batch
    with one value per channel.

    Source: Ioffe and Szegedy, Batch Normalization, 2015 (arXiv:1502.03167), algorithm 1, and the
    gradients after it.
    """

    shapes = {2: "N x C", 3: "N x C x L"}


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of feature maps, ``N x C x H x W``.

    As `BatchNorm1d`: a channel's statistics are taken over the images of the batch and over all
    their pixels, N·H·W values.
    """

    shapes = {4: "N x C x H x W"}


class _Dropout(nn.Module):
    """What Dropout and Dropout2d share: everything but the shape of the mask."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is the probability of dropping a value, from 0 to 1; got {p}.")
        self.p = p
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        mask = self._empty_mask(x).bernoulli_(keep)  # 1 with probability keep, else 0
        if keep > 0:
            mask /= keep  # E[mask] = 1, so that evaluation has nothing to make up for
        return x.mul_(mask) if self.inplace else x * mask

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Inverted dropout: in training each value is 0 with probability ``p``, else x / (1 - p).

    The expectation is x, so evaluation passes x through unchanged. Any shape.

    Raises ValueError unless 0 <= p <= 1.

    Source: Srivastava et al., Dropout, JMLR 15, 2014; they multiply by (1 - p) at test time
    instead (section 10 has the inverted form).
    """

    def _empty_mask(self, x: Tensor) -> Tensor:
        return torch.empty_like(x)


class Dropout2d(_Dropout):
    """Inverted dropout of whole channels of feature maps, ``N x C x H x W``.

    Neighbouring pixels of a feature map are alike, so dropping single ones hides little; here each
    image loses whole channels, each with probability ``p``.

    Raises ValueError unless 0 <= p <= 1, and for a batch that is not 4-dimensional.

    Source: Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015
    (arXiv:1411.4280), section 3.2 (SpatialDropout).
    """

    def _empty_mask(self, x: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:2], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError(
                f"Dropout2d expects a batch of shape N x C x H x W, got {tuple(x.shape)}; "
                "use Dropout for vectors."
            )
        return super().forward(x)
