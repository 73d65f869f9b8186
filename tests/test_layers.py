"""The hand-written layers against torch.nn: outputs, gradients, buffers, errors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labkit import layers

PAIRS = {
    "BatchNorm1d": (layers.BatchNorm1d, nn.BatchNorm1d),
    "BatchNorm2d": (layers.BatchNorm2d, nn.BatchNorm2d),
}
# At least eight values per channel: with two or three, the variance can come out so small that
# float32 itself is further than 1e-6 from the truth. Fewer are compared in float64 below.
SHAPES = st.one_of(
    st.tuples(st.just("BatchNorm1d"), st.tuples(st.integers(8, 40), st.integers(1, 12))),
    st.tuples(
        st.just("BatchNorm1d"),
        st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(8, 20)),
    ),
    st.tuples(
        st.just("BatchNorm2d"),
        st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(3, 9), st.integers(3, 9)),
    ),
)


def assert_close(ours, theirs, tolerance):
    """Every entry within tolerance of torch's, measured against 1 or the largest entry."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    scale = max(1.0, theirs.abs().max().item())
    assert (ours - theirs).abs().max().item() <= tolerance * scale


def twins(kind, num_features, seed=0, dtype=torch.float32, **options):
    """The hand-written layer and torch's, with the same random weights loaded into both."""
    ours, theirs = (cls(num_features, dtype=dtype, **options) for cls in PAIRS[kind])
    generator = torch.Generator().manual_seed(seed)
    state = ours.state_dict()
    for name in ("weight", "bias", "running_mean", "running_var"):
        if name in state:
            state[name] = torch.rand(num_features, generator=generator).to(dtype) + 0.5
    theirs.load_state_dict(state)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def step(layer, x, dy):
    """Output and gradients of one forward and backward pass."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(dy)
    return {"y": y.detach(), "dx": x.grad} | {k: p.grad for k, p in layer.named_parameters()}


def assert_same_layer(ours, theirs, shape, seed, tolerance, dtype=torch.float32, steps=2):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = 2 * torch.randn(shape, generator=generator).to(dtype) + 1
        dy = torch.randn(shape, generator=generator).to(dtype)
        ours.zero_grad(), theirs.zero_grad()
        mine, torchs = step(ours, x, dy), step(theirs, x, dy)
        for name in torchs:
            assert_close(mine[name], torchs[name], tolerance)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, buffer in theirs.named_buffers():
        assert_close(ours.get_buffer(name), buffer, tolerance)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    shape=SHAPES,
    seed=st.integers(0, 10_000),
    momentum=st.sampled_from([0.1, 0.01, 0.7, 1.0, 0.0, None]),
    eps=st.sampled_from([1e-5, 1e-3]),
    affine=st.booleans(),
    track=st.booleans(),
    training=st.booleans(),
)
def test_hand_written_batchnorm_matches_torch(shape, seed, momentum, eps, affine, track, training):
    kind, shape = shape
    options = {"momentum": momentum, "eps": eps, "affine": affine, "track_running_stats": track}
    ours, theirs = twins(kind, shape[1], seed, **options)
    ours.train(training), theirs.train(training)
    assert_same_layer(ours, theirs, shape, seed, tolerance=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("BatchNorm1d", (2, 5)),
        ("BatchNorm1d", (1, 5, 3)),
        ("BatchNorm2d", (1, 5, 2, 2)),
        ("BatchNorm2d", (2, 5, 1, 1)),
    ],
)
def test_smallest_batches_match_torch_in_float64(kind, shape):
    ours, theirs = twins(kind, 5, dtype=torch.float64)
    assert_same_layer(ours, theirs, shape, 3, tolerance=1e-9, dtype=torch.float64)


def test_bfloat16_batches_have_float32_statistics():
    ours, theirs = twins("BatchNorm2d", 4)
    x = (torch.randn(16, 4, 6, 6) * 3 + 10).bfloat16()
    mine, torchs = step(ours, x, torch.ones_like(x)), step(theirs, x, torch.ones_like(x))
    assert mine["y"].dtype == mine["dx"].dtype == torch.bfloat16
    assert_close(mine["y"], torchs["y"], 2**-7)
    assert_close(ours.running_mean, theirs.running_mean, 1e-6)
    assert_close(ours.running_var, theirs.running_var, 1e-6)


def test_statistics_survive_a_mean_far_from_zero():
    torch.manual_seed(0)
    ours, exact = layers.BatchNorm1d(3), nn.BatchNorm1d(3, dtype=torch.float64)
    x = torch.randn(1000, 3) + 1000  # float32 has steps of 6e-5 there
    assert_close(ours(x).double(), exact(x.double()), 2e-4)


@pytest.mark.parametrize("training", [True, False])
def test_channels_last_batches_give_the_same_values(training):
    ours, _ = twins("BatchNorm2d", 5)
    ours.train(training)
    x = torch.randn(4, 5, 6, 7)
    assert_close(ours(x.contiguous(memory_format=torch.channels_last)), ours(x), 1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("BatchNorm1d", (6, 3)), ("BatchNorm1d", (2, 3, 4)), ("BatchNorm2d", (2, 3, 2, 3))],
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batchnorm_passes_gradcheck(kind, shape, training, affine):
    ours, _ = twins(kind, 3, dtype=torch.float64, affine=affine, momentum=0.0)
    ours.train(training)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parameters = tuple(ours.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: ours(x), (x, *parameters))


def test_running_variance_is_the_unbiased_one():
    x = torch.randn(5, 3)
    ours = layers.BatchNorm1d(3, momentum=1.0)
    y = ours(x)
    torch.testing.assert_close(ours.running_var, x.var(0, unbiased=True))
    torch.testing.assert_close(y.var(0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)


def test_momentum_none_averages_all_batches():
    ours = layers.BatchNorm1d(3, momentum=None)
    batches = torch.randn(7, 20, 3)
    for x in batches:
        ours(x)
    assert ours.num_batches_tracked == 7
    torch.testing.assert_close(ours.running_mean, batches.mean(1).mean(0))
    torch.testing.assert_close(ours.running_var, batches.var(1).mean(0))


def test_evaluation_leaves_the_statistics_alone():
    ours = layers.BatchNorm2d(3).eval()
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    ours(torch.randn(4, 3, 5, 5))
    assert all(torch.equal(before[name], buffer) for name, buffer in ours.named_buffers())


def test_evaluation_takes_a_batch_of_one():
    ours, theirs = (layer.eval() for layer in twins("BatchNorm1d", 3))
    x = torch.randn(1, 3)
    assert_close(ours(x), theirs(x), 1e-6)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("BatchNorm1d", (1, 3)), ("BatchNorm1d", (1, 3, 1)), ("BatchNorm2d", (1, 3, 1, 1))],
)
def test_one_value_per_channel_cannot_be_trained_on(kind, shape):
    ours, theirs = twins(kind, 3)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs(torch.randn(shape))
    with pytest.raises(ValueError, match="one value per channel has no variance"):
        ours(torch.randn(shape))
    assert ours.num_batches_tracked == 0


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("BatchNorm1d", (3,)), ("BatchNorm1d", (2, 3, 4, 4)), ("BatchNorm2d", (2, 3, 4))],
)
def test_wrong_number_of_dimensions_is_refused(kind, shape):
    ours, theirs = twins(kind, 3)
    with pytest.raises(ValueError, match="expected"):
        theirs(torch.randn(shape))
    with pytest.raises(ValueError, match=f"{kind} expects a batch of shape N x C"):
        ours(torch.randn(shape))


def test_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"BatchNorm2d\(3\) expects 3 channels .* got 5"):
        layers.BatchNorm2d(3)(torch.randn(2, 5, 4, 4))


def test_batchnorm_prints_its_arguments():
    layer = layers.BatchNorm2d(3, momentum=None, affine=False)
    assert repr(layer) == (
        "BatchNorm2d(3, eps=1e-05, momentum=None, affine=False, track_running_stats=True)"
    )


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", ["Dropout", "Dropout2d"])
def test_dropout_draws_the_same_mask_as_torch(kind, inplace, p):
    ours, theirs = getattr(layers, kind)(p, inplace), getattr(nn, kind)(p, inplace)
    assert repr(ours) == repr(theirs)
    results = []
    for layer in (ours, theirs):
        x = torch.linspace(-2, 2, 4 * 6 * 3 * 3).view(4, 6, 3, 3).requires_grad_()
        torch.manual_seed(1)
        y = layer(x + 0)  # a leaf that needs a gradient may not be changed in place
        y.backward(torch.ones_like(y))
        results.append((y.detach(), x.grad))
    (y, dx), (torch_y, torch_dx) = results
    assert_close(y, torch_y, 1e-6)
    assert_close(dx, torch_dx, 1e-6)


def test_dropout_keeps_the_expectation():
    torch.manual_seed(0)
    y = layers.Dropout(0.3)(torch.ones(200_000))
    # One value has standard deviation sqrt(p / (1 - p)) = 0.65; six standard errors are 0.009.
    assert abs(y.mean().item() - 1) < 0.009
    assert abs((y == 0).float().mean().item() - 0.3) < 0.007


def test_dropout_drops_values_and_dropout2d_whole_channels():
    torch.manual_seed(0)
    dropped = layers.Dropout(0.5)(torch.ones(8, 16, 5, 5)) == 0
    assert dropped.any(dim=(2, 3)).all()
    dropped = layers.Dropout2d(0.5)(torch.ones(8, 16, 5, 5)) == 0
    assert torch.equal(dropped.any(dim=(2, 3)), dropped.all(dim=(2, 3)))
    assert 0 < dropped.float().mean() < 1


def test_inplace_dropout_changes_its_input():
    x = torch.ones(100)
    assert layers.Dropout(0.5, inplace=True)(x) is x
    assert (x == 0).any()


@pytest.mark.parametrize("kind", ["Dropout", "Dropout2d"])
def test_dropout_does_nothing_in_evaluation(kind):
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(getattr(layers, kind)(0.9).eval()(x), x)


@pytest.mark.parametrize("kind", ["Dropout", "Dropout2d"])
def test_dropout_passes_gradcheck(kind):
    layer = getattr(layers, kind)(0.4)

    def with_the_same_mask(x):
        torch.manual_seed(3)
        return layer(x)

    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(with_the_same_mask, x)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("kind", ["Dropout", "Dropout2d"])
def test_dropout_refuses_what_is_no_probability(kind, p):
    with pytest.raises(ValueError, match="from 0 to 1; got"):
        getattr(layers, kind)(p)


def test_dropout2d_refuses_vectors():
    with pytest.raises(ValueError, match=r"Dropout2d expects .* got \(8, 100\); use Dropout"):
        layers.Dropout2d()(torch.randn(8, 100))
