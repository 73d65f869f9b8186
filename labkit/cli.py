"""The `labkit` command."""

from typing import Annotated

import typer

app = typer.Typer(
    help="Look after the labs: check the environment, fetch the data.",
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
        raise typer.BadParameter(str(error)) from None
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
