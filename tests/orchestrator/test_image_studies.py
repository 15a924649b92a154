"""The studies of images that ship: they can be planned, and are of the size that they say."""

from pathlib import Path

from orchestrator.planning import plan_study
from orchestrator.study_file.study import Study
from tests.workloads.needed_data import needs
from workloads.data.catalogue import FASHION_MNIST

STUDIES = Path(__file__).parents[2] / "studies"


def test_memorize_trains_eight_conditions_of_which_both_grids_share_the_true_one():
    plan = plan_study(Study.from_file(STUDIES / "memorize.yaml"))
    assert [len(grid.cell_ids) for grid in plan.grids] == [5 * 10, 4 * 10]
    assert len(plan.cells) == 8 * 10
    kinds = {(cell.train_examples, cell.steps) for cell in plan.cells.values()}
    assert kinds == {(512, 4096)}


@needs(FASHION_MNIST)
def test_the_learning_curve_of_fashion_mnist_goes_in_steps_of_two_over_nine_octaves():
    plan = plan_study(Study.from_file(STUDIES / "baidu_images.yaml"))
    sizes = sorted({cell.train_examples for cell in plan.cells.values()})
    assert sizes == [98, 195, 391, 781, 1562, 3125, 6250, 12_500, 25_000, 50_000]
    by_size = {size: [c for c in plan.cells.values() if c.train_examples == size] for size in sizes}
    assert {len(cells) for cells in by_size.values()} == {12 * 5}
    # Twenty minutes of two cores that make 4e10 operations a second.
    assert plan.training_flops + plan.evaluation_flops < 2 * 1200 * 4e10
