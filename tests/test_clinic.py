"""`diagnose`: contracts and signs beyond the catalogue, what it leaves alone, what it refuses."""

import dataclasses
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_splits
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import labkit
from labkit import clinic, layers
from labkit.clinic import diagnose


def examples(n=300, seed=0):
    """Three classes, told apart by one large coordinate of 64."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randn(n, 64, generator=generator)
    x[torch.arange(n), y] += 3
    return x, y


def loader(n=300, seed=0, **options):
    return DataLoader(TensorDataset(*examples(n, seed)), batch_size=32, **options)


def network(*tail, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3), *tail)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def contracts(model, loss=F.cross_entropy, **options):
    return diagnose(model, loss, loader(), only_contracts=True, **options)


# ----------------------------------------------------------------------------- last layer and loss


class FunctionalHead(nn.Module):
    """No layer to look behind: its weights are its own."""

    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(0.3 * torch.randn(3, 64))
        self.activation = activation

    def forward(self, x):
        return self.activation(x @ self.weight.T)


@pytest.mark.parametrize("build", [lambda f: network(Lambda(f)), FunctionalHead])
@pytest.mark.parametrize(
    ("activation", "cause"),
    [
        (lambda z: z.softmax(1), "redundant softmax"),
        (lambda z: z.softmax(0), "softmax over the batch dimension"),
        (torch.relu, "ReLU before cross-entropy"),
    ],
)
def test_an_activation_on_the_output_is_named(build, activation, cause):
    assert contracts(build(activation)).causes == [cause]


@pytest.mark.parametrize(
    ("activation", "cause"),
    [
        (torch.sigmoid, "sigmoid before cross-entropy"),
        (torch.tanh, "tanh before cross-entropy"),
        (F.softplus, "ReLU before cross-entropy"),
        (F.gelu, "ReLU before cross-entropy"),
    ],
)
def test_a_bounded_output_is_named(activation, cause):
    assert contracts(network(Lambda(activation))).causes == [cause]


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        (lambda z: z.log_softmax(1), F.cross_entropy),
        (lambda z: z.log_softmax(1), F.nll_loss),
        (lambda z: z.softmax(1), lambda p, y: -p[range(len(y)), y].log().mean()),
        (F.leaky_relu, F.cross_entropy),
        (lambda z: 0.05 * z, F.cross_entropy),
        (lambda z: z, nn.CrossEntropyLoss(label_smoothing=0.1)),
        (lambda z: z, nn.CrossEntropyLoss(reduction="none")),
        (lambda z: z.softmax(1), lambda p, y: F.mse_loss(p, F.one_hot(y, 3).float())),
    ],
)
def test_a_right_pair_of_output_and_loss_is_left_in_peace(activation, loss):
    report = contracts(network(Lambda(activation)), loss)
    assert report.ok
    assert "outputs fit the loss" in report.passed


def test_a_loss_that_refuses_shifted_outputs_is_not_asked_and_the_reason_is_told():
    def binary(p, y):
        return F.binary_cross_entropy(p, F.one_hot(y, 3).float())

    report = contracts(network(Lambda(torch.sigmoid)), binary)
    assert report.ok
    assert "between 0 and 1" in report.not_run["outputs fit the loss"]


@pytest.mark.parametrize("activation", [lambda z: z, lambda z: z.softmax(1)])
def test_nll_loss_without_log_softmax_is_named(activation):
    report = contracts(network(Lambda(activation)), F.nll_loss)
    assert report.causes == ["log-softmax missing before the NLL loss"]


@pytest.mark.parametrize("outputs", [2, 3])
def test_a_softmax_in_the_loss_is_named(outputs):
    x, y = examples()
    model = nn.Sequential(network(), nn.Linear(3, outputs))
    data = [(x, y.clamp(max=outputs - 1))]

    def loss(z, y):
        return F.cross_entropy(z.softmax(1), y)

    report = diagnose(model, loss, data, only_contracts=True)
    assert report.causes == ["redundant softmax"]
    assert "the loss applies softmax twice" in report.findings[0].measured


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: F.cross_entropy(z.log_softmax(1), y),
        lambda z, y: F.cross_entropy(5 * z, y),
        lambda z, y: F.cross_entropy(10 * F.normalize(z), y),
        F.multi_margin_loss,
    ],
)
def test_a_loss_with_one_softmax_or_none_is_left_in_peace(loss):
    assert contracts(network(), loss).ok


def binary(columns):
    """The same examples with targets 0 and 1: is it class 0? Or one column a class."""
    x, y = examples()
    targets = F.one_hot(y, 3).float()[:, :columns]
    return DataLoader(TensorDataset(x, targets), batch_size=32)


def binary_contracts(columns, tail, loss):
    model = nn.Sequential(network(), nn.Linear(3, columns), tail)
    return diagnose(model, loss, binary(columns), only_contracts=True)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (nn.Sigmoid(), "sigmoid before cross-entropy"),
        (nn.Tanh(), "tanh before cross-entropy"),
        (nn.ReLU(), "ReLU before cross-entropy"),
    ],
)
def test_a_bounded_output_is_named_before_binary_cross_entropy_with_logits(columns, tail, cause):
    report = binary_contracts(columns, tail, F.binary_cross_entropy_with_logits)
    assert report.causes == [cause]
    assert "+1000 and -1000" in report.findings[0].measured


def test_a_softmax_over_one_output_is_named():
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        assert binary_contracts(1, nn.Softmax(1), loss).causes == ["softmax over a single output"]


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(
    ("tail", "loss"),
    [
        (nn.Identity(), F.binary_cross_entropy_with_logits),
        (nn.Identity(), nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))),
        (nn.Sigmoid(), F.binary_cross_entropy),
        (nn.Sigmoid(), F.mse_loss),
        (nn.ReLU(), F.mse_loss),
        (nn.Tanh(), lambda z, y: F.soft_margin_loss(5 * z, 2 * y - 1)),
    ],
)
def test_a_right_pair_for_targets_0_and_1_is_left_in_peace(columns, tail, loss):
    assert binary_contracts(columns, tail, loss).ok


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_a_log_softmax_over_the_batch_is_named(loss):
    report = contracts(network(nn.LogSoftmax(0)), loss)
    assert report.causes == ["softmax over the batch dimension"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_reduction_of_a_loss_changes_no_diagnosis(reduction):
    def nll(z, y):
        return F.nll_loss(z, y, reduction=reduction)

    def two(z, y):
        return F.cross_entropy(z.softmax(1), y, reduction=reduction)

    healthy = diagnose(network(), nn.CrossEntropyLoss(reduction=reduction), loader())
    assert healthy.ok
    assert not any("twice ln C" in note for note in healthy.notes)
    assert contracts(network(nn.LogSoftmax(1)), nll).ok
    assert contracts(network(), nll).causes == ["log-softmax missing before the NLL loss"]
    assert contracts(network(), two).causes == ["redundant softmax"]


@pytest.mark.parametrize(
    ("x", "y", "cure"),
    [
        (lambda x: x.byte(), lambda y: y, "x.float() / 255"),
        (lambda x: x, lambda y: y[:, None], "y.squeeze(1)"),
        (lambda x: x, lambda y: F.one_hot(y, 3), "y.argmax(1), or y.float()"),
    ],
)
def test_types_and_shapes_that_raise_are_told_what_to_try(x, y, cure):
    inputs, labels = examples()
    report = diagnose(network(), None, [(x(inputs), y(labels))])
    assert report.causes == ["forward or loss raises an error"]
    assert report.findings[0].threshold.endswith(f"try {cure}")


def test_softmax_in_evaluation_alone_is_healthy():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            z = self.body(x)
            return z if self.training else z.softmax(1)

    assert contracts(Model()).ok


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# ------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("p", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_dropout_without_its_switch_is_random_in_evaluation(p):
    assert contracts(network(Lambda(lambda z: F.dropout(z, p)))).causes == ["evaluation is random"]


def test_dropout_without_its_switch_and_its_scale_has_both_illnesses():
    class Wrong(nn.Module):
        def forward(self, z):
            z = F.dropout(z, 0.1)
            return z / 2 if self.training else z

    assert set(contracts(network(Wrong())).causes) == {
        "evaluation is random",
        "dropout changes the expectation",
    }


class WrongShare(nn.Module):
    """Keeps the share p, where p should be dropped; its expectation is right."""

    p = 0.2

    def forward(self, x):
        return x * (torch.rand_like(x) < self.p) / self.p if self.training else x


def test_dropout_with_p_turned_round_is_named():
    assert contracts(network(WrongShare())).causes == ["dropout drops the wrong share"]


class DropPath(nn.Module):
    """Stochastic depth drops whole examples: few draws, and a wide standard error."""

    def forward(self, x):
        return x * (torch.rand(len(x), 1) > 0.3) / 0.7 if self.training else x


@pytest.mark.parametrize(
    "layer",
    [
        DropPath(),
        nn.Dropout(0.1),
        layers.Dropout(0.7),
        nn.AlphaDropout(0.2),
        nn.BatchNorm1d(3),
        layers.BatchNorm1d(3),
        nn.BatchNorm1d(3, momentum=0.001),
        nn.BatchNorm1d(3, momentum=None),
        nn.LayerNorm(3),
    ],
)
def test_right_layers_are_left_in_peace(layer):
    assert contracts(network(layer)).ok


def test_batchnorm_that_never_updates_is_named():
    report = contracts(network(nn.BatchNorm1d(3, momentum=0.0)))
    assert report.causes == ["BatchNorm's running statistics are never updated"]


def test_batchnorm_without_running_statistics_lets_examples_influence_each_other():
    report = contracts(network(nn.BatchNorm1d(3, track_running_stats=False)))
    assert report.causes == ["examples influence each other in evaluation"]


def test_statistics_of_a_model_trained_in_eval_mode_are_off():
    model = nn.Sequential(nn.BatchNorm1d(64), network())
    model[0].num_batches_tracked += 1000
    model[0].running_mean += 3
    report = diagnose(model, None, loader())
    assert report.causes == ["BatchNorm's running statistics are off"]


def test_statistics_that_dropout_moves_are_off_until_they_are_taken_without_it():
    """Behind a max pooling Dropout's values are larger in training than in evaluation."""
    tail = nn.Sequential(nn.Dropout(0.5), nn.Unflatten(1, (16, 4)), nn.MaxPool1d(4), nn.Flatten())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid(), *tail, nn.BatchNorm1d(16))
    model = model.append(nn.Linear(16, 3))
    optimizer = adam(model)
    for _ in range(10):
        for x, y in loader():
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    report = diagnose(model, None, loader())
    assert report.causes == ["BatchNorm's running statistics are off"]
    model.eval()
    model[-2].train()  # as its fix says
    for _ in range(10):
        for x, _ in loader():
            model(x)
    assert diagnose(model.train(), None, loader()).ok


