"""run = plan - store: which cells are planned, how they are packed, and that nothing is touched."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cluster.capacity import TrialResources
from orchestrator.cell import Cell
from orchestrator.errors import PlanError, StudyFileError
from orchestrator.grid_cells import grid_cells
from orchestrator.planning import plan_study, refreshed
from orchestrator.running.run import run_study
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.workloads.own_loops import SklearnDigits
from workloads.axis import Axis, AxisKind
from workloads.base import Data, ModelCost, Split
from workloads.digits import Digits
from workloads.training import TRAINING_VERSION
from workloads.training.arithmetic import choose_arithmetic
from workloads.training.evaluation import look_steps
from workloads.training.trajectory import Trajectory, noise_scale

STUDY = """
name: small
workload: digits
seeds: 2
grids:
  curve:
    dataset_fraction: [0.25, 0.5]
    model_size: [4, 8]
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 20}
  law:
    dataset_fraction: 0.5
    model_size: 4
    batch_size: [16, 32]
    learning_rate: [0.1, 0.2]
    budget: {steps: 20}
"""


@pytest.fixture
def study():
    return Study.from_text(STUDY)


def test_grids_share_cells_and_each_cell_is_planned_once(study):
    plan = plan_study(study)
    by_grid = {grid.name: set(grid.cell_ids) for grid in plan.grids}
    # 2 fractions × 2 sizes × 2 seeds, and 2 batches × 2 rates × 2 seeds; they share
    # (fraction .5, size 4, batch 16, rate .1), once per seed
    assert len(by_grid["curve"]) == len(by_grid["law"]) == 8
    assert len(by_grid["curve"] & by_grid["law"]) == 2
    assert len(plan.cells) == plan.cells_to_run == 14
    packed = [cell.cell_id for pack in plan.packs for cell in pack.cells]
    assert sorted(packed) == sorted(plan.cells)


def test_a_grid_varies_weight_decay_like_any_other_axis(study):
    decays = "weight_decay: [0, 0.001, 0.01]\n    where: weight_decay < 0.01\n    batch_size: 16"
    plan = plan_study(Study.from_text(STUDY.replace("batch_size: 16", decays)))
    before = plan_study(study)  # of the same cells at weight decay 0, which it does not name
    new = [plan.cells[cell_id] for cell_id in plan.cells.keys() - before.cells.keys()]
    assert len(new) == 8
    assert {cell.weight_decay for cell in new} == {0.001}
    assert before.cells.keys() < plan.cells.keys()


def test_packs_hold_one_shape_each(study):
    for pack in plan_study(study).packs:
        assert len({(cell.model_size, cell.batch_size) for cell in pack.cells}) == 1


def test_packs_do_not_depend_on_the_order_of_the_file(study):
    shuffled = Study.from_text(
        STUDY.replace("[0.25, 0.5]", "[0.5, 0.25]").replace("[0.1, 0.2]", "[0.2, 0.1]")
    )
    ids = [{pack.pack_id for pack in plan_study(each).packs} for each in (study, shuffled)]
    assert ids[0] == ids[1]


def test_long_shapes_are_cut_into_several_packs(study):
    longer = Study.from_text(STUDY.replace("steps: 20", "steps: 400000"))
    short, long = (plan_study(each, slots=lambda resources: 6) for each in (study, longer))
    assert len(long.packs) == 6
    assert len(short.packs) == 3  # one of each shape


def test_a_pack_is_named_by_its_members_alone(study):
    pack = plan_study(study).packs[0]
    turned = replace(pack, cells=pack.cells[::-1], resources=TrialResources(cpus=2, gpus=0.5))
    assert turned.pack_id == pack.pack_id
    assert pack.holding(pack.cells[:1], None).pack_id != pack.pack_id


def test_steps_and_flops_are_those_of_the_cells_to_run(study):
    plan = plan_study(study)
    assert plan.steps == 14 * 20
    # An MLP 64-w-10: forward 2(64w + 10w) per example, backward twice that; by hand:
    flops = sum(3 * 2 * 74 * cell.model_size * cell.batch_size * 20 for cell in plan.cells.values())
    assert plan.training_flops == pytest.approx(flops)


class Inputs(Digits):
    """Digits of which only the first pixels are seen: the axis changes the cost of a model."""

    name = "inputs"
    axes = (
        Axis(name="pixels", kind=AxisKind.INTEGER, default=64, minimum=1, maximum=64, meaning="?"),
    )

    def data(self, axes):
        data = super().data(axes)
        cut = (
            Split(part.inputs[:, : axes["pixels"]], part.targets)
            for part in (data.train, data.validation, data.test)
        )
        return Data(*cut)

    def model(self, size):
        return nn.Sequential(_Cut(size), nn.ReLU(), nn.Linear(size, 10))


class _Cut(nn.Module):
    """A linear layer that uses as many of its weights as there are inputs."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, size) / 8)

    def forward(self, inputs):
        return inputs @ self.weight[: inputs.shape[1]]


