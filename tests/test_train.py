"""fit, evaluate, Recipe and History: what they promise."""

import copy
import json
import math
import multiprocessing
import os
import pickle
import random
import re
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_splits
from torch import nn

import labkit
from labkit import train
from labkit.train import Diverged, Inputs, batches, checkpoint


def numbers(history):
    """The rows without the one column that differs from run to run."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


class MovingLoss(nn.CrossEntropyLoss):
    """Weighs the classes, and notes where it is moved."""

    def __init__(self):
        super().__init__(weight=torch.tensor([1.0, 2.0, 3.0]))
        self.places = []

    def to(self, where):
        self.places.append(where)
        return super().to(where)


# ------------------------------------------------------------------- the loop is right


def test_training_learns_and_leaves_the_best_epochs_weights(stripes, make_model, quick_fit):
    model = make_model()
    history = quick_fit(model, stripes, epochs=8, batch_size=16, lr=0.01)
    assert history.best["val_acc"] > 0.9
    again = labkit.evaluate(model, stripes.val)
    assert again.accuracy == pytest.approx(history.best["val_acc"], abs=1e-7)
    assert again.loss == pytest.approx(history.best["val_loss"], abs=1e-5)


def test_keep_last_leaves_the_last_epochs_weights(stripes, make_model, quick_fit):
    model = make_model()
    history = quick_fit(model, stripes, epochs=3, batch_size=16, lr=0.3, keep="last")
    evaluation = labkit.evaluate(model, stripes.val)
    assert evaluation.loss == pytest.approx(history.rows[-1]["val_loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "build"),
    [
        ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        (
            {"optimizer": "sgd", "nesterov": True, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        ),
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, lr=0.05)),
        (
            {"optimizer": "adamw", "weight_decay": 0.1},
            lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
        ),
    ],
)
def test_fit_takes_the_same_steps_as_a_loop_written_in_plain_torch(
    stripes, make_model, options, build
):
    options = {"epochs": 2, "label_smoothing": 0.1, "keep": "last", "fused": False, **options}
    recipe = labkit.Recipe(batch_size=32, lr=0.05, **options)
    fitted, plain = make_model(), make_model()
    labkit.fit(fitted, stripes, recipe, progress=False)

    optimizer = build(plain.parameters())
    inputs = Inputs(stripes.train, recipe, torch.device("cpu"))
    with torch.random.fork_rng():
        for epoch in (1, 2):
            torch.manual_seed(epoch)
            generator = torch.Generator().manual_seed(epoch)
            plain.train()
            for x, y in batches(stripes.train, recipe, inputs, generator):
                optimizer.zero_grad()
                F.cross_entropy(plain(x), y, label_smoothing=0.1).backward()
                optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, fitted.state_dict()[name]), name


def test_weights_are_updated_in_a_single_pass_where_torch_can(make_model):
    for device, fused in (("cpu", True), ("meta", None)):  # as on MPS: not everywhere
        optimizer = train.build_optimizer(make_model().to(device), labkit.Recipe())
        assert optimizer.defaults["fused"] is fused


@pytest.mark.parametrize(
    ("device", "layout"),
    [("mps", torch.contiguous_format), ("cuda", torch.channels_last), ("cpu", torch.channels_last)],
)
def test_channels_last_is_left_out_on_mps_where_its_gradients_are_wrong(
    stripes, monkeypatch, device, layout
):
    recipe, where = labkit.Recipe(channels_last=True), torch.device(device)
    moves = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *_: tensor)  # such a device is not here
    monkeypatch.setattr(nn.Module, "to", lambda model, *_, **to: moves.append(to) or model)
    train.place(nn.Conv2d(1, 2, 3), recipe, where)
    assert moves == [{}, {"memory_format": layout}]
    assert Inputs(stripes.train, recipe, where).memory_format == layout


def test_an_epoch_shows_every_image_once_and_normalises_it(stripes):
    recipe = labkit.Recipe(batch_size=50)
    inputs = Inputs(stripes.train, recipe, torch.device("cpu"))
    seen = list(batches(stripes.train, recipe, inputs, torch.Generator().manual_seed(0)))
    assert [len(y) for _, y in seen] == [50, 50, 50, 50, 40]
    x = torch.cat([x for x, _ in seen])
    expected = (stripes.train.images.float() / 255 - 0.3) / 0.2
    order = lambda rows: rows.flatten(1).double().sum(1).sort().values  # noqa: E731
    assert torch.allclose(order(x), order(expected), atol=1e-3)


@pytest.mark.parametrize("pixels", [1, 64 * 50, 64 * 120])
def test_how_many_batches_are_prepared_at_once_does_not_change_them(stripes, monkeypatch, pixels):
    recipe = labkit.Recipe(batch_size=50)
    inputs = Inputs(stripes.train, recipe, torch.device("cpu"))
    usual = list(batches(stripes.train, recipe, inputs, torch.Generator().manual_seed(0)))
    monkeypatch.setattr("labkit.train.inputs._PREPARED", pixels)
    other = list(batches(stripes.train, recipe, inputs, torch.Generator().manual_seed(0)))
    assert len(usual) == len(other)
    for (x, y), (other_x, other_y) in zip(usual, other, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_images_that_are_floats_already_stay_as_they_are(stripes):
    floats = replace(stripes.train, images=stripes.train.images.float())
    before = floats.images.clone()
    Inputs(floats, labkit.Recipe(), torch.device("cpu"))(floats.images)
    assert torch.equal(floats.images, before)


def test_normalize_none_only_scales_to_the_unit_interval(stripes):
    recipe = labkit.Recipe(normalize="none")
    inputs = Inputs(stripes.train, recipe, torch.device("cpu"))
    assert torch.allclose(inputs(stripes.train.images), stripes.train.images / 255)


def test_a_last_batch_of_one_image_is_left_out_because_batchnorm_cannot_use_it(
    make_model, quick_fit
):
    data = make_splits(n=33)
    history = quick_fit(make_model(), data, epochs=1, batch_size=16)
    assert len(history.rows) == 1


def test_batches_of_one_image_are_possible_without_batchnorm(quick_fit):
    data = make_splits(n=12)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert len(quick_fit(model, data, epochs=1, batch_size=1).rows) == 1


def test_validation_is_in_eval_mode_and_never_augmented(stripes, quick_fit):
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 3)

        def forward(self, x):
            if not self.training:
                seen.append(x.clone())
            return self.linear(x.flatten(1))

    quick_fit(Spy(), stripes, epochs=2, batch_size=64, augment=("crop", "erasing"))
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    assert torch.allclose(seen[0], (stripes.val.images / 255 - 0.3) / 0.2, atol=1e-6)


def test_training_images_are_augmented(stripes):
    plain, moved = (labkit.Recipe(augment=names) for names in ((), ("crop",)))
    inputs = Inputs(stripes.train, plain, torch.device("cpu"))
    a, b = (
        next(batches(stripes.train, recipe, inputs, torch.Generator().manual_seed(1)))[0]
        for recipe in (plain, moved)
    )
    assert not torch.equal(a, b)


# --------------------------------------------------------------------------- schedules


def learning_rates(stripes, schedule, epochs=6, loss=None, **options):
    recipe = labkit.Recipe(epochs=epochs, batch_size=60, lr=0.1, schedule=schedule, **options)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return [row["lr"] for row in labkit.fit(model, stripes, recipe, loss=loss, progress=False).rows]


def test_constant_step_and_cosine_follow_their_formulas(stripes):
    assert learning_rates(stripes, labkit.Constant()) == [0.1] * 6
    stepped = learning_rates(stripes, labkit.Step(every=2, factor=0.5))
    assert stepped == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    # Four batches an epoch: the last step of epoch e is step 4e - 1 of 24.
    expected = [0.05 * (1 + math.cos(math.pi * (4 * e - 1) / 24)) for e in range(1, 7)]
    assert learning_rates(stripes, labkit.Cosine()) == pytest.approx(expected)


def test_cosine_warms_up_in_a_straight_line(stripes):
    rates = learning_rates(stripes, labkit.Cosine(warmup=2))
    assert rates[0] == pytest.approx(0.1 * 4 / 9)
    assert rates[1] == pytest.approx(0.1 * 8 / 9)
    assert rates[2] > rates[3] > rates[4]


def test_one_cycle_rises_then_falls_to_nearly_nothing(stripes):
    rates = learning_rates(stripes, labkit.OneCycle(rise=0.5), optimizer="sgd")
    assert max(rates) <= 0.1
    assert rates[0] < rates[2]
    assert rates[-1] < 0.001


def test_plateau_halves_the_rate_after_each_epoch_without_progress(stripes):
    def never_better(logits, labels):
        return F.cross_entropy(logits, labels) if logits.requires_grad else torch.tensor(1.0)

    rates = learning_rates(stripes, labkit.Plateau(factor=0.5, patience=0), loss=never_better)
    # The first epoch sets the mark; each one after it fails, and the next runs at half the rate.
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.025, 0.0125, 0.00625])


def test_early_stopping_ends_the_run_and_says_so(stripes, make_model, quick_fit):
    history = quick_fit(make_model(), stripes, epochs=60, batch_size=16, lr=0.02, early_stopping=2)
    assert len(history.rows) < 60
    assert len(history.rows) - history.best["epoch"] == 2
    assert "2 epochs" in history.stopped


# ----------------------------------------------------------------- repeatable, resumable


def test_the_same_seed_gives_bit_identical_histories(stripes, make_model, quick_fit):
    options = {"epochs": 3, "batch_size": 16, "augment": ("crop", "flip", "rotation", "erasing")}
    torch.manual_seed(1)
    first = quick_fit(make_model(), stripes, seed=5, **options)
    torch.manual_seed(2)
    second = quick_fit(make_model(), stripes, seed=5, **options)
    other = quick_fit(make_model(), stripes, seed=6, **options)
    assert numbers(first) == numbers(second)
    assert numbers(first) != numbers(other)


def test_fit_leaves_the_global_random_generator_alone(stripes, make_model, quick_fit):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    quick_fit(make_model(), stripes, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def whole_run(ready, result, checkpoint=None):
    """What each process of the next test does; it writes its numbers when it gets to the end."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(32, 3),
    )
    recipe = labkit.Recipe(
        epochs=40, batch_size=16, lr=0.01, schedule=labkit.OneCycle(), augment=("crop",), seed=7
    )
    ready.set()
    began = time.perf_counter()
    history = labkit.fit(
        model, make_splits(n=160), recipe, checkpoint=checkpoint, progress=False, device="cpu"
    )
    weights = {name: value.double().sum().item() for name, value in model.state_dict().items()}
    seconds = time.perf_counter() - began
    Path(result).write_text(json.dumps({"run": [numbers(history), weights], "seconds": seconds}))


