"""`watch`: it sees what a stranger's loop does, and changes nothing about it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, PolynomialLR

from labkit.clinic import watch


def batches(count=12):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 5, generator=generator), torch.arange(8) % 3) for _ in range(count)]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3)
    )


def right(model, optimizer, data):
    model.train()
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def zero_after_the_step(model, optimizer, data):
    for x, y in data:
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def accumulation(model, optimizer, data):
    for number, (x, y) in enumerate(data, 1):
        F.cross_entropy(model(x), y).backward()
        if number % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()


def two_losses(model, optimizer, data):
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        sum(p.square().sum() for p in model.parameters()).backward()
        optimizer.step()


def closure(model, optimizer, data):
    for x, y in data:

        def loss(x=x, y=y):
            optimizer.zero_grad()
            value = F.cross_entropy(model(x), y)
            value.backward()
            return value

        optimizer.step(loss)


def skipping_scaler(model, optimizer, data):
    """As mixed precision does: the first two steps overflow and are left out."""
    for number, (x, y) in enumerate(data):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if number > 1:
            optimizer.step()


def with_validation(model, optimizer, data):
    for _ in range(2):
        right(model, optimizer, data)
        model.eval()
        with torch.no_grad():
            for x, _ in data:
                model(x)


def no_zero_grad(model, optimizer, data):
    for x, y in data:
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def step_outside(model, optimizer, data):
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
    optimizer.step()


def no_step(model, optimizer, data):
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()


def no_backward(model, optimizer, data):
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y)
        optimizer.step()


def gradients_by_hand(model, optimizer, data):
    """As a method without backpropagation does: it fills .grad itself."""
    for _ in data:
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()


def zero_before_the_step(model, optimizer, data):
    for x, y in data:
        F.cross_entropy(model(x), y).backward()
        optimizer.zero_grad()
        optimizer.step()


def validation_in_train_mode(model, optimizer, data):
    right(model, optimizer, data)
    with torch.inference_mode():
        for x, _ in data:
            model(x)


def training_in_eval_mode(model, optimizer, data):
    model.eval()
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def infinite(model, optimizer, data):
    for x, y in data:
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) * float("inf")).backward()
        optimizer.step()


def scheduled(build):
    """The right loop, with a schedule that is built from the optimiser."""

    def loop(model, optimizer, data):
        schedule = build(optimizer)
        for x, y in data:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()

    return loop


def watched(loop, model=None, optimizer=None):
    model = model or network()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer) as look:
        loop(model, optimizer, batches())
    return look.report


@pytest.mark.parametrize(
    "loop",
    [
        right,
        zero_after_the_step,
        accumulation,
        two_losses,
        closure,
        skipping_scaler,
        gradients_by_hand,
        with_validation,
    ],
)
def test_right_loops_are_left_in_peace(loop):
    report = watched(loop)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("loop", "cause"),
    [
        (no_zero_grad, "stale gradients"),
        (step_outside, "gradients never used"),
        (no_step, "gradients never used"),
        (no_backward, "no backward pass"),
        (zero_before_the_step, "gradients never used"),
        (validation_in_train_mode, "evaluation runs in train mode"),
        (training_in_eval_mode, "training runs in eval mode"),
        (infinite, "outputs or loss are not finite"),
    ],
)
def test_wrong_loops_are_named(loop, cause):
    assert watched(loop).causes == [cause]


def test_an_optimiser_that_looks_several_times_at_a_batch_is_left_in_peace():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=10)
    with watch(model, optimizer) as look:
        closure(model, optimizer, batches(1))
    assert look.counts.backwards > 5
    assert look.report.ok, str(look.report)


def no_step_and_no_zero_grad(model, optimizer, data):
    for x, y in data:
        F.cross_entropy(model(x), y).backward()


def test_what_was_not_zeroed_is_not_said_to_be():
    report = watched(no_step_and_no_zero_grad)
    assert report.causes == ["gradients never used"]
    assert report.findings[0].measured == "12 backward passes and no step"
    measured = watched(no_step).findings[0].measured
    assert measured.startswith("the gradients of 11 of 12 backward passes were zeroed")


def test_the_counts_are_told():
    report = watched(with_validation)
    assert report.notes == [
        "24 forward passes with gradients, 24 backward, 24 steps; "
        "24 forward passes without gradients"
    ]


def test_parameters_that_nobody_holds_or_reaches_are_named():
    model = network()
    some = torch.optim.SGD(model[4].parameters(), lr=0.1)
    assert watched(right, model, some).causes == ["parameters not in the optimiser"]

    unused = network()
    unused.extra = nn.Linear(2, 2)
    unused.forward = lambda x: nn.Sequential(*list(unused)[:5])(x)
    assert watched(right, unused).causes == ["parameters get no gradient"]

    still = network()
    report = watched(right, still, torch.optim.SGD(still.parameters(), lr=0.0))
    assert report.causes == ["learning rate is 0"]


@pytest.mark.parametrize(
    "build",
    [
        lambda o: CosineAnnealingLR(o, 12),
        lambda o: PolynomialLR(o, 12),
        lambda o: LambdaLR(o, lambda step: 1 - step / 12),
        lambda o: LambdaLR(o, lambda step: min(1, step / 10)),
    ],
)
def test_a_schedule_that_begins_or_ends_at_zero_is_no_bug(build):
    assert watched(scheduled(build)).ok


def test_a_schedule_that_never_leaves_zero_is_named():
    report = watched(scheduled(lambda o: LambdaLR(o, lambda step: 0.0)))
    assert report.causes == ["learning rate is 0"]


def epochs(model, optimizer, data, train_mode_each_epoch, no_grad, count=2):
    model.train()
    for _ in range(count):
        if train_mode_each_epoch:
            model.train()
        for x, y in data[:4]:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.set_grad_enabled(not no_grad):
            for x, _ in data:
                model(x)


def test_an_evaluation_with_gradients_is_no_training_in_eval_mode():
    assert watched(lambda *args: epochs(*args, train_mode_each_epoch=True, no_grad=False)).ok


@pytest.mark.parametrize("count", [2, 5])
def test_train_mode_once_before_the_first_epoch_is_named(count):
    def loop(*args):
        epochs(*args, train_mode_each_epoch=False, no_grad=True, count=count)

    report = watched(loop)
    assert report.causes == ["training runs in eval mode"]
    assert f"{4 * (count - 1)} of {4 * count} steps" in report.findings[0].measured


def test_an_attack_in_eval_mode_before_each_step_in_train_mode_is_left_in_peace():
    def adversarial(model, optimizer, data):
        for x, y in data:
            model.eval()
            x = x.clone().requires_grad_()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(x.detach() + 0.1 * x.grad.sign()), y).backward()
            optimizer.step()

    assert watched(adversarial).ok


def test_frozen_layers_are_no_bug():
    model = network()
    model[0].requires_grad_(False)
    assert watched(right, model, torch.optim.SGD(model[1:].parameters(), lr=0.1)).ok


@pytest.mark.parametrize("added", [False, True])
def test_a_layer_that_is_thawed_on_the_way_is_no_bug(added):
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD((model[1:] if added else model).parameters(), lr=0.1)
    with watch(model, optimizer) as watched:
        right(model, optimizer, batches())
        model[0].requires_grad_(True)
        if added:
            optimizer.add_param_group({"params": model[0].parameters()})
        right(model, optimizer, batches())
    assert watched.report.ok, str(watched.report)


def test_a_layer_that_is_thawed_and_not_given_to_the_optimiser_is_named():
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[1:].parameters(), lr=0.1)
    with watch(model, optimizer) as watched:
        model[0].requires_grad_(True)
        right(model, optimizer, batches())
    assert watched.report.causes == ["parameters not in the optimiser"]


def test_a_dead_network_has_no_unused_gradients():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU())
    with torch.no_grad():
        model[2].bias.fill_(-100)
    assert watched(right, model).ok


def test_watching_changes_neither_the_result_nor_the_hooks():
    plain, seen = network(), network()
    torch.manual_seed(1)
    right(plain, torch.optim.SGD(plain.parameters(), lr=0.1), batches())
    optimizer = torch.optim.SGD(seen.parameters(), lr=0.1)
    torch.manual_seed(1)
    with watch(seen, optimizer):
        right(seen, optimizer, batches())
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.state_dict().values(), seen.state_dict().values(), strict=True)
    )
    assert_no_hooks(seen, optimizer)


def test_hooks_are_gone_after_an_error():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError), watch(model, optimizer):
        model(torch.ones(2, 7))
    assert_no_hooks(model, optimizer)


def assert_no_hooks(model, optimizer):
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any(p._backward_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_an_evaluation_can_be_watched_without_an_optimiser():
    model = network()
    before = copy.deepcopy(model.state_dict())
    with watch(model.eval()) as look, torch.no_grad():
        model(torch.ones(2, 5))
    assert look.report.ok
    with watch(model.train()) as look, torch.no_grad():
        model(torch.ones(2, 5))
    assert look.report.causes == ["evaluation runs in train mode"]
    assert torch.equal(model[0].weight, before["0.weight"])


def test_something_else_than_a_module_is_refused():
    with pytest.raises(ValueError, match="got a function"):
        watch(right)