# ------------------------------------------------------------------------------- running and loops


def test_a_forward_pass_that_raises_is_the_only_finding():
    report = diagnose(nn.Linear(7, 3), None, loader())
    assert report.causes == ["forward or loss raises an error"]
    assert "mat1" in report.findings[0].measured


def test_a_nan_is_the_only_finding():
    model = network()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    report = diagnose(model, None, loader())
    assert report.causes == ["outputs or loss are not finite"]
    assert "loss" in report.findings[0].measured


def test_a_nan_far_behind_the_first_images_is_found_and_its_number_told():
    x, y = examples()
    x[200, 3] = float("nan")
    report = diagnose(network(), None, [(x, y)])
    assert report.causes == ["outputs or loss are not finite"]
    assert "1 of 300 inputs, the first is number 200" in report.findings[0].measured


def test_channels_last_images_are_read_like_others():
    x, y = examples()
    images = x.view(-1, 4, 4, 4).contiguous(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Flatten(), network())
    report = diagnose(model, None, [(images, y)], val=[(10 * images + 0.1, y)])
    assert "validation inputs are scaled otherwise" in report.causes
    assert not any("Error" in reason for reason in report.not_run.values())
    images[200, 0, 0, 0] = float("nan")
    report = diagnose(model, None, [(images, y)])
    assert "the first is number 200" in report.findings[0].measured


