"""From study file to verdict, by the whole way, where the answer is known."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from analysis import Verdict
from orchestrator import run_study
from tests.oracles.truth import ORACLES, Answer, Oracle, markdown

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
