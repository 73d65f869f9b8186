"""Where the project lives stands once in pyproject.toml, and is stamped into every notebook."""

import json
import tomllib
from importlib import util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit import cli, exercises
from labkit.publish import publish, repository, stamp

ROOT = Path(__file__).parents[1]
PYPROJECT = (
    '[project]\nname = "x"\n\n[project.urls]\nRepository = "https://github.com/OWNER/NAME"\n'
)
# What Colab has; labkit is installed there with --no-deps and must do with it.
COLAB = {
    "torch": "2.11",
    "torchvision": "0.26",
    "numpy": "2.1",
    "pandas": "2.2",
    "matplotlib": "3.10",
    "ipywidgets": "7.7.1",
    "ipykernel": "6.17.1",
}
LAB = {
    "cells": [
        {"cell_type": "markdown", "id": "0", "metadata": {}, "source": ["# 99 · Tiny\n", "Text."]},
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": "1",
            "metadata": {"tags": ["nbval-ignore-output"]},
            "outputs": [{"name": "stdout", "output_type": "stream", "text": ["é\n"]}],
            "source": ["import labkit"],
        },
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def with_an_exercise() -> dict:
    """The lab with a solution and its check."""
    exercise = [
        {"cell_type": "markdown", "id": "2", "metadata": {}},
        {**LAB["cells"][1], "source": ["### BEGIN SOLUTION\nx = 1\n### END SOLUTION"]},
        {**LAB["cells"][1], "source": ["checks.lab99_x(x)"]},
    ]
    exercise[0]["source"] = ["### Exercise 1: x · easy · 1 minute"]
    return {**LAB, "cells": LAB["cells"] + exercise}


@pytest.fixture
def checkout(tmp_path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "99_tiny.ipynb").write_text(exercises.as_text(LAB), "utf-8")
    return tmp_path


def labkit(*arguments):
    return CliRunner().invoke(cli.app, ["publish", *map(str, arguments)])


def cells(checkout) -> list[dict]:
    return exercises.read_notebook(checkout / "notebooks" / "99_tiny.ipynb")["cells"]


def test_every_lab_is_stamped_with_the_address_of_pyproject():
    repo = repository(ROOT)
    for path in exercises.lab_files(ROOT):
        lab = exercises.read_notebook(path)
        late = f"{path.name} has no badge or an old one; run  labkit publish"
        assert stamp(lab, repo, path.name) == lab, late


def test_publish_stamps_address_badge_and_cell_and_a_second_time_nothing(checkout):
    first = labkit("--repo", "ada/labs", "--root", checkout)
    assert first.output.split() == ["wrote", "pyproject.toml", "wrote", "notebooks/99_tiny.ipynb"]
    title, install, _ = cells(checkout)
    assert title["source"][-1] == (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        "(https://colab.research.google.com/github/ada/labs/blob/main/notebooks/99_tiny.ipynb)"
    )
    assert install["source"][-1].endswith("--no-deps git+https://github.com/ada/labs")
    assert repository(checkout) == "ada/labs"
    assert labkit("--root", checkout).output == "Nothing to do.\n"
    labkit("--repo", "https://github.com/bob/fork.git", "--root", checkout)
    assert "ada/labs" not in json.dumps(cells(checkout))
    assert repository(checkout) == "bob/fork"
    assert [cell["id"] for cell in cells(checkout)] == ["0", "1", "2"]


@pytest.mark.parametrize("trouble", ["a copy in use", "a lab that begins with code"])
def test_publish_writes_all_or_nothing(checkout, trouble):
    publish(checkout, "ada/labs")
    folder = checkout / "notebooks"
    if trouble == "a copy in use":
        (folder / "98_more.ipynb").write_text(exercises.as_text(with_an_exercise()))
        publish(checkout)
        copy = exercises.read_notebook(folder / "exercises" / "98_more.ipynb")
        copy["cells"][-1]["execution_count"] = 1
        (folder / "exercises" / "98_more.ipynb").write_text(exercises.as_text(copy))
    else:
        (folder / "98_more.ipynb").write_text(exercises.as_text({**LAB, "cells": LAB["cells"][1:]}))
    before = {path: path.read_text() for path in checkout.rglob("*") if path.is_file()}
    assert labkit("--repo", "bob/fork", "--root", checkout).exit_code == 1
    assert {path: path.read_text() for path in checkout.rglob("*") if path.is_file()} == before


def test_outputs_counts_and_tags_of_a_lab_stay(checkout):
    publish(checkout, "ada/labs")
    assert {**cells(checkout)[2], "id": "1"} == LAB["cells"][1]
    executed = exercises.read_notebook(checkout / "notebooks" / "99_tiny.ipynb")
    executed["cells"][1]["execution_count"] = 1
    (checkout / "notebooks" / "99_tiny.ipynb").write_text(exercises.as_text(executed), "utf-8")
    publish(checkout, "bob/fork")
    assert cells(checkout)[1]["execution_count"] == 1
    assert len(cells(checkout)) == 3


def test_an_older_lab_gets_its_badge_in_place_of_the_line_that_stood_there():
    old = {"cell_type": "markdown", "id": "0", "metadata": {}}
    old["source"] = ["# 1\n", "[How to open it in Colab](../README.md#in-colab)"]
    title = stamp({**LAB, "cells": [old]}, "ada/labs", "99_tiny.ipynb")["cells"][0]
    assert "How to" not in "".join(title["source"])
    assert "".join(title["source"]).startswith("# 1\n\n[![Open in Colab]")


def test_student_copies_open_themselves_in_colab(checkout):
    (checkout / "notebooks" / "99_tiny.ipynb").write_text(exercises.as_text(with_an_exercise()))
    publish(checkout, "ada/labs")
    copy = (checkout / "notebooks" / "exercises" / "99_tiny.ipynb").read_text("utf-8")
    assert "ada/labs/blob/main/notebooks/exercises/99_tiny.ipynb" in copy
    assert "ada/labs/blob/main/notebooks/99_tiny.ipynb" not in copy
    assert "git+https://github.com/ada/labs" in copy


def test_the_cell_does_nothing_where_labkit_is_there_and_installs_where_it_is_not(monkeypatch):
    source = "".join(stamp(LAB, "ada/labs", "99_tiny.ipynb")["cells"][1]["source"])
    calls = []
    source = source.replace("%pip", "calls.append('''") + "''')"
    exec(source, {"calls": calls})
    assert calls == []
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    exec(source, {"calls": calls})
    assert calls == [" install --quiet --no-deps git+https://github.com/ada/labs"]


def test_labkit_asks_for_nothing_newer_than_colab_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["labs"]
    bounds = dict(requirement.split(">=") for requirement in wanted)
    for name, version in COLAB.items():
        asked, there = ([int(n) for n in v.split(".")] for v in (bounds[name], version))
        assert asked <= there, f"{name}>={bounds[name]}, but Colab has {version}"


@pytest.mark.parametrize(
    "repo", ["labs", "ada/labs/more", "https://gitlab.com/ada/labs", "a b/c", ""]
)
def test_what_is_no_repository_is_refused_and_nothing_written(checkout, repo):
    done = labkit("--repo", repo, "--root", checkout)
    assert done.exit_code == 1
    assert f"{repo!r} is no repository on GitHub: write OWNER/NAME." in done.output
    assert (checkout / "pyproject.toml").read_text() == PYPROJECT


def test_a_project_without_an_address_or_a_title_says_what_is_missing(checkout):
    (checkout / "pyproject.toml").write_text('[project]\nname = "x"\n')
    with pytest.raises(ValueError, match=r"0 lines 'Repository = .*below \[project.urls\]"):
        publish(checkout, "ada/labs")
    with pytest.raises(ValueError, match="first cell is code; write the title"):
        stamp({**LAB, "cells": LAB["cells"][1:]}, "ada/labs", "99_tiny.ipynb")


def test_a_lab_that_is_not_published_installs_nothing(monkeypatch):
    source = "".join(stamp(LAB, "OWNER/NAME", "99_tiny.ipynb")["cells"][1]["source"])
    assert "pip" not in source
    exec(source, {})
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="choose the kernel of its environment"):
        exec(source, {})
