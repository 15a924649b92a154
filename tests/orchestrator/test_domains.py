"""One small real study of every domain, cut from the study file that is shipped for it."""

from pathlib import Path

import pytest
import yaml

from analysis import load_cells
from orchestrator.run import run_study
from orchestrator.study import Study
from tests.workloads.needed_data import needs
from workloads.data.catalogue import CMUDICT, FASHION_MNIST, FESTVOX_RU, KJV, REINA_VALERA, SOTU

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
