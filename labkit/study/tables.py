"""Tables: what the original reports claim, and the runs that we recorded."""

import json
from pathlib import Path

import pandas as pd

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(kind: str) -> Path:
    """data/`kind` of the checkout, or its copy in the installed package."""
    checkout = _PACKAGE.parent / "data" / kind
    return checkout if checkout.is_dir() else _PACKAGE / "_data" / kind


def _names(kind: str, pattern: str) -> list[str]:
    return sorted(path.stem for path in folder(kind).glob(pattern))


def reported(name: str) -> pd.DataFrame:
    """A table of the original reports, as printed. Raises ValueError for an unknown name."""
    path = folder("reported") / f"{name}.csv"
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


def _runs(name: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder("runs") / name).glob("*.json"))]