def test_a_label_without_an_output_is_found_far_behind_the_first_images():
    x, y = examples()
    y[200] = 3
    for data in ([(x, y)], [(x[200:], y[200:])]):
        report = diagnose(network(), None, data)
        assert report.causes == ["forward or loss raises an error"]
        with pytest.raises(clinic.Broken):
            report.raise_if_broken()
    measured = diagnose(network(), None, [(x, y)]).findings[0].measured
    assert "labels go from 0 to 3, and the model has 3 outputs" in measured


def test_labels_that_the_loss_ignores_are_no_error():
    x, y = examples()
    y[::7] = -100
    assert diagnose(network(), None, [(x, y)], only_contracts=True).ok


def test_a_model_with_nothing_to_train_is_named():
    def train(model, optimizer, batches):
        for x, y in batches:
            F.cross_entropy(model(x), y).backward()

    model = network().requires_grad_(False)
    report = contracts(model, optimizer=adam, train=train)
    assert report.causes == ["no trainable parameters"]


def test_a_cut_graph_is_named():
    model = nn.Sequential(nn.Linear(64, 16), Lambda(torch.Tensor.detach), nn.Linear(16, 3))
    report = contracts(model)
    assert report.causes == ["parameters get no gradient"]
    assert "2 of 4" in report.findings[0].measured


def test_a_learning_rate_of_zero_is_named():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    assert contracts(model, optimizer=optimizer).causes == ["learning rate is 0"]


def test_a_warm_up_that_begins_at_zero_is_no_learning_rate_of_zero():
    model = network()
    optimizer = adam(model)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: min(1, epoch / 10))
    assert optimizer.param_groups[0]["lr"] == 0
    assert contracts(model, optimizer=optimizer).ok


def test_a_warm_up_that_begins_just_above_zero_is_no_low_learning_rate():
    model = network()
    optimizer = adam(model)
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=100)
    report = diagnose(model, None, loader(), optimizer=optimizer)
    assert report.ok, str(report)
    assert optimizer.param_groups[0]["lr"] == 1e-6


def test_an_optimiser_at_the_end_of_its_schedule_is_tried_with_the_rate_it_has_come_to():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=50.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-3 / (1 + step))
    F.cross_entropy(model(examples()[0]), examples()[1]).backward()
    optimizer.step()
    schedule.step()
    assert diagnose(model, None, loader(), optimizer=optimizer).ok


