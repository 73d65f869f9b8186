"""`labkit env` and `labkit data`: OK or FAIL a line, the way out, the exit status."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import labkit
from labkit import cli, data, environment


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def test_env_prints_a_line_a_check_and_exits_by_the_outcome():
    result = run("env")
    lines = [line for line in result.output.splitlines() if not line.startswith(" ")]
    assert all(line.startswith(("OK    ", "FAIL  ")) for line in lines)
    assert any("torch " in line for line in lines)
    assert result.exit_code == any(line.startswith("FAIL") for line in lines)


@pytest.fixture
def fake_version(monkeypatch):
    """Pretend that a package has another version, or none."""

    def pretend(package, version):
        real = environment.metadata.version

        def fake(name):
            if name != package:
                return real(name)
            if version is None:
                raise environment.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(environment.metadata, "version", fake)

    return pretend


def test_a_missing_package_fails_with_the_command_that_installs_it(fake_version):
    fake_version("seaborn", None)
    result = run("env")
    assert result.exit_code == 1
    assert "FAIL  seaborn       not installed" in result.output
    assert "pip install" in result.output


def test_a_package_that_is_too_old_fails_with_the_version_it_takes(fake_version):
    fake_version("pandas", "1.5.3")
    result = run("env")
    assert result.exit_code == 1
    assert "1.5.3 is too old" in result.output
    assert 'pip install -U "pandas>=' in result.output


def test_a_package_that_does_not_import_fails_with_the_reason(monkeypatch):
    def broken(name):
        if name == "seaborn":
            raise OSError("libgl is missing")
        return importlib.import_module(name)

    monkeypatch.setattr(environment, "_import", broken)
    line = next(check for check in environment.check() if check.name == "seaborn")
    assert not line.ok
    assert "libgl is missing" in str(line)


def test_d2l_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="d2l")

    monkeypatch.setattr(environment.importlib, "import_module", missing)
    with pytest.raises(ImportError, match="pip install --no-deps d2l==1.0.3"):
        environment.import_d2l()
    assert "FAIL  d2l" in str(environment._check_d2l())


def test_python_must_be_new_enough(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 10))
    check = environment.check()[0]
    assert not check.ok
    assert "3.11" in check.way_out


def test_quick_is_the_default_and_labkit_full_turns_it_off(monkeypatch):
    monkeypatch.delenv("LABKIT_FULL", raising=False)
    assert labkit.is_quick()
    monkeypatch.setenv("LABKIT_FULL", "1")
    assert not labkit.is_quick()


def test_show_versions_prints_what_is_asked(capsys):
    environment.show_versions("torch", "numpy")
    assert capsys.readouterr().out.startswith(f"Python {sys.version.split()[0]}, torch ")


def test_data_list_names_every_set_and_its_size(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    result = run("data", "--list")
    assert result.exit_code == 0
    for name in data.available():
        assert name in result.output
    assert "MB to download" in result.output


def test_data_loads_what_is_asked_and_reports_what_fails(monkeypatch):
    assert "OK    <shapes: " in run("data", "shapes").output

    def broken(name):
        raise ValueError(f"{name} is truncated: delete it")

    monkeypatch.setattr(data, "load", broken)
    result = run("data", "shapes")
    assert result.exit_code == 1
    assert "FAIL  shapes: shapes is truncated" in result.output


def test_data_refuses_an_unknown_name_with_the_list():
    result = run("data", "cifar11")
    assert result.exit_code == 2
    assert "cifar10" in result.output


def test_data_says_that_a_file_of_ones_own_needs_no_fetching(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"")
    said = " ".join(run("data", str(tmp_path / "mine.npz")).output.replace("│", " ").split())
    assert "labkit.load reads it" in said


def test_python_m_labkit_is_the_command():
    command = [sys.executable, "-m", "labkit", "data", "--list", "shapes"]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout == run("data", "--list", "shapes").output


def test_import_labkit_imports_neither_torch_nor_pandas():
    code = "import sys, labkit; print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_labkit_names_what_it_has_when_asked_for_what_it_has_not():
    with pytest.raises(AttributeError, match="evaluate"):
        labkit.evalute  # noqa: B018
    assert "fit" in dir(labkit)


def test_the_data_line_names_the_variable_or_a_short_path_never_a_private_one(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    assert "in LABKIT_DATA" in environment._check_data().found
    monkeypatch.delenv("LABKIT_DATA")
    assert str(Path.home()) not in environment._check_data().found
    assert environment._short(Path.home() / ".cache" / "labkit") == "~/.cache/labkit"


@pytest.mark.parametrize("package", ["pandas", "numpy", "pillow"])
def test_env_names_what_is_missing_whatever_else_needs_it(fake_version, package):
    fake_version(package, None)
    result = run("env")
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert f"FAIL  {package:<14}not installed" in result.output
    assert "device" not in result.output  # labkit's own rooms may not import


def test_optuna_is_for_one_lab_and_its_lack_hides_nothing_else(fake_version):
    """As in Colab."""
    fake_version("optuna", None)
    output = run("env").output
    assert "FAIL  optuna        not installed" in output
    assert "(lab 09 needs it, no other does)" in output
    assert "device" in output


def test_a_data_folder_below_the_home_is_found(monkeypatch, tmp_path):
    (tmp_path / "labdata").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("LABKIT_DATA", "~/labdata")
    assert environment._check_data().ok


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("")])
def test_a_data_folder_that_is_none_is_no_ok(monkeypatch, tmp_path, make):
    make(tmp_path / "data")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    line = str(environment._check_data())
    assert line.startswith("FAIL  data          LABKIT_DATA names no folder")
    assert "correct the path" in line


def test_the_way_out_for_d2l_names_the_package_that_it_lacks(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name}", name="scipy.spatial")

    monkeypatch.setattr(environment.importlib, "import_module", missing)
    line = str(environment._check_d2l())
    assert "(scipy is missing)" in line
    assert "-> python -m pip install --no-deps d2l==1.0.3  and  python -m pip install scipy" in line