def test_a_run_killed_at_ten_random_moments_resumes_to_the_uninterrupted_numbers(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch._dynamo", "labkit.train"])
    result, checkpoint = tmp_path / "result.json", tmp_path / "run.pt"

    def start(*arguments):
        ready = processes.Event()
        process = processes.Process(target=whole_run, args=(ready, result, *arguments))
        process.start()
        assert ready.wait(60)
        return process

    def written():
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    start().join()
    expected = json.loads(result.read_text())
    result.unlink()

    killed = resumed_later = 0
    generator = random.Random(0)
    while killed < 10:
        before = written()
        process = start(checkpoint)
        while killed % 2 and written() == before and process.is_alive():
            time.sleep(0.001)  # every second one is killed after an epoch of its own
        time.sleep(generator.uniform(0, 0.1) * expected["seconds"])
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:  # it came to its end first: once more from scratch
            checkpoint.unlink()
            continue
        killed += 1
        resumed_later += written() > before > 0
    assert resumed_later >= 2  # kills fell into a run that went on from a checkpoint
    start(checkpoint).join()
    assert json.loads(result.read_text())["run"] == expected["run"]


def test_a_finished_checkpoint_gives_its_history_back_at_once(stripes, make_model, tmp_path):
    recipe = labkit.Recipe(epochs=2, batch_size=32)
    path = tmp_path / "deep" / "run.pt"
    first_model, second_model = make_model(), make_model(seed=9)
    first = labkit.fit(first_model, stripes, recipe, checkpoint=path, progress=False)
    second = labkit.fit(second_model, stripes, recipe, checkpoint=path, progress=False)
    assert first.rows == second.rows
    for name, value in first_model.state_dict().items():
        assert torch.equal(value, second_model.state_dict()[name]), name


@pytest.mark.parametrize("part", ["recipe", "fingerprint", "shapes"])
def test_a_checkpoint_of_another_run_is_refused(stripes, make_model, tmp_path, part):
    path = tmp_path / "run.pt"
    labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), checkpoint=path, progress=False)
    model, data, recipe = make_model(), stripes, labkit.Recipe(epochs=1)
    if part == "recipe":
        recipe = labkit.Recipe(epochs=2)
    elif part == "fingerprint":
        data = make_splits(seed=4)
    else:
        model[1], model[2], model[5] = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
    with pytest.raises(ValueError, match=f"another run.*{part}"):
        labkit.fit(model, data, recipe, checkpoint=path, progress=False)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_a_checkpoint_of_another_draw_of_the_validation_part_is_refused(tmp_path, make_model):
    """The same images in other parts: what was trained on would be validated on."""
    path = tmp_path / "run.pt"
    for seed in (0, 1):
        data = labkit.load("shapes", limit=100, val_fraction=0.25, seed=seed)
        model, recipe = make_model(inputs=3072, classes=10), labkit.Recipe(epochs=1)
        if seed:
            with pytest.raises(ValueError, match="its split differs"):
                labkit.fit(model, data, recipe, checkpoint=path, progress=False)
        else:
            labkit.fit(model, data, recipe, checkpoint=path, progress=False)


