"""The whole way of a course through nbgrader: source, release, submissions, marks."""

import json
import os
import sys
from pathlib import Path

import pytest

from labkit import exercises

pytest.importorskip("nbgrader")

ROOT = Path(__file__).parents[1]


def light_checkout(root: Path) -> None:
    """A checkout whose lab 00 has only its title, its imports and its exercises: the cells in
    between train a network, which marks don't depend on."""
    lab = exercises.read_notebook(exercises.lab_files(ROOT)[0])
    places = {0, next(i for i, c in enumerate(lab["cells"]) if "import labkit\n" in c["source"])}
    for exercise in exercises.find(lab):
        places |= {exercise.stub - 1, exercise.stub, exercise.check}
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    lab["cells"] = [lab["cells"][place] for place in sorted(places)]
    (root / "notebooks" / "00_start_here.ipynb").write_text(exercises.as_text(lab), "utf-8")


def submit(course: Path, student: str, change) -> None:
    """Hand in the released notebook after `change(cell)` of each cell that nbgrader knows."""
    made = exercises.read_notebook(course / "release" / "lab00" / "00_start_here.ipynb")
    for cell in made["cells"]:
        if "nbgrader" in cell["metadata"]:
            change(cell, cell["metadata"]["nbgrader"])
    folder = course / "submitted" / student / "lab00"
    folder.mkdir(parents=True)
    (folder / "00_start_here.ipynb").write_text(json.dumps(made), "utf-8")


@pytest.mark.filterwarnings("ignore")
def test_solved_gets_full_marks_and_untouched_none_although_its_checks_were_removed(
    tmp_path, monkeypatch, capfd
):
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    course = tmp_path / "course"
    light_checkout(tmp_path / "checkout")
    (source,) = exercises.write_course(tmp_path / "checkout", course, ["00"])
    monkeypatch.chdir(course)
    # nbgrader calls alembic by its name.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    config = PyFileConfigLoader("nbgrader_config.py", str(course)).load_config()
    config.CourseDirectory.root = str(course)
    api = NbGraderAPI(config=config)
    made = api.generate_assignment("lab00")
    assert made["success"], made
    released = (course / "release" / "lab00" / "00_start_here.ipynb").read_text()
    assert "argmax(dim=1) == labels" not in released
    assert "This exercise is not solved yet" in released

    answers = {
        cell["metadata"]["nbgrader"]["grade_id"]: cell["source"]
        for cell in exercises.read_notebook(source)["cells"]
        if "nbgrader" in cell["metadata"]
    }

    def solve(cell, about):
        if about["solution"]:
            cell["source"] = answers[about["grade_id"]]

    def remove_the_check(cell, about):
        if about["grade"]:
            cell["source"] = ["pass"]

    submit(course, "ada", solve)
    submit(course, "bob", remove_the_check)
    marks = {}
    for student in ("ada", "bob"):
        graded = api.autograde("lab00", student)
        assert graded["success"], graded
        submission = api.gradebook.find_submission("lab00", student)
        marks[student] = submission.score, submission.max_score
    api.gradebook.close()
    assert marks == {"ada": (2, 2), "bob": (0, 2)}
