"""Branches for a GPU don't run where there is none. At least each name in them must exist."""

import ast
import operator
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def lacking(source: str) -> set[str]:
    """The dotted names in the source that begin with `torch.` and don't exist."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))
    names = {re.fullmatch(r"torch\.([\w.]+)", ast.unparse(node)) for node in nodes}
    return {name[0] for name in names if name and not exists(name[1])}


def exists(name: str) -> bool:
    try:
        operator.attrgetter(name)(torch)
    except AttributeError:
        return False
    return True


@pytest.mark.parametrize("folder", ["labkit", "benchmarks"])
def test_torch_has_every_name_that_we_use(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {file.name: lacking(file.read_text(encoding="utf-8")) for file in files}
    assert not {name: names for name, names in wrong.items() if names}


def test_a_wrong_name_is_found():
    source = "x = torch.cuda.getdevice_name(0) if gpu else torch.zeros(1).cpu()"
    assert lacking(source) == {"torch.cuda.getdevice_name"}
