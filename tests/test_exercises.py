"""Student copies: made from the labs, current, and not solved."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from labkit import cli, exercises

ROOT = Path(__file__).parents[1]
LABS = exercises.lab_files(ROOT)


@cache
def labs() -> dict[str, dict]:
    """The labs' notebooks, by file name."""
    return {path.name: exercises.read_notebook(path) for path in LABS}


def copy_of(name: str) -> dict:
    return exercises.student_copy(labs()[name], name, frozenset(labs()))


def code(source: str) -> dict:
    lines = source.splitlines(keepends=True)
    output = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    return {
        "cell_type": "code",
        "execution_count": 3,
        "id": "c",
        "metadata": {},
        "outputs": [output],
        "source": lines,
    }


def text(source: str) -> dict:
    lines = source.splitlines(keepends=True)
    return {"cell_type": "markdown", "id": "m", "metadata": {}, "source": lines}


HEADING = "### Exercise 1: twice · easy · 3 minutes"
STUB = "def twice(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
CHECK = "checks.lab99_twice(twice)"


def notebook(*cells: dict) -> dict:
    metadata = {"kernelspec": {"name": "python3"}, "jupytext": {}}
    return {"cells": [*cells], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def tiny() -> dict:
    return notebook(text("# 99 · Tiny"), text(HEADING), code(STUB), code(CHECK))


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A project with one tiny lab."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "99_tiny.ipynb").write_text(exercises.as_text(tiny()))
    return tmp_path


def labkit(*arguments):
    return CliRunner().invoke(cli.app, ["exercises", *map(str, arguments)])


def test_the_committed_copies_are_what_the_labs_make():
    late = [path.name for path in exercises.stale(ROOT)]
    assert not late, f"stale: {', '.join(late)}; run  make exercises"


def test_every_lab_has_exercises_numbered_from_one():
    for name, lab in labs().items():
        numbers = [exercise.number for exercise in exercises.find(lab)]
        assert len(numbers) >= 2, name
        assert numbers == list(range(1, len(numbers) + 1)), name
        for exercise in exercises.find(lab):
            assert f"checks.lab{name[:2]}_" in "".join(lab["cells"][exercise.check]["source"])


@pytest.mark.parametrize("name", [path.name for path in LABS])
def test_a_copy_keeps_no_solution_and_no_output_and_its_code_compiles(name):
    lab, made = labs()[name], copy_of(name)
    whole = exercises.as_text(made)
    assert "SOLUTION" not in whole
    assert name in "".join(made["cells"][0]["source"])
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            ast.parse(re.sub(r"^(\s*)%", r"\1pass  # %", "".join(cell["source"]), flags=re.M))
    assert whole.count("raise NotImplementedError") == exercises.as_text(lab).count("### BEGIN SOL")
    nbformat.validate(made)  # valid, and all cell ids differ
    nbformat.validate(exercises.nbgrader_source(lab, "lab"))


def imports_of(lab: dict) -> dict:
    """The names that a lab's import cell defines."""
    sources = ("".join(cell["source"]) for cell in lab["cells"] if cell["cell_type"] == "code")
    names = {"__name__": "lab"}
    exec(next(source for source in sources if "from labkit import" in source), names)
    return names


class _Patient:
    """Stands in for a patient of lab 10, which takes long to make."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [path.name for path in LABS])
def test_an_untouched_copy_stops_at_each_of_its_checks_and_says_why(name, capsys):
    names = {**imports_of(labs()[name]), "patients": {1: _Patient()}}
    cells = copy_of(name)["cells"]
    for exercise in exercises.find(labs()[name]):
        # The copy has one cell more, at its beginning.
        stub, check = ("".join(cells[i + 1]["source"]) for i in (exercise.stub, exercise.check))
        says = f"^Exercise {exercise.number} is not solved yet: write your code in place of this"
        with pytest.raises(NotImplementedError, match=says):
            exec(f"{stub}\n{check}", names)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["00_start_here.ipynb", "02_double_softmax.ipynb"])
def test_with_the_solution_the_same_two_cells_pass(name, capsys):
    names, cells = imports_of(labs()[name]), labs()[name]["cells"]
    for exercise in exercises.find(labs()[name]):
        for place in (exercise.stub, exercise.check):
            exec("".join(cells[place]["source"]), names)
        assert "OK" in capsys.readouterr().out


def test_a_copy_runs_in_jupyter_up_to_its_first_exercise(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    monkeypatch.setenv("LABKIT_FULL", "0")
    name = "04_mlp_against_cnn.ipynb"  # the one that gets there first
    made = nbformat.reads(exercises.as_text(copy_of(name)), as_version=4)
    first = exercises.find(labs()[name])[0].check + 1
    made.cells = made.cells[: first + 3]
    client = nbclient.NotebookClient(made, timeout=60, resources={"metadata": {"path": tmp_path}})
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="Exercise 1 is not solved"):
        client.execute()
    failed = [
        place
        for place, cell in enumerate(made.cells)
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    assert failed == [first]


def test_links_in_a_copy_lead_to_files_that_exist():
    folder = ROOT / "notebooks" / "exercises"
    for name in labs():
        for cell in copy_of(name)["cells"]:
            if cell["cell_type"] == "markdown":
                for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", "".join(cell["source"])):
                    assert (folder / target).exists(), f"{name}: {target}"


def test_links_to_labs_with_copies_stay_and_others_go_up():
    links = "[a](00_a.ipynb#x) [b](../README.md#y) [c](https://e.org) [d](#here) [e](55_e.md)"
    made = exercises.student_copy(notebook(text(links)), "99_tiny.ipynb", {"00_a.ipynb"})
    assert made["cells"][1]["source"] == [
        "[a](00_a.ipynb#x) [b](../../README.md#y) [c](https://e.org) [d](#here) [e](../55_e.md)"
    ]


def test_every_pair_of_marks_becomes_a_stub_and_hidden_tests_go():
    two = f"{STUB}\n\n\n{STUB.replace('twice', 'again')}"
    hidden = f"{CHECK}\n### BEGIN HIDDEN TESTS\nassert twice(3) == 6\n### END HIDDEN TESTS"
    made = exercises.student_copy(notebook(text(HEADING), code(two), code(hidden)), "99_tiny.ipynb")
    source = "".join(made["cells"][2]["source"])
    assert source.count("    # YOUR CODE HERE\n    raise NotImplementedError(") == 2
    assert "2 * x" not in source
    assert "".join(made["cells"][3]["source"]) == f"{CHECK}"


def test_a_lab_without_cell_ids_gives_a_valid_copy():
    old = notebook(text(HEADING), code(STUB), code(CHECK)) | {"nbformat_minor": 0}
    for cell in old["cells"]:
        del cell["id"]
    nbformat.validate(nbformat.from_dict(exercises.student_copy(old, "99_tiny.ipynb")))


def test_two_labs_of_one_number_are_no_course(checkout, tmp_path):
    (lab,) = exercises.lab_files(checkout)
    lab.with_name(f"{lab.stem}_v2.ipynb").write_text(lab.read_text())
    with pytest.raises(ValueError, match=f"{lab.name} and {lab.stem}_v2.ipynb have one number"):
        exercises.write_course(checkout, tmp_path / "course")
    assert not (tmp_path / "course").exists()


@pytest.mark.parametrize(
    "changed",
    [
        "    # {}".format,
        "    {}:".format,
        "    {} (two lines)".format,
        "\t{}".format,
        "    pass  {}".format,
        lambda mark: f"    {mark.lower()}",
    ],
)
def test_a_mark_that_nbgrader_would_find_leaves_no_solution_behind(changed):
    lines = [changed(line.strip()) if "###" in line else line for line in STUB.split("\n")]
    cells = [text(HEADING), code("\n".join(lines)), code(CHECK)]
    made = exercises.student_copy(notebook(*cells), "99_tiny.ipynb")
    source = "".join(made["cells"][2]["source"])
    assert "2 * x" not in source
    assert "YOUR CODE HERE" in source
    assert "SOLUTION" not in source.upper()


def test_what_stays_is_what_nbgraders_own_preprocessors_leave():
    preprocessors = pytest.importorskip("nbgrader.preprocessors")
    stub = "\n".join(exercises._stub("Exercise 0"))
    clear = [
        preprocessors.ClearSolutions(enforce_metadata=False, code_stub={"python": stub}),
        preprocessors.ClearHiddenTests(enforce_metadata=False),
        preprocessors.ClearOutput(),
    ]
    for name, lab in labs().items():
        theirs = nbformat.reads(json.dumps(lab), as_version=4)
        for step in clear:
            theirs, _ = step.preprocess(theirs, {})
        for cell, own in zip(theirs.cells, copy_of(name)["cells"][1:], strict=True):
            if cell.cell_type == "code":
                mine = re.sub(r"Exercise \d+ is", "Exercise 0 is", "".join(own["source"]))
                assert mine == cell.source
                assert own["outputs"] == cell.outputs


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([code(STUB), code(CHECK)], "no heading of its own"),
        ([text("### Exercise 1: twice"), code(STUB), code(CHECK)], "no heading of its own"),
        ([text(HEADING), code(STUB), code(CHECK), code(STUB)], "no heading of its own"),
        ([text(HEADING), code(STUB)], "no cell below it calls its grader"),
        ([text(HEADING), code(STUB), text(HEADING), code(CHECK)], "calls its grader"),
        ([text(HEADING), code(STUB.replace("END", "###")), code(CHECK)], "has no '### END"),
        ([text(HEADING), code(f"{STUB}\n### END SOLUTION"), code(CHECK)], "come in pairs"),
        ([text(HEADING), code("### BEGIN SOLUTION\n" + STUB), code(CHECK)], "come in pairs"),
    ],
)
def test_an_exercise_with_a_piece_missing_is_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        exercises.student_copy(notebook(*cells), "99_tiny.ipynb")


def test_writing_twice_changes_nothing(checkout):
    first = labkit("write", "--root", checkout)
    assert "wrote notebooks/exercises/99_tiny.ipynb" in first.output
    path = checkout / "notebooks" / "exercises" / "99_tiny.ipynb"
    before = path.read_text()
    assert "Nothing to do." in labkit("write", "--root", checkout).output
    assert path.read_text() == before
    assert labkit("check", "--root", checkout).exit_code == 0


def test_check_names_copies_that_are_changed_missing_or_left_over(checkout):
    assert labkit("check", "--root", checkout).exit_code == 1  # missing
    labkit("write", "--root", checkout)
    folder = checkout / "notebooks" / "exercises"
    lab = checkout / "notebooks" / "99_tiny.ipynb"
    lab.write_text(lab.read_text().replace("Tiny", "Small"))
    (folder / "98_gone.ipynb").write_text((folder / "99_tiny.ipynb").read_text())
    checked = labkit("check", "--root", checkout)
    assert checked.exit_code == 1
    assert checked.output.splitlines() == [
        f"stale: notebooks/exercises/{name}; run  make exercises"
        for name in ("98_gone.ipynb", "99_tiny.ipynb")
    ]
    assert "removed notebooks/exercises/98_gone.ipynb" in labkit("write", "--root", checkout).output
    assert labkit("check", "--root", checkout).exit_code == 0


def test_a_copy_that_somebody_works_in_is_not_overwritten(checkout):
    labkit("write", "--root", checkout)
    path = checkout / "notebooks" / "exercises" / "99_tiny.ipynb"
    path.write_text(exercises.as_text(tiny()))
    done = labkit("write", "--root", checkout)
    assert done.exit_code == 1
    assert "somebody works in it" in done.output
    assert path.read_text() == exercises.as_text(tiny())


def test_an_answer_is_never_overwritten_or_removed(checkout):
    """Typed and saved, not yet run: no output tells of it."""
    labkit("write", "--root", checkout)
    folder, lab = checkout / "notebooks" / "exercises", checkout / "notebooks" / "99_tiny.ipynb"
    copy = (folder / "99_tiny.ipynb").read_text()
    answered = re.sub(r"raise NotImplementedError\(.*?\)", "return 2 * x", copy)
    assert answered != copy
    for name in ("99_tiny.ipynb", "99_tiny_ada.ipynb"):
        (folder / name).write_text(answered)
    (folder / "mine.ipynb").write_text(exercises.as_text(tiny()))
    lab.write_text(lab.read_text().replace("Tiny", "Small"))
    done = labkit("write", "--root", checkout)
    assert done.exit_code == 1
    assert "99_tiny.ipynb is not as `make exercises` left it" in done.output
    (folder / "99_tiny.ipynb").unlink()
    done = labkit("write", "--root", checkout)
    assert done.output.split() == ["wrote", "notebooks/exercises/99_tiny.ipynb"]
    assert (folder / "99_tiny_ada.ipynb").read_text() == answered
    assert (folder / "mine.ipynb").exists()
    assert labkit("check", "--root", checkout).exit_code == 0


def test_a_copy_that_is_no_text_is_named(checkout):
    labkit("write", "--root", checkout)
    (checkout / "notebooks" / "exercises" / "99_tiny.ipynb").write_bytes(b"\xff\xfe")
    assert "stale: notebooks/exercises/99_tiny" in labkit("check", "--root", checkout).output
    assert "99_tiny.ipynb is no notebook" in labkit("write", "--root", checkout).output


def test_what_nbgrader_hands_out_leads_neither_to_the_answers_nor_nowhere():
    for lab in exercises.lab_files(ROOT):
        made = exercises.nbgrader_source(exercises.read_notebook(lab), "lab")
        text = "".join("".join(c["source"]) for c in made["cells"] if c["cell_type"] == "markdown")
        assert "colab" not in text.lower().replace("in colab", "")
        assert not re.findall(r"\]\((?!https?:|#)[^)]*\.(?:ipynb|md)", text)


def test_no_checkout_and_a_broken_lab_are_named_in_one_sentence(checkout):
    nowhere = labkit("write", "--root", checkout / "notebooks")
    assert nowhere.exit_code == 1
    assert "is no checkout of the labs" in nowhere.output
    (checkout / "notebooks" / "98_odd.ipynb").write_text(exercises.as_text(notebook(code(STUB))))
    assert (
        "Error: 98_odd.ipynb: Cell 0 has a solution" in labkit("check", "--root", checkout).output
    )


def test_a_course_has_points_by_difficulty_and_keeps_the_solutions(checkout, tmp_path):
    course = tmp_path / "course"
    done = labkit("course", course, "--lab", "99", "--root", checkout)
    assert done.exit_code == 0
    made = exercises.read_notebook(course / "source" / "lab99" / "99_tiny.ipynb")
    stub, check = (cell["metadata"]["nbgrader"] for cell in made["cells"][2:])
    assert "return 2 * x" in "".join(made["cells"][2]["source"])
    assert (stub["solution"], stub["locked"], stub["grade"]) == (True, False, False)
    assert (check["grade"], check["locked"], check["points"]) == (True, True, 1)
    config = (course / "nbgrader_config.py").read_text()
    compile(config, "nbgrader_config.py", "exec")
    assert "course_id = 'course'" in config
    (course / "nbgrader_config.py").write_text("# mine")
    assert labkit("course", course, "--root", checkout).output.startswith("overwrote ")
    assert (course / "nbgrader_config.py").read_text() == "# mine"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ('"points": 1', '"points": 5'),
        ('"grade_id": "lab99-exercise1"', '"grade_id": "first"'),
        ('"locked": true', '"locked": false'),
    ],
)
def test_a_course_keeps_what_somebody_set(checkout, tmp_path, ours, theirs):
    """Nothing is written then, not even a lab that nobody touched."""
    labkit("course", tmp_path / "course", "--root", checkout)
    path = tmp_path / "course" / "source" / "lab99" / "99_tiny.ipynb"
    mine = path.read_text().replace(ours, theirs)
    assert mine != path.read_text()
    path.write_text(mine)
    (checkout / "notebooks" / "10_new.ipynb").write_text(exercises.as_text(tiny()))
    done = labkit("course", tmp_path / "course", "--root", checkout)
    assert done.exit_code == 1
    assert "is not as `labkit exercises course` left it" in " ".join(done.output.split())
    assert path.read_text() == mine
    assert not (path.parents[1] / "lab10").exists()


def test_a_course_where_nothing_can_be_written_says_so(checkout, tmp_path):
    (tmp_path / "course").write_text("a file")
    done = labkit("course", tmp_path / "course", "--lab", "99", "--root", checkout)
    assert done.exit_code == 1
    assert "Not a directory; name a folder that you can write to" in " ".join(done.output.split())


def test_an_unknown_lab_is_refused_with_the_list(checkout, tmp_path):
    done = labkit("course", tmp_path / "course", "--lab", "42", "--root", checkout)
    assert done.exit_code == 1
    assert "There is no lab '42'; the labs are 99." in done.output
    assert not (tmp_path / "course").exists()


CELLLESS = ['{"cells": []}', '{"cells": null}', '{"cells": [{}]}', '{"cells": ["a"]}']


@pytest.mark.parametrize("content", ["", "<<<<<<< HEAD", "{}", "[]", *CELLLESS])
def test_a_damaged_notebook_is_named(tmp_path, content):
    path = tmp_path / "01_lab.ipynb"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"01_lab.ipynb is no notebook.*restore it with git"):
        exercises.read_notebook(path)
