"""Studies: grids of runs over several seeds, recorded one JSON file a run, and read back as tables.

study.reported("fashion_ablation")      # what a report claims
study.records("fashion_ablation")       # what we measured, one row a run
study.get("fashion_ablation").run()     # measure what is missing
study.judge()                           # which conclusions of the reports survive
"""

from labkit.study.catalogue import get, names
from labkit.study.claims import CLAIMS, Claim, Contrast, Page, judge
from labkit.study.definition import Study, by_name, grid, train_one
from labkit.study.intervals import Difference, interval, paired_difference, wilson
from labkit.study.tables import confusions, epochs, records, reported

__all__ = [
    "CLAIMS",
    "Claim",
    "Contrast",
    "Difference",
    "Page",
    "Study",
    "by_name",
    "confusions",
    "epochs",
    "get",
    "grid",
    "interval",
    "judge",
    "names",
    "paired_difference",
    "records",
    "reported",
    "train_one",
    "wilson",
]
