"""Tell the notebooks where the project lives: Colab badges, and the cell that installs labkit.

The address stands in pyproject.toml, [project.urls]; everything else is stamped from there.
Only JSON is edited, so stored outputs stay as they are.
"""

import re
import tomllib
from pathlib import Path

from labkit import exercises

_COLAB = "https://colab.research.google.com"
_GITHUB = "https://github.com/"
_NAME = re.compile(rf"(?:{_GITHUB})?([A-Za-z0-9-]+/[\w.-]+?)(?:\.git|/)?")
_ADDRESS = re.compile(rf'^(Repository = "){_GITHUB}[^"]*(")$', re.M)
_IS_INSTALLED = 'find_spec("labkit")'


def publish(root: Path, repo: str | None = None) -> list[Path]:
    """Stamp all labs, write their student copies, and return the paths of what has changed.

    `repo` is "OWNER/NAME" on GitHub, or its address; it goes into pyproject.toml. None stamps
    with what stands there: for a new lab. Raises ValueError where `repo` is neither.
    """
    address = repository(root) if repo is None else _checked(repo)
    stamped = {
        lab: stamp(exercises.read_notebook(lab), address, lab.name)
        for lab in exercises.lab_files(root)
    }
    exercises.to_write(root, exercises.expected(root, stamped))  # raises before anything is written
    changed = [] if repo is None else _write_address(root / "pyproject.toml", address)
    for lab, notebook in stamped.items():
        text = exercises.as_text(notebook)
        if text != lab.read_text("utf-8"):
            lab.write_text(text, "utf-8", newline="\n")
            changed.append(lab)
    return changed + exercises.write(root)


def repository(root: Path) -> str:
    """OWNER/NAME of the repository, as pyproject.toml says."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return _checked(project.get("urls", {}).get("Repository", ""))


def stamp(notebook: dict, repo: str, name: str) -> dict:
    """The notebook with a badge at the end of its title cell and, below that, a cell that
    installs labkit from GitHub where it is missing. `name` is its file in notebooks/."""
    title, *others = notebook["cells"]
    if title["cell_type"] != "markdown":
        raise ValueError(f"{name}: the first cell is code; write the title there, '# 01 · ...'.")
    text = f"{exercises.BADGE.sub('', ''.join(title['source'])).rstrip()}\n\n{_badge(repo, name)}"
    install = {
        "cell_type": "code",
        "execution_count": None,
        "id": "",
        "metadata": {},
        "outputs": [],
        "source": [],
    }
    if others and _IS_INSTALLED in "".join(others[0]["source"]):
        install, *others = others
    install = {**install, "source": _install(repo).splitlines(keepends=True)}
    cells = [{**title, "source": text.splitlines(keepends=True)}, install, *others]
    # nbstripout numbers the cells of a lab by their place: so do we.
    cells = [{**cell, "id": str(i)} for i, cell in enumerate(cells)]
    return {**notebook, "cells": cells, "nbformat_minor": max(5, notebook["nbformat_minor"])}


def _badge(repo: str, name: str) -> str:
    image = f"[![Open in Colab]({_COLAB}/assets/colab-badge.svg)]"
    return f"{image}({_COLAB}/github/{repo}/blob/main/notebooks/{name})"


def _install(repo: str) -> str:
    if repo == "OWNER/NAME":  # not published yet: that address is nobody's, or a stranger's
        return f"""\
from importlib.util import find_spec

if {_IS_INSTALLED} is None:
    raise ImportError("labkit is not installed here: choose the kernel of its environment")"""
    return f"""\
from importlib.util import find_spec

if {_IS_INSTALLED} is None:  # as in Colab, which has all that labkit needs: --no-deps
    %pip install --quiet --no-deps git+{_GITHUB}{repo}"""


def _checked(repo: str) -> str:
    """OWNER/NAME, from that or from an address on GitHub."""
    match = _NAME.fullmatch(repo)
    if not match:
        raise ValueError(f"{repo!r} is no repository on GitHub: write OWNER/NAME.")
    return match[1]


def _write_address(pyproject: Path, repo: str) -> list[Path]:
    text = pyproject.read_text("utf-8")
    new, count = _ADDRESS.subn(rf"\g<1>{_GITHUB}{repo}\g<2>", text)
    if count != 1:
        raise ValueError(
            f"{pyproject} has {count} lines 'Repository = \"{_GITHUB}OWNER/NAME\"': "
            "write one, below [project.urls]."
        )
    if new == text:
        return []
    pyproject.write_text(new, "utf-8", newline="\n")
    return [pyproject]
