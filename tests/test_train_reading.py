"""read_curves names the symptoms that curves show, with their evidence, and no others."""

import numpy as np
import pandas as pd
import pytest

import labkit

EPOCHS = np.arange(12)
FALLING = 2.0 * 0.85**EPOCHS


def curves(**columns):
    """A healthy run of 12 epochs, except for the columns that are given."""
    healthy = {
        "train_loss": FALLING,
        "train_acc": 1 - FALLING / 2.2,
        "val_loss": FALLING + 0.1,
        "val_acc": 0.98 - FALLING / 2.2,
    }
    return pd.DataFrame(healthy | columns)


def test_a_healthy_run_shows_no_symptom():
    assert labkit.read_curves(curves()) == {}


def test_a_validation_loss_that_jumps_up_and_down_is_an_oscillation():
    zigzag = np.where(EPOCHS % 2, 1.1, 0.9)
    found = labkit.read_curves(curves(val_loss=zigzag))
    assert list(found) == ["oscillation"]
    # The neighbours of 1.1 are 0.9: it lies 0.2 off them, 20 % of the median, 1.0.
    assert "turns round in 10 of 10 epochs" in found["oscillation"]
    assert "typically 20% away from the mean" in found["oscillation"]
    assert "smaller lr" in found["oscillation"]


def test_a_small_zigzag_is_no_oscillation():
    zigzag = np.where(EPOCHS % 2, 1.01, 0.99)
    assert labkit.read_curves(curves(val_loss=zigzag)) == {}


def test_one_jump_in_a_smooth_curve_is_no_oscillation():
    val_loss = FALLING + 0.1
    val_loss[6] *= 3
    assert labkit.read_curves(curves(val_loss=val_loss)) == {}


def test_a_training_accuracy_that_runs_away_is_a_gap():
    val_loss = np.array([2.0, 1.8, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 2.1, 2.1, 2.1])
    found = labkit.read_curves(
        curves(train_acc=np.linspace(0.3, 0.96, 12), val_acc=np.full(12, 0.3), val_loss=val_loss)
    )
    assert list(found) == ["gap"]
    # Mean distance of the last four epochs 0.57, of the first four 0.09; 2.1 / 1.5 - 1 = 40 %.
    assert "is 0.57 above" in found["gap"]
    assert "0.09 in the first" in found["gap"]
    assert "on average 40% above its lowest (epoch 3)" in found["gap"]
    assert "augmentation" in found["gap"]
    assert "stop early" in found["gap"]


def test_a_gap_with_the_best_epoch_last_is_no_reason_to_stop_early():
    found = labkit.read_curves(
        curves(
            train_acc=np.linspace(0.3, 0.96, 12),
            val_acc=np.full(12, 0.3),
            val_loss=np.linspace(2.0, 1.4, 12),
        )
    )
    assert "(epoch 12)" in found["gap"]
    assert "stop early" not in found["gap"]


def test_a_distance_that_was_there_from_the_start_does_not_widen():
    train_acc = np.linspace(0.5, 0.9, 12)
    assert labkit.read_curves(curves(train_acc=train_acc, val_acc=train_acc - 0.2)) == {}


def test_a_training_loss_that_stays_where_it_is_is_a_plateau():
    flat = np.array([2.3, 2.1, 2.0, 2.0, *[1.92] * 4, *[1.9] * 4])
    found = labkit.read_curves(curves(train_loss=flat, train_acc=np.full(12, 0.3)))
    assert list(found) == ["plateau"]
    assert "1.90 in the last third, 1.0% less" in found["plateau"]
    assert "accuracy of only 0.30" in found["plateau"]


def test_a_training_loss_that_rises_is_a_plateau_too():
    found = labkit.read_curves(curves(train_loss=np.linspace(2, 2.2, 12), train_acc=EPOCHS * 0))
    assert "more than in the third before" in found["plateau"]


def test_a_flat_loss_is_no_complaint_once_the_images_are_learned():
    learned = curves(train_loss=np.full(12, 0.01), train_acc=np.ones(12), val_acc=np.ones(12))
    assert labkit.read_curves(learned) == {}


def test_a_run_may_show_several_symptoms():
    sick = curves(
        train_acc=np.linspace(0.3, 0.96, 12),
        val_acc=np.full(12, 0.3),
        val_loss=np.where(EPOCHS % 2, 2.2, 1.8),
    )
    assert list(labkit.read_curves(sick)) == ["oscillation", "gap"]


def test_a_history_is_read_like_its_frame(stripes, make_model, quick_fit):
    history = quick_fit(make_model(), stripes, epochs=6, batch_size=60, lr=1e-6)
    assert list(labkit.read_curves(history)) == ["plateau"]
    assert labkit.read_curves(history) == labkit.read_curves(history.frame())


def test_a_run_without_validation_is_refused():
    with pytest.raises(ValueError, match="has no val_loss.*val_fraction above 0"):
        labkit.read_curves(curves().drop(columns=["val_loss", "val_acc"]))


def test_too_few_epochs_are_refused():
    with pytest.raises(ValueError, match="5 epochs are too few.*6 or more"):
        labkit.read_curves(curves()[:5])


def test_a_diverged_run_is_refused():
    val_loss = FALLING.copy()
    val_loss[3] = np.inf
    with pytest.raises(ValueError, match="val_loss is inf in epoch 4.*smaller lr"):
        labkit.read_curves(curves(val_loss=val_loss))


def test_several_runs_at_once_are_refused():
    runs = [curves().assign(epoch=EPOCHS + 1, seed=seed) for seed in (0, 1)]
    assert labkit.read_curves(runs[0]) == {}
    with pytest.raises(ValueError, match="epochs of several runs: choose one"):
        labkit.read_curves(pd.concat(runs))


def test_a_loss_that_has_reached_zero_is_no_plateau():
    assert "plateau" not in labkit.read_curves(
        curves(train_loss=0 * EPOCHS, train_acc=1 + 0 * EPOCHS)
    )
