"""Studies of workloads that train their cells by a loop of their own."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from analysis import fit_power_law, load_cells, load_curves
from orchestrator.running.run import run_study
from orchestrator.study_file.study import Study
from tests.workloads.own_loops import SklearnDigits, Streamed

ROOT = Path(__file__).parents[3]

DIGITS = """
name: own
workload: sklearn_digits
seeds: 3
grids:
  curve:
    dataset_fraction: {log2: [0.0625, 1.0]}
    model_size: 16
    batch_size: 16
    learning_rate: [0.05, 0.2]
    momentum: 0.5
    budget: {steps: 60}
"""

STREAMED = """
name: own
workload: streamed
seeds: 2
grids:
  curve:
    dataset_fraction: [0.05, 0.2]
    model_size: 4
    batch_size: 16
    learning_rate: 0.2
    optimizer: [sgd]
    budget: {steps: 40}
"""


def test_a_library_of_its_own_gives_rows_and_a_law_like_any_other(tmp_path):
    report = run_study(Study.from_text(DIGITS, workload=SklearnDigits()), tmp_path, inline=True)
    assert report.all_done
    cells = load_cells(tmp_path)
    assert len(cells) == 30
    assert set(cells["arithmetic"]) == {"own loop"}
    assert set(cells["status"]) == {"completed"}
    assert set(cells["parameter_count"]) == {64 * 16 + 16 + 160 + 10}
    assert (cells["examples_seen"] == 60 * 16).all()
    curves = load_curves(tmp_path, cells)
    assert set(curves["batch_size"]) == {16}
    by_size = cells.groupby("train_examples")["best_validation_error"].min()
    assert by_size.is_monotonic_decreasing
    assert by_size.iloc[-1] < 0.15
    assert fit_power_law(cells, choose=["learning_rate"]).beta < 0


def test_a_cell_that_the_loop_refuses_fails_alone(tmp_path):
    both = DIGITS.replace("momentum: 0.5", "momentum: 0.5\n    optimizer: [sgd, adam]")
    both = both.replace("{log2: [0.0625, 1.0]}", "0.25")
    report = run_study(Study.from_text(both, workload=SklearnDigits()), tmp_path, inline=True)
    assert (report.tally.completed, len(report.failures)) == (6, 6)
    failures = pd.read_parquet(tmp_path / "failures")
    assert set(failures["error_message"]) == {"optimizer is 'adam'; allowed: 'sgd'."}


@pytest.mark.ray
def test_a_stream_trains_on_ray_as_it_does_inline(command_line, tmp_path):
    run_study(Study.from_text(STREAMED, workload=Streamed()), tmp_path / "inline", inline=True)
    (tmp_path / "study.yaml").write_text(STREAMED)
    command_line.environment["PYTHONPATH"] += f"{os.pathsep}{ROOT}"
    process = command_line.start(
        "run",
        "study.yaml",
        "--store",
        "ray",
        "--json",
        before="from tests.workloads.own_loops import Streamed\n"
        "from workloads import register; register(Streamed)",
    )
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert json.loads(out)["trained"] == 4
    inline, ray = (
        load_cells(tmp_path / store).set_index("cell_id").sort_index()
        for store in ("inline", "ray")
    )
    pd.testing.assert_series_equal(inline["test_loss"], ray["test_loss"])
    assert inline["test_loss"].nunique() == 4
