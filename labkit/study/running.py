"""Run what is missing of a study: in processes on one machine, or on a Dask cluster.

The workers train and send their record back; this process alone writes the files, each beside
its place first and then renamed. So a study killed at any moment, or a worker killed, loses what
was in flight, and nothing is ever there twice or in half.
"""

import json
import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from labkit.settings import is_whole
from labkit.study.definition import Study, train_one

# glibc hands large blocks back to the system and page-faults them in anew at every step; a worker
# that keeps them trains large networks up to a third faster.
_KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}


def run(
    study: Study,
    *,
    workers: int = 1,
    device: str | None = None,
    dask: str | None = None,
    progress: bool = True,
) -> None:
    """Train every run of the study that no file records yet.

    workers: processes, each with one torch thread; 1 trains here, with all threads.
    device: where to train, by default the best there is.
    dask: the address of a Dask scheduler, "tcp://host:8786", whose workers have labkit and the
        data; `workers` is then theirs to say.

    Raises ValueError for data that cannot be had, for records of another recipe, data set,
    configuration or options, and for Dask workers of several threads; RuntimeError where a worker
    was killed (on a cluster: again and again). What is finished then is recorded, and the next
    call does the rest. Where this process itself is killed, its workers end with their epoch.
    """
    if not is_whole(workers) or workers < 1:
        raise ValueError(f"workers={workers!r}: give a whole number of processes, 1 or more")
    study.check_data()
    missing, total = study.missing(), len(study.runs())
    study.check_files(missing)
    study.folder.mkdir(parents=True, exist_ok=True)
    checkpoints = study.folder / ".checkpoints"
    # A process on Windows keeps its parent's number; on a cluster the parent is another.
    parent = os.getpid() if dask is None and sys.platform != "win32" else None
    with (
        tempfile.TemporaryDirectory() as notes,
        _Lines(study, missing, notes, progress) as lines,
    ):
        tasks = (
            joblib.delayed(_work)(study, config, seed, device, checkpoints, Path(notes), parent)
            for config, seed in missing
        )
        try:
            with _backend(workers, dask) as parallel:
                for record in parallel(tasks):
                    done = record["config"], record["seed"]
                    save(record, study.path(*done))
                    _clear(checkpoints, study.label(*done))
                    lines.finished(record)
        except TerminatedWorkerError:
            raise RuntimeError(
                f"A worker of the study {study.name!r} was killed, perhaps for want of memory; "
                f"{total - len(study.missing())} of {total} runs are recorded: call again, with "
                "fewer workers, for the rest"
            ) from None
    if not study.missing():
        for run in study.runs():  # what a kill between record and checkpoint left
            _clear(checkpoints, study.label(*run))
        with suppress(OSError):  # not there, or with checkpoints of runs that `select` left out
            checkpoints.rmdir()


def save(record: dict, path: Path) -> None:
    """Write beside the place, to the disk itself, then rename."""
    text = json.dumps(record, indent=1)  # before a file is opened: a failure leaves nothing
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _clear(checkpoints: Path, label: str) -> None:
    """Delete the checkpoint of a recorded run, and what a kill left of one half written."""
    for path in checkpoints.glob(f"{label}.pt*"):
        path.unlink(missing_ok=True)


@contextmanager
def _backend(workers: int, dask: str | None):
    """What takes joblib's tasks and gives back their records as they come."""
    if dask is not None:
        with _on_cluster(dask) as parallel:
            yield parallel
        return
    if workers == 1:
        yield joblib.Parallel(n_jobs=1, return_as="generator")
        return
    options = {"return_as": "generator_unordered", "batch_size": 1}
    with _environment(_KEEP_MEMORY), joblib.parallel_config("loky", inner_max_num_threads=1):
        yield joblib.Parallel(n_jobs=workers, **options)


@contextmanager
def _on_cluster(dask: str):
    """The same on a Dask cluster, without joblib: its backend trains here where there is only one
    worker, and waits for ever for workers that keep dying."""
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise ValueError("dask= needs Dask: python -m pip install distributed") from None
    with Client(dask) as client:
        if max(client.nthreads().values(), default=1) > 1:
            raise ValueError(
                f"{dask} has workers with several threads, whose runs would share torch's random "
                "numbers: start them with --nthreads 1"
            )

        def parallel(tasks):
            futures = [client.submit(f, *a, **k, pure=False, retries=2) for f, a, k in tasks]
            try:
                for _, record in as_completed(futures, with_results=True):
                    yield record
            except KilledWorker as error:
                raise TerminatedWorkerError(str(error)) from None

        yield parallel


