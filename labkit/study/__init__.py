"""Studies: grids of runs over several seeds, recorded one JSON file a run, and read back as tables.

study.reported("fashion_ablation")      # what a report claims
study.records("fashion_ablation")       # what we measured, one row a run
study.get("fashion_ablation").run()     # measure what is missing
"""

from labkit.study.intervals import interval
from labkit.study.tables import epochs, records, reported

__all__ = ["epochs", "interval", "records", "reported"]
