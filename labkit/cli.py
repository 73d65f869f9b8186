"""The `labkit` command."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Look after the labs: environment, data, studies, student copies, publishing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def env() -> None:
    """Print OK or FAIL a line, with the way out of each FAIL; exit with 1 on any FAIL."""
    from labkit import environment

    report = environment.check()
    typer.echo(str(report))
    raise typer.Exit(code=not report.ok)


@app.command()
def data(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets; none means all.", show_default=False)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List them and where they are.")] = False,
) -> None:
    """Fetch data sets and verify that they can be read."""
    from labkit import data as room

    try:
        described = [room.describe(name) for name in names or room.available()]
    except ValueError as error:
        files = [name for name in names if Path(name).exists()]
        way_out = f" {files[0]} is yours: labkit.load reads it, nothing to fetch." if files else ""
        raise typer.BadParameter(f"{error}{way_out}") from None
    if list_:
        typer.echo(f"Folder: {room.data_folder()}")
        for known in described:
            typer.echo(_line(known))
        return
    failed = False
    for known in described:
        try:
            typer.echo(f"OK    {room.load(known.name)}")
        except (ValueError, OSError) as error:
            failed = True
            typer.echo(f"FAIL  {known.name}: {error}")
    raise typer.Exit(code=failed)


studies = typer.Typer(help="List, run and show the studies behind the labs.", no_args_is_help=True)
app.add_typer(studies, name="study")

_Name = Annotated[str, typer.Argument(help="A study, see `labkit study list`.")]
_Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="KEY=VALUE that a configuration must have; may be repeated."),
]
_Seeds = Annotated[
    str | None, typer.Option("--seeds", help="Seeds with commas, 0,1,2; else the study's own.")
]


@studies.command("list")
def list_studies() -> None:
    """The studies: how many of their runs are recorded, and what they ask."""
    from labkit import study

    for name in study.names():
        known = study.get(name)
        total = len(known.runs())
        try:
            done, said = total - len(known.missing()), known.question
        except ValueError as error:  # the others are listed all the same
            done, said = "?", f"Error: {error}"
        typer.echo(f"{name:<18}{done:>4} of {total:<4} runs   {said}")


@studies.command("run")
def run_study(
    name: _Name,
    workers: Annotated[
        int, typer.Option(help="Processes of one torch thread; 1 trains here, with all.")
    ] = 1,
    seeds: _Seeds = None,
    only: _Only = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; else the best.")] = None,
    dask: Annotated[str | None, typer.Option(help="A Dask scheduler, tcp://HOST:8786.")] = None,
) -> None:
    """Train every run that is not recorded yet; stop it whenever you like, and call it again."""
    chosen = _select(name, seeds, only)
    try:
        chosen.run(workers=workers, device=device, dask=dask)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(code=1) from None


@studies.command("show")
def show_study(name: _Name, seeds: _Seeds = None, only: _Only = None) -> None:
    """The recorded runs: a line a configuration, with the mean over seeds and its interval."""
    from labkit import study

    chosen = _select(name, seeds, only)
    runs = _or_exit(chosen.recorded)
    if not runs:
        filters = [f"--seeds {seeds}"] * bool(seeds) + [f"--only {pair}" for pair in only or []]
        command = " ".join(("labkit study run", name, *filters))
        what = "none of these runs is recorded yet" if filters else "no run recorded yet"
        typer.echo(f"{name}: {what}; {command}")
        return
    by_label = {chosen.label(config, 0): [] for config in chosen.configs}
    for run in runs:
        by_label[chosen.label(run["config"], 0)].append(run)
    for label, mine in by_label.items():
        typer.echo(_or_exit(_result, label, study.tables.one_row_each(mine)))
    typer.echo(f"{len(runs)} of {len(chosen.runs())} runs recorded")


copies = typer.Typer(
    help="Student copies of the labs, and an nbgrader course.", no_args_is_help=True
)
app.add_typer(copies, name="exercises")

_Root = Annotated[Path, typer.Option("--root", help="The checkout of the labs.")]


@copies.command("write")
def write_copies(root: _Root = Path()) -> None:
    """Write notebooks/exercises from the labs: no solutions, no outputs."""
    from labkit import exercises

    _show_changed(_or_exit(exercises.write, root), root)


@copies.command("check")
def check_copies(root: _Root = Path()) -> None:
    """Exit with 1 where a student copy is not what its lab makes."""
    from labkit import exercises

    changed = _or_exit(exercises.stale, root)
    for path in changed:
        typer.echo(f"stale: {path.relative_to(root)}; run  make exercises")
    raise typer.Exit(code=bool(changed))


@copies.command("course")
def write_course(
    folder: Annotated[Path, typer.Argument(help="The course's folder; made if need be.")],
    labs: Annotated[
        list[str] | None, typer.Option("--lab", help="02, say; may be repeated; else all.")
    ] = None,
    root: _Root = Path(),
) -> None:
    """Write labs as source notebooks of an nbgrader course, with points in their metadata."""
    from labkit import exercises

    there = set(folder.glob("source/*/*.ipynb"))
    for path in _or_exit(exercises.write_course, root, folder, labs):
        typer.echo(f"{'overwrote' if path in there else 'wrote'} {path}")


@app.command()
def publish(
    repo: Annotated[
        str | None,
        typer.Option(help="OWNER/NAME on GitHub; else as pyproject.toml says.", show_default=False),
    ] = None,
    root: _Root = Path(),
) -> None:
    """Stamp Colab badges and install cells of all labs and student copies, after a fork."""
    from labkit import publish as room

    _show_changed(_or_exit(room.publish, root, repo), root)


def _or_exit(function, *arguments):
    """function(*arguments); an error that a user can mend ends the command with its sentence."""
    try:
        return function(*arguments)
    except ValueError as error:
        typer.echo(f"Error: {error}", err=True)
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}; name a folder that you can write to"
        typer.echo(f"Error: {sentence if error.filename else error}", err=True)
    raise typer.Exit(code=1)


def _show_changed(paths: list[Path], root: Path) -> None:
    for path in paths:
        typer.echo(f"{'wrote' if path.exists() else 'removed'} {path.relative_to(root)}")
    if not paths:
        typer.echo("Nothing to do.")


def _select(name: str, seeds: str | None, only: list[str] | None):
    """The study that the options mean."""
    from labkit import study

    try:
        known = study.get(name)
        numbers = None if seeds is None else _numbers(seeds)
        return known.select(_pairs(only or [], known.keys()), numbers)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _numbers(seeds: str) -> list[int]:
    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ValueError(f"--seeds takes numbers with commas, got {seeds!r}") from None


def _pairs(only: list[str], keys: list[str]) -> dict[str, str]:
    for pair in only:
        if "=" not in pair:
            known = ", ".join(keys)
            raise ValueError(f"--only takes KEY=VALUE, KEY one of {known}; got {pair!r}")
    pairs = dict(pair.split("=", 1) for pair in only)
    if len(pairs) < len(only):
        raise ValueError(f"--only takes one value a key, got {only}: call once for each")
    return pairs


def _result(label: str, rows) -> str:
    """A configuration's runs as `labkit study show` shows them."""
    from labkit import study

    label = f"{label.removesuffix('_seed0'):<50}"
    if not len(rows):
        return f"{label} not recorded"
    accuracies = rows["test_accuracy"].dropna() if "test_accuracy" in rows else rows.iloc[:0]
    diverged = len(rows) - len(accuracies)
    note = f", {diverged} diverged" if diverged else ""
    if not len(accuracies):
        return f"{label} {diverged} diverged"
    if len(accuracies) == 1:
        return f"{label} test {accuracies.iloc[0]:.4f}           1 seed{note}"
    mean, low, high = study.interval(accuracies)
    return f"{label} test {mean:.4f} [{low:.4f}, {high:.4f}] {len(accuracies)} seeds{note}"


def _line(known) -> str:
    """A data set as `labkit data --list` shows it."""
    train, test = known.counts
    size = " x ".join(map(str, known.shape))
    if known.name == "shapes":
        place = "drawn by code"
    else:
        place = known.found or f"not here yet, {known.megabytes} MB to download"
    images = f"{train:,} + {test:,}" if test else f"{train:,}"
    return f"{known.name:<14}{size:<12}{len(known.classes):>3} classes  {images:<16}{place}"