@contextmanager
def _environment(values: dict[str, str]):
    """Variables for the workers that start in here; what the user has set counts."""
    mine = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for key in mine:
            del os.environ[key]


def _work(
    study: Study,
    config: dict,
    seed: int,
    device: str | None,
    checkpoints: Path,
    notes: Path,
    parent: int | None = None,
) -> dict:
    """One run, in a worker; each epoch is noted where the parent looks for it."""
    began = time.perf_counter()
    label = study.label(config, seed)
    note = notes / f"{label}.json"

    def end_with_parent() -> None:
        # Where it was killed nobody waits for this run, and the next call may be training it now.
        if parent not in (None, os.getpid(), os.getppid()):
            os._exit(1)

    def on_epoch(history) -> None:
        row = history.rows[-1]
        line = {"epoch": row["epoch"], "of": history.recipe.epochs, "val_acc": row.get("val_acc")}
        with suppress(OSError):  # a worker on another machine, or a full disk, does without
            save(line, note)
        end_with_parent()

    end_with_parent()
    if os.environ.get("OMP_NUM_THREADS") == "1":  # a worker that was forked keeps torch's default
        torch.set_num_threads(1)
    # The parent deletes the checkpoint, once it has saved the record; another machine has none.
    checkpoint = checkpoints / f"{label}.pt" if study.folder.is_dir() else None
    options = {"device": device, "checkpoint": checkpoint, "on_epoch": on_epoch}
    record = (study.train or train_one)(study, config, seed, **options)
    with suppress(OSError):
        note.unlink()
    record["data"]["options"] = study.options_for(config)
    return {**record, "wall_seconds": time.perf_counter() - began}


class _Lines:
    """One progress line for the study and one for each run in flight, drawn in a terminal; where
    there is none, a line a finished run."""

    def __init__(self, study: Study, missing: list, notes: str, shown: bool):
        self.study, self.notes, self.count = study, Path(notes), len(missing)
        self.done, self.began = 0, time.perf_counter()
        self.shown = shown
        self.live = shown and bool(missing) and sys.stderr.isatty()
        self.stop = threading.Event()
        self.bars: dict[str, tqdm] = {}

    def __enter__(self):
        if self.shown:
            total = len(self.study.runs())
            print(
                f"{self.study.name}: {total - self.count} of {total} runs recorded, "
                f"{self.count} to do",
                file=sys.stderr,
            )
        if self.live:
            shape = "{desc} {bar:20} {n:.1f}/{total} runs {elapsed}<{remaining}"
            self.whole = tqdm(total=self.count, desc=self.study.name, bar_format=shape, smoothing=0)
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, kind, *_):
        if self.live:
            self.stop.set()
            self.thread.join()
            for bar in (*self.bars.values(), self.whole):
                bar.close()
        if self.shown and self.count:
            minutes = (time.perf_counter() - self.began) / 60
            rest = self.count - self.done
            tail = f"; {rest} left for the next call" if rest else ""
            print(
                f"{self.study.name}: {self.done} runs in {minutes:.1f} min{tail}", file=sys.stderr
            )

    def finished(self, record: dict) -> None:
        self.done += 1
        if not self.shown:
            return
        label = self.study.label(record["config"], record["seed"])
        accuracy = record["test"].get("accuracy")
        result = "diverged" if accuracy is None else f"test {accuracy:.4f}"
        left = (time.perf_counter() - self.began) / self.done * (self.count - self.done) / 60
        line = f"{label}: {result}, {record['wall_seconds']:.0f} s; about {left:.0f} min left"
        tqdm.write(line, file=sys.stderr)

    def _watch(self) -> None:
        while not self.stop.wait(0.5):
            notes = {path.stem: _read(path) for path in self.notes.glob("*.json")}
            self._draw({label: note for label, note in notes.items() if note})

    def _draw(self, running: dict[str, dict]) -> None:
        for label in [label for label in self.bars if label not in running]:
            self.bars.pop(label).close()
        for label, note in running.items():
            if label not in self.bars:
                shape = "  {desc} {bar:20} epoch {n}/{total}{postfix}"
                self.bars[label] = tqdm(total=note["of"], desc=label, bar_format=shape, leave=False)
            bar = self.bars[label]
            bar.n = note["epoch"]
            if note["val_acc"] is not None:
                bar.set_postfix_str(f"validation {note['val_acc']:.3f}", refresh=False)
            bar.refresh()
        begun = sum(note["epoch"] / note["of"] for note in running.values())
        self.whole.n = min(self.done + begun, self.count)
        self.whole.refresh()


def _read(path: Path) -> dict | None:
    """A note that its worker may be removing just now."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
