"""What the clinic's bench measured, read back."""

import json

import pandas as pd

from labkit.study.tables import folder


def bench() -> pd.DataFrame:
    """The recorded runs of benchmarks/clinic.py, one row a run; empty where none is recorded.

    part: "tuned" where thresholds were tuned, "other shapes" and "other data" where not.
    bugs, variant: what was put into a healthy set-up.  wanted: the causes that a perfect diagnosis
    names, none in a healthy run.  found, loss_rule, umlaut: the causes that the clinic and the two
    baselines named, the most likely first.  seconds: CPU time of the clinic.
    """
    path = folder("runs") / "clinic" / "bench.jsonl"
    if not path.exists():
        return pd.DataFrame()
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
