"""The learning-rate range test climbs as it says, ends where the loss explodes, changes nothing."""

from dataclasses import replace

import pytest
import torch

import labkit

SGD = labkit.Recipe(optimizer="sgd", batch_size=24)


def test_the_learning_rate_grows_by_the_same_factor_each_step(stripes, make_model):
    table = labkit.lr_range(make_model(), stripes, SGD, low=1e-4, high=1e-2, steps=21)
    assert table["step"].tolist() == list(range(1, 22))
    assert table["lr"].iloc[0] == pytest.approx(1e-4)
    assert table["lr"].iloc[-1] == pytest.approx(1e-2)
    factors = table["lr"].to_numpy()[1:] / table["lr"].to_numpy()[:-1]
    assert factors == pytest.approx([10**0.1] * 20)


def test_it_is_training_with_that_learning_rate(stripes, make_model):
    """With a rate that hardly grows, the losses are those of `fit` with the same batches."""
    recipe = labkit.Recipe(optimizer="sgd", batch_size=24, lr=0.05, epochs=3, seed=5)
    table = labkit.lr_range(make_model(), stripes, recipe, low=0.05, high=0.0501, steps=30)
    history = labkit.fit(make_model(), stripes, recipe, progress=False)
    thirds = table["loss"].to_numpy().reshape(3, 10).mean(1)
    assert thirds[0] > thirds[2]
    assert thirds == pytest.approx(history.frame()["train_loss"].to_numpy(), rel=0.25)


def test_the_smoothed_loss_is_a_running_mean(stripes, make_model):
    table = labkit.lr_range(make_model(), stripes, SGD, low=1e-4, high=1e-3, steps=15)
    weights = [0.9 ** (14 - i) for i in range(15)]
    mean = sum(w * loss for w, loss in zip(weights, table["loss"], strict=True)) / sum(weights)
    assert table["smoothed"].iloc[-1] == pytest.approx(mean)
    assert table["smoothed"].iloc[0] == pytest.approx(table["loss"].iloc[0])


def test_it_ends_where_the_loss_explodes(stripes):
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    by_chance = replace(stripes.train, labels=stripes.train.labels[order])  # nothing to learn
    data = replace(stripes, train=by_chance)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    table = labkit.lr_range(model, data, SGD, low=1e-3, high=1e6, steps=100)
    assert len(table) < 100
    assert table["loss"].map(lambda loss: loss < float("inf")).all()


def test_the_model_and_torchs_random_numbers_stay_as_they_are(stripes, make_model):
    model = make_model().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    labkit.lr_range(model, stripes, SGD, steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model.training


def test_a_seed_repeats_the_test(stripes, make_model):
    recipe = labkit.Recipe(batch_size=24, augment=("flip",), channels_last=True, seed=3)
    one, two = (labkit.lr_range(make_model(), stripes, recipe, steps=12) for _ in range(2))
    assert one.equals(two)


@pytest.mark.parametrize(
    "options",
    [{"low": 0}, {"low": 1, "high": 1}, {"high": float("inf")}, {"steps": 1}, {"steps": 9.5}],
)
def test_a_range_that_is_none_is_refused(stripes, make_model, options):
    with pytest.raises(ValueError, match="give 0 < low < high and 2 whole steps or more"):
        labkit.lr_range(make_model(), stripes, SGD, **options)
