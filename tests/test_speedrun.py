"""The stopwatch trains like `fit`, reads without ticking, and tells when a target was reached."""

import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

import labkit
from labkit import speedrun, study
from labkit.data import import_torchvision

RECIPE = labkit.Recipe(epochs=2, batch_size=24, lr=0.01, seed=3)


def small(config):
    return labkit.models.SimpleCNN((4, 8), in_channels=1, image_size=8, num_classes=3, p=0.1)


def test_without_a_change_it_learns_what_fit_learns(stripes, make_model):
    history = speedrun.timed(make_model(), stripes, RECIPE, every=10)
    fitted = labkit.fit(make_model(), stripes, RECIPE, progress=False)
    assert [row["step"] for row in history.rows] == [10, 20]
    assert [row["epoch"] for row in history.rows] == [1, 2]
    assert history.rows[-1]["val_acc"] == pytest.approx(fitted.rows[-1]["val_acc"], abs=0.15)
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]


def test_a_seed_repeats_the_run(stripes, make_model):
    def losses(seed):
        recipe = replace(RECIPE, seed=seed)
        return speedrun.timed(make_model(), stripes, recipe).frame()["train_loss"].tolist()

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_torchs_random_numbers_stay_as_they_are(stripes, make_model):
    state = torch.get_rng_state()
    for feed in speedrun.FEEDS:
        speedrun.timed(make_model(), stripes, RECIPE, steps=3, feed=feed)
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_is_not_on_the_clock(stripes, make_model, monkeypatch):
    evaluate = labkit.train.evaluate

    def slowly(*arguments, **options):
        time.sleep(0.3)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(labkit.train, "evaluate", slowly)
    began = time.perf_counter()
    history = speedrun.timed(make_model(), stripes, RECIPE, steps=8, every=2)
    assert time.perf_counter() - began >= 1.2 + history.seconds


def test_it_ends_at_the_target_and_keeps_those_weights(stripes, make_model):
    model = make_model()
    history = speedrun.timed(model, stripes, RECIPE, steps=400, every=1, stop_at=0.8)
    accuracies = [row["val_acc"] for row in history.rows]
    assert accuracies[-1] >= 0.8 > max(accuracies[:-1])
    assert history.rows[-1]["step"] < 400
    assert "of 400" in history.stopped
    assert labkit.evaluate(model, stripes.val, recipe=RECIPE).accuracy == accuracies[-1]


def test_on_reading_ends_the_run(stripes, make_model):
    def third(history):
        return len(history.rows) == 3

    run = speedrun.timed(make_model(), stripes, RECIPE, every=2, on_reading=third)
    assert [row["step"] for row in run.rows] == [2, 4, 6]


@pytest.mark.parametrize("steps", [8, 20, 33])
def test_the_schedule_has_the_length_of_the_run(stripes, make_model, steps):
    recipe = replace(RECIPE, schedule=labkit.OneCycle())
    rates = speedrun.timed(make_model(), stripes, recipe, steps=steps, every=1).frame()["lr"]
    assert rates.max() == pytest.approx(recipe.lr, rel=0.2)  # the tip may lie between two steps
    assert rates.iloc[-1] < recipe.lr / 20


@pytest.mark.parametrize(("epochs", "steps"), [(10, 25), (30, 100), (7, 50)])
@pytest.mark.parametrize("schedule", [labkit.OneCycle(), labkit.Cosine()])
def test_a_schedule_ends_with_the_run_also_where_epochs_do_not_divide_it(
    stripes, make_model, schedule, epochs, steps
):
    recipe = replace(RECIPE, epochs=epochs, schedule=schedule)
    rates = speedrun.timed(make_model(), stripes, recipe, steps=steps, every=1).frame()["lr"]
    assert rates.iloc[-1] < recipe.lr / 100


def test_steps_of_a_schedule_come_at_the_ends_of_epochs(stripes, make_model):
    recipe = replace(RECIPE, schedule=labkit.Step(every=1, factor=0.1))
    rates = speedrun.timed(make_model(), stripes, recipe, every=1).frame()["lr"]
    assert rates.tolist() == pytest.approx([0.01] * 10 + [0.001] * 10)


def test_the_loader_shows_the_pictures_that_memory_does(stripes):
    recipe = replace(RECIPE, augment=())
    inputs = labkit.train.Inputs(stripes.train, recipe, torch.device("cpu"))
    seen = {}
    for feed, stream in speedrun.FEEDS.items():
        batches = stream(stripes.train, recipe, inputs, torch.Generator().manual_seed(0))
        pairs = [next(batches) for _ in range(10)]
        x, y = (torch.cat(part) for part in zip(*pairs, strict=True))
        seen[feed] = x.flatten().sort().values, y.bincount()
    assert torch.allclose(seen["loader"][0], seen["memory"][0], atol=1e-5)
    assert torch.equal(seen["loader"][1], seen["memory"][1])


def test_pictures_take_torchvisions_transforms(stripes):
    pictures = speedrun.Pictures(stripes.train, labkit.Recipe(augment=("crop", "flip", "rotation")))
    names = [type(one).__name__ for one in pictures.transform.transforms]
    assert names == [
        "RandomCrop",
        "RandomHorizontalFlip",
        "RandomRotation",
        "ToTensor",
        "Normalize",
    ]
    image, label = pictures[0]
    assert image.shape == (1, 8, 8)
    assert label == int(stripes.train.labels[0])
    assert import_torchvision().transforms.RandomCrop.__name__ == names[0]


def test_pictures_refuse_what_torchvision_does_otherwise(stripes):
    with pytest.raises(ValueError, match="knows crop, flip and rotation"):
        speedrun.Pictures(stripes.train, labkit.Recipe(augment=("erasing",)))


