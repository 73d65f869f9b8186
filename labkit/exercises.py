"""Student copies of the labs, and the version of a lab that nbgrader takes.

A lab is the only source: its solutions stand between `### BEGIN SOLUTION` and `### END SOLUTION`,
and the cell with the grader follows. What nbgrader would do to make a copy is a few lines over
the notebook's JSON. Done here, it needs nothing installed, each stub can name its exercise, and
a new release of nbgrader makes no copy stale.
"""

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

POINTS = {"easy": 1, "medium": 2, "hard": 3}

_HEADING = re.compile(r"^### Exercise (\d+): (.+?) · (easy|medium|hard)\b", re.M)
# Anywhere in a line and in any case, as nbgrader finds them: what it clears must not stay here.
_MARK = re.compile(r"^(\s*).*?### (BEGIN|END) (SOLUTION|HIDDEN TESTS)", re.I | re.M)
_LINK = re.compile(r"(\]\(|(?:src|href)=\")(?!https?:|#|/|attachment:|mailto:|data:)([^)\"\s]+)")
# The badge of `labkit publish`, and the line that stood there before there was one.
BADGE = re.compile(
    r"\n*^(?:\[!\[[^]]*\]\([^)]*colab-badge\.svg\)\]\([^)]*\)"
    r"|\[How to open it in Colab\]\([^)]*\))$",
    re.M,
)
_RELATIVE = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:|#|/|attachment:|mailto:|data:)[^)]*\)")
_CONFIG = '''\
"""How nbgrader treats this course; written by `labkit exercises course`, yours to change."""

c = get_config()
c.CourseDirectory.course_id = {course!r}
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
c.Execute.timeout = 600  # seconds a cell; a lab trains networks
'''


@dataclass(frozen=True)
class Exercise:
    """An exercise of a lab: what its heading says, and the places of its stub and its grader
    among the notebook's cells."""

    number: int
    title: str
    difficulty: str
    stub: int
    check: int

    @property
    def points(self) -> int:
        """1 for an easy one, 2 for a medium one, 3 for a hard one."""
        return POINTS[self.difficulty]


def find(notebook: dict) -> list[Exercise]:
    """The exercises of a lab, in order. `notebook` is its JSON.

    Raises ValueError where a solution has no heading `### Exercise 1: title · easy · ...` above
    it or no cell `checks.labNN_...` below it.
    """
    found, heading = [], None
    cells = notebook["cells"]
    for place, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = ([*_HEADING.finditer(source)] or [heading])[-1]
        elif any(_kind(mark) == ("BEGIN", "SOLUTION") for mark in _MARK.finditer(source)):
            if heading is None or (found and found[-1].number == int(heading[1])):
                raise ValueError(
                    f"Cell {place} has a solution but no heading of its own: write "
                    "'### Exercise 1: title · easy · 5 minutes' above it (easy, medium or hard)."
                )
            check = _next_check(cells, place)
            found.append(Exercise(int(heading[1]), heading[2], heading[3], place, check))
    return found


