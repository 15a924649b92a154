"""Packs of many cells at once: nothing is lost or repeated beyond an interval, and faults part."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from orchestrator.packing import Pack
from orchestrator.planning import plan_study
from orchestrator.running.execution import Assignment, train_pack
from orchestrator.running.run import run_study
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.orchestrator.running.test_run import (
    cells_of,
    durable_rows,
    outcome,
    processes_with,
)
from workloads.source import source_hash
from workloads.training.arithmetic import Arithmetic

LONG = """
name: long
workload: misbehaving_together
seeds: 4
grids:
  all:
    model_size: 4
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: STEPS}
"""
"""4 cells, which are one pack and one stack of 64 rows."""

ROWS = 64
STEP_SECONDS = 0.005

FAULTS = """
name: faults
workload: misbehaving_together
seeds: 8
grids:
  all:
    fault: [none, FAULT]
    model_size: 4
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
    where: fault == 'none' or seed == 5
"""


def long_study(steps: int) -> Study:
    return Study.from_text(LONG.replace("STEPS", str(steps)))


@pytest.fixture
def study(plugins):
    return long_study(600)


def assignment_of(study: Study, store: Store, checkpoint_seconds: float) -> Assignment:
    return Assignment(
        workload=study.workload,
        workload_source=source_hash(study.workload),
        store=store,
        checkpoint_seconds=checkpoint_seconds,
    )


class Stopped(BaseException):
    """Ends a pack from outside, as a signal would."""


def train_until_stopped(pack: Pack, assignment: Assignment, calls: int) -> None:
    """Train a pack until it has said so many times that it is alive."""
    left = iter(range(calls))

    def alive() -> None:
        if next(left, None) is None:
            raise Stopped

    with pytest.raises(Stopped):
        train_pack(
            pack, assignment, device=torch.device("cpu"), report=lambda progress: None, alive=alive
        )


@pytest.mark.parametrize("stops", [(20,), (3, 5, 8, 11)])
def test_a_pack_that_is_stopped_goes_on_where_it_was(study, tmp_path, stops):
    store = Store(tmp_path / "store")
    store.create()
    (pack,) = plan_study(study, store).packs
    assert pack.arithmetic is Arithmetic.STACKED_LAYERS
    assignment = assignment_of(study, store, checkpoint_seconds=0)
    for stop in stops:
        train_until_stopped(pack, assignment, stop)
        assert store.open_packs() == {pack.pack_id: [cell.cell_id for cell in pack.cells]}
    train_pack(pack, assignment, device=torch.device("cpu"), report=lambda progress: None)
    assert store.open_packs() == {}
    run_study(study, tmp_path / "undisturbed", inline=True)
    pd.testing.assert_frame_equal(outcome(tmp_path / "store"), outcome(tmp_path / "undisturbed"))
    curves = [Store(tmp_path / name).read_curves() for name in ("store", "undisturbed")]
    pd.testing.assert_frame_equal(*(c.drop(columns="pack_id") for c in curves))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"no checkpoint at all",
        lambda data: b"",
        lambda data: data.replace(b"stacked layers of", b"stacked lawyers of"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_named_and_the_pack_begins_again(
    study, tmp_path, caplog, spoil
):
    store = Store(tmp_path / "store")
    store.create()
    (pack,) = plan_study(study, store).packs
    assignment = assignment_of(study, store, checkpoint_seconds=0)
    train_until_stopped(pack, assignment, 12)
    (state,) = (tmp_path / "store" / "checkpoints").glob("*/state.pt")
    spoilt = spoil(state.read_bytes())
    assert spoilt != state.read_bytes()
    state.write_bytes(spoilt)
    train_pack(pack, assignment, device=torch.device("cpu"), report=lambda progress: None)
    assert "begins again" in caplog.text
    run_study(study, tmp_path / "undisturbed", inline=True)
    pd.testing.assert_frame_equal(outcome(tmp_path / "store"), outcome(tmp_path / "undisturbed"))


def test_a_half_that_waits_is_saved_with_the_half_that_trains(study, tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    store.create()
    (pack,) = plan_study(study, store).packs
    assignment = assignment_of(study, store, checkpoint_seconds=0)
    calls = iter(range(30))

    def alive():
        call = next(calls, None)
        if call == 12:  # from here on, no more than two of the four fit into memory
            monkeypatch.setenv("MISBEHAVING_MOST_ROWS", "48")
        if call == 18:
            raise Stopped

    with pytest.raises(Stopped):
        train_pack(pack, assignment, device=torch.device("cpu"), report=lambda p: None, alive=alive)
    (state,) = (tmp_path / "store" / "checkpoints").glob("*/state.pt")
    saved = torch.load(state, weights_only=True)["stacks"]
    # The half under way stands further than the other, which stands where both were saved.
    assert [len(stack["state"]["members"]) for stack in saved] == [2, 4]
    assert saved[0]["state"]["step"] > saved[1]["state"]["step"] > 0
    train_pack(pack, assignment, device=torch.device("cpu"), report=lambda progress: None)
    monkeypatch.delenv("MISBEHAVING_MOST_ROWS")
    run_study(study, tmp_path / "undisturbed", inline=True)
    pd.testing.assert_frame_equal(outcome(tmp_path / "store"), outcome(tmp_path / "undisturbed"))


def test_a_torso_of_a_list_of_members_is_no_open_pack_and_is_written_anew(tmp_path, caplog):
    store = Store(tmp_path)
    store.create()
    store.write_checkpoint("0123456789abcdef", ["a", "b"], b"state")
    members = tmp_path / "checkpoints" / "0123456789abcdef" / "members.json"
    members.write_text(members.read_text()[:5])
    assert store.open_packs() == {}
    assert "members.json" in caplog.text
    store.write_checkpoint("0123456789abcdef", ["a", "b"], b"later")
    assert store.open_packs() == {"0123456789abcdef": ["a", "b"]}


def test_a_checkpoint_of_another_workload_source_is_not_gone_on_from(study, tmp_path, caplog):
    store = Store(tmp_path / "store")
    store.create()
    (pack,) = plan_study(study, store).packs
    assignment = assignment_of(study, store, checkpoint_seconds=0)
    train_until_stopped(pack, assignment, 12)
    mended = replace(assignment, workload_source="feedfeedfeedfeed")
    train_pack(pack, mended, device=torch.device("cpu"), report=lambda progress: None)
    assert "begins again" in caplog.text
    assert "feedfeedfeedfeed" in caplog.text


def test_an_error_of_whoever_is_told_of_progress_is_no_cells_fault(study, tmp_path):
    def progress(tally):
        if tally.finished:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_study(study, tmp_path, inline=True, progress=progress)
    assert len(Store(tmp_path).read_failures()) == 0
    assert len(cells_of(tmp_path)) == 4


def test_an_open_pack_is_planned_first_with_what_is_left_of_it(study, tmp_path):
    store = Store(tmp_path)
    store.create()
    (pack,) = plan_study(study, store).packs
    some = [cell.cell_id for cell in pack.cells[:3]]
    store.write_checkpoint("0123456789abcdef", [*some, "ffffffffffffffff"], b"state")
    first, second = plan_study(study, store).packs
    assert first.resumes == "0123456789abcdef"
    assert sorted(cell.cell_id for cell in first.cells) == sorted(some)
    assert second.resumes is None
    assert [cell.cell_id for cell in second.cells] == [pack.cells[3].cell_id]


def test_a_cell_under_two_open_packs_is_planned_once(study, tmp_path):
    store = Store(tmp_path)
    store.create()
    (pack,) = plan_study(study, store).packs
    members = [cell.cell_id for cell in pack.cells]
    store.write_checkpoint("0123456789abcdef", members, b"old")
    store.write_checkpoint("fedcba9876543210", members[1:], b"new")
    packs = plan_study(study, store).packs
    assert {p.resumes: [c.cell_id for c in p.cells] for p in packs} == {
        "fedcba9876543210": members[1:],
        "0123456789abcdef": members[:1],
    }


def test_checkpoints_of_ended_cells_are_forgotten_by_the_next_run(study, tmp_path):
    run_study(study, tmp_path, inline=True)
    store = Store(tmp_path)
    store.write_checkpoint("0123456789abcdef", sorted(store.cell_statuses())[:2], b"state")
    store.write_checkpoint("fedcba9876543210", ["ffffffffffffffff"], b"of another study")
    run_study(study, tmp_path, inline=True)
    assert store.open_packs() == {"fedcba9876543210": ["ffffffffffffffff"]}


def test_a_cell_that_raises_in_a_stack_costs_only_itself(plugins, tmp_path, monkeypatch):
    switch = tmp_path / "switch"
    switch.touch()
    monkeypatch.setenv("MISBEHAVING_SWITCH", str(switch))
    study = Study.from_text(FAULTS.replace("FAULT", "raise"))
    report = run_study(study, tmp_path / "store", inline=True)
    ((failed, message),) = report.failures.items()
    assert message == "this cell was asked to <b>fail</b>"
    cells = cells_of(tmp_path / "store")
    assert len(cells) == 8
    assert failed not in set(cells["cell_id"])
    switch.unlink()
    run_study(study, tmp_path / "store", inline=True, retry_failed=True)
    run_study(study, tmp_path / "without", inline=True)
    pd.testing.assert_frame_equal(outcome(tmp_path / "store"), outcome(tmp_path / "without"))


def test_a_lack_of_memory_halves_the_stack_and_changes_no_row(plugins, tmp_path, monkeypatch):
    study = Study.from_text(LONG.replace("STEPS", "30").replace("seeds: 4", "seeds: 16"))
    run_study(study, tmp_path / "store", inline=True)  # and measures the size of its stacks
    monkeypatch.setenv("MISBEHAVING_MOST_ROWS", "48")
    for probe in (tmp_path / "store" / "probes").iterdir():
        assert '"16"' in probe.read_text()
        (tmp_path / "short" / "probes").mkdir(parents=True)
        (tmp_path / "short" / "probes" / probe.name).write_text(probe.read_text())
    report = run_study(study, tmp_path / "short", inline=True)
    assert report.all_done
    pd.testing.assert_frame_equal(outcome(tmp_path / "store"), outcome(tmp_path / "short"))


def test_a_stack_size_is_measured_once(study, tmp_path):
    run_study(study, tmp_path, inline=True)
    (probe,) = (tmp_path / "probes").iterdir()
    before = probe.stat().st_mtime_ns
    more = Study.from_text(LONG.replace("STEPS", "601"))
    run_study(more, tmp_path, inline=True)
    assert probe.stat().st_mtime_ns == before
    assert len(cells_of(tmp_path)) == 8


TWO_PACKS = """
name: two
workload: digits
seeds: 3
grids:
  all:
    dataset_fraction: [0.25, 0.5]
    model_size: [5, 16]
    batch_size: 16
    label_noise: [0.0, 0.4]
    learning_rate: [0.1, 1000.0]
    momentum: 0.9
    budget: {steps: 40}
