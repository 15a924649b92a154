"""One small real study of every domain, cut from the study file that is shipped for it."""

from pathlib import Path

import pytest
import yaml

from analysis import Verdict, check_batch_size_law, load_cells
from orchestrator.running.run import run_study
from orchestrator.study_file.study import Study
from tests.workloads.needed_data import needs
from workloads.data.catalogue import (
    CMUDICT,
    FASHION_MNIST,
    FESTVOX_RU,
    KJV,
    MNIST,
    REINA_VALERA,
    SOTU,
)

STUDIES = Path(__file__).parents[2] / "studies"
STEPS = 300


def cut(name):
    """Return the shipped study with its smallest shard and one 16 times as large, briefly."""
    values = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    grid = values["grids"]["learning_curve"]
    smallest = grid["dataset_fraction"]["log2"][0]
    grid["dataset_fraction"] = [smallest, 16 * smallest]
    for axis in ("model_size", "batch_size", "learning_rate"):
        if isinstance(grid[axis], list):
            grid[axis] = grid[axis][len(grid[axis]) // 2]
    grid["budget"] = {"steps": STEPS}
    grid.pop("where", None)  # it is one point of them
    return {**values, "seeds": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("baidu_images", marks=needs(FASHION_MNIST)),
        pytest.param("baidu_language", marks=needs(SOTU)),
        pytest.param("baidu_translation", marks=needs(KJV, REINA_VALERA)),
        pytest.param("baidu_pronunciation", marks=needs(CMUDICT)),
        pytest.param("baidu_speech", marks=needs(FESTVOX_RU)),
    ],
)
def test_more_data_lower_the_loss(name, tmp_path):
    study = Study.from_dict(cut(name))
    report = run_study(study, str(tmp_path / "store"), inline=True)
    assert report.all_done
    cells = load_cells(tmp_path / "store")
    assert (cells["status"] == "completed").all()
    loss = cells.groupby("train_examples")["best_validation_loss"].mean()
    assert len(loss) == 2
    assert loss.iloc[1] < loss.iloc[0]


@pytest.mark.slow
@needs(MNIST)
def test_a_few_cells_of_smith_and_les_experiment_end_in_no_verdict(tmp_path):
    values = yaml.safe_load((STUDIES / "smith_le.yaml").read_text())
    cross = values["grids"]["cross"]
    cross |= {"dataset_fraction": 0.08, "batch_size": {"log2": [4, 256]}, "model_size": 32}
    cross |= {"learning_rate": [0.1, 0.4], "momentum": [0.5, 0.875]}
    cross["budget"] = {"cumulative_learning_rate": 40}
    study = Study.from_dict({**values, "seeds": 2, "grids": {"cross": cross}})
    assert run_study(study, str(tmp_path / "store"), inline=True).all_done
    law = check_batch_size_law(
        load_cells(tmp_path / "store"), held_fixed="cumulative learning rate"
    )
    assert set(law.verdicts.values()) == {Verdict.UNIDENTIFIED}  # two levels, two seeds
    # The cliff: at the highest rate a batch of 4 does not train, and one of 256 does.
    highest = law.optima.query("learning_rate == 0.4 and momentum == 0.875")
    assert highest["best_batch_size"].item() > 4
