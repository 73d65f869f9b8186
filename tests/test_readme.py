"""The README is true: what it shows is what a reader gets."""

import re
import textwrap
from pathlib import Path

import pytest
from torch import nn

import labkit

README = (Path(__file__).parents[1] / "README.md").read_text()


def shown(start, end):
    """The indented lines from the one that begins with `start` to the one with `end` in it."""
    found = re.search(rf"^    {re.escape(start)}.*?{re.escape(end)}[^\n]*$", README, re.S | re.M)
    return textwrap.dedent(found[0])


@pytest.mark.filterwarnings("ignore")
def test_the_report_on_the_double_softmax_is_the_one_shown():
    names = {}
    code = shown("import labkit", "model = SoftmaxRegression()")
    exec(code.replace('"fashion_mnist", limit=2_000', '"shapes", limit=500'), names)
    # A stand-in is in colour and of another size: the report must not depend on the images.
    shape = names["batches"][0][0][0].numel()
    names["model"].net[1] = nn.Linear(shape, 10)
    report = labkit.diagnose(names["model"], names["model"].loss, names["batches"])
    # The time differs, and the rounding: 0 or 2e-07, as the first weights fall.
    varying = re.compile(r"\d+ checks in [\d.]+ s|(?<=the loss by )(0|\de-0[6-9])$", re.M)
    expected = shown("SoftmaxRegression: 1 finding", "fix  ")
    assert varying.sub("", str(report)).startswith(varying.sub("", expected))


def test_every_lab_and_every_room_is_in_the_tables():
    root = Path(__file__).parents[1]
    for lab in (root / "notebooks").glob("[0-9]*.ipynb"):
        assert f"(notebooks/{lab.name})" in README
    for module in (root / "labkit").iterdir():
        name = module.stem
        if module.suffix in {"", ".py"} and not name.startswith("_"):
            assert re.search(rf"^\| .*`{name.split('_')[0]}", README, re.M), name
