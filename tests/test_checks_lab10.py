"""The graders of lab 10 accept right answers, and name the mistake in wrong ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import bugs, checks


def ignores_shift(loss, num_classes):
    outputs = torch.rand(4, num_classes) + 0.1
    labels = torch.arange(4) % num_classes
    return abs(loss(outputs + 3, labels) - loss(outputs, labels)).item() < 1e-4


def ratio(layer):
    before, ones = layer.training, torch.ones(100_000)
    training = layer.train()(ones).mean()
    evaluation = layer.eval()(ones).mean()
    layer.train(before)
    return (training / evaluation).item()


def test_right_answers_pass(capsys):
    checks.lab10_ignores_shift(ignores_shift)
    checks.lab10_dropout_ratio(ratio)
    assert capsys.readouterr().out.count("OK") == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda loss, c: None, "is the `return` missing"),
        (lambda loss, c: "yes", "True or False"),
        (lambda loss, c: False, "allow 1e-4"),
        (lambda loss, c: True, "only a softmax does not notice"),
        (lambda loss, c: loss in (F.cross_entropy,), "applies softmax itself, and you say no"),
    ],
)
def test_wrong_answers_about_losses_are_named(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab10_ignores_shift(answer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda layer: torch.ones(1), "Return a number"),
        (lambda layer: 1 / ratio(layer), "other way round"),
        (lambda layer: layer.train()(torch.ones(100_000)).mean().item(), "another mode"),
        (lambda layer: layer(torch.ones(100_000)).mean().item(), "train mode"),
        (lambda layer: 0.0, "many ones"),
    ],
)
def test_wrong_ratios_are_named(answer, message):
    with pytest.raises(AssertionError, match=message):
        checks.lab10_dropout_ratio(answer)


def test_a_ratio_that_forgets_evaluation_is_named():
    def forgetful(layer):
        before = layer.training
        value = layer.train()(torch.ones(100_000)).mean().item()
        layer.train(before)
        return value

    with pytest.raises(AssertionError, match="in evaluation: this layer does something"):
        checks.lab10_dropout_ratio(forgetful)


def test_each_mystery_patient_has_what_the_grader_says_and_the_clinic_finds_it():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    )
    images = torch.randint(256, (300, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(300) % 3
    healthy = bugs.setup(model, images[:200], labels[:200], images[200:], labels[200:])
    for number in (1, 2, 3):
        report = checks.lab10_patient(number, healthy).diagnose(only_contracts=True)
        assert len(report.causes) == 1
        checks.lab10_mystery(number, report.causes[0])
        with pytest.raises(AssertionError, match="does not have that"):
            checks.lab10_mystery(number, "input not scaled")


def test_what_only_follows_from_a_cause_is_called_that():
    with pytest.raises(AssertionError, match="Patient 1 has that, but it only follows: from what"):
        checks.lab10_mystery(1, "cannot overfit one batch")


def test_unknown_causes_and_patients_are_refused():
    with pytest.raises(AssertionError, match="no cause that the clinic knows"):
        checks.lab10_mystery(1, "bad luck")
    with pytest.raises(ValueError, match="1, 2 and 3"):
        checks.lab10_mystery(4, "redundant softmax")