def test_a_checkpoint_of_another_loss_or_activation_is_refused(stripes, make_model, tmp_path):
    path, recipe, model = tmp_path / "run.pt", labkit.Recipe(epochs=1), make_model()
    labkit.fit(model, stripes, recipe, checkpoint=path, progress=False)
    options = {"loss": F.multi_margin_loss, "checkpoint": path, "progress": False}
    with pytest.raises(ValueError, match="its loss differs"):
        labkit.fit(make_model(), stripes, recipe, **options)
    other = make_model()
    other[3] = nn.Tanh()
    with pytest.raises(ValueError, match="its model differs"):
        labkit.fit(other, stripes, recipe, checkpoint=path, progress=False)
    assert not hasattr(other, "labkit_recipe")  # a refused fit leaves no trace


def test_a_checkpoint_of_a_loss_with_other_settings_is_refused(stripes, make_model, tmp_path):
    smooth = {"label_smoothing": 0.9}
    for name, kind, other in (
        ("module", nn.CrossEntropyLoss(**smooth), nn.CrossEntropyLoss()),
        ("weights", nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.arange(3.0))),
        ("partial", partial(F.cross_entropy, **smooth), partial(F.cross_entropy)),
    ):
        options = {"checkpoint": tmp_path / name, "progress": False}
        labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), loss=kind, **options)
        with pytest.raises(ValueError, match="its loss differs"):
            labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), loss=other, **options)
        again = labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), loss=kind, **options)
        assert len(again.rows) == 1


