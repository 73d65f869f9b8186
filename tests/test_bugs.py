"""Each bug makes a healthy set-up sick, and the clinic names it; healthy variants stay silent."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from labkit import bugs, clinic


def pictures(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey 8 x 8 images of a bright column, the class, at a brightness of their own."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = 60 * torch.rand(n, 1, 8, 8, generator=generator)
    for label in range(3):
        images[labels == label, :, :, 2 * label + 1] += 150
    brightness = 0.2 + 0.8 * torch.rand(n, 1, 1, 1, generator=generator)
    return (images * brightness).to(torch.uint8), labels


def healthy(seed: int = 0) -> bugs.Setup:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(384, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    return bugs.setup(model, *pictures(800, seed), *pictures(300, 1000 + seed), seed=seed)


def plain(seed: int = 0) -> bugs.Setup:
    """The same without BatchNorm, which would make up for raw pixels."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
    return bugs.setup(model, *pictures(800, seed), *pictures(300, 1000 + seed), seed=seed)


@pytest.fixture(scope="module", params=list(bugs.CATALOGUE))
def case(request) -> tuple[bugs.Bug, clinic.Report]:
    bug = bugs.CATALOGUE[request.param]
    base = plain() if bug.fits(plain()) else healthy()
    if bug.infect is bugs.lr_too_high:  # Adam survives 0.3 with pictures as easy as these
        base = bugs.replace(base, optimizer=bugs.sgd(0.05))
    return bug, bug.infect(base).diagnose()


def test_the_clinic_names_the_cause_of_each_bug_first(case):
    bug, report = case
    assert report.causes[:1] == [bug.cause], str(report)


def test_each_bug_names_a_cause_that_the_clinic_knows():
    assert {bug.cause for bug in bugs.CATALOGUE.values()} <= set(clinic.CAUSES)
    for bug in bugs.CATALOGUE.values():
        assert bug.infect.__doc__
        assert bug.symptom.endswith(".")


@pytest.mark.parametrize("variant", list(bugs.HEALTHY))
def test_what_only_looks_sick_is_left_in_peace(variant):
    report = bugs.HEALTHY[variant](healthy()).diagnose()
    assert report.ok, str(report)


@pytest.mark.parametrize("base", [healthy, plain])
def test_a_healthy_setup_is_left_in_peace_and_every_check_ran(base):
    report = base().diagnose()
    assert report.ok, str(report)
    assert set(report.not_run) == {"generalisation gap"}


@pytest.mark.parametrize("name", [*bugs.CATALOGUE, *bugs.HEALTHY])
def test_a_bug_leaves_the_healthy_setup_alone(name):
    infect = bugs.CATALOGUE[name].infect if name in bugs.CATALOGUE else bugs.HEALTHY[name]
    setup = healthy()
    before = copy.deepcopy(setup.model.state_dict())
    images, labels = setup.data.images.clone(), setup.val.labels.clone()
    infect(setup)
    assert all(torch.equal(before[key], value) for key, value in setup.model.state_dict().items())
    assert all(p.requires_grad for p in setup.model.parameters())
    assert torch.equal(setup.data.images, images)
    assert torch.equal(setup.val.labels, labels)
    assert setup.loss is torch.nn.functional.cross_entropy


def test_a_healthy_setup_learns_and_shuffled_labels_do_not():
    assert plain().fit(epochs=3)[-1] > 0.9
    assert bugs.shuffled_labels(plain()).fit(epochs=3)[-1] < 0.6


def test_bugs_fit_only_where_there_is_something_to_break():
    assert bugs.has_dropout(healthy())
    assert bugs.has_batchnorm(healthy())
    assert not bugs.depends_on_mode(plain())
    linear = bugs.replace(plain(), model=nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    assert not bugs.CATALOGUE["forgotten_layer"].fits(linear)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("double_softmax", "raw_pixels"),
        ("relu_output", "shuffled_labels"),
        ("double_softmax", "lr_too_high"),
        ("no_zero_grad", "augmented_validation"),
    ],
)
def test_two_bugs_are_both_found_though_one_hides_the_other(first, second):
    base = bugs.replace(plain(), optimizer=bugs.sgd(0.05))
    report = bugs.CATALOGUE[second].infect(bugs.CATALOGUE[first].infect(base)).diagnose()
    wanted = {bugs.CATALOGUE[name].cause for name in (first, second)}
    assert set(report.causes) == wanted, str(report)


def test_batches_know_how_many_they_are():
    images, labels = pictures(201, 0)
    for size, count in ((64, 4), (100, 2), (201, 1)):  # no batch of a single image
        batches = bugs.Batches(images, labels, torch.Tensor.float, batch_size=size)
        assert len(batches) == len(list(batches)) == count


def test_batch_statistics_keep_their_running_statistics_and_have_one_illness():
    sick = bugs.batch_statistics(healthy())
    causes = sick.diagnose(only_contracts=True).causes
    assert causes == ["examples influence each other in evaluation"]
    layer, torchs = bugs.BatchStatistics(3), nn.BatchNorm1d(3)
    for x in torch.randn(4, 20, 3) + 5:
        assert torch.allclose(layer.train()(x), torchs(x), atol=1e-5)
        layer.eval()(x - 9)
    assert torch.allclose(layer.running_mean, torchs.running_mean)
    assert torch.allclose(layer.running_var, torchs.running_var)


def test_forgotten_layer_keeps_the_optimiser_and_its_groups():
    def adamw(model):
        weights = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": weights, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.003)

    setup = bugs.forgotten_layer(bugs.replace(plain(), optimizer=adamw))
    groups = setup.optimizer(setup.model).param_groups
    last = setup.model[-1]
    assert [group["params"] for group in groups] == [[last.weight], [last.bias]]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.003, 0.1), (0.003, 0)]
    before = copy.deepcopy(setup.model.state_dict())
    setup.fit(1)
    moved = [k for k, v in setup.model.state_dict().items() if not torch.equal(v, before[k])]
    assert moved == ["3.weight", "3.bias"]


def test_sgd_and_plain_pixels_are_healthy_too():
    setup = bugs.setup(
        plain().model,
        *pictures(800, 0),
        *pictures(300, 1),
        optimizer=bugs.sgd(0.05),
        normalize=False,
    )
    assert setup.diagnose().ok


def test_the_seven_symptoms_that_lab_10_tells_are_those_of_its_seven_bugs():
    lab = Path(__file__).parents[1] / "notebooks" / "10_training_clinic.ipynb"
    cells = ["".join(cell["source"]) for cell in json.loads(lab.read_text())["cells"]]
    table = next(text for text in cells if text.startswith("### Seven more"))
    told = [row.split(" | ")[1] for row in table.splitlines() if row[:3].strip("| ").isdigit()]
    code = next(text for text in cells if "seven = {" in text)
    names = [line.split('"')[1] for line in code.splitlines() if line.startswith('    "')]
    assert told == [bugs.CATALOGUE[name].symptom for name in names]
    assert len(told) == 7