@pytest.mark.parametrize("pixels", ["[4, 64]", "[64, 4]"])
def test_costs_are_those_of_each_cells_own_axes_in_any_order(pixels):
    text = STUDY.replace("workload: digits", "workload: inputs").replace(
        "    model_size: [4, 8]\n", f"    model_size: [4, 8]\n    pixels: {pixels}\n"
    )
    plan = plan_study(Study.from_text(text, workload=Inputs()))
    # forward: 2 (pixels · width + 10 · width) per example, and twice that backward
    flops = sum(
        3 * 2 * (dict(cell.workload_axes)["pixels"] + 10) * cell.model_size * cell.batch_size * 20
        for cell in plan.cells.values()
    )
    assert plan.training_flops == pytest.approx(flops)


class Deep(SklearnDigits):
    """A loop of its own whose model grows with an axis that its data do not know."""

    name = "deep"
    axes = (Axis(name="depth", kind=AxisKind.INTEGER, default=1, minimum=1, meaning="Layers."),)

    def cost(self, size, axes):
        parameters = 100 * size * axes["depth"]
        return ModelCost(parameters, 2 * parameters)


DEEP = """
name: deep
workload: deep
seeds: 2
grids:
  all:
    depth: DEPTHS
    model_size: 10
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 20}
resources:
  - {up_to_parameters: 5000, cpus: 1, gpus: 0}
  - {cpus: 8, gpus: 0}
"""


@pytest.mark.parametrize("depths", ["[50, 2, 1]", "[1, 2, 50]"])
def test_trials_hold_what_the_models_of_their_own_axes_need(depths, tmp_path):
    study = Study.from_text(DEEP.replace("DEPTHS", depths), workload=Deep())
    cpus = {1: 1, 2: 1, 50: 8}  # 1,000, 2,000 and 50,000 parameters
    plan = plan_study(study)
    for pack in plan.packs:
        assert {cpus[dict(cell.workload_axes)["depth"]] for cell in pack.cells} == {
            pack.resources.cpus
        }
    assert plan.cells_to_run == 6
    needs = [(need.model_size, need.parameters, need.trial.cpus) for need in plan.resources]
    assert needs == [(10, 2000, 1), (10, 50_000, 8)]
    # A pack of all of them, saved before the rules were written, goes on in parts.
    store = Store(tmp_path)
    store.create()
    store.write_checkpoint("0123456789abcdef", sorted(plan.cells), b"state")
    again = plan_study(study, store).packs
    assert [pack.resumes for pack in again] == ["0123456789abcdef"] * 2
    assert {(pack.resources.cpus, len(pack.cells)) for pack in again} == {(1, 4), (8, 2)}


def test_what_the_store_has_is_not_planned_again_and_time_is_predicted(study, tmp_path):
    store = Store(tmp_path / "store")
    before = plan_study(study, store)
    assert before.predicted_seconds > 0
    assert before.unmeasured_cells == 14
    run_study(study, store, inline=True)
    assert plan_study(study, store).cells_to_run == 0
    wider = Study.from_text(STUDY.replace("[0.1, 0.2]", "[0.1, 0.2, 0.3]"))
    after = plan_study(wider, store)
    assert after.cells_to_run == 4
    assert {cell.learning_rate for pack in after.packs for cell in pack.cells} == {0.3}
    assert after.predicted_seconds > 0
    assert after.unmeasured_cells == 0


def test_long_cells_are_forecast_from_short_ones_by_work_and_not_by_steps(tmp_path):
    text = STUDY.split("  law:")[0].replace("[4, 8]", "4")
    short, long = (Study.from_text(text.replace("20}", f"{n}}}")) for n in (2, 400))
    run_study(short, tmp_path / "trained", inline=True)
    rows = Store(tmp_path / "trained").read_cells()
    # A machine that takes seven times as long as is assumed.
    seconds = 7 * plan_study(short).predicted_seconds
    rows = rows.assign(wall_seconds=seconds / len(rows), pack_id="0123456789abcdef")
    store = Store(tmp_path / "slow")
    store.create()
    store.write_part("0123456789abcdef", rows.to_dict("records"), [])
    plan, assumed = (plan_study(long, known, slots=lambda resources: 1) for known in (store, None))
    assert plan.unmeasured_cells == 0
    assert plan.predicted_seconds == pytest.approx(7 * assumed.predicted_seconds)
    assert plan.predicted_seconds < 180 * seconds  # of 200 times the steps