def test_the_optimiser_may_be_given_itself_and_is_as_before():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    model(torch.ones(2, 64)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 50.0
    before = optimizer.state_dict()["state"][0]["momentum_buffer"].clone()
    report = diagnose(model, None, loader(), optimizer=optimizer)
    assert report.causes == ["learning rate too high"]
    assert torch.equal(optimizer.state_dict()["state"][0]["momentum_buffer"], before)
    assert optimizer.param_groups[0]["lr"] == 50.0


def test_a_loop_that_crashes_is_reported_and_the_other_checks_go_on():
    def train(model, optimizer, batches):
        raise KeyError("oops")

    report = diagnose(network(), None, loader(), optimizer=adam, train=train)
    assert "KeyError" in report.not_run["training loop"]
    assert "learning rate" in report.passed
    assert report.causes == ["training or evaluation loop raises an error"]
    assert "train(model, optimizer, batches): KeyError: 'oops'" in report.findings[0].measured
    report = contracts(network(), evaluate=lambda model, batches: batches.nonsense)
    assert report.causes == ["training or evaluation loop raises an error"]


class FunctionalDropout(nn.Module):
    """Dropout without a layer of that name."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        return self.net(F.dropout(x, 0.3, training=self.training))


@pytest.mark.parametrize(
    ("mode", "causes"),
    [
        ("train", ["evaluation runs in train mode"]),
        ("eval", ["training runs in eval mode"]),
        ("right", []),
    ],
)
def test_modes_are_watched_where_dropout_is_a_function(mode, causes):
    def train(model, optimizer, batches):
        model.train(mode != "eval")
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    def evaluate(model, batches):
        model.train(mode == "train")
        for x, _ in batches:
            model(x)

    report = contracts(FunctionalDropout(), optimizer=adam, train=train, evaluate=evaluate)
    assert report.causes == causes


@pytest.mark.parametrize("every", [4, 16, 17, 40, 300])
def test_gradient_accumulation_over_many_batches_is_left_in_peace(every):
    def train(model, optimizer, batches):
        optimizer.zero_grad()
        for number, (x, y) in enumerate(batches, 1):
            (F.cross_entropy(model(x), y) / every).backward()
            if number % every == 0:
                optimizer.step()
                optimizer.zero_grad()

    small = DataLoader(TensorDataset(*examples(800)), batch_size=2)
    report = diagnose(network(), None, small, optimizer=adam, train=train, only_contracts=True)
    assert report.ok, str(report)
    said = "training loop: 256 backward passes and no step yet"
    assert (said in report.notes) == (every == 300)


def test_a_loop_without_a_step_is_named_also_if_it_zeroes_nothing():
    def train(model, optimizer, batches):
        for x, y in batches:
            F.cross_entropy(model(x), y).backward()

    report = contracts(network(), optimizer=adam, train=train)
    assert report.causes == ["gradients never used"]
    assert report.findings[0].measured == "10 backward passes and no step"


def test_the_loops_of_torchs_tutorial_run():
    """They ask the loader for its data set, to print how far they are."""

    def train_loop(model, optimizer, dataloader):
        size = len(dataloader.dataset)
        model.train()
        for batch, (x, y) in enumerate(dataloader):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert batch * dataloader.batch_size <= size

    def test_loop(model, dataloader):
        model.eval()
        correct = sum((model(x).argmax(1) == y).sum().item() for x, y in dataloader)
        return correct / len(dataloader.dataset)

    report = contracts(network(), optimizer=adam, train=train_loop, evaluate=test_loop)
    assert report.ok
    assert {"training loop", "evaluation mode"} <= set(report.passed)


def test_a_shuffled_loader_that_augments_is_told_from_one_that_shuffles():
    class Noisy(TensorDataset):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + torch.rand(()), y

    noisy = DataLoader(Noisy(*examples(seed=1)), batch_size=32)
    shuffled = loader(seed=1, shuffle=True)
    assert contracts(network(), val=shuffled).ok
    assert contracts(network(), val=noisy).causes == ["validation transform is random"]


class Dictionaries(TensorDataset):
    """Examples as many data sets give them; `noise` is added at each look."""

    noise = 0.0

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return {"image": x + self.noise * torch.rand(()), "label": y}


class NoisyDictionaries(Dictionaries):
    noise = 1.0


@pytest.mark.parametrize(("kind", "same"), [(Dictionaries, True), (NoisyDictionaries, False)])
def test_a_random_transform_is_seen_through_unpack(kind, same):
    batches = DataLoader(kind(*examples()), batch_size=32, shuffle=True)
    report = diagnose(
        network(),
        None,
        batches,
        val=batches,
        unpack=lambda batch: (batch["image"], batch["label"]),
        only_contracts=True,
    )
    assert "validation repeats" in report.passed
    assert report.causes == ([] if same else ["validation transform is random"])


def test_a_random_transform_in_collate_fn_is_seen():
    def collate(items):
        x, y = torch.utils.data.default_collate(items)
        return x + torch.rand(len(x), 1), y

    report = contracts(network(), val=loader(seed=1, collate_fn=collate))
    assert report.causes == ["validation transform is random"]


def test_a_loader_of_whole_batches_is_read_as_it_is():
    whole = DataLoader([batch for batch in loader()], batch_size=None)  # noqa: C416
    report = diagnose(network(), None, whole, val=whole, only_contracts=True)
    assert report.ok
    assert "validation repeats" in report.passed


def test_fingerprints_of_large_images_need_little_memory():
    class Largest(TorchFunctionMode):
        bytes = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor) and made.dtype == torch.int64:
                self.bytes = max(self.bytes, made.nbytes)
            return made

    x = torch.rand(200, 3, 64, 64)
    x[7] = x[150]
    with Largest() as largest:
        codes = clinic.contracts.fingerprints(x)
    assert largest.bytes <= 2**25
    assert len(codes.unique()) == 199
    assert torch.equal(codes[40:43], clinic.contracts.fingerprints(x[40:43]))


def test_a_validation_set_may_come_in_another_form_than_the_training_set():
    splits = make_splits(n=400)
    model = nn.Sequential(nn.Flatten(), network())
    recipe = labkit.Recipe(batch_size=32)
    x, y = labkit.train.Inputs(splits.train, recipe, "cpu")(splits.val.images), splits.val.labels
    batches = DataLoader(TensorDataset(x, y), batch_size=32)
    for val in (batches, splits, splits.val):
        report = diagnose(model, None, splits, recipe=recipe, val=val)
        assert report.ok, str(report)
        assert {"validation repeats", "splits are apart"} <= set(report.passed)
    leaky = diagnose(model, None, splits, recipe=recipe, val=splits.train)
    assert "training and validation overlap" in leaky.causes


def test_overlap_is_found_in_splits_though_training_images_are_augmented():
    splits = make_splits(n=400)
    leaky = dataclasses.replace(splits, val=splits.train.subset(slice(0, 100)))
    model = nn.Sequential(nn.Flatten(), network())
    recipe = labkit.Recipe(augment=("crop",), batch_size=32)
    report = diagnose(model, None, leaky, recipe=recipe)
    assert report.causes[0] == "training and validation overlap"
    assert diagnose(model, None, splits, recipe=recipe).ok


def test_the_generalisation_gap_is_a_note():
    rows = [{"train_acc": 0.99, "val_acc": 0.7}] * 3
    report = diagnose(network(), None, loader(), val=loader(seed=1), history=rows)
    assert report.ok
    assert any("generalisation gap" in note for note in report.notes)


def test_the_generalisation_gap_says_what_it_needs():
    rows = [{"train_acc": 0.99, "val_acc": 0.7}] * 3
    report = diagnose(network(), None, loader(), history=rows)
    assert report.not_run["generalisation gap"] == "needs val="
    report = diagnose(network(), None, loader(), val=loader(seed=1), history=[{"train_acc": 0.9}])
    assert "the history has no val_acc" in report.not_run["generalisation gap"]


def test_a_model_that_cannot_learn_by_heart_is_named_when_nothing_else_is():
    model = nn.Sequential(nn.Linear(64, 16), Lambda(lambda x: x * 1e-9), nn.Linear(16, 3))
    assert diagnose(model, None, loader()).causes == ["cannot overfit one batch"]


# ----------------------------------------------------------------------------- it changes nothing


def everything(model, data):
    """All that a diagnosis might touch, as values that can be compared."""
    return {
        "state": {key: value.clone() for key, value in model.state_dict().items()},
        "plain": model.plain.clone(),
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "ids": [id(p) for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) for module in model.modules()],
        "pre_hooks": [len(module._forward_pre_hooks) for module in model.modules()],
        "tensor_hooks": [len(p._backward_hooks or ()) for p in model.parameters()],
        "seen": list(model.seen),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002
        "python": random.getstate(),
        "loader": data.generator.get_state(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Nosy(nn.Module):
    """A model with everything that could be disturbed, and a layer that can be told to fail."""

    def __init__(self, fail_after=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)
        )
        self.plain = torch.zeros(3)  # no buffer, as d2l's moving_mean
        self.seen, self.fail_after = [], fail_after
        self.body[0].register_forward_hook(lambda *_: self.seen.append(1))

    def forward(self, x):
        if self.fail_after is not None and len(self.seen) > self.fail_after:
            raise RuntimeError("told to")
        self.plain += 1
        np.random.rand()  # noqa: NPY002
        random.random()
        return self.body(x)


@pytest.mark.parametrize("fail_after", [None, 3, 20])
def test_a_diagnosis_changes_nothing_also_when_a_check_raises(fail_after):
    model = Nosy(fail_after)
    model.body(examples()[0]).sum().backward()  # gradients and running statistics of its own
    model.seen.clear()
    model.body[1].eval()
    data = loader(shuffle=True, generator=torch.Generator().manual_seed(7))

    def train(model, optimizer, batches):
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    def evaluate(model, batches):
        model.eval()
        for x, _ in batches:
            model(x)

    before = everything(model, data)
    report = diagnose(
        model, None, data, val=loader(seed=1), optimizer=adam, train=train, evaluate=evaluate
    )
    after = everything(model, data)
    assert {key for key in before if not same(before[key], after[key])} == set()
    if fail_after:
        assert any("told to" in reason for reason in report.not_run.values())
    else:
        assert report.ok, str(report)


class Gated(nn.Module):
    """A mixture: the last layer to be called is the gate, and no head."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(64, 4) for _ in range(3))
        self.gate = nn.Linear(64, 3)

    def forward(self, x):
        x = x.flatten(1)
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return (self.gate(x).softmax(1)[..., None] * answers).sum(1)


class OwnHead(nn.Module):
    """A sigmoid hidden layer, and a head without a layer."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 64)
        self.weight = nn.Parameter(0.01 * torch.randn(64, 4))

    def forward(self, x):
        return torch.sigmoid(self.hidden(x.flatten(1))) @ self.weight


def begins_at_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    for p in model.parameters():
        nn.init.zeros_(p)
    return model


def squares(n=400):
    """N x 1 x 8 x 8, and which of four directions each points into."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, 8, 8, generator=generator)
    return x, (x.flatten(1) @ torch.randn(64, 4, generator=generator)).argmax(1)


@pytest.mark.parametrize("build", [Gated, OwnHead, begins_at_zero])
def test_a_head_that_only_looks_squashed_is_left_in_peace(build):
    torch.manual_seed(0)
    x, y = squares()
    data = DataLoader(TensorDataset(0.3 * x, y), 64)
    assert diagnose(build(), F.cross_entropy, data, only_contracts=True).ok


@pytest.mark.parametrize("loss", [F.l1_loss, F.smooth_l1_loss, nn.HuberLoss()])
def test_a_regression_far_below_its_targets_is_no_nll(loss):
    torch.manual_seed(0)
    x, _ = squares()
    boxes = 50 * torch.rand(len(x), 4) + 5
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    data = DataLoader(TensorDataset(x, boxes), 64)
    assert diagnose(model, loss, data, only_contracts=True).ok


def test_one_logit_for_two_classes_is_left_in_peace():
    torch.manual_seed(0)
    x, _ = squares()
    y = (x.flatten(1)[:, :20].sum(1) > 0).long()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

    def loss(outputs, y):
        return F.binary_cross_entropy_with_logits(outputs.squeeze(1), y.float())

    assert diagnose(model, loss, DataLoader(TensorDataset(x, y), 64)).ok


def test_what_a_loss_has_learned_is_brought_back():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, y):
            return F.cross_entropy(outputs * self.scale, y)

    torch.manual_seed(0)
    loss, (x, y) = Scaled(), squares()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

    def build(model):
        return torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=1e-2)

    diagnose(model, loss, DataLoader(TensorDataset(x, y), 64), optimizer=build)
    assert loss.scale.item() == 1
    assert loss.scale.grad is None


