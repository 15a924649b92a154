"""From study file to verdict, by the whole way, where the answer is known."""

import tomllib
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import Verdict, check_batch_size_law
from orchestrator import run_study
from orchestrator.grid_cells import grid_cells
from tests.oracles.truth import (
    ORACLES,
    Answer,
    Oracle,
    excess_risk,
    markdown,
    noisy_quadratic_exponents,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_intervals_of_the_analysis_hold_the_truth(oracle: Oracle, tmp_path: Path) -> None:
    # 99.5 % intervals, seeds 0, 1, … of the study files: chosen once.
    report = run_study(oracle.study, tmp_path / "store", inline=True)
    assert report.all_done
    answers = oracle.answers(tmp_path / "store")
    assert all(answer.holds for answer in answers), markdown(
        (oracle.name, answer) for answer in answers
    )
    for answer in answers:
        # The margin of the law is .15: what lies within it must not be refuted, and what lies
        # beyond it not be supported.
        if answer.what.startswith("B_opt"):
            wrong = Verdict.REFUTED if abs(answer.truth - 1) <= 0.15 else Verdict.SUPPORTED
            assert answer.said != wrong


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_study_files_can_be_read_and_name_their_workload(oracle: Oracle) -> None:
    study = oracle.study
    assert study.workload.name == oracle.name
    assert study.name == f"oracle-{oracle.name.replace('_', '-')}"


def test_the_package_offers_every_oracle_by_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = project["entry-points"]["scaling_study.workloads"]
    for oracle in ORACLES:
        module, _, kind = offered[oracle.name].partition(":")
        assert getattr(import_module(module), kind) is oracle.workload


def test_an_interval_that_misses_is_said_to() -> None:
    missed = Answer("β", -0.5, -0.3, -0.4, -0.2)
    assert not missed.holds
    assert "| **no** |" in markdown([("study", missed)])


def test_the_regression_of_optima_is_off_by_little_on_exact_risks() -> None:
    (oracle,) = (oracle for oracle in ORACLES if oracle.name == "noisy_quadratic")
    study = oracle.study
    cells = pd.DataFrame([asdict(cell) for cell in grid_cells(study, study.grids[0])])
    settings = ["learning_rate", "train_examples", "momentum", "batch_size", "steps"]
    exact = cells[settings].drop_duplicates()
    exact["risk"] = [excess_risk(cell) for cell in exact.itertuples()]
    cells = cells.merge(exact, on=settings)
    # A thousandth of the noise of real runs: where there is none at all, all optima are alike.
    noise = np.random.default_rng(0).normal(0, 1e-5, len(cells))
    law = check_batch_size_law(cells.assign(y=cells.risk + noise), y="y", chance_error=2.0)
    truths = noisy_quadratic_exponents(cells, distance=0.25, epochs=2)
    # What docs/oracles.md says of it; half of the intervals' half widths at most.
    np.testing.assert_allclose(law.exponents.exponent, truths, atol=0.035)
