"""Tables: what the original reports claim, and the runs that we recorded."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

_ROOM = Path(__file__).resolve().parent


def _folder(kind: str) -> Path:
    """data/`kind` of the checkout, or its copy in the installed package."""
    checkout = _ROOM.parent / "data" / kind
    return checkout if checkout.is_dir() else _ROOM / "_data" / kind


def _names(kind: str, pattern: str) -> list[str]:
    return sorted(path.stem for path in _folder(kind).glob(pattern))


def reported(name: str) -> pd.DataFrame:
    """A table of the original reports, as printed. Raises ValueError for an unknown name."""
    path = _folder("reported") / f"{name}.csv"
    if not path.exists():
        names = ", ".join(_names("reported", "*.csv"))
        raise ValueError(f"There is no reported table {name!r}; there are {names}")
    return pd.read_csv(path)


def records(name: str) -> pd.DataFrame:
    """The recorded runs of a study, one row a run: its configuration, seed, number of epochs,
    the last and the best epoch's metrics, test metrics and wall time in seconds.

    Empty when no run is recorded yet. Longer tables (one row an epoch): `epochs`.
    """
    rows = [
        {
            **run["config"],
            "seed": run["seed"],
            "epochs": len(run["epochs"]),
            **{key: value for key, value in run["epochs"][-1].items() if key != "epoch"},
            "best_val_acc": max(row.get("val_acc", float("nan")) for row in run["epochs"]),
            **{f"test_{key}": value for key, value in run["test"].items()},
            "seconds": run["seconds"],
            "data": run["data"]["name"],
            "device": run["device"],
        }
        for run in _runs(name)
    ]
    return pd.DataFrame(rows)


def epochs(name: str) -> pd.DataFrame:
    """The recorded curves of a study, one row an epoch of a run, with its configuration."""
    rows = [
        {**run["config"], "seed": run["seed"], **row}
        for run in _runs(name)
        for row in run["epochs"]
    ]
    return pd.DataFrame(rows)


def interval(values, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): the mean of a measurement over seeds and its Student t interval.

    For a comparison give the differences seed by seed: what two runs with one seed share then
    drops out. Raises ValueError for fewer than two values, or a value that is not finite.

        mean, low, high = interval(with_batchnorm - without)    # no finding while low < 0 < high
    """
    from scipy import stats  # comes with the labs; training and recording do without it

    values = np.asarray(values, dtype=float).ravel()
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"an interval over seeds needs two or more finite values, got {values.tolist()}: "
            "run more seeds, or leave out those that diverged and say so"
        )
    mean = values.mean()
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * standard_error
    return float(mean), float(mean - half), float(mean + half)


def _runs(name: str) -> list[dict]:
    return [
        json.loads(path.read_text()) for path in sorted((_folder("runs") / name).glob("*.json"))
    ]
