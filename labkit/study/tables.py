"""Tables: what the original reports claim, and the runs that we recorded."""

import json
from collections.abc import Mapping
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
    the last and the best epoch's metrics, test metrics, number of parameters, and wall time of
    the epochs in seconds. A run that diverged says so in `diverged`; it has no test metrics, and
    what it had reached before is no `best_val_acc`.

    Empty when no run is recorded yet. Longer tables (one row an epoch): `epochs`.
    """
    return one_row_each(runs_in(folder("runs") / name))


def epochs(name: str) -> pd.DataFrame:
    """The recorded curves of a study, one row an epoch of a run, with its configuration.

    Where a configuration has an "lr", the column "lr" holds that one in every epoch, and not what
    the schedule made of it.
    """
    return one_row_an_epoch(runs_in(folder("runs") / name))


def confusions(name: str) -> list[tuple[dict, int, list[list[int]]]]:
    """(configuration, seed, confusion matrix) of every recorded run that has one; counts of test
    images, a row a true class."""
    runs = runs_in(folder("runs") / name)
    return [(run["config"], run["seed"], run["confusion"]) for run in runs if "confusion" in run]


def one_row_each(runs: list[dict]) -> pd.DataFrame:
    """`records` of the runs given."""
    return pd.DataFrame([_row(run) for run in runs])


def one_row_an_epoch(runs: list[dict]) -> pd.DataFrame:
    """`epochs` of the runs given."""
    rows = [{**row, **run["config"], "seed": run["seed"]} for run in runs for row in run["epochs"]]
    return pd.DataFrame(rows)


def runs_in(place: Path) -> list[dict]:
    """The runs recorded in a folder, as their files hold them. Raises ValueError for a file that
    holds none, and for a second file of one run, which would count as another seed."""
    runs, files = [], {}
    for path in sorted(place.glob("*.json")):
        run = _read(path)
        mine = key(run["config"], run["seed"])
        if mine in files:
            raise ValueError(f"{path} holds the same run as {files[mine].name}: delete one of them")
        files[mine] = path
        runs.append(run)
    return runs


def key(config: Mapping, seed: int) -> str:
    """What tells a run from the others."""
    return as_text([config, seed])


def as_text(value) -> str:
    """A plain value as text; equal ones, also dicts in another order, have equal texts."""
    return json.dumps(value, sort_keys=True)


def where(frame: pd.DataFrame, chosen: Mapping) -> pd.DataFrame:
    """The rows of a table whose columns have the chosen values; none where a column is missing, as
    all are while nothing is recorded."""
    for key, value in chosen.items():
        if key not in frame:
            return frame.iloc[:0]
        if isinstance(value, list | tuple):  # a list in the table, as JSON has it
            frame = frame.loc[[there == list(value) for there in frame[key]]]
        else:
            frame = frame[frame[key] == value]
    return frame


def _row(run: dict) -> dict:
    curve = run["epochs"]
    last = curve[-1] if curve else {}
    accuracies = [] if "diverged" in run else [e.get("val_acc", float("nan")) for e in curve]
    row = {
        **run["config"],
        "seed": run["seed"],
        "epochs": last.get("epoch", 0),
        **{key: value for key, value in last.items() if key not in ("epoch", *run["config"])},
        "best_val_acc": max(accuracies, default=float("nan")),
        **{f"test_{key}": value for key, value in run["test"].items()},
        "seconds": run["seconds"],
        "data": run["data"]["name"],
        "device": run["device"],
    }
    return row | {key: run[key] for key in ("parameters", "diverged") if key in run}


def _read(path: Path) -> dict:
    try:
        run = json.loads(path.read_text())
        if not {"config", "seed", "epochs", "test", "seconds", "data", "device"} <= run.keys():
            raise ValueError
    except (ValueError, AttributeError):
        raise ValueError(f"{path} is no recorded run: delete it, and run the study again") from None
    return run
