"""The catalogue's studies and their recorded runs: what is recorded can be done again."""

from dataclasses import replace

import pytest
import torch
from conftest import make_splits
from torch import nn
from torch.nn import functional as F

import labkit
from labkit import layers, study
from labkit.study import tables, variants

STUDIES = [name for name in study.names() if not study.records(name).empty]


@pytest.mark.parametrize("name", STUDIES)
def test_every_recorded_run_is_one_of_its_study(name):
    a_study = study.get(name)
    runs = tables.runs_in(a_study.folder)
    places = [a_study.path(run["config"], run["seed"]).name for run in runs]
    assert sorted(places) == sorted(path.name for path in a_study.folder.glob("*.json"))
    for run in runs:
        assert run["config"] in a_study.configs
        assert run["study"] == name
        assert not run["data"]["stand_in"]
        assert run["epochs"] or "diverged" in run
        if a_study.train is not variants.in_numpy:
            planned = a_study.recipe_for(run["config"], run["seed"])
            assert labkit.Recipe.from_dict(run["recipe"]) == planned


def test_the_shortest_recorded_run_repeated_lies_among_its_seeds():
    runs = [(run["seconds"], name, run) for name in STUDIES for run in _runs(name)]
    _, name, run = min(runs, key=lambda item: item[0])
    a_study = study.get(name)
    try:
        a_study.data_for(run["config"])
    except ValueError as error:
        if "LABKIT_DATA" not in str(error):
            raise
        pytest.skip("needs the real images")
    others = [r["test"]["accuracy"] for r in _runs(name) if r["config"] == run["config"]]
    again = (a_study.train or study.train_one)(a_study, run["config"], run["seed"], device="cpu")
    assert again["data"]["fingerprint"] == run["data"]["fingerprint"]
    assert len(others) >= 5
    spread = max(others) - min(others)
    assert min(others) - spread < again["test"]["accuracy"] < max(others) + spread


def _runs(name):
    return [run for run in tables.runs_in(study.get(name).folder) if "accuracy" in run["test"]]


# ------------------------------------------------------------------------------ variants


@pytest.fixture
def few():
    return make_splits(n=300, classes=10, shape=(1, 28, 28))


@pytest.fixture
def on_few(few, monkeypatch):
    """The studies get these pictures."""
    monkeypatch.setattr(study.definition, "_load", lambda *_, **__: few)


def test_the_network_in_numpy_is_recorded_like_the_others(on_few):
    numpy_mnist = replace(study.get("numpy_mnist"), recipe=labkit.Recipe(epochs=20))
    run = variants.in_numpy(numpy_mnist, numpy_mnist.configs[0], seed=3)
    assert len(run["epochs"]) == 20
    assert run["test"]["accuracy"] > 0.9
    assert run["seed"] == 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_network_in_numpy_that_diverges_is_recorded_as_that(on_few):
    numpy_mnist = study.get("numpy_mnist")
    run = variants.in_numpy(numpy_mnist, {**numpy_mnist.configs[0], "lr": 1e30}, seed=0)
    assert "smaller lr" in run["diverged"]
    assert run["test"] == {}
    assert study.tables.one_row_each([run])["diverged"].notna().all()


def test_a_run_on_the_clock_that_diverges_is_recorded_as_that(on_few):
    def model(config):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    speed_run = replace(study.get("speed_run"), model=model)
    config = {**speed_run.configs[0], "feed": "memory", "optimizer": "sgd", "lr": 1e38}
    run = variants.on_the_clock(speed_run, config, seed=0, device="cpu")
    assert "smaller lr" in run["diverged"]
    assert run["test"] == {}


def test_settled_statistics_are_those_without_dropout_and_no_weight_moves(few):
    norm, head = layers.BatchNorm2d(1), nn.Linear(14 * 14, 10)
    front = nn.Sequential(layers.Dropout(0.5), nn.MaxPool2d(2))
    model = nn.Sequential(front, norm, nn.Flatten(), head)
    model.labkit_recipe = labkit.Recipe(batch_size=10, normalize="none")
    weights = [p.clone() for p in model.parameters()]
    measured = variants.when_settled(model, few)
    pooled = F.max_pool2d(few.train.images / 255, 2)
    assert norm.running_mean.item() == pytest.approx(pooled.mean().item(), rel=0.1)
    assert front.train()(few.train.images / 255).mean() > 1.2 * pooled.mean()
    assert all(map(torch.equal, weights, model.parameters()))
    assert measured["settled_accuracy"] == labkit.evaluate(model, few.test).accuracy


def test_dropout_behind_the_pooling_is_the_same_network_in_evaluation():
    config = {"model": "CNN", "batchnorm": True, "dropout": "Dropout"}
    x, outputs, dropped = torch.randn(4, 3, 32, 32), [], []
    for behind in (False, True):
        torch.manual_seed(0)
        model = variants.small_regularised(config | {"behind_pooling": behind})
        outputs.append(model.eval()(x))
        model.fc.register_forward_pre_hook(lambda _, inputs: dropped.append(inputs[0] == 0))
        model.train()(x)
    assert torch.equal(*outputs)
    before, behind = (zeros.float().mean() for zeros in dropped)
    assert behind > before + 0.15  # in front of it, the largest of four is seldom dropped


@pytest.mark.parametrize(("permuted", "shifts"), [(False, 5), (True, 0)])
def test_moved_pictures_are_measured_where_the_pixels_are_in_order(on_few, permuted, shifts):
    config = {"dataset": "fashion_mnist", "model": "BaselineNN", "permuted": permuted}
    run = variants.permuted_or_moved(study.get("mlp_vs_cnn"), config, 0, device="cpu")
    assert sum(key.startswith("accuracy_shift") for key in run["test"]) == shifts
    if not permuted:
        assert run["test"]["accuracy_shift0"] == run["test"]["accuracy"]


def test_permuting_moves_every_image_alike_and_loses_no_pixel(few):
    permuted = variants.permute(few)
    before, after = few.train.images.flatten(2), permuted.train.images.flatten(2)
    assert not torch.equal(before, after)
    assert torch.equal(before.sort().values, after.sort().values)
    position = torch.arange(784, dtype=torch.float32).view(1, 1, 28, 28).repeat(300, 1, 1, 1)
    marked = replace(few, train=replace(few.train, images=position))
    orders = variants.permute(marked).train.images
    assert (orders == orders[0]).all()
    assert torch.equal(variants.permute(few).test.images, permuted.test.images)


def test_a_quarter_moves_each_way(few):
    one = replace(few.test, images=torch.zeros(4, 1, 5, 5), labels=torch.zeros(4))
    one.images[:, :, 2, 2] = 1
    places = variants.move(one, 1).images[:, 0].flatten(1).argmax(1)
    assert [divmod(int(place), 5) for place in places] == [(2, 3), (2, 1), (3, 2), (1, 2)]
    assert torch.equal(variants.move(one, 0).images, one.images)


def test_the_second_softmax_is_that_of_the_double_softmax_lab():
    logits, y = torch.randn(8, 10), torch.arange(8)
    assert variants.softmax_again({"softmaxes": 1}) is None
    twice = variants.softmax_again({"softmaxes": 2})(logits, y)
    assert torch.equal(twice, F.cross_entropy(F.softmax(logits, dim=1), y))


def test_the_small_resnet_has_the_sizes_that_lab_07_shows():
    sizes = {}
    for config in study.get("small_resnet").configs:
        model = variants.small_resnet(config)
        sizes[config["stem"]] = sum(weights.numel() for weights in model.parameters())
    assert sizes == {"imagenet": 78_962, "cifar": 78_002}
