"""The chaos test in short, and that its judge finds what it is there to find."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.chaos_evidence import Findings, Watch, findings
from benchmarks.chaos_study import TRAININGS, ChaosDigits, Training, study_text, trainings
from orchestrator import Store, Study, plan_study
from tests.orchestrator.store_rows import EPOCH, write_cells
from workloads.training.lockstep import Lockstep

ROOT = Path(__file__).parents[2]


class Scene:
    """A study of four cells that ended in two stores, one of them disturbed."""

    def __init__(self, folder: Path) -> None:
        self.peaceful, self.disturbed = (Store(folder / name) for name in ("one", "other"))
        for store in (self.peaceful, self.disturbed):
            store.create()
        write_cells(self.peaceful, "whole", range(4))
        self.watch = Watch(Path(self.disturbed.location))
        self.log: list[Training] = []

    def found(self) -> Findings:
        stores = Path(self.disturbed.location), Path(self.peaceful.location)
        return findings(*stores, self.watch, self.log, cells=4)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def in_two_packs(scene: Scene) -> None:
    write_cells(scene.disturbed, "first", [0, 1])
    write_cells(scene.disturbed, "second", [2, 3])


def part_of(scene: Scene, pack_id: str) -> Path:
    (path,) = (Path(scene.disturbed.location) / "cells").glob(f"part-{pack_id}-*")
    return path


def test_other_packs_hosts_and_times_are_no_fault(scene):
    write_cells(scene.disturbed, "first", [0, 1], host="elsewhere", wall_seconds=9.0)
    write_cells(scene.disturbed, "second", [2, 3])
    scene.log = [Training(seed=seed, began_ns=1) for seed in (0, 0, 1, 2, 3)]
    assert scene.found().faults() == []


def missing(scene: Scene) -> None:
    write_cells(scene.disturbed, "first", [0, 1, 2])


def repeated(scene: Scene) -> None:
    in_two_packs(scene)
    write_cells(scene.disturbed, "third", [3])


def lost(scene: Scene) -> None:
    in_two_packs(scene)
    scene.watch.look()
    part_of(scene, "second").unlink()
    # Trained anew: each cell has a row, and not the one that was there.
    write_cells(scene.disturbed, "third", [2, 3], started_at=EPOCH + timedelta(days=1))


def trained_again(scene: Scene) -> None:
    in_two_packs(scene)
    durable_ns = part_of(scene, "first").stat().st_mtime_ns
    scene.log = [
        Training(seed=0, began_ns=durable_ns - 1),
        Training(seed=0, began_ns=durable_ns + 1),
    ]


def differing(scene: Scene) -> None:
    write_cells(scene.disturbed, "first", [0, 1, 2])
    write_cells(scene.disturbed, "second", [3], test_loss=0.5000000000000001)


def left_over(scene: Scene) -> None:
    in_two_packs(scene)
    scene.disturbed.write_checkpoint("third", ["a cell"], b"state")


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (missing, ["missing: 1", "differing: 1"]),
        (repeated, ["repeated: 1"]),
        (lost, ["lost: 2"]),
        (trained_again, ["trained again: 1"]),
        (differing, ["differing: 1"]),
        (left_over, ["left over: 1"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_judge_finds(scene, fault: Callable[[Scene], None], found):
    fault(scene)
    assert scene.found().faults() == found


def test_each_cell_of_a_stack_leaves_a_line_when_it_begins(tmp_path, monkeypatch):
    monkeypatch.setenv(TRAININGS, str(tmp_path / "log"))
    plan = plan_study(Study.from_text(study_text(24), workload=ChaosDigits()))
    assert len({path.choice.arithmetic for path in plan.paths}) == 3
    assert sorted(cell.seed for cell in plan.cells.values()) == list(range(24))
    for pack in plan.packs:
        stacks = [pack.cells] if pack.arithmetic.stacks else [[cell] for cell in pack.cells]
        for cells in stacks:
            recipes = [cell.recipe() for cell in cells]
            Lockstep(ChaosDigits(), recipes, pack.arithmetic, "cpu")
    begun = trainings(tmp_path / "log", 24)
    assert sorted(training.seed for training in begun) == list(range(24))


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_a_study_survives_kills_of_trials_nodes_and_drivers():
    command = ["benchmarks.chaos", "--cells", "150", "--kills", "6", "--minutes", "9"]
    chaos = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        table, said = chaos.communicate(timeout=580)
    finally:
        chaos.terminate()
        chaos.wait()
    assert chaos.returncode == 0, said
    kills = [line.split()[1:] for line in table.splitlines() if line.startswith("kills: ")]
    assert kills == [["trials", "2"], ["nodes", "2"], ["drivers", "2"], ["heads", "0"]]
