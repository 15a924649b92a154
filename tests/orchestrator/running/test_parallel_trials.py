"""Cells that several workers train together, through Ray Train inside a trial."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from ray.exceptions import RayActorError
from ray.train import ControllerError, UserCallback
from ray.train.torch import TorchTrainer
from torch import distributed, multiprocessing

from analysis import load_cells, load_curves
from orchestrator.errors import PlanError
from orchestrator.planning import plan_study
from orchestrator.running.execution import Assignment, train_part
from orchestrator.running.parallel_trial import train_together
from orchestrator.running.run import run_study
from orchestrator.running.trial import WorkersLostError
from orchestrator.storage.schema import HOW_IT_WENT
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.workloads.own_loops import SklearnDigits
from workloads.training import lockstep
from workloads.training.arithmetic import Arithmetic

STUDY = """
name: together
workload: digits
seeds: 1
grids:
  curve:
    dataset_fraction: [0.25, 0.5]
    model_size: 16
    batch_size: 32
    learning_rate: 0.1
    momentum: 0.9
    budget: {steps: 60}
resources: {cpus: 0.5, gpus: 0, workers: 2}
"""
# Two workers of half a CPU and the trial's own CPU: a machine of two holds one such trial.

FAULTY = """
name: faulty
workload: misbehaving
seeds: 1
grids:
  all:
    fault: [none, FAULT]
    model_size: 4
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
resources: {cpus: 0.5, gpus: 0, workers: 2}
"""


@pytest.mark.ray
def test_two_workers_give_the_rows_of_one(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    answer = command_line("run", "study.yaml", "--store", "store", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["completed"] == 2
    alone = Study.from_text(STUDY.replace("cpus: 0.5, gpus: 0, workers: 2", "cpus: 1, gpus: 0"))
    run_study(alone, tmp_path / "alone", inline=True)
    ours, theirs = (
        load_cells(tmp_path / name).set_index("cell_id").sort_index() for name in ("store", "alone")
    )
    assert set(ours["arithmetic"]) == {"data parallel"}
    numbers = ours.select_dtypes("number").columns.difference([*HOW_IT_WENT])
    # float32 sums in another order: 6e-8 a sum, over 10 steps.
    pd.testing.assert_frame_equal(ours[numbers], theirs[numbers], rtol=1e-4, check_dtype=False)
    pd.testing.assert_series_equal(ours["status"], theirs["status"])
    looks = [
        load_curves(tmp_path / name, cells.reset_index()).groupby("cell_id")["step"].apply(list)
        for name, cells in (("store", ours), ("alone", theirs))
    ]
    pd.testing.assert_series_equal(*looks)
    assert not list((tmp_path / "store" / "checkpoints").iterdir())
    # Nothing is left to do, whoever would do it.
    again = command_line("plan", "study.yaml", "--store", "store", "--json")
    assert json.loads(again.stdout)["cells_to_run"] == 0


@pytest.mark.ray
@pytest.mark.parametrize(
    ("fault", "error_type"), [("raise", "ArithmeticError"), ("exit", "WorkerDied")]
)
def test_a_cell_that_fails_its_workers_fails_alone(command_line, tmp_path, fault, error_type):
    (tmp_path / "switch").touch()
    (tmp_path / "study.yaml").write_text(FAULTY.replace("FAULT", fault))
    answer = command_line("run", "study.yaml", "--store", "store", "--json")
    assert answer.returncode == 1, answer.stderr
    told = json.loads(answer.stdout)
    assert (told["completed"], len(told["failed"])) == (1, 1)
    failures = pd.read_parquet(tmp_path / "store" / "failures")
    assert list(failures["error_type"]) == [error_type]


MIXED = """
name: mixed
workload: misbehaving
seeds: 1
grids:
  all:
    pause: 30
    model_size: [4, 16]
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
resources:
  - {up_to_parameters: 50, cpus: 0.25, gpus: 0}
  - {cpus: 0.25, gpus: 0, workers: 2}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_others_train_beside_cells_of_several_workers(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(MIXED)
    answer = command_line("run", "study.yaml", "--store", "store", "--json")
    assert answer.returncode == 0, answer.stderr
    cells = load_cells(tmp_path / "store")
    begin = cells["started_at"]
    end = begin + pd.to_timedelta(cells["pack_wall_seconds"], "s")
    assert len(cells) == 2
    assert begin.max() < end.min()


@pytest.mark.parametrize(
    ("met", "raised"),
    [(RayActorError(error_msg="died"), WorkersLostError), (ValueError("no"), ControllerError)],
)
def test_a_death_that_ray_trains_controller_meets_first_is_one_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path, met: Exception, raised: type[Exception]
):
    def fit(trainer: TorchTrainer) -> None:
        raise ControllerError(met)

    # Which of the two meets it is a race, seldom lost.
    monkeypatch.setattr(TorchTrainer, "fit", fit)
    monkeypatch.setattr("orchestrator.running.parallel_trial.TuneReportCallback", UserCallback)
    study = Study.from_text(STUDY)
    assignment = Assignment(
        workload=study.workload, workload_source="source", store=Store(tmp_path)
    )
    with pytest.raises(raised):
        train_together(plan_study(study).packs[0], assignment, {})


