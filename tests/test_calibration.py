"""Calibration agrees with hand calculations, and the temperature is the best one there is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labkit import calibration

# Confidences 0.9, 0.8, 0.6 and 0.55; the second and the last are wrong.
PROBABILITIES = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.45, 0.55]])
LABELS = torch.tensor([0, 0, 0, 0])


def sure(n=4000, scale=3.0, seed=0):
    """Logits `scale` times those that the labels were drawn with: the best temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return scale * logits, labels


def test_images_fall_into_the_bins_of_their_confidence():
    table = calibration.reliability(PROBABILITIES, LABELS, bins=2)
    assert table["images"].tolist() == [0, 4]
    assert table["hits"].tolist() == [0, 2]
    assert table["confidence"][1] == pytest.approx((0.9 + 0.8 + 0.6 + 0.55) / 4)
    assert table["accuracy"][1] == 0.5
    assert np.isnan(table["accuracy"][0])


def test_a_bin_holds_its_upper_end_and_not_its_lower_one():
    halves = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    table = calibration.reliability(halves, torch.zeros(3), bins=4)
    assert table["images"].tolist() == [0, 1, 1, 1]
    assert table["low"].tolist() == [0, 0.25, 0.5, 0.75]
    assert table["high"].tolist() == [0.25, 0.5, 0.75, 1]


def test_the_error_is_the_mean_distance_weighted_by_images():
    # Bins (0.5, 0.6], (0.7, 0.8] and (0.8, 0.9]: two images, half of them right; one wrong; one
    # right. In float32 the image of 0.6 lies just above 0.6, and so in (0.6, 0.7].
    in_double = PROBABILITIES.double().round(decimals=2)
    error = calibration.expected_calibration_error(in_double, LABELS, bins=10)
    expected = (2 * abs(0.5 - 0.575) + abs(0 - 0.8) + abs(1 - 0.9)) / 4
    assert error == pytest.approx(expected)


def test_a_calibrated_classifier_has_next_to_no_error():
    logits, labels = sure(n=20_000, scale=1.0)
    assert calibration.expected_calibration_error(logits.softmax(1), labels) < 0.02
    assert calibration.expected_calibration_error((3 * logits).softmax(1), labels) > 0.1


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_the_temperature_undoes_the_scale_of_the_logits(scale):
    logits, labels = sure(n=20_000, scale=scale)
    assert calibration.temperature(logits, labels) == pytest.approx(scale, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss():
    logits, labels = sure(n=300)
    best = calibration.temperature(logits, labels)
    least = F.cross_entropy(logits / best, labels)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2):
        assert F.cross_entropy(logits / (factor * best), labels) > least


def test_where_nothing_is_wrong_the_temperature_is_the_lowest():
    logits = F.one_hot(torch.arange(6) % 3).float()
    assert calibration.temperature(logits, torch.arange(6) % 3) == pytest.approx(0.01, rel=1e-3)
    assert calibration.temperature(-logits, torch.arange(6) % 3) == pytest.approx(100, rel=1e-3)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (torch.ones(3), torch.zeros(3), "probabilities N x C and labels N, got"),
        (torch.ones(3, 1), torch.zeros(2), r"got \(3, 1\) and \(2,\)"),
        (torch.zeros(0, 3), torch.zeros(0), "N x C"),
        (torch.randn(4, 3), torch.zeros(4), "logits.softmax"),
        (torch.tensor([[0.5, 0.2]]), torch.zeros(1), "a row sums to 0.7"),
        (torch.tensor([[torch.nan, 1.0]]), torch.zeros(1), "did the run diverge"),
    ],
)
def test_what_are_no_probabilities_is_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        calibration.expected_calibration_error(probabilities, labels)


def test_no_bin_and_infinite_logits_are_refused():
    with pytest.raises(ValueError, match="bins=0"):
        calibration.reliability(PROBABILITIES, LABELS, bins=0)
    with pytest.raises(ValueError, match="logits are not all finite"):
        calibration.temperature(torch.tensor([[0.0, torch.inf]]), torch.zeros(1))


def test_labels_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="labels go from 0 to 12, but logits have 3 classes"):
        calibration.temperature(torch.randn(4, 3), torch.tensor([0, 1, 2, 12]))
