"""The shipped studies of text: whole, and wide enough for a learning curve; not trained here."""

import math
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.study_file.study import Study
from workloads.base import Workload
from workloads.text.language import CharactersLstm
from workloads.text.pronunciation import PronunciationLstm
from workloads.text.translation import TranslationLstm

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize(
    ("name", "workload", "pool"),
    [
        ("baidu_language", CharactersLstm, 131_072),
        ("baidu_translation", TranslationLstm, 17_041),
        ("baidu_pronunciation", PronunciationLstm, 116_790),
    ],
)
def test_a_study_of_text_has_two_decades_of_shards_several_settings_and_five_seeds(
    name: str, workload: type[Workload], pool: int
):
    path = STUDIES / f"{name}.yaml"
    assert f"workload: {workload.name}\n" in path.read_text()
    study = Study.from_file(path, workload())
    (grid,) = study.grids
    shards = sorted(round(fraction * pool) for fraction in grid.axes["dataset_fraction"])
    assert math.log10(shards[-1] / shards[0]) >= 2
    assert all(1.9 < larger / smaller < 2.1 for smaller, larger in pairwise(shards))
    assert len(grid.axes["model_size"]) * len(grid.axes["learning_rate"]) >= 2
    assert len(grid.axes["seed"]) >= 5