def test_a_model_that_a_loop_converts_is_converted_back():
    model = network()
    x, y = examples()
    model(x).sum().backward()
    before = [(p.dtype, p.detach().clone(), p.grad.clone()) for p in model.parameters()]

    def train(model, optimizer, batches):
        model.double()
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x.double()), y).backward()
            optimizer.step()

    data = DataLoader(TensorDataset(x, y), 16)
    report = diagnose(model, None, data, optimizer=adam, train=train)
    assert not any("dtype" in reason for reason in report.not_run.values()), report.not_run
    for p, (dtype, value, grad) in zip(model.parameters(), before, strict=True):
        assert p.dtype == p.grad.dtype == dtype
        assert p.equal(value)
        assert p.grad.equal(grad)


def test_an_array_that_cannot_be_written_to_is_left_as_it_is():
    model = network()
    model.counts = np.arange(3.0)
    model.counts.flags.writeable = False
    diagnose(model, None, loader(), only_contracts=True)
    assert model.counts.tolist() == [0, 1, 2]


def test_what_a_loop_freezes_is_thawed_and_a_batch_samplers_draws_are_given_back():
    model, generator = network(), torch.Generator().manual_seed(3)
    x, y = examples()
    data = TensorDataset(x, y)
    sampler = BatchSampler(RandomSampler(data, generator=generator), 16, drop_last=False)
    state = generator.get_state()

    def train(model, optimizer, batches):
        next(model.parameters()).requires_grad_(False)
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    diagnose(model, None, DataLoader(data, batch_sampler=sampler), optimizer=adam, train=train)
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(generator.get_state(), state)