class Counting(nn.Module):
    """A loss with another inside that counts its calls: no setting changes while it trains."""

    def __init__(self, smoothing):
        super().__init__()
        self.calls, self.inner = 0, nn.CrossEntropyLoss(label_smoothing=smoothing)

    def forward(self, logits, labels):
        self.calls += 1
        return self.inner(logits, labels)


def test_a_loss_is_told_by_its_settings_and_not_by_what_changes(stripes, make_model, tmp_path):
    options = {"checkpoint": tmp_path / "run.pt", "progress": False}
    loss, recipe = Counting(0.9), labkit.Recipe(epochs=1)
    labkit.fit(make_model(), stripes, recipe, loss=loss, **options)
    labkit.fit(make_model(), stripes, recipe, loss=loss.eval(), **options)
    with pytest.raises(ValueError, match="its loss differs"):
        labkit.fit(make_model(), stripes, recipe, loss=Counting(0.0), **options)
    # No address of a function, which another process has elsewhere, and no rounded number.
    close = [torch.linspace(1, end, 10) for end in (1.00001, 1.00004)]
    first, second = (
        checkpoint._identity_of(partial(F.cross_entropy, weight=weight, base=F.nll_loss))
        for weight in close
    )
    assert "0x" not in str(first)
    assert first != second


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=np.float64(0.1)),
        partial(F.cross_entropy, label_smoothing=np.float64(0.1)),
    ],
)
def test_a_number_of_numpy_in_a_loss_does_not_spoil_the_checkpoint(
    stripes, make_model, tmp_path, loss
):
    for _ in range(2):
        options = {"loss": loss, "checkpoint": tmp_path / "run.pt", "progress": False}
        assert len(labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), **options).rows) == 1


def test_a_number_of_numpy_in_an_augmentation_does_not_spoil_the_checkpoint(
    stripes, make_model, tmp_path
):
    turn = labkit.augment.Rotation(np.linspace(5, 45, 5)[0])
    recipe = labkit.Recipe(epochs=1, augment=(turn,))
    for _ in range(2):
        options = {"checkpoint": tmp_path / "run.pt", "progress": False}
        assert len(labkit.fit(make_model(), stripes, recipe, **options).rows) == 1