def test_planning_touches_nothing(study, tmp_path):
    plan_study(study, Store(tmp_path / "store"))
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_source_under_one_version_are_refused(study, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    run_study(study, store, inline=True)
    monkeypatch.setattr("orchestrator.planning.source_hash", lambda workload: "feedfeedfeedfeed")
    with pytest.raises(PlanError, match="feedfeedfeedfeed") as caught:
        plan_study(study, store)
    assert "--mix-sources" in str(caught.value)
    assert plan_study(study, store, mix_sources=True).cells_to_run == 0


def test_a_huge_study_needs_a_yes_before_any_cell_is_made():
    # curve: 2 × 2 × 2 seeds; law: 199 batch sizes × 400 rates × 2 seeds
    values = np.linspace(0.001, 0.9, 400).round(6).tolist()
    huge = Study.from_text(
        STUDY.replace("[0.1, 0.2]", str(values)).replace("[16, 32]", str(list(range(1, 200))))
    )
    with pytest.raises(PlanError, match="159,208 points"):
        plan_study(huge)


def test_a_batch_larger_than_the_shard_is_refused_by_line():
    with pytest.raises(StudyFileError, match="batch_size 2000 for a shard of 512") as caught:
        plan_study(Study.from_text(STUDY.replace("[16, 32]", "[16, 2000]")))
    assert "where: batch_size <= train_examples" in str(caught.value)


def test_a_constraint_that_leaves_nothing_is_refused():
    text = STUDY + "    where: batch_size > train_examples\n"
    with pytest.raises(StudyFileError, match="no cell"):
        plan_study(Study.from_text(text))


def test_a_fraction_below_one_example_is_refused():
    with pytest.raises(StudyFileError, match="is no example"):
        plan_study(Study.from_text(STUDY.replace("[0.25, 0.5]", "[0.0001, 0.5]")))


def test_two_fractions_of_one_shard_are_refused_unless_one_is_left_out():
    text = STUDY.replace("[0.25, 0.5]", "[0.25, 0.5, 0.5001]")
    with pytest.raises(StudyFileError, match=r":7: grid 'curve' has dataset_fraction 0.5 and 0.50"):
        plan_study(Study.from_text(text))
    wanted = text.replace("  law:", "    where: dataset_fraction <= 0.5\n  law:")
    assert len(plan_study(Study.from_text(wanted)).cells) == 14


@pytest.mark.parametrize(
    ("fractions", "rates", "where"),
    [
        ([0.0001, 0.5], 0.1, "dataset_fraction > 0.01"),
        ([0.0001, 0.5], 0.1, "seed < 9 and dataset_fraction > 0.01 and steps > 1"),
        (0.5, [0.1, 10], "learning_rate < 5"),
        (0.5, [0.1, 10], "train_examples > 1 and learning_rate < 5"),
    ],
)
def test_what_a_constraint_leaves_out_need_not_be_possible(fractions, rates, where):
    grid = {
        "dataset_fraction": fractions,
        "model_size": 4,
        "batch_size": 16,
        "learning_rate": rates,
        "budget": {"cumulative_learning_rate": 2},
        "where": where,
    }
    study = {"name": "some", "workload": "digits", "seeds": 2, "grids": {"all": grid}}
    assert len(plan_study(Study.from_dict(study)).cells) == 2


def test_a_default_of_many_digits_is_a_default():
    class Third(Digits):
        name = "third"
        axes = (
            *Digits.axes,
            Axis(name="share", kind=AxisKind.NUMBER, default=1 / 3, meaning="?"),
        )

    study = Study.from_text(STUDY.replace("digits", "third"), workload=Third())
    (grid, _) = study.grids
    assert {cell.default_axes for cell in grid_cells(study, grid)} == {
        ("augmentation", "inputs", "label_noise", "share")
    }


def test_shards_of_one_seed_share_streams_but_not_identity(study):
    cells = list(grid_cells(study, study.grids[0]))
    assert len({cell.cell_id for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("", lambda p: True),
        ("steps < 300", lambda p: p["steps"] < 300),
        (
            "seed == 1 or batch_size * learning_rate > 2 and train_examples != 512",
            lambda p: (
                p["seed"] == 1 or (p["batch_size"] * p["learning_rate"] > 2 and p["n"] != 512)
            ),
        ),
    ],
)
def test_a_grid_s_cells_are_those_of_the_plain_product(where, wanted):
    text = """
name: product
workload: digits
seeds: 3
grids:
  all:
    dataset_fraction: [0.25, 0.5]
    model_size: [4, 8]
    batch_size: [16, 24]
    learning_rate: [0.1, 0.25]
    momentum: [0.0, 0.5]
    label_noise: [0.0, 0.25]
    budget: {epochs: 10}
"""
    study = Study.from_text(text + (f"    where: {where}\n" if where else ""))
    fingerprint = study.workload.data_fingerprint({"label_noise": 0.0})
    expected = []
    others = (("augmentation", "none"), ("inputs", "true_pixels"))
    names = ["fraction", "model_size", "batch_size", "learning_rate", "momentum", "noise", "seed"]
    values = [0.25, 0.5], [4, 8], [16, 24], [0.1, 0.25], [0.0, 0.5], [0.0, 0.25], [0, 1, 2]
    for point in itertools.product(*values):
        p = dict(zip(names, point, strict=True))
        p["n"] = round(p["fraction"] * 1024)  # digits has a pool of 1024 examples
        p["steps"] = 10 * (p["n"] // p["batch_size"])
        if wanted(p):
            expected.append(
                Cell(
                    workload="digits",
                    workload_version=study.workload.version,
                    data_fingerprint=fingerprint,
                    dataset_fraction=p["fraction"],
                    train_examples=p["n"],
                    model_size=p["model_size"],
                    batch_size=p["batch_size"],
                    learning_rate=p["learning_rate"],
                    momentum=p["momentum"],
                    seed=p["seed"],
                    steps=p["steps"],
                    budget="epochs=10",
                    workload_axes=(*others, ("label_noise", p["noise"])),
                    default_axes=(*dict(others), *(() if p["noise"] else ("label_noise",))),
                    training_version=TRAINING_VERSION,
                )
            )
    cells = list(grid_cells(study, study.grids[0]))
    assert cells == expected
    assert len(cells) > 0
    assert [cell.cell_id for cell in cells] == [cell.cell_id for cell in expected]


def test_a_refreshed_plan_is_the_one_that_planning_anew_gives(study, tmp_path):
    store = Store(tmp_path / "store")
    plan = plan_study(study, store)
    assert refreshed(plan, store) == plan
    some = Study.from_text(STUDY.replace("seeds: 2", "seeds: 1"))
    run_study(some, store, inline=True)
    again = refreshed(plan, store)
    assert again == plan_study(study, store)
    assert (again.count("completed"), again.cells_to_run) == (7, 7)


def test_a_refreshed_plan_refuses_rows_of_another_source(study, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    plan = plan_study(study, store)
    run_study(study, store, inline=True)
    monkeypatch.setattr("orchestrator.planning.source_hash", lambda workload: "feedfeedfeedfeed")
    with pytest.raises(PlanError, match="feedfeedfeedfeed"):
        refreshed(plan, store)


def test_looks_cost_no_more_than_training_but_a_few_are_always_taken():
    text = STUDY.replace("{steps: 20}", "{steps: STEPS}")
    looks = {}
    for steps in (20, 100, 1000):
        plan = plan_study(Study.from_text(text.replace("STEPS", str(steps))))
        of_batch = {c.batch_size: c.evaluation_schedule for c in plan.cells.values()}
        looks[steps] = of_batch[16]
    # n V <= 3 T B with V = 386 and B = 16: 3 * 100 * 16 / 386 = 12.4; at 20 steps 2.5, so 6.
    assert looks == {20: "geometric:6", 100: "geometric:12", 1000: "geometric:12"}
    plan = plan_study(Study.from_text(text.replace("STEPS", "80").replace("[16, 32]", "16")))
    # 3 * 80 * 16 / 386 = 9.9
    assert {c.evaluation_schedule for c in plan.cells.values()} == {"geometric:9"}
    # An MLP 64-w-10 over 9 looks at 386, 256 for the first loss, the shard (256 or 512) and 387.
    assert plan.evaluation_flops == sum(
        2 * 74 * c.model_size * (9 * 386 + 256 + c.train_examples + 387)
        for c in plan.cells.values()
    )


SCHEDULES = """
name: schedules
workload: digits
seeds: 2
grids:
  arms:
    dataset_fraction: 0.5
    model_size: 8
    batch_size: 4
    learning_rate: [0.1, 0.2]
    momentum: 0.9
    optimizer: [sgd, adam]
    learning_rate_schedule: [constant, cosine]
    batch_size_schedule: [constant, "increase:5@0.3,0.6"]
    budget: {epochs: 10}
"""


def test_packs_agree_in_optimizer_and_batches_and_not_in_rates():
    plan = plan_study(Study.from_text(SCHEDULES))
    assert len(plan.cells) == 2 * 2**4
    for pack in plan.packs:
        assert len({(cell.optimizer, cell.batch_size_schedule) for cell in pack.cells}) == 1
    held = {(pack.cells[0].optimizer, pack.cells[0].batch_size_schedule) for pack in plan.packs}
    assert len(held) == len(plan.packs) == 4
    assert all(len({cell.learning_rate_schedule for cell in p.cells}) == 2 for p in plan.packs)
    # 512 examples: 128 updates of 4 an epoch, 25 of 20, and 10 of 51, a tenth of the shard.
    of_arm = {cell.batch_size_schedule: cell.steps for cell in plan.cells.values()}
    grown = 3 * 128 + 3 * 25 + 4 * 10
    assert of_arm == {"constant": 1280, "increase:5@0.3,0.6": grown}
    assert plan.steps == 16 * (1280 + grown)
    examples = 16 * (10 * 512 + 3 * 512 + 3 * 500 + 4 * 510)
    assert plan.training_flops == 3 * 2 * 74 * 8 * examples


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{steps: 100}", r"schedules\.yaml:15: grid 'arms': budget steps=100 .* allowed: \{epochs"),
        ("{epochs: 1}", r"schedules\.yaml:15: grid 'arms': .* 0.3, 0.6 of 1 epochs are the epochs"),
    ],
)
def test_a_budget_that_a_growing_batch_does_not_go_with_is_refused_by_its_line(budget, words):
    text = SCHEDULES.replace("{epochs: 10}", budget)
    with pytest.raises(StudyFileError, match=words):
        plan_study(Study.from_text(text, "schedules.yaml"))


def test_paths_are_tried_out_with_one_thread_as_workers_train(study, monkeypatch):
    threads = []

    def watched(*arguments):
        threads.append(torch.get_num_threads())
        return choose_arithmetic(*arguments)

    monkeypatch.setattr("orchestrator.planning.choose_arithmetic", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        plan_study(study)
        assert set(threads) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_shipped_arms_differ_in_updates_and_not_in_epochs_or_looks():
    study = Study.from_file(Path(__file__).parents[2] / "studies" / "dont_decay.yaml")
    cells = {}
    for grid in study.grids:
        cells[grid.name], *others = grid_cells(study, grid)
        assert {cell.steps for cell in others} == {cells[grid.name].steps}
    # By hand, 65,536 examples: 2,048 updates of 32 in an epoch, 409 of 160, 81 of 800, 16 of 4,000.
    assert {name: cell.steps for name, cell in cells.items()} == {
        "decay": 30 * 2048,
        "hybrid": 9 * 2048 + 21 * 409,
        "increase": 9 * 2048 + 9 * 409 + 6 * 81 + 6 * 16,
    }
    assert len({cell.evaluation_schedule for cell in cells.values()}) == 1
    noise, epochs = [], []
    for cell in cells.values():
        recipe, trajectory = cell.recipe(), Trajectory.of(cell.recipe())
        looks = look_steps(cell.evaluation_schedule, trajectory)
        epochs.append([trajectory.examples_before(step) / cell.train_examples for step in looks])
        noise.append(
            [
                noise_scale(
                    recipe,
                    trajectory.learning_rate(recipe, step - 1),
                    trajectory.phase_at(step - 1).batch,
                )
                for step in looks
            ]
        )
    # Looks are at whole updates, and partial batches are dropped: a fraction of an epoch.
    assert epochs[1] == pytest.approx(epochs[0], rel=0.03)
    assert epochs[2] == pytest.approx(epochs[0], rel=0.03)
    # N/B − 1 is N/B but for the share B/N of the batch, 6 % at most.
    assert noise[1] == pytest.approx(noise[0], rel=0.07)
    assert noise[2] == pytest.approx(noise[0], rel=0.07)