def test_a_diagnosis_repeats_itself():
    reports = [diagnose(network(nn.Dropout(0.2)), None, loader(), optimizer=adam) for _ in range(2)]
    for report in reports:
        report.seconds = 0
    assert str(reports[0]) == str(reports[1])


# --------------------------------------------------------------------------------------- adapters


def test_a_d2l_style_classifier_with_its_own_loss():
    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network(nn.Softmax(dim=1))

        def forward(self, X):
            return self.net(X)

        def loss(self, Y_hat, Y, averaged=True):
            return F.cross_entropy(Y_hat, Y, reduction="mean" if averaged else "none")

    model = Classifier()
    assert diagnose(model, model.loss, loader()).causes == ["redundant softmax"]


def test_a_lightning_style_module_with_batches_and_outputs_of_its_own():
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, batch):
            return {"logits": self.net(batch)}

        def configure_optimizers(self):
            return torch.optim.Adam(self.net[2].parameters())

    batches = [{"image": x, "label": y} for x, y in loader()]
    report = diagnose(
        Module(),
        F.cross_entropy,
        batches,
        forward=lambda model, x: model(x)["logits"],
        unpack=lambda batch: (batch["image"], batch["label"]),
        optimizer=lambda model: model.configure_optimizers(),
        only_contracts=True,
    )
    assert report.causes == ["parameters not in the optimiser"]


def test_splits_bring_their_recipe_and_validation(stripes, make_model):
    report = labkit.diagnose(make_model(), None, stripes, recipe=labkit.Recipe(batch_size=32))
    assert report.ok, str(report)
    assert {"validation repeats", "learning rate", "splits are apart"} <= set(report.passed)


def test_regression_is_left_in_peace():
    x, _ = examples()
    data = DataLoader(TensorDataset(x, x[:, :1].clone()), batch_size=32)
    torch.manual_seed(0)
    assert diagnose(nn.Linear(64, 1), F.mse_loss, data, optimizer=adam).ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((lambda x: x, None, []), "torch.nn.Module"),
        ((network(), "mse", []), "function of"),
        ((network(), nn.CrossEntropyLoss, []), r"is the class CrossEntropyLoss; .*Loss\(\)"),
        ((nn.Sequential(nn.LazyLinear(3)), None, []), "0.weight has no shape yet.*is lazy"),
        ((network(), None, []), "no batch"),
        ((network(), None, 3), "int: give batches"),
        ((network(), None, torch.ones(3)), "Tensor: give batches"),
        ((network(), None, iter([examples()])), "read only once"),
        ((network(), None, [{"x": 1}]), "a dict: say where"),
        ((network(), None, [(1, 2, 3)]), "a tuple of 3"),
        ((network(), None, [(torch.ones(3, 64), [1, 2, 3])]), "two tensors"),
        ((network(Lambda(lambda z: (z, z))), None, [examples()]), "forward=lambda"),
        ((network(), lambda z, y: 1.0, [examples()]), "gives a float"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        diagnose(*arguments)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [(torch.optim.Adam, r"class Adam; .*lambda model: torch.optim.Adam\("), (0.1, "optimizer=0.1")],
)
def test_what_is_no_optimiser_is_refused(optimizer, message):
    with pytest.raises(ValueError, match=message):
        diagnose(network(), None, loader(), optimizer=optimizer)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="images=2"):
        diagnose(network(), None, loader(), images=2)


# ----------------------------------------------------------------------------------------- report


@pytest.fixture(scope="module")
def sick():
    return contracts(network(nn.Softmax(dim=1)))


def test_a_report_shows_cause_value_threshold_reason_and_fix(sick):
    for text in (str(sick), sick._repr_html_()):
        assert "redundant softmax" in text.lower()
        assert "sum up to 1" in " ".join(text.split())
        assert "return logits" in text
        assert "needs recipe= or optimizer=" in " ".join(text.split()) or "train=" in text
    assert max(map(len, str(sick).splitlines())) <= 100


def test_html_is_escaped():
    class Odd(nn.Linear):
        pass

    Odd.__name__ = "<b>"
    assert "&lt;b&gt;" in contracts(Odd(64, 3))._repr_html_()


def test_raise_if_broken_raises_for_contracts_and_on_demand_for_signs(sick):
    with pytest.raises(clinic.Broken, match="REDUNDANT SOFTMAX") as error:
        sick.raise_if_broken()
    assert error.value.report is sick
    sign = clinic.Report(
        "Model", [clinic.Finding("input not scaled", "sign", "113", "5", "measured")]
    )
    sign.raise_if_broken()
    with pytest.raises(AssertionError):
        sign.raise_if_broken(signs=True)
    contracts(network()).raise_if_broken(signs=True)


def test_what_follows_from_a_cause_becomes_a_note():
    report = clinic.Report("Model")
    report.findings = [
        clinic.Finding("cannot overfit one batch", "sign", "0.5", "1", "-"),
        clinic.Finding("input not scaled", "sign", "113", "5", "-", 2.0),
        clinic.Finding("labels carry no signal", "sign", "0", "4", "-", 3.0),
        clinic.Finding("stale gradients", "contract", "1", "0", "-"),
    ]
    report.sort()
    assert report.causes == ["stale gradients", "labels carry no signal", "input not scaled"]
    assert report.notes == ["cannot overfit one batch (0.5): follows from input not scaled"]


