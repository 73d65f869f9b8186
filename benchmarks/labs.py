"""Seconds and peak memory of each lab in quick mode: python benchmarks/labs.py

Executes every notebook from top to bottom, two at a time with one thread each, as `make test` does,
and prints a row a lab: wall seconds, processor seconds, and the largest process's memory. The
notebooks are not changed.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from heading import heading

LABS = sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def execute(lab: Path) -> dict:
    """One lab in a process of its own, whose kernel is that process's child."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("LABKIT_FULL", None)
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, str(lab)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    return {
        "lab": lab.stem,
        "seconds": time.perf_counter() - began,
        "processor": usage.ru_utime + usage.ru_stime,
        "mebibytes": usage.ru_maxrss / 1024,
        "failed": status != 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="NN", help="labs by number, as in 02 06")
    arguments = parser.parse_args()
    labs = [lab for lab in LABS if not arguments.only or lab.stem[:2] in arguments.only]
    heading(f"Labs in quick mode, {arguments.workers} at a time, one thread each", "torch")
    print(f"{'lab':<28}{'seconds':>9}{'processor s':>13}{'peak MiB':>10}")
    began = time.perf_counter()
    with ThreadPoolExecutor(arguments.workers) as pool:
        for row in pool.map(execute, labs):
            cells = f"{row['seconds']:9.0f}{row['processor']:13.0f}{row['mebibytes']:10,.0f}"
            print(f"{row['lab']:<28}{cells}{'  FAILED' if row['failed'] else ''}", flush=True)
    print(f"{'together':<28}{time.perf_counter() - began:9.0f}")


if __name__ == "__main__":
    main()