"""

FRESH_WORKER = """
import sys
import torch
from orchestrator import Store, Study
from orchestrator.planning import plan_study
from tests.orchestrator.running.test_stacked_packs import TWO_PACKS, assignment_of
from orchestrator.running.execution import train_pack

study, store = Study.from_text(TWO_PACKS), Store(sys.argv[1])
store.create()
for pack in plan_study(study).packs:
    if pack.pack_id in sys.argv[2:]:
        train_pack(
            pack, assignment_of(study, store, 60), device=torch.device("cpu"), report=lambda p: None
        )
"""


def test_a_fresh_and_a_reused_worker_give_equal_rows(tmp_path):
    first, second = (pack.pack_id for pack in plan_study(Study.from_text(TWO_PACKS)).packs)
    for folder, packs in (("fresh", [second]), ("reused", [first, second])):
        command = [sys.executable, "-c", FRESH_WORKER, str(tmp_path / folder), *packs]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[3], timeout=300)
    reused = outcome(tmp_path / "reused")
    fresh = outcome(tmp_path / "fresh")
    assert len(fresh) == 24
    both = reused[reused["cell_id"].isin(fresh["cell_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(fresh, both)


DRIVER = """
import sys
from orchestrator import Study, run_study
report = run_study(
    Study.from_file("study.yaml"), "store", flush_seconds=0.5, checkpoint_seconds=CHECKPOINT,
    hang_seconds=HANG,
)
sys.exit(0 if report.all_done else 1)
"""

CHECKPOINT_SECONDS = 1.0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_pack_killed_in_its_middle_repeats_less_than_an_interval(
    command_line, plugins, tmp_path, victim
):
    steps = 1500  # 7.5 s at 5 ms a step
    text = LONG.replace("STEPS", str(steps))
    (tmp_path / "study.yaml").write_text(text)
    store = tmp_path / "store"
    # A run of the same shape first, so that no measurement adds steps later, and so that these are
    # known to be short: without STEP_LOG they are, and stay one pack.
    run_study(Study.from_text(text.replace("0.1", "0.2")), store, inline=True)
    log = tmp_path / "steps"
    marker = f"SCALING_STUDY_TEST={tmp_path}"
    environment = {
        **command_line.environment,
        "SCALING_STUDY_TEST": str(tmp_path),
        "MISBEHAVING_STEP_LOG": str(log),
    }
    script = DRIVER.replace("CHECKPOINT", str(CHECKPOINT_SECONDS)).replace("HANG", "600")

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stacked_steps() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[0] for line in lines if line.split()[1:] == [str(ROWS)]]

    driver = start()
    try:
        deadline = time.monotonic() + 120
        while not list((store / "checkpoints").glob("*/state.pt")) or len(stacked_steps()) < 700:
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if victim == "worker":
            pids = [p for p, c in processes_with(marker).items() if c.startswith("ray::ImplicitFu")]
            training = {int(pid) for pid in stacked_steps()} & set(pids)
            os.kill(training.pop(), signal.SIGKILL)
            _, complaint = driver.communicate(timeout=120)
        else:
            driver.kill()
            driver.communicate(timeout=120)
            driver = start()
            _, complaint = driver.communicate(timeout=120)
        assert driver.returncode == 0, complaint
    finally:
        driver.kill()
        driver.wait()

    assert len(durable_rows(store)) == 8
    assert not list((store / "checkpoints").iterdir())
    made = len(stacked_steps())
    # The planner's trial of each driver makes a few steps of 5 members; none has 64 rows.
    assert made >= steps
    # One interval, and the stretch of steps (half a second at most) at whose end it is looked at.
    assert made - steps <= (CHECKPOINT_SECONDS + 0.5) / STEP_SECONDS
    run_study(long_study(steps), tmp_path / "undisturbed", inline=True)
    ours = outcome(store)
    pd.testing.assert_frame_equal(
        ours[ours["learning_rate"] == 0.1].reset_index(drop=True), outcome(tmp_path / "undisturbed")
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_cell_that_hangs_ends_its_worker_and_costs_only_itself(command_line, tmp_path):
    (tmp_path / "switch").touch()
    (tmp_path / "study.yaml").write_text(
        FAULTS.replace("FAULT", "hang").replace("seeds: 8", "seeds: [4, 5]")
    )
    script = DRIVER.replace("CHECKPOINT", "60").replace("HANG", "3")
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env=command_line.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 1, answer.stderr
    assert len(durable_rows(tmp_path / "store")) == 2
    failures = Store(tmp_path / "store").read_failures()
    assert list(failures["error_type"]) == ["WorkerDied"]
    assert "hang" in failures["error_message"][0]


def test_a_study_without_stackable_cells_is_planned_one_by_one(plugins, tmp_path):
    study = Study.from_text(
        LONG.replace("STEPS", "5").replace("misbehaving_together", "misbehaving")
    )
    plan = plan_study(study)
    assert {path.choice.arithmetic for path in plan.paths} == {Arithmetic.ONE_BY_ONE}
    run_study(study, tmp_path, inline=True)
    assert set(cells_of(tmp_path)["arithmetic"]) == {"one by one"}
    assert not (tmp_path / "probes").exists()
