"""Long-run numbers in prose come from cells: what Markdown quotes stands in a report's table."""

import json
import re
from pathlib import Path

import pytest

from labkit import study
from labkit.study import tables

LABS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9]*.ipynb"))
# Results of mathematics, each checked in a cell beside it: from this share on the double softmax
# answers 100 %; Bonferroni's confidence for 45 pairs.
DERIVED = {("02", "57.3"), ("05", "99.9")}
PERCENTAGE = re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)\s?(?:%|per ?cent)")


def reported() -> set[float]:
    """Every number of the reports' tables, in per cent."""
    names = [path.stem for path in tables.folder("reported").glob("*.csv")]
    columns = [study.reported(name).select_dtypes("number") for name in names]
    values = {float(value) for table in columns for value in table.to_numpy().ravel()}
    return values | {100 * value for value in values}


REPORTED = reported()


def stray(text: str, lab: str) -> list[str]:
    """The percentages with a decimal place that no report has."""
    prose = re.sub(r"`[^`]*`", "", text)
    found = [match[1] for match in PERCENTAGE.finditer(prose) if "." in match[1]]
    return [
        number
        for number in found
        if (lab, number) not in DERIVED
        and not any(
            abs(float(number) - value) <= 0.5 * 10.0 ** -len(number.split(".")[1]) + 1e-9
            for value in REPORTED
        )
    ]


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_no_percentage_is_typed_that_no_report_has(path):
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert not [number for text in texts for number in stray(text, path.name[:2])]


def test_a_stray_percentage_is_found():
    assert stray("Ours reached 93.58 % on the validation set.", "08") == ["93.58"]
    assert stray("Ours: 11.11% and 12.3 per cent", "08") == ["11.11", "12.3"]
    assert stray("The report has 94.43 %, and `99.99 %` is code.", "08") == []
    assert stray("a 95 % interval, 70 % shirts", "08") == []