def _part(rank: int, folder: str, stores: tuple[str, str], calls: int) -> None:
    """Train one worker's part of the study's first cell; stop at the given call of `alive`."""
    lockstep.STRETCH_EXAMPLES = 1  # a pause, and so a checkpoint, after every step
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    study, store = Study.from_text(STUDY), Store(stores[rank])
    store.create()
    called = itertools.count(1)

    def alive() -> None:
        if next(called) == calls:
            distributed.barrier()
            raise SystemExit

    train_part(
        plan_study(study).packs[0],
        Assignment(
            workload=study.workload, workload_source="source", store=store, checkpoint_seconds=0
        ),
        rank=rank,
        device=torch.device("cpu"),
        report=lambda progress: None,
        alive=alive,
    )
    Path(folder, f"calls-{rank}").write_text(str(next(called)))


def test_all_workers_begin_where_the_first_one_does(tmp_path):
    # The second sees another store: one that lags behind, as it were.
    first, other = str(tmp_path / "first"), str(tmp_path / "other")
    runs = [("whole", (first + "-whole", other), 0), ("cut", (first, other), 30)]
    for name, stores, calls in [*runs, ("again", (first, other), 0)]:
        (tmp_path / name).mkdir()
        multiprocessing.spawn(_part, (str(tmp_path / name), stores, calls), nprocs=2)
    whole, again = (int((tmp_path / name / "calls-1").read_text()) for name in ("whole", "again"))
    assert again < whole - 20
    rows = [Store(each).read_cells().iloc[0] for each in (first + "-whole", first)]
    assert rows[0]["test_loss"] == rows[1]["test_loss"]
    assert Store(other).read_cells().empty


def test_each_such_cell_is_a_pack_of_its_own_and_the_plan_says_how_it_trains():
    plan = plan_study(Study.from_text(STUDY))
    assert len(plan.packs) == 2
    assert {pack.arithmetic for pack in plan.packs} == {Arithmetic.DATA_PARALLEL}
    assert {path.choice.reason for path in plan.paths} == {"2 workers train each together"}


def test_cells_of_several_workers_are_apart_however_their_lengths_differ():
    # 2, 4 and 32 steps: a third of the time of all is longer than the two short cells together.
    lengths = STUDY.replace("[0.25, 0.5]", "[0.0625, 0.125, 1.0]").replace("steps: 60", "epochs: 1")
    packs = plan_study(Study.from_text(lengths)).packs
    assert [len(pack.cells) for pack in packs] == [1, 1, 1]


def test_a_pack_that_stopped_is_parted_where_its_cells_now_get_several_workers(tmp_path):
    store = Store(tmp_path)
    store.create()
    alone = Study.from_text(STUDY.replace("cpus: 0.5, gpus: 0, workers: 2", "cpus: 1, gpus: 0"))
    (old,) = plan_study(alone, store).packs
    store.write_checkpoint(old.pack_id, [cell.cell_id for cell in old.cells], b"of a stack")
    packs = plan_study(Study.from_text(STUDY), store).packs
    assert {pack.arithmetic for pack in packs} == {Arithmetic.DATA_PARALLEL}
    assert [len(pack.cells) for pack in packs] == [1, 1]
    assert {pack.cells[0] for pack in packs} == set(old.cells)
    # One worker again: what is left of the stack goes on from its checkpoint.
    assert plan_study(alone, store).packs == (replace(old, resumes=old.pack_id),)


def test_what_cannot_be_divided_is_refused_before_anything_starts(tmp_path):
    own = Study.from_text(
        STUDY.replace("workload: digits", "workload: sklearn_digits"), workload=SklearnDigits()
    )
    with pytest.raises(PlanError, match="a loop of its own, which 2 workers cannot share"):
        plan_study(own)
    with pytest.raises(PlanError, match="run without --inline"):
        run_study(Study.from_text(STUDY), tmp_path, inline=True)
