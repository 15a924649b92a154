"""What the README shows works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.study_file.study import Study
from tests.analysis.stores import batch_law_cells, learning_curve_cells, write_store

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """Return the one fenced block of `language` that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    (found,) = [text for text in blocks if containing in text]
    return found


def test_the_study_file_shown_is_the_quickstart():
    shown = Study.from_text(block("yaml", "learning_curve"))
    shipped = Study.from_file(ROOT / "studies" / "quickstart.yaml")
    assert shown.grids == shipped.grids
    assert shown.resources == shipped.resources
    assert (shown.name, shown.workload.name) == (shipped.name, shipped.workload.name)


def test_every_command_shown_exists():
    shown = block("bash", "scaling-study plan")
    commands = re.findall(r"^scaling-study ((?:cluster )?\w+)", shown, re.M)
    for command in commands:
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from orchestrator.cli import app; app()",
                *command.split(),
                "--help",
            ],
            check=True,
            capture_output=True,
        )
    assert len(commands) == 8


@pytest.mark.ray
@pytest.mark.slow
def test_a_workload_in_a_script_trains_on_ray_and_conforms(tmp_path, ray_folder):
    (tmp_path / "moons.py").write_text(block("python", "# moons.py"))
    (tmp_path / "test_moons.py").write_text(block("python", "# test_moons.py"))
    environment = {**os.environ, "RAY_TMPDIR": str(ray_folder)}
    for command in (["moons.py"], ["-m", "pytest", "-q", "test_moons.py"]):
        answer = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
    cells = pd.read_parquet(tmp_path / "results" / "moons" / "cells")
    assert len(cells) == 30  # 5 fractions × 2 sizes × 3 seeds
    assert set(cells["status"]) == {"completed"}
    assert cells["best_validation_error"].max() < 0.3


def test_the_analysis_shown_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grids = {"learning_curve": learning_curve_cells(), "batch_law": batch_law_cells()}
    write_store(tmp_path / "results" / "quickstart", {"quickstart": grids})
    exec(compile(block("python", "load_cells"), "README.md", "exec"), {})
    assert "beta" in capsys.readouterr().out
