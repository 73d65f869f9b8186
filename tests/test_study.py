"""Reported tables and recorded runs."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from labkit import study


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("numpy_mnist", 3),
        ("fashion_ablation", 22),
        ("imagenet10", 3),
        ("mlp_cnn_cifar10", 23),
        ("cifar10_simple_and_resnet18", 14),
    ],
)
def test_every_reported_table_is_there(name, rows):
    assert len(study.reported(name)) == rows


def test_an_unknown_table_is_answered_with_the_list():
    with pytest.raises(ValueError, match="'mnist'.*numpy_mnist"):
        study.reported("mnist")


def test_what_a_diverged_run_had_reached_is_no_best_accuracy():
    run = {
        "config": {"lr": 9.0},
        "seed": 0,
        "data": {"name": "mnist"},
        "epochs": [{"epoch": 1, "val_acc": 0.9}],
        "test": {},
        "seconds": 3.0,
        "device": "cpu",
    }
    runs = study.tables.one_row_each([run, {**run, "diverged": "The loss became nan"}])
    assert runs["best_val_acc"].fillna(-1).tolist() == [0.9, -1]
    assert runs["val_acc"].tolist() == [0.9, 0.9]


def test_records_are_one_row_a_run_and_epochs_one_row_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(study.tables, "folder", lambda kind: tmp_path)
    (tmp_path / "demo").mkdir()
    for seed in range(2):
        run = {
            "study": "demo",
            "config": {"lr": 0.1},
            "seed": seed,
            "data": {"name": "mnist", "fingerprint": "00", "stand_in": False},
            "epochs": [{"epoch": 1, "val_acc": 0.9}, {"epoch": 2, "val_acc": 0.8 + seed / 10}],
            "test": {"loss": 0.5, "accuracy": 0.85},
            "seconds": 3.0,
            "device": "cpu",
            "versions": {},
        }
        (tmp_path / "demo" / f"seed{seed}.json").write_text(json.dumps(run))
    runs = study.records("demo")
    assert runs["seed"].tolist() == [0, 1]
    assert runs["epochs"].tolist() == [2, 2]
    assert runs["val_acc"].tolist() == pytest.approx([0.8, 0.9])
    assert runs["best_val_acc"].tolist() == [0.9, 0.9]
    assert runs["test_accuracy"].tolist() == [0.85, 0.85]
    assert len(study.epochs("demo")) == 4
    assert study.records("nothing").empty


def test_interval_is_the_t_interval_of_a_hand_calculation():
    # mean 2, standard deviation 1, and the table's t of 2 degrees of freedom is 4.303
    mean, low, high = study.interval([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-5)


def test_interval_covers_the_true_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(5, 2, size=(2000, 3))
    covered = [low < 5 < high for _, low, high in map(study.interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_interval_of_equal_values_is_a_point():
    assert study.interval([0.5, 0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, float("nan")]])
def test_interval_refuses_what_has_no_spread(values):
    with pytest.raises(ValueError, match="two or more finite values.*more seeds"):
        study.interval(values)


def test_interval_refuses_a_confidence_in_percent():
    with pytest.raises(ValueError, match=r"interval\(confidence=95\).*between 0 and 1"):
        study.interval([1, 2, 3], confidence=95)


def test_a_difference_of_a_column_that_a_table_lacks_is_refused():
    a = pd.DataFrame({"seed": [0, 1], "test_accuracy": [0.5, 0.6]})
    with pytest.raises(ValueError, match=r"no column 'test_acc': .*study\.records"):
        study.paired_difference(a, a, "test_acc")
    with pytest.raises(ValueError, match="no column 'seed'"):
        study.paired_difference(a, a[["test_accuracy"]], "test_accuracy")


def test_without_scipy_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ValueError, match=r"python -m pip install scipy"):
        study.interval([1, 2, 3])
