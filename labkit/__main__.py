"""`python -m labkit`: the `labkit` command where its folder is not on the path."""

from labkit.cli import app

app()