def test_every_cause_says_why_and_how_to_fix_it():
    for name, cause in clinic.CAUSES.items():
        assert name == cause.name
        assert cause.why.endswith(".")
        assert cause.fix
        assert set(cause.follows) <= set(clinic.CAUSES)


def test_the_fix_for_a_batch_that_is_not_learned_runs():
    table = eval(
        clinic.CAUSES["cannot overfit one batch"].fix,
        {"labkit": labkit, "model": network(), "x": examples()[0]},
    )
    assert table.input_shape == (64,)


def test_the_same_cause_in_two_layers_is_one_finding():
    model = nn.Sequential(nn.Linear(64, 64), UnscaledDropout(), network(UnscaledDropout()))
    report = contracts(model)
    assert report.causes == ["dropout changes the expectation"]
    assert report.findings[0].measured.endswith("and 1 more like it")


class UnscaledDropout(nn.Module):
    def forward(self, x):
        return x * (torch.rand_like(x) > 0.5) if self.training else x


def test_a_slow_last_layer_behind_a_frozen_network_is_no_low_learning_rate():
    model = nn.Sequential(nn.Linear(64, 16), Lambda(lambda x: 0.01 * x), nn.Linear(16, 3))

    def last_layer(model):
        return torch.optim.Adam(model[2].parameters(), lr=1e-5)

    slow = diagnose(
        model, None, loader(), optimizer=lambda m: torch.optim.Adam(m.parameters(), 1e-5)
    )
    assert slow.causes == ["learning rate too low"]
    model[0].requires_grad_(False)
    assert diagnose(model, None, loader(), optimizer=last_layer).ok


class Scaled(nn.Module):
    """Divides by 255 itself, as many a published model does."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x):
        return self.net(x.float() / 255)


def pixels(divided_by=1, kind=torch.float32):
    x, y = examples()
    x = ((x + 4) * 25).clamp(0, 255).round() / divided_by
    return DataLoader(TensorDataset(x.to(kind), y), batch_size=32)


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_a_model_that_scales_its_inputs_itself_is_left_in_peace(kind):
    report = diagnose(Scaled(), None, pixels(kind=kind), optimizer=adam)
    assert report.ok, str(report)


def test_inputs_scaled_in_the_data_and_in_the_model_are_scaled_twice():
    report = diagnose(Scaled(), None, pixels(divided_by=255), optimizer=adam)
    assert report.causes == ["input scaled down twice"]


def normalised(x):
    """As images of 2 x 4 x 4 pixels, so that there are channels."""
    return (0.5 * x[:, :32]).view(-1, 2, 4, 4)


def test_normalisation_statistics_are_measured_where_nothing_is_augmented():
    x, y = examples()
    images = normalised(x)

    class Augmented(TensorDataset):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image + 0.1 * torch.rand(()), label

    still = DataLoader(TensorDataset(images, y), batch_size=32)
    moving = DataLoader(Augmented(images, y), batch_size=32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))
    assert diagnose(model, None, still).causes == ["normalisation statistics of other data"]
    report = diagnose(model, None, moving)
    assert report.ok
    unmeasured = "normalisation: not measured, needs 200 images without augmentation"
    assert unmeasured in report.notes
    few = DataLoader(TensorDataset(images[:150], y[:150]), batch_size=32)
    assert unmeasured in diagnose(model, None, few).notes
    assert diagnose(model, None, moving, val=still).causes[0].startswith("normalisation")


def scaled_batches(transform, seed=0):
    """Images of pixels in [0, 1], dark with some bright ones, after a transform."""
    x, y = examples(seed=seed)
    pixels = (x / 6).clamp(0, 1).view(-1, 1, 8, 8)
    return DataLoader(TensorDataset(transform(pixels), y), batch_size=32)


def standardised(pixels):
    return (pixels - 0.07) / 0.11


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (standardised, lambda p: p),
        (lambda p: p, standardised),
        (standardised, lambda p: 255 * standardised(p)),
        (lambda p: p, lambda p: 255 * p),
        (lambda p: 2 * p - 1, lambda p: p),
    ],
)
def test_validation_inputs_of_another_scale_are_named(train, val):
    model = nn.Sequential(nn.Flatten(), network())
    report = diagnose(model, None, scaled_batches(train), val=scaled_batches(val, 1))
    assert report.causes == ["validation inputs are scaled otherwise"]
    assert "mean" in report.findings[0].measured


@pytest.mark.parametrize(
    "augment",
    [
        lambda p: p.flip(-1),
        lambda p: F.pad(p, (2, 2, 2, 2))[..., 1:9, 1:9],
        lambda p: 1.3 * p,
        lambda p: p + 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)),
        lambda p: (p + p.roll(1, 0)) / 2,
    ],
    ids=["flip", "crop", "brightness", "noise", "mixup"],
)
def test_augmented_training_inputs_are_no_other_scale(augment):
    model = nn.Sequential(nn.Flatten(), network())
    data = scaled_batches(lambda p: standardised(augment(p)))
    report = diagnose(model, None, data, val=scaled_batches(standardised, 1))
    assert "validation inputs are scaled otherwise" not in report.causes


def test_pixels_with_noise_do_not_claim_to_be_normalised():
    noise = 0.1 * torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Flatten(), network())
    assert diagnose(model, None, scaled_batches(lambda p: p + noise)).ok


def test_imagenets_statistics_are_a_note():
    mean, std = clinic.signs.IMAGENET_MEAN, clinic.signs.IMAGENET_STD
    x, y = examples()
    pixels = ((x[:, :48] + 1) / 3).clamp(0, 1).view(-1, 3, 4, 4)
    images = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 3))
    report = diagnose(model, None, DataLoader(TensorDataset(images, y), batch_size=32))
    assert report.ok, str(report)
    assert any("ImageNet's mean and std" in note for note in report.notes)


class Backbone(nn.Module):
    """A BatchNorm layer with the statistics of other data, kept in eval mode on purpose."""

    def __init__(self, frozen):
        super().__init__()
        self.norm, self.head, self.frozen = nn.BatchNorm1d(64), network(), frozen
        self.norm.num_batches_tracked += 1000
        self.norm.running_mean += 3
        self.train()

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:
            self.norm.eval()
        return self

    def forward(self, x):
        return self.head(self.norm(x))


@pytest.mark.parametrize("frozen", [True, False])
def test_running_statistics_of_a_frozen_layer_are_on_purpose(frozen):
    causes = diagnose(Backbone(frozen), None, loader()).causes
    assert ("BatchNorm's running statistics are off" in causes) == (not frozen)


def test_a_large_first_loss_is_a_note():
    model = network()
    with torch.no_grad():
        model[2].weight *= 60
    report = diagnose(model, None, loader())
    assert report.ok
    assert any("more than twice ln C" in note for note in report.notes)


def test_labels_that_neighbours_do_not_see_are_cleared_by_what_transfers():
    """The class is the sign of one small coordinate among large ones: 1-NN is blind."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1200) % 2
    x = torch.randn(1200, 64, generator=generator)
    x[:, 0] = (2.0 * y - 1) * 1.5
    shuffled = y[torch.randperm(1200, generator=generator)]
    for labels, causes in ((y, []), (shuffled, ["labels carry no signal"])):
        torch.manual_seed(0)
        data = DataLoader(TensorDataset(x, labels), batch_size=32)
        assert diagnose(network(), None, data).causes == causes