def student_copy(notebook: dict, name: str, names: set[str] | frozenset[str] = frozenset()) -> dict:
    """The JSON of the student copy: no solutions, no outputs, a first line about its origin.

    `name` is the lab's file, `names` those of all labs that have a copy beside this one: links
    to them stay, other relative links go up one folder.
    """
    made = _without_outputs(notebook)
    for exercise in find(made):
        cell = made["cells"][exercise.stub]
        cell["source"] = _cleared(cell["source"], f"Exercise {exercise.number}")
    for cell in made["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = _LINK.sub(lambda link: _moved(link, names), text)
            text = text.replace(f"/notebooks/{name}", f"/notebooks/exercises/{name}")
        else:
            text = _without(text, "HIDDEN TESTS")
        cell["source"] = _lines(text)
    first = (
        f"*Student copy of [{name}](../{name}), which has the answers; made by `make exercises`. "
        "It runs up to the first exercise that is not solved yet.*"
    )
    made["cells"].insert(
        0, {"cell_type": "markdown", "id": "student-copy", "metadata": {}, "source": [first]}
    )
    for place, cell in enumerate(made["cells"]):  # a lab saved by Colab has no ids
        cell.setdefault("id", str(place))
    made["nbformat_minor"] = max(5, made["nbformat_minor"])
    return _signed(made)


def nbgrader_source(notebook: dict, lab: str) -> dict:
    """The JSON of a lab for nbgrader's `source` folder: solutions stay, and stubs and graders get
    nbgrader's metadata, with the points of the exercise's difficulty. `lab` begins their names."""
    made = _without_outputs(notebook)
    title = made["cells"][0]  # its badge opens the lab with the answers
    title["source"] = _lines(BADGE.sub("", "".join(title["source"])))
    for cell in made["cells"]:
        if cell["cell_type"] == "markdown":  # what it links to is not handed out with it
            cell["source"] = _lines(_RELATIVE.sub(r"\1", "".join(cell["source"])))
    for exercise in find(made):
        name = f"{lab}-exercise{exercise.number}"
        _mark(made["cells"][exercise.stub], name, solution=True)
        _mark(made["cells"][exercise.check], f"{name}-check", points=exercise.points)
    return _signed(made)


def expected(root: Path, labs: dict[Path, dict] | None = None) -> dict[Path, str]:
    """The text that each student copy should have, by its path. `root` is the checkout, `labs`
    the JSON of its labs; None reads them."""
    labs = labs or {lab: read_notebook(lab) for lab in lab_files(root)}
    with_exercises = {lab.name for lab in labs if _named(find, lab, labs[lab])}
    folder = root / "notebooks" / "exercises"
    return {
        folder / lab.name: as_text(_named(student_copy, lab, labs[lab], lab.name, with_exercises))
        for lab in labs
        if lab.name in with_exercises
    }


def stale(root: Path, wanted: dict[Path, str] | None = None) -> list[Path]:
    """The student copies that are not what their lab makes: changed, missing, or left over from
    a lab that is gone. A file beside them that somebody has worked in, or that is no copy of
    ours, is nobody's business. `wanted` is what `expected` gives; None asks it."""
    wanted = expected(root) if wanted is None else wanted
    there = set((root / "notebooks" / "exercises").glob("*.ipynb"))
    differ = {path for path in wanted if not (path in there and _holds(path, wanted[path]))}
    return sorted(differ | {path for path in there - set(wanted) if _is_untouched(path)})


def to_write(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """The paths in `stale`. Raises ValueError where somebody has worked in one of them."""
    changed = stale(root, wanted)
    for path in changed:
        if not path.exists():
            continue
        read_notebook(path)  # a damaged one is named
        if not _is_untouched(path):
            raise ValueError(
                f"{path.relative_to(root)} is not as `make exercises` left it, so somebody works "
                "in it: move it out of notebooks/exercises, then call this again."
            )
    return changed


def write(root: Path) -> list[Path]:
    """Write the student copies that are stale, remove those without a lab, return their paths.

    Raises ValueError, before anything is written, where somebody has worked in one of them.
    """
    wanted = expected(root)
    changed = to_write(root, wanted)
    for path in changed:
        if path in wanted:
            path.parent.mkdir(exist_ok=True)
            path.write_text(wanted[path], "utf-8", newline="\n")
        else:
            path.unlink()
    return changed


def write_course(root: Path, folder: Path, labs: list[str] | None = None) -> list[Path]:
    """Write an nbgrader course: FOLDER/source/labNN/NN_....ipynb for each lab ("02"; None means
    all), and nbgrader_config.py where there is none yet. Returns the paths of the notebooks.

    Raises ValueError, before anything is written, where one is there that somebody has changed,
    and for two labs of one number.
    """
    known = {}
    for path in lab_files(root):
        if path.name[:2] in known:
            raise ValueError(
                f"{known[path.name[:2]].name} and {path.name} have one number: move one of them "
                "out of notebooks, then call this again."
            )
        known[path.name[:2]] = path
    unknown = sorted(set(labs or ()) - set(known))
    if unknown:
        raise ValueError(f"There is no lab {unknown[0]!r}; the labs are {', '.join(known)}.")
    sources = {}
    for number in labs or known:
        lab = known[number]
        path = folder / "source" / f"lab{number}" / lab.name
        if path.exists() and not _is_untouched(path):
            raise ValueError(
                f"{path} is not as `labkit exercises course` left it, so it has changes of yours: "
                "move it away, or name the other labs with --lab, then call this again."
            )
        sources[path] = _named(nbgrader_source, lab, read_notebook(lab), f"lab{number}")
    for path, source in sources.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(source), "utf-8", newline="\n")
    config = folder / "nbgrader_config.py"
    if not config.exists():
        stub = "\n".join(_stub("This exercise"))
        config.write_text(
            _CONFIG.format(course=folder.resolve().name, stub=stub), "utf-8", newline="\n"
        )
    return list(sources)


def lab_files(root: Path) -> list[Path]:
    """The labs of a checkout. Raises ValueError where `root` is none."""
    labs = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not labs or not (root / "pyproject.toml").exists():
        raise ValueError(
            f"{root} is no checkout of the labs (pyproject.toml, notebooks/00_...): "
            "call this in one, or name it with --root."
        )
    return labs


def read_notebook(path: Path) -> dict:
    """A notebook's JSON. Raises ValueError for a file that holds none."""
    try:
        notebook = json.loads(path.read_text("utf-8"))
        fine = all(
            cell["cell_type"] and isinstance(cell["source"], list | str)
            for cell in notebook["cells"]
        )
        if not (fine and notebook["cells"]):
            raise ValueError
    except (ValueError, LookupError, TypeError):
        raise ValueError(
            f"{path} is no notebook (cut off, or a merge conflict?): restore it with git; a "
            "student copy can also be deleted and made anew."
        ) from None
    return notebook


def as_text(notebook: dict) -> str:
    """A notebook's JSON as Jupyter writes it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _named(function, lab: Path, *arguments):
    """function(*arguments); a ValueError says in which lab."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise ValueError(f"{lab.name}: {error}") from None


def _next_check(cells: list[dict], place: int) -> int:
    for later in range(place + 1, len(cells)):
        source = "".join(cells[later]["source"])
        if cells[later]["cell_type"] == "code" and "checks.lab" in source:
            return later
        if "### BEGIN SOLUTION" in source or _HEADING.search(source):
            break
    raise ValueError(
        f"Cell {place} has a solution, but no cell below it calls its grader: "
        "write one with checks.labNN_... before the next exercise."
    )


def _without_outputs(notebook: dict) -> dict:
    made = copy.deepcopy(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    made["metadata"] = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"], cell["outputs"] = None, []
    return made


def _digest(notebook: dict) -> str:
    """A fingerprint of what stands in the cells, and of what nbgrader is to do with them."""
    parts = []
    for cell in notebook["cells"]:
        marks = cell.get("metadata", {}).get("nbgrader")
        parts.append("".join(cell["source"]) + (json.dumps(marks, sort_keys=True) if marks else ""))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _signed(notebook: dict) -> dict:
    """The notebook with its digest in its metadata: by it `_is_untouched` knows what is ours."""
    notebook["metadata"]["labkit"] = {"digest": _digest(notebook)}
    return notebook


def _is_untouched(path: Path) -> bool:
    """Whether the file is as we wrote it: nothing changed, nothing run."""
    try:
        notebook = read_notebook(path)
    except ValueError:
        return False
    signed = notebook.get("metadata", {}).get("labkit", {}).get("digest")
    run = any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
    return signed == _digest(notebook) and not run


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except UnicodeDecodeError:
        return False


def _stub(exercise: str) -> list[str]:
    message = f"{exercise} is not solved yet: write your code in place of this line."
    return ["# YOUR CODE HERE", f'raise NotImplementedError("{message}")']


def _cleared(source: list[str], exercise: str) -> list[str]:
    """The source with a stub in place of each solution."""
    return _lines(_without("".join(source), "SOLUTION", _stub(exercise)))


def _kind(mark: re.Match) -> tuple[str, str]:
    """("BEGIN", "SOLUTION"), and so on."""
    return mark[2].upper(), mark[3].upper()


def _without(text: str, kind: str, instead: list[str] | None = None) -> str:
    """The text without what stands between the marks, and without the marks."""
    kept, inside = [], False
    for line in text.split("\n"):
        mark = _MARK.match(line)
        if mark and _kind(mark)[1] == kind:
            begins = _kind(mark)[0] == "BEGIN"
            if inside == begins:
                raise ValueError(f"'{line.strip()}' has no partner: marks come in pairs.")
            inside = begins
            kept += [mark[1] + new for new in instead or ()] if inside else []
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"'### BEGIN {kind}' has no '### END {kind}' in its cell.")
    return "\n".join(kept)


def _lines(text: str) -> list[str]:
    """A text as the list of lines in which notebooks keep it."""
    return text.splitlines(keepends=True)


def _moved(link: re.Match, names) -> str:
    """A relative link, seen from one folder further down."""
    start, target = link[1], link[2]
    return link[0] if target.split("#")[0] in names else f"{start}../{target}"


def _mark(cell: dict, name: str, points: int | None = None, solution: bool = False) -> None:
    """nbgrader's metadata: a cell that the student fills in, or one that gives points."""
    metadata = {
        "grade": points is not None,
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if points is not None:
        metadata["points"] = points
    cell["metadata"] = {**cell["metadata"], "nbgrader": metadata}
