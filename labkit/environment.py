"""What is installed, what is missing, and what to do about it: `labkit env`."""

import importlib
import os
import platform
import re
import sys
import warnings
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

# What a lab imports, and the distribution that brings it. Lower bounds are labkit's own.
_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "matplotlib",
    "seaborn",
    "ipywidgets",
    "ipykernel",
    "pillow",
    "joblib",
    "tqdm",
    "scipy",
)
_D2L_COMMAND = "python -m pip install --no-deps d2l==1.0.3"


def is_quick() -> bool:
    """True unless LABKIT_FULL=1: labs then train for minutes, not for hours."""
    return os.environ.get("LABKIT_FULL", "0") != "1"


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, whether it is fine, what was found, and the
    way out where it is not."""

    name: str
    ok: bool
    found: str
    way_out: str = ""

    def __str__(self) -> str:
        line = f"{'OK  ' if self.ok else 'FAIL'}  {self.name:<14}{self.found}"
        return line if self.ok or not self.way_out else f"{line}\n      -> {self.way_out}"


class Report(list):
    """The checks in order; prints as a line each."""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self)

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


def check() -> Report:
    """Look at Python, the packages, the device and the data."""
    packages = [_check_package(name) for name in _PACKAGES]
    report = Report([_check_python(), *packages, _check_optuna(), _check_d2l()])
    if all(package.ok for package in packages):  # else labkit itself may not import
        report += [_check_device(), _check_data()]
    return report


def show_versions(*packages: str) -> None:
    """Print the versions that a lab's numbers were measured with: Python and `packages`."""
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in packages]
    print(", ".join(parts))


def import_d2l():
    """`d2l.torch`, ready to use. Raises ImportError with the command that installs it.

    d2l 1.0.3 pins versions of NumPy and others that are years old, so it is installed
    without its dependencies; it runs on today's.
    """
    from labkit.data import import_torchvision

    import_torchvision()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            d2l = importlib.import_module("d2l.torch")
    except ModuleNotFoundError as error:
        missing = error.name.split(".")[0]
        raise ImportError(
            f"d2l can't be imported ({missing} is missing): run  {_D2L_COMMAND}"
            + ("" if missing == "d2l" else f"  and  python -m pip install {missing}")
        ) from None
    # Its progress board would turn every later picture of the notebook into SVG text.
    d2l.use_svg_display = lambda: None
    return d2l


def _check_python() -> Check:
    return Check(
        "Python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "install Python 3.11 or newer, then make a new environment with it",
    )


def _check_package(name: str) -> Check:
    wanted = _lower_bound(name)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", f'python -m pip install "{name}>={wanted}"')
    if _as_numbers(found) < _as_numbers(wanted):
        return Check(
            name, False, f"{found} is too old", f'python -m pip install -U "{name}>={wanted}"'
        )
    try:
        _import(name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:80]
        way_out = f"python -m pip install --force-reinstall {name}"
        return Check(name, False, f"{found} fails to import ({reason})", way_out)
    return Check(name, True, found)


def _import(name: str) -> None:
    if name == "torchvision":
        from labkit.data import import_torchvision

        import_torchvision()
    else:
        importlib.import_module("PIL" if name == "pillow" else name)


def _lower_bound(name: str) -> str:
    """The version that labkit's own metadata asks for, "0" where it asks for none."""
    try:
        lines = metadata.requires("labkit") or []
    except metadata.PackageNotFoundError:  # labkit on the path, but not installed
        lines = []
    for line in lines:
        match = re.match(rf"{re.escape(name)}\s*>=\s*([\d.]+)", line)
        if match:
            return match[1]
    return "0"


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", version)[0].split("."))


def _check_optuna() -> Check:
    found = _check_package("optuna")
    return replace(found, way_out=f"{found.way_out}  (lab 09 needs it, no other does)")


def _check_d2l() -> Check:
    try:
        import_d2l()
    except Exception as error:
        reason, _, command = str(error).partition(": run  ")
        way_out = f"{command or _D2L_COMMAND}  (lab 02 needs it, no other does)"
        return Check("d2l", False, reason, way_out)
    return Check("d2l", True, metadata.version("d2l"))


def _check_device() -> Check:
    import torch

    from labkit.train import device

    where = device()
    if where.type == "cuda":
        found = f"CUDA, {torch.cuda.get_device_name(where)}"
    else:
        threads = torch.get_num_threads()
        found = f"{where.type}, {threads} thread{'s' * (threads > 1)}"
    return Check("device", True, found)


def _check_data() -> Check:
    from labkit import data

    # The variable's name, not its value: a stored notebook should not show whose machine it ran on.
    named = os.environ.get("LABKIT_DATA")
    folder = "LABKIT_DATA" if named else _short(data.data_folder())
    if named and not data.data_folder().is_dir():
        way_out = "correct the path, or make the folder; `labkit data` makes it and fills it"
        return Check("data", False, "LABKIT_DATA names no folder", way_out)
    there = [name for name in data.available() if data.describe(name).found]
    if there:
        return Check("data", True, f"{', '.join(there)} in {folder}")
    return Check(
        "data",
        True,
        f"none in {folder} yet: labs download it when they need it, or `labkit data` does now; "
        "without network they draw a stand-in",
    )


def _short(path: Path) -> str:
    """A path as one would say it: from the home folder, or from where we are."""
    for start, sign in ((Path.cwd(), ""), (Path.cwd().parent, "../"), (Path.home(), "~/")):
        if path.is_relative_to(start):
            return f"{sign}{path.relative_to(start)}"
    return str(path)