def test_labels_of_a_rare_class_are_cleared_where_the_model_always_answers_the_other():
    """One in twenty is positive; its sign is one coordinate among many: 1-NN is blind."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.arange(2000) % 20 == 0).long()
    x = torch.randn(2000, 64, generator=generator)
    x[:, 0] += 3.25 * y
    shuffled = y[torch.randperm(2000, generator=generator)]
    for labels, causes in ((y, []), (shuffled, ["labels carry no signal"])):
        val = [(x[1400:], labels[1400:])]
        data = DataLoader(TensorDataset(x[:1400], labels[:1400]), batch_size=32)
        assert diagnose(network(), None, data, val=val).causes == causes


@pytest.mark.parametrize("shuffle", [False, True])
def test_one_hot_labels_are_classes_too(shuffle):
    x, y = examples()
    y = F.one_hot(y, 3).float()
    if shuffle:
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    report = diagnose(network(), None, DataLoader(TensorDataset(x, y), batch_size=32))
    assert report.causes == (["labels carry no signal"] if shuffle else [])


def test_checks_that_ask_for_classes_say_so():
    x, _ = examples()
    data = [(x, x[:, :1])]
    report = diagnose(nn.Linear(64, 1), F.mse_loss, data)
    for name in ("labels carry signal", "loss at initialisation", "one batch by heart"):
        assert report.not_run[name] == "needs labels that are classes"


def test_batches_of_one_class_after_the_other_are_a_note():
    x, y = examples()
    order = y.argsort(stable=True)
    note = "labels: examples follow one of their own class: shuffle=True for the training data?"
    for data in ([(x[order], y[order])], [(x, y)]):
        report = diagnose(network(), None, data)
        assert report.ok, str(report)
        assert (note in report.notes) == (data[0][1][0] == data[0][1][1])


def test_a_comparison_of_a_part_says_so():
    def notes(images):
        return diagnose(network(), None, loader(), val=loader(seed=1), images=images).notes

    assert "splits are apart: 250 training images were compared, and there are more" in notes(250)
    assert not any("there are more" in note for note in notes(2000))


def test_sorted_class_folders_are_a_note_and_no_lost_labels():
    x, y = examples(900)
    order = y.argsort(stable=True)
    data = DataLoader(TensorDataset(x[order], y[order]), batch_size=32)
    report = diagnose(network(), None, data, images=250)
    assert report.ok, str(report)
    told = "the first 250 examples all have the label 0: is the training data sorted by class"
    assert any(told in note for note in report.notes)


def test_no_other_device_is_seeded(monkeypatch):
    """torch.manual_seed would queue a seed for a GPU that nobody has started."""
    seeded = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    model = nn.Sequential(nn.Linear(64, 3))
    diagnose(model, None, loader(), optimizer=adam)
    assert seeded == []


def test_arrays_and_generators_of_a_module_are_as_before():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()
            self.counts = np.zeros(2)
            self.generator = torch.Generator().manual_seed(3)

        def forward(self, x):
            self.counts += 1
            return self.net(x) + 1e-6 * torch.rand(3, generator=self.generator)

    model = Odd()
    state = model.generator.get_state()
    contracts(model)
    assert model.counts.sum() == 0
    assert torch.equal(model.generator.get_state(), state)


def test_the_recorded_bench_is_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr("labkit.clinic.record.folder", lambda kind: tmp_path / kind)
    assert clinic.bench().empty
    (tmp_path / "runs" / "clinic").mkdir(parents=True)
    line = '{"part": "other data", "bugs": ["leak"], "wanted": ["x"], "found": ["x", "y"]}\n'
    (tmp_path / "runs" / "clinic" / "bench.jsonl").write_text(line * 3)
    assert clinic.bench()["found"].tolist() == 3 * [["x", "y"]]