def test_an_average_of_the_weights_is_validated(stripes, make_model):
    """With almost no weight for each step the mean stays the network of the first step."""
    recipe = replace(RECIPE, lr=0.1)
    plain = speedrun.timed(make_model(), stripes, recipe, every=1).frame()["val_loss"]
    still = speedrun.timed(make_model(), stripes, recipe, every=1, average=0.999_99)
    losses = still.frame()["val_loss"]
    assert losses.iloc[0] == plain.iloc[0]
    assert losses.iloc[-1] == pytest.approx(losses.iloc[0], rel=0.05)
    assert plain.iloc[-1] < losses.iloc[-1] / 2


def test_compiled_is_the_same_training(stripes, make_model, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda model: calls.append(model) or model)
    plain = speedrun.timed(make_model(), stripes, RECIPE, every=10)
    assert not calls
    compiled = speedrun.timed(make_model(), stripes, RECIPE, every=10, compiled=True)
    assert len(calls) == 1
    assert compiled.frame()["val_loss"].tolist() == plain.frame()["val_loss"].tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "steps=0"),
        ({"every": 2.5}, "every=2.5"),
        ({"feed": "disk"}, "feed='disk'"),
        ({"average": 1.0}, "average=1.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(stripes, make_model, options, said):
    with pytest.raises(ValueError, match=said):
        speedrun.timed(make_model(), stripes, RECIPE, **options)


def test_a_schedule_that_waits_for_epochs_is_refused(stripes, make_model):
    recipe = replace(RECIPE, schedule=labkit.Plateau())
    with pytest.raises(ValueError, match="Plateau"):
        speedrun.timed(make_model(), stripes, recipe)


def test_a_target_is_reached_between_two_readings():
    curve = pd.DataFrame({"seconds": [2.0, 2.0, 4.0], "val_acc": [0.2, 0.4, 0.6]})
    assert speedrun.seconds_to(curve, 0.1) == pytest.approx(1.0)
    assert speedrun.seconds_to(curve, 0.2) == pytest.approx(2.0)
    assert speedrun.seconds_to(curve, 0.5) == pytest.approx(6.0)
    assert speedrun.seconds_to(curve, 0.6) == pytest.approx(8.0)


def test_the_first_time_counts_and_never_is_nan():
    curve = pd.DataFrame({"seconds": [1.0, 1.0, 1.0], "val_acc": [0.5, 0.3, 0.5]})
    assert speedrun.seconds_to(curve, 0.5) == 1.0
    assert pd.isna(speedrun.seconds_to(curve, 0.51))
    with pytest.raises(ValueError, match="target=60"):
        speedrun.seconds_to(curve, 60)


def test_every_change_of_a_ladder_changes_something():
    for name in ("speed_run", "speed_run_gpu"):
        by_change = {config["change"]: config for config in study.get(name).configs}
        assert len(by_change) == len(study.get(name).configs)
        for config in by_change.values():
            if config["on"] is not None:
                before = by_change[config["on"]]
                assert {**config, "change": "", "on": ""} != {**before, "change": "", "on": ""}


def test_a_run_on_the_clock_is_recorded(stripes, tmp_path, monkeypatch):
    """The study's own way, on small images."""
    config = {
        **study.get("speed_run").configs[0],
        "augment": "none",
        "batch_size": 24,
        "read_every": 120,
        "stop_at": 2.0,
        "epochs": 2,
    }
    one = replace(
        study.get("speed_run"), configs=[config], seeds=[5], model=small, folder=tmp_path / "runs"
    )
    monkeypatch.setattr(study.Study, "data_for", lambda self, config: stripes)
    row = one.run(device="cpu").iloc[0]
    assert (row["epochs"], row["step"], row["change"]) == (2, 20, "lab 06")
    curve = one.curves()
    assert curve["step"].tolist() == [5, 10, 15, 20]
    assert row["seconds"] == pytest.approx(curve["seconds"].sum())
    assert 0 <= row["test_accuracy"] <= 1
    assert one.missing() == []


def test_averaged_weights_are_what_the_model_ends_with(stripes, make_model):
    model, recipe = make_model(), replace(RECIPE, normalize="none")
    history = speedrun.timed(model, stripes, recipe, average=0.9)
    assert labkit.evaluate(model, stripes.val).loss == history.rows[-1]["val_loss"]


def test_a_loss_that_is_not_finite_ends_the_run(stripes, make_model):
    recipe = replace(RECIPE, optimizer="sgd", lr=1e38)
    with pytest.raises(labkit.train.Diverged, match="try a smaller lr than 1e"):
        speedrun.timed(make_model(), stripes, recipe, every=5)


def test_the_loader_feeds_fewer_images_than_a_batch(stripes, make_model):
    import_torchvision()
    recipe = replace(RECIPE, batch_size=1000)
    assert speedrun.timed(make_model(), stripes, recipe, steps=2, feed="loader").rows


def test_a_batch_larger_than_the_data_is_one_epoch(stripes, make_model):
    recipe = replace(RECIPE, batch_size=1000)
    history = speedrun.timed(make_model(), stripes, recipe, steps=2, every=1)
    assert [row["epoch"] for row in history.rows] == [1, 2]


def test_what_is_no_model_no_data_or_no_recipe_is_named(stripes, make_model):
    for wrong, said in (
        ((torch.nn.Linear, stripes, RECIPE), "timed got the class Linear for a model"),
        ((make_model(), stripes.train, RECIPE), "timed got a Split for data"),
        ((make_model(), stripes, {"epochs": 1}), "timed got a dict for a recipe"),
    ):
        with pytest.raises(ValueError, match=said):
            speedrun.timed(*wrong)
