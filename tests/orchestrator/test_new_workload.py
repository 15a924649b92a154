"""`scaling-study workloads new`: what it writes runs as it is."""

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orchestrator.new_workload import new_workload
from orchestrator.planning import plan_study
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.orchestrator.test_cli import run
from workloads.registry import contract_faults

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path):
    new_workload("my_tumours", tmp_path)
    return tmp_path / "my_tumours"


def load_class(package, monkeypatch):
    """Return the class that the package's entry point names."""
    project = tomllib.loads((package / "pyproject.toml").read_text())
    (name, target), *_ = project["project"]["entry-points"]["scaling_study.workloads"].items()
    module, kind = target.split(":")
    spec = importlib.util.spec_from_file_location(module, package / f"{module}.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module, loaded)
    spec.loader.exec_module(loaded)
    return name, getattr(loaded, kind)


def test_the_entry_point_names_a_workload_that_keeps_the_contract(package, monkeypatch):
    name, workload = load_class(package, monkeypatch)
    assert contract_faults(workload, name) == []


def test_its_study_can_be_planned(package, monkeypatch):
    _, workload = load_class(package, monkeypatch)
    study = Study.from_text((package / "study.yaml").read_text(), workload=workload())
    plan = plan_study(study, Store(package / "store"))
    assert len(plan.cells) == 6 * 2 * 5


@pytest.mark.slow
def test_its_conformance_suite_passes(package):
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=package,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{package}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path):
    result = run("workloads", "new", "voices", "--into", str(tmp_path))
    assert result.exit_code == 0
    assert f"Wrote {tmp_path / 'voices' / 'voices.py'}" in result.stdout
    assert f"Next: cd {tmp_path / 'voices'} && pip install" in result.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Tumours", "The name is 'My-Tumours'; allowed: lower-case letters"),
        ("class", "The name is 'class', and class is a word of Python"),
        ("setup", "The name is 'setup', and setup.py is a file that pip or pytest runs"),
        ("none", "The name is 'none', and None is a word of Python"),
        ("data", "The name is 'data', and Data is a word of Python, of YAML or of the workload's"),
        ("../up", "The name is '../up'; allowed"),
        ("digits", "There is a workload 'digits' already"),
        ("numpy", "A module 'numpy' can be imported already"),
        ("taken", "taken exists already"),
    ],
)
def test_a_name_that_cannot_be_one_exits_2_and_writes_nothing(tmp_path, name, message):
    (tmp_path / "taken").mkdir()
    result = run("workloads", "new", name, "--into", str(tmp_path))
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["taken"]


def test_a_folder_that_cannot_be_written_exits_2(tmp_path):
    (tmp_path / "file").touch()
    result = run("workloads", "new", "voices", "--into", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_without_a_subcommand_the_workloads_are_listed():
    result = run("workloads")
    assert result.exit_code == 0
    assert "digits (version" in result.stdout