def test_a_damaged_or_malicious_checkpoint_is_refused_and_not_executed(
    stripes, make_model, tmp_path
):
    path, touched = tmp_path / "run.pt", tmp_path / "touched"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="no checkpoint that fit can read"):
        labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), checkpoint=path, progress=False)
    torch.save({"format": 1, "identity": Malicious(touched)}, path)
    with pytest.raises(ValueError, match="no checkpoint that fit can read"):
        labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), checkpoint=path, progress=False)
    assert not touched.exists()


def test_the_stop_button_returns_what_there_is(stripes, make_model):
    model = make_model()
    calls = []

    def loss(logits, labels):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return F.cross_entropy(logits, labels)

    recipe = labkit.Recipe(epochs=50, batch_size=32)
    history = labkit.fit(model, stripes, recipe, loss=loss, progress=False)
    assert 1 <= len(history.rows) < 50
    assert "Interrupted in epoch" in history.stopped
    assert history.interrupted
    assert labkit.evaluate(model, stripes.val).accuracy == pytest.approx(history.best["val_acc"])


def test_a_checkpoint_that_another_process_took_for_a_leftover_is_written_again(
    stripes, make_model, tmp_path, monkeypatch
):
    rename, taken = os.replace, []

    def tidy(source, target):
        if not taken:
            taken.append(source)
            source.unlink()
        rename(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", tidy)
    options = {"checkpoint": tmp_path / "run.pt", "progress": False}
    labkit.fit(make_model(), stripes, labkit.Recipe(epochs=1), **options)
    assert taken
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


class Pair(nn.Module):
    """A model that gives more than logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x), x


def test_a_model_that_gives_a_tuple_is_answered_with_the_way(stripes, make_model):
    for use in (
        lambda model: labkit.evaluate(model, stripes.test),
        lambda model: labkit.fit(model, stripes, labkit.Recipe(epochs=1), progress=False),
    ):
        with pytest.raises(ValueError, match="The model gives a tuple, and a tensor of logits"):
            use(Pair(make_model()))


def test_a_lazy_layer_is_answered_with_the_way(stripes):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    for use in (labkit.evaluate, labkit.fit):
        arguments = (stripes.test,) if use is labkit.evaluate else (stripes, labkit.Recipe())
        with pytest.raises(ValueError, match=f"{use.__name__}: 1.weight has no shape yet"):
            use(model, *arguments)


def test_what_a_model_makes_while_it_is_evaluated_can_be_trained_with(stripes, make_model):
    class Late(Pair):
        scale = None

        def forward(self, x):
            if self.scale is None:
                self.scale = torch.ones(())
            return self.model(x) * self.scale

    model = Late(make_model())
    labkit.evaluate(model, stripes.test)
    labkit.fit(model, stripes, labkit.Recipe(epochs=1), progress=False)


def test_no_half_of_a_checkpoint_stays_behind(stripes, make_model, tmp_path, monkeypatch):
    def pressed(state, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    left = tmp_path / "run.pt.77.partial"
    left.write_bytes(b"of a process that was killed")
    options = {"checkpoint": tmp_path / "run.pt", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", pressed)
        labkit.fit(make_model(), stripes, labkit.Recipe(epochs=2), **options)
    assert not list(tmp_path.iterdir())
    labkit.fit(make_model(), stripes, labkit.Recipe(epochs=2), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_an_interrupted_run_goes_on_from_its_checkpoint(stripes, make_model, tmp_path):
    recipe = labkit.Recipe(epochs=4, batch_size=32)
    path = tmp_path / "run.pt"
    stop_after_two = lambda history: len(history.rows) == 2  # noqa: E731
    half = labkit.fit(
        make_model(), stripes, recipe, checkpoint=path, on_epoch=stop_after_two, progress=False
    )
    assert "on_epoch" in half.stopped
    resumed = labkit.fit(make_model(), stripes, recipe, checkpoint=path, progress=False)
    whole = labkit.fit(make_model(), stripes, recipe, progress=False)
    assert numbers(resumed) == numbers(whole)


def test_a_resumed_run_hands_back_the_best_weights_of_before_the_stop(stripes, tmp_path):
    def fit(**options) -> tuple[dict, dict]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        recipe = labkit.Recipe(epochs=6, batch_size=32, lr=0.1)
        history = labkit.fit(model, stripes, recipe, progress=False, **options)
        return history.best, model.state_dict()

    best, weights = fit()
    assert best["epoch"] < 5
    path = tmp_path / "run.pt"
    fit(checkpoint=path, on_epoch=lambda history: len(history.rows) == 5)
    resumed, handed_back = fit(checkpoint=path)
    assert resumed["epoch"] == best["epoch"]
    assert all(torch.equal(handed_back[name], value) for name, value in weights.items())


# ------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_loss_stops_with_the_step_named_and_keeps_the_history(stripes, make_model, value):
    calls = []

    def loss(logits, labels):
        calls.append(1)
        broken = len(calls) == 8 + 1 + 3  # eight steps, one validation, the third step after it
        return F.cross_entropy(logits, labels) * (value if broken else 1.0)

    with pytest.raises(Diverged, match=r"step 11 \(epoch 2, batch 3 of 8\)") as caught:
        labkit.fit(
            make_model(), stripes, labkit.Recipe(epochs=4, batch_size=30), loss=loss, progress=False
        )
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.history.rows) == 1


def test_a_validation_loss_that_is_not_finite_stops_the_run_too(stripes, make_model, quick_fit):
    recipe = {"optimizer": "sgd", "lr": 1e38, "epochs": 2, "batch_size": 240}  # a step an epoch
    with pytest.raises(Diverged, match=r"validation loss became (nan|inf) after epoch 1") as caught:
        quick_fit(make_model(), stripes, **recipe)
    assert caught.value.history.rows == []


def test_diverged_comes_back_from_a_worker_with_its_history(stripes):
    history = labkit.train.History(labkit.Recipe(), "stripes", "", "cpu", [{"epoch": 1}])
    back = pickle.loads(pickle.dumps(Diverged("it diverged", history)))
    assert str(back) == "it diverged"
    assert back.history.rows == [{"epoch": 1}]


def test_a_diverged_model_gets_its_best_finite_weights_back(stripes, make_model):
    model, finished = make_model(), []

    def loss(logits, labels):
        return F.cross_entropy(logits, labels) * (math.nan if finished else 1.0)

    recipe = labkit.Recipe(epochs=3, batch_size=30)
    with pytest.raises(Diverged):
        labkit.fit(
            model, stripes, recipe, loss=loss, progress=False, on_epoch=lambda h: finished.append(h)
        )
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("batch_size", -1),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", "0.1"),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.5),
        ("optimizer", "adagrad"),
        ("normalize", True),
        ("keep", "first"),
        ("schedule", "cosine"),
        ("early_stopping", 0),
        ("seed", -1),
    ],
)
def test_a_recipe_refuses_what_cannot_be_meant(name, value):
    with pytest.raises(ValueError, match=rf"Recipe\({name}="):
        labkit.Recipe(**{name: value})


@pytest.mark.parametrize("augment", ["crop", ("crop", "cropp"), ({"name": "zoom"},)])
def test_a_recipe_refuses_unknown_augmentations(augment):
    with pytest.raises(ValueError, match="crop"):
        labkit.Recipe(augment=augment)


def test_numbers_of_numpy_become_plain_ones():
    recipe = labkit.Recipe(
        epochs=np.int64(2), lr=np.geomspace(1e-3, 1e-1, 3)[1], schedule=labkit.Step(np.int64(3))
    )
    assert type(recipe.epochs) is int
    assert type(recipe.lr) is float
    assert labkit.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: labkit.Step(0), r"Step\(every=0\): give whole epochs, 1 or more"),
        (lambda: labkit.Step(1, factor=-1), r"Step\(factor=-1\): give a number above 0"),
        (lambda: labkit.Plateau(factor=1.5), r"Plateau\(factor=1.5\): give a number between"),
        (lambda: labkit.Plateau(patience=-1), r"Plateau\(patience=-1\): give whole epochs"),
        (lambda: labkit.Cosine(warmup=-1), r"Cosine\(warmup=-1\): give a number of epochs"),
        (lambda: labkit.OneCycle(rise=1), r"OneCycle\(rise=1\): give a share of the run"),
    ],
)
def test_a_schedule_refuses_what_cannot_be_meant(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_one_cycle_may_begin_at_the_top(stripes):
    rates = learning_rates(stripes, labkit.OneCycle(rise=0), optimizer="sgd")
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.09


def test_one_cycle_can_rise_in_a_single_step(stripes, make_model, quick_fit):
    schedule = labkit.OneCycle(rise=0.1)  # of ten steps
    history = quick_fit(make_model(), stripes, epochs=1, batch_size=24, schedule=schedule)
    assert len(history.rows) == 1


def test_what_is_not_data_is_named(stripes, make_model):
    with pytest.raises(ValueError, match=r"fit got a Recipe for data.*in the order"):
        labkit.fit(make_model(), labkit.Recipe(), stripes)
    with pytest.raises(ValueError, match=r"A Splits is no part of the data: give data.train"):
        labkit.evaluate(make_model(), stripes)
    with pytest.raises(ValueError, match="lr_range got a Split for data"):
        labkit.lr_range(make_model(), stripes.train, labkit.Recipe())
    with pytest.raises(ValueError, match="predict got a Split for data"):
        labkit.predict(make_model(), stripes.test.images, stripes.train)


def test_what_is_no_model_or_no_recipe_is_named(stripes, make_model):
    kind, recipe = labkit.models.SoftmaxRegression, labkit.Recipe()
    way_out = "the class SoftmaxRegression for a model: make one of it, SoftmaxRegression(...)"
    for call in (
        lambda: labkit.fit(kind, stripes, recipe),
        lambda: labkit.lr_range(kind, stripes, recipe),
        lambda: labkit.evaluate(kind, stripes.test),
    ):
        with pytest.raises(ValueError, match=re.escape(way_out)):
            call()
    with pytest.raises(ValueError, match="predict got the class SoftmaxRegression"):
        labkit.predict(kind, stripes.test.images, stripes)
    with pytest.raises(ValueError, match="fit got a str for a model: give a torch.nn.Module"):
        labkit.fit("SimpleCNN", stripes, recipe)
    with pytest.raises(ValueError, match=r"fit got a dict for a recipe: give labkit\.Recipe"):
        labkit.fit(make_model(), stripes, {"epochs": 2})
    with pytest.raises(ValueError, match=r"evaluate\(batch_size=0\)"):
        labkit.evaluate(make_model(), stripes.test, batch_size=0)
    ten = labkit.evaluate(make_model(), stripes.test, batch_size=np.int64(10))
    assert len(ten.logits) == len(stripes.test)


def test_a_device_that_is_not_here_is_named(stripes, make_model):
    with pytest.raises(ValueError, match="There is no device 'gpu' here: give cpu"):
        labkit.fit(make_model(), stripes, labkit.Recipe(), device="gpu")


def test_nesterov_needs_sgd_with_momentum():
    with pytest.raises(ValueError, match="nesterov"):
        labkit.Recipe(nesterov=True)


def test_a_recipe_survives_the_way_through_json():
    recipe = labkit.Recipe(
        schedule=labkit.Step(every=3), augment=("crop", labkit.augment.Erasing(p=1.0)), seed=4
    )
    assert train.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_model_with_the_wrong_number_of_outputs_is_named(stripes, quick_fit):
    with pytest.raises(ValueError, match=r"\(128, 5\).*3 classes"):
        quick_fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), stripes, epochs=1)


def test_a_model_without_parameters_is_refused(stripes, quick_fit):
    with pytest.raises(ValueError, match="no trainable parameter"):
        quick_fit(nn.Flatten(), stripes, epochs=1)


def test_an_empty_split_is_refused(stripes, make_model):
    empty = stripes.test.subset(slice(0, 0))
    with pytest.raises(ValueError, match="no image in stripes test"):
        labkit.evaluate(make_model(), empty)


def test_a_run_without_validation_keeps_the_last_weights(make_model, quick_fit):
    history = quick_fit(make_model(), make_splits(val=False), epochs=2)
    assert "val_acc" not in history.rows[0]
    assert history.best["epoch"] == 2
    assert "no validation" in repr(history)


@pytest.mark.parametrize("options", [{"schedule": labkit.Plateau()}, {"early_stopping": 3}])
def test_what_needs_validation_data_says_so(make_model, quick_fit, options):
    with pytest.raises(ValueError, match="val_fraction"):
        quick_fit(make_model(), make_splits(val=False), epochs=2, **options)


def test_a_history_without_epochs_has_no_best_one(stripes):
    history = train.History(labkit.Recipe(), "stripes", "", "cpu")
    assert "no epoch" in repr(history)
    with pytest.raises(ValueError, match="No epoch"):
        history.best  # noqa: B018


# --------------------------------------------------------------------------- evaluation


def test_evaluation_matches_a_count_by_hand(stripes, make_model):
    model = make_model()
    result = labkit.evaluate(model, stripes.test, batch_size=7)
    model.eval()
    with torch.no_grad():
        logits = model((stripes.test.images / 255 - 0.3) / 0.2)
    assert torch.allclose(result.logits, logits, atol=1e-5)
    right = sum(
        int(a) == int(b) for a, b in zip(logits.argmax(1), stripes.test.labels, strict=True)
    )
    assert result.accuracy == pytest.approx(right / len(stripes.test))
    assert result.confusion.trace() == right
    assert result.confusion.sum(1).tolist() == [80, 80, 80]
    assert torch.allclose(result.probabilities.sum(1), torch.ones(240))
    assert torch.equal(result.confidence, result.probabilities.max(1).values)
    assert result.loss == pytest.approx(
        F.cross_entropy(logits, stripes.test.labels).item(), abs=1e-5
    )
    assert "stripes test" in repr(result)


def test_a_loss_with_tensors_goes_to_the_models_device(stripes, make_model):
    model, loss, cpu = make_model(), MovingLoss(), torch.device("cpu")
    recipe = labkit.Recipe(epochs=1)
    labkit.fit(model, stripes, recipe, loss=loss, device="cpu", progress=False)
    assert loss.places == [cpu]
    labkit.evaluate(model, stripes.val, loss=loss)
    assert loss.places == [cpu, cpu]


def test_evaluate_leaves_every_modules_mode_as_it_was(stripes, make_model):
    model = make_model()
    model.train()
    model[2].eval()
    labkit.evaluate(model, stripes.test)
    assert model.training
    assert not model[2].training


def test_evaluate_uses_the_normalisation_that_the_model_was_trained_with(stripes, make_model):
    model = make_model()
    labkit.fit(model, stripes, labkit.Recipe(epochs=1, normalize="none"), progress=False)
    copied = copy.deepcopy(model)
    result = labkit.evaluate(copied, stripes.test)
    model.eval()
    with torch.no_grad():
        assert torch.allclose(result.logits, model(stripes.test.images / 255), atol=1e-5)
    other = labkit.evaluate(model, stripes.test, recipe=labkit.Recipe())
    assert not torch.allclose(other.logits, result.logits, atol=1e-3)


def test_the_progress_bar_is_text_on_stderr_with_loss_and_accuracy(stripes, make_model, capsys):
    labkit.fit(make_model(), stripes, labkit.Recipe(epochs=2))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 2/2" in captured.err
    assert "loss" in captured.err
    assert "val" in captured.err


def test_bf16_trains_on_the_cpu_too(stripes, make_model, quick_fit):
    history = quick_fit(make_model(), stripes, epochs=4, batch_size=16, lr=0.01, bf16=True)
    assert history.best["val_acc"] > 0.8


@pytest.mark.parametrize("optimizer", train.OPTIMIZERS)
@pytest.mark.parametrize(
    "faster", [{"channels_last": True}, {"fused": True}, {"channels_last": True, "fused": True}]
)
def test_what_is_there_for_speed_changes_only_the_rounding(stripes, quick_fit, optimizer, faster):
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))

    options = {"epochs": 2, "optimizer": optimizer, "weight_decay": 0.01, "fused": False}
    plain = quick_fit(build(), stripes, **options)
    fast = quick_fit(build(), stripes, **options | faster)
    for a, b in zip(numbers(plain), numbers(fast), strict=True):
        assert a == pytest.approx(b, abs=1e-4)


# ------------------------------------------------- what a GPU needs, where there is none


def test_a_run_on_a_gpu_is_named_after_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: f"the GPU {where.index}")
    assert train.device_name(torch.device("cuda:1")) == "the GPU 1"
    assert train.device_name(torch.device("cpu")) == "cpu"


def test_cudnn_works_and_repeats_itself_while_a_model_is_trained():
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    with train.own_random_numbers(torch.device("cpu")):
        assert cudnn.enabled
        assert cudnn.deterministic
        assert not cudnn.benchmark
    assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == before


def test_batches_are_made_on_the_images_device(stripes):
    elsewhere = torch.device("meta")  # has no pixels, but refuses tensors from the CPU
    recipe = labkit.Recipe(batch_size=64, augment=("crop", "flip", "rotation", "erasing"))
    split = stripes.train.to(elsewhere)
    inputs = Inputs(split, recipe, elsewhere)
    made = list(batches(split, recipe, inputs, None))
    assert len(made) == train.steps_in_epoch(len(split), 64)
    assert {tensor.device for pair in made for tensor in pair} == {elsewhere}
