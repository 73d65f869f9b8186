"""`predict` answers what nobody has labelled, as `evaluate` answers what somebody has."""

import pytest
import torch
from conftest import make_splits

import labkit


@pytest.fixture
def trained(stripes, make_model, quick_fit):
    model = make_model()
    quick_fit(model, stripes, epochs=3, lr=0.01, batch_size=24)
    return model


def test_predictions_are_those_of_evaluate_in_the_order_of_the_images(trained, stripes):
    order = torch.randperm(len(stripes.test), generator=torch.Generator().manual_seed(1))
    answers = labkit.predict(trained, stripes.test.images[order], stripes)
    assert answers.dtype == torch.int64
    assert torch.equal(answers, labkit.evaluate(trained, stripes.test).predictions[order])
    assert answers.unique().numel() > 1


def test_predicting_normalises_as_training_did_and_not_by_the_new_images(trained, stripes):
    one = labkit.predict(trained, stripes.test.images[:1], stripes)
    assert one == labkit.predict(trained, stripes.test.images, stripes)[:1]


def test_predicting_leaves_the_model_in_its_mode(trained, stripes):
    trained.train()
    labkit.predict(trained, stripes.test.images[:2], stripes)
    assert all(module.training for module in trained.modules())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(5, 1, 8, 8), r"uint8 images N x 1 x 8 x 8.*float32 \(5, 1, 8, 8\)"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), r"got torch.uint8 \(5, 8, 8\).*read_csv"),
        (torch.zeros(5, 1, 9, 9, dtype=torch.uint8), r"as stripes has them"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), r"\(0, 1, 8, 8\)"),
        ([[1, 2], [3, 4]], "list"),
    ],
)
def test_images_that_do_not_fit_are_named(make_model, images, message):
    with pytest.raises(ValueError, match=message):
        labkit.predict(make_model(), images, make_splits())
