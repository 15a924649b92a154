"""A study from file to rows: everything is trained once, whatever fails or is killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis import load_cells, load_curves
from orchestrator.running.executor import InlineExecutor
from orchestrator.running.pack_rows import Failure, PackProgress
from orchestrator.running.run import run_study
from orchestrator.storage.schema import HOW_IT_WENT, SCHEMAS, Table
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.orchestrator.conftest import PLUGINS
from tests.orchestrator.test_cli import run
from workloads.digits import Digits

DIGITS = """
name: small
workload: digits
seeds: 2
grids:
  curve:
    dataset_fraction: [0.25, 0.5]
    model_size: [4, 8]
    batch_size: 16
    learning_rate: [0.1, 10000.0]
    budget: {steps: 30}
"""

EVERY_WAY = """
name: every_way
workload: digits
seeds: 1
grids:
  all:
    dataset_fraction: 0.25
    model_size: 4
    batch_size: 4
    learning_rate: 0.01
    momentum: 0.9
    weight_decay: 0.01
    optimizer: [sgd, nesterov, adam, adamw]
    learning_rate_schedule: [constant, "step:5@0.3", warmup:0.1+cosine]
    batch_size_schedule: [constant, "increase:3@0.5"]
    budget: {epochs: 10}
"""

FAULTS = """
name: faults
workload: misbehaving
seeds: 4
grids:
  all:
    fault: [none, FAULT]
    model_size: 4
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
    where: fault == 'none' or seed == 2
"""


def cells_of(store: Path) -> pd.DataFrame:
    return pd.read_parquet(store / "cells")


def outcome(store: Path) -> pd.DataFrame:
    """What the cells came to, without how they were trained."""
    cells = cells_of(store)
    kept = [name for name in cells.columns if name not in HOW_IT_WENT]
    return cells[kept].sort_values("cell_id", ignore_index=True)


def test_a_run_leaves_one_row_a_cell_with_the_documented_columns(tmp_path):
    report = run_study(Study.from_text(DIGITS), tmp_path / "store", inline=True)
    assert report.all_done
    cells = cells_of(tmp_path / "store")
    assert len(cells) == cells["cell_id"].nunique() == 16
    assert list(cells.columns) == SCHEMAS[Table.CELLS].names


def test_a_study_trains_with_the_weight_decay_that_its_rows_name(tmp_path):
    decays = DIGITS.replace("[0.1, 10000.0]", "0.1\n    weight_decay: [0, 5]")
    decays = decays.replace("steps: 30", "steps: 300")
    run_study(Study.from_text(decays), tmp_path / "store", inline=True)
    cells = cells_of(tmp_path / "store")
    losses = cells.groupby("weight_decay")["train_loss"].apply(list)
    assert {name: len(of_decay) for name, of_decay in losses.items()} == {0.0: 8, 5.0: 8}
    # Each of 300 steps takes half of the weights away and adds a tenth of a gradient: what is left
    # knows the number of classes alone.
    guess = pytest.approx(math.log(10), abs=2e-3)
    assert all(loss == guess for loss in losses[5.0])
    assert all(loss != guess for loss in losses[0.0])


@pytest.mark.ray
def test_a_study_of_every_optimizer_and_schedule_trains_on_ray(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(EVERY_WAY)
    assert command_line("plan", "study.yaml", "--store", "store").returncode == 0
    answer = command_line("run", "study.yaml", "--store", "store")
    assert answer.returncode == 0, answer.stderr
    cells = load_cells(tmp_path / "store")
    ways = ["optimizer", "learning_rate_schedule", "batch_size_schedule"]
    assert len(cells) == len(cells[ways].drop_duplicates()) == 4 * 3 * 2
    assert set(cells["status"]) == {"completed"}
    assert cells["train_loss"].nunique() == len(cells)
    curves = load_curves(tmp_path / "store", cells).merge(cells[["cell_id", *ways]], on="cell_id")
    last = curves[curves["step"] == curves.groupby("cell_id")["step"].transform("max")]
    # 256 examples in 10 epochs: batches of 4, and from the half of training of 12.
    grows = last["batch_size_schedule"] != "constant"
    assert set(last["batch_size"][grows]) == {12}
    assert set(last["batch_size"][~grows]) == {4}
    adaptive = last["optimizer"].isin(["adam", "adamw"])
    assert last["noise_scale"].isna().equals(adaptive)
    stepped = last["learning_rate_schedule"].str.startswith("step")
    assert last["learning_rate"][stepped].tolist() == pytest.approx([0.002] * 8)
    # A second run, and a process of its own, find every cell done.
    again = json.loads(command_line("plan", "study.yaml", "--store", "store", "--json").stdout)
    assert again["cells_to_run"] == 0


class Measured(Digits):
    """The digits, and how sure the model is of what it says."""

    name = "measured digits"

    def metrics(self, outputs, targets):
        return {"doubt": 1 - outputs.softmax(1).max(1).values, "nothing": outputs[:, 0] * math.nan}


def test_a_workload_s_own_metrics_become_columns(tmp_path):
    values = yaml.safe_load(DIGITS)
    study = Study.from_dict({**values, "workload": "measured digits"}, Measured())
    run_study(study, tmp_path / "store", inline=True)
    cells = load_cells(tmp_path / "store")
    done = cells["status"] == "completed"
    for split in ("validation", "test"):
        assert cells[f"{split}_doubt"][done].between(0, 0.9).all()
        assert cells[f"{split}_nothing"].isna().all()
    assert cells["validation_doubt"].nunique() == done.sum()
    assert cells["validation_doubt"][~done].isna().all()
    assert set(cells["workload_metrics"][~done]) == {"{}"}


def test_a_diverged_cell_is_a_row_at_chance(tmp_path):
    run_study(Study.from_text(DIGITS), tmp_path / "store", inline=True)
    cells = cells_of(tmp_path / "store")
    diverged = cells[cells["status"] == "diverged"]
    assert set(diverged["learning_rate"]) == {10000.0}
    assert len(diverged) == 8
    assert diverged[["train_loss", "validation_loss", "test_loss"]].isna().all(axis=None)
    assert (diverged[["validation_error", "test_error"]] == 0.9).all(axis=None)


def test_a_second_run_trains_nothing_and_a_new_value_only_its_cells(tmp_path):
    store = tmp_path / "store"
    run_study(Study.from_text(DIGITS), store, inline=True)
    before = cells_of(store)
    again = run_study(Study.from_text(DIGITS), store, inline=True)
    assert again.tally.finished == 0
    pd.testing.assert_frame_equal(cells_of(store), before)
    wider = run_study(Study.from_text(DIGITS.replace("[4, 8]", "[4, 8, 16]")), store, inline=True)
    assert wider.tally.finished == 8
    after = cells_of(store)
    assert set(after["cell_id"]) > set(before["cell_id"])
    assert set(after.loc[~after["cell_id"].isin(before["cell_id"]), "model_size"]) == {16}


def test_a_study_file_is_kept_as_it_was_given(tmp_path):
    run_study(Study.from_text(DIGITS), tmp_path / "store", inline=True)
    (kept,) = (tmp_path / "store" / "studies").glob("small-*.yaml")
    assert kept.read_text() == DIGITS


def test_a_cell_that_raises_is_written_down_and_the_others_go_on(plugins, tmp_path, monkeypatch):
    switch = tmp_path / "switch"
    switch.touch()
    monkeypatch.setenv("MISBEHAVING_SWITCH", str(switch))
    study = Study.from_text(FAULTS.replace("FAULT", "raise"))
    store = tmp_path / "store"
    report = run_study(study, store, inline=True)
    ((failed, message),) = report.failures.items()
    assert message == "this cell was asked to <b>fail</b>"
    assert len(cells_of(store)) == 4
    failures = Store(store).read_failures()
    assert list(failures["cell_id"]) == [failed]
    assert list(failures["attempt"]) == [1]
    assert "ArithmeticError" in failures["error_traceback"][0]

    again = run_study(study, store, inline=True)
    assert again.tally.finished == 0
    assert list(again.failures) == [failed]

    retried = run_study(study, store, inline=True, retry_failed=True)
    assert retried.tally.failed == 1
    assert list(Store(store).read_failures()["attempt"]) == [1, 2]

    switch.unlink()
    mended = run_study(study, store, inline=True, retry_failed=True)
    assert mended.all_done
    assert mended.tally.completed == 1
    assert len(cells_of(store)) == 5


class Unreadable(Digits):
    name = "unreadable"

    def training_targets(self, targets, axes, stream):
        name = b"caf\xe9.png".decode("utf-8", "surrogateescape")  # as os.listdir gives it
        raise OSError(f"cannot read {name}")


def test_an_error_about_a_file_whose_name_is_not_utf8_is_written_down_as_any_other(tmp_path):
    grid = {"model_size": 4, "batch_size": 16, "learning_rate": 0.1, "budget": {"steps": 5}}
    study = Study.from_dict({"name": "odd", "seeds": 2, "grids": {"all": grid}}, Unreadable())
    report = run_study(study, tmp_path / "store", inline=True)
    assert [*report.failures.values()] == [r"cannot read caf\udce9.png"] * 2
    failures = Store(tmp_path / "store").read_failures()
    assert list(failures["error_message"]) == [r"cannot read caf\udce9.png"] * 2
    assert all(r"OSError: cannot read caf\udce9.png" in t for t in failures["error_traceback"])


def test_what_another_driver_trained_before_the_lock_was_ours_is_not_trained_again(
    tmp_path, monkeypatch
):
    study, store = Study.from_text(DIGITS), tmp_path / "store"
    drive = Store.drive

    def late(self, driver):
        monkeypatch.setattr(Store, "drive", drive)
        run_study(Study.from_text(DIGITS.replace("[4, 8]", "[4]")), store, inline=True)
        return drive(self, driver)

    monkeypatch.setattr(Store, "drive", late)
    report = run_study(study, store, inline=True)
    assert report.tally.total == 8
    assert report.plan.cells_to_run == 8
    assert len(cells_of(store)) == 16


class FailsThenTrains(InlineExecutor):
    """A trial whose worker dies after it reported a failure, and whose retry trains the cell."""

    def train(self, packs, assignment, report):
        cell = packs[0].cells[0]
        failure = Failure(
            cell_id=cell.cell_id,
            pack_id=packs[0].pack_id,
            error_type="OSError",
            error_message="a passing fault",
            error_traceback="",
            host="here",
            failed_at=datetime.now(UTC),
        )
        report(PackProgress(pack_id=failure.pack_id, failures=(failure,)))
        return super().train(packs, assignment, report)


def test_a_cell_whose_retry_succeeds_is_not_reported_as_failed(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.running.run.InlineExecutor", FailsThenTrains)
    report = run_study(Study.from_text(DIGITS), tmp_path / "store", inline=True)
    assert report.all_done
    assert (report.tally.completed, report.tally.diverged, report.tally.failed) == (8, 8, 0)
    assert len(Store(tmp_path / "store").read_failures()) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_cell_that_ends_its_process_costs_only_itself(command_line, tmp_path):
    (tmp_path / "switch").touch()
    (tmp_path / "study.yaml").write_text(
        FAULTS.replace("FAULT", "exit").replace("seeds: 4", "seeds: [1, 2]")
    )
    answer = command_line("run", "study.yaml", "--store", "store", "--json")
    assert answer.returncode == 1, answer.stderr
    document = json.loads(answer.stdout)
    assert document["completed"] == 2
    ((failed, message),) = document["failed"].items()
    assert "died" in message
    cells = cells_of(tmp_path / "store")
    assert set(cells["workload_axes"].map(json.loads).map(lambda axes: axes["fault"])) == {"none"}
    assert failed not in set(cells["cell_id"])

    (tmp_path / "switch").unlink()
    mended = command_line("run", "study.yaml", "--store", "store", "--retry-failed", "--json")
    assert mended.returncode == 0, mended.stderr
    assert json.loads(mended.stdout)["trained"] == 1


@pytest.mark.ray
@pytest.mark.slow
def test_ray_and_inline_leave_equal_rows(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(DIGITS)
    answer = command_line("run", "study.yaml", "--store", "ray")
    assert answer.returncode == 0, answer.stderr
    assert "Trained 16 cells" in answer.stdout
    run_study(Study.from_text(DIGITS), tmp_path / "inline", inline=True)
    pd.testing.assert_frame_equal(outcome(tmp_path / "ray"), outcome(tmp_path / "inline"))
    second = command_line("run", "study.yaml", "--store", "ray")
    assert second.returncode == 0
    assert "Trained 0 cells" in second.stdout


SLOW_STUDY = """
name: killed
workload: misbehaving
seeds: 24
grids:
  all:
    pause: 0.1
    model_size: [4, 5]
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 10}
"""
"""48 cells of at least 0.1 s in 2 packs: 2.4 s of training on two workers."""

DRIVER = """
import sys
from orchestrator import Study, run_study
report = run_study(Study.from_file("study.yaml"), "store", flush_seconds=0.3)
sys.exit(0 if report.all_done else 1)
"""


def processes_with(text: str) -> dict[int, str]:
    """Command lines, by process id, of living processes with `text` in their environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if text.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it ended meanwhile, or is not ours
    return found


def durable_rows(store: Path) -> pd.Series:
    """`started_at` by cell_id; empty before the first part."""
    if not any((store / "cells").glob("part-*.parquet")):
        return pd.Series(dtype=object)
    return cells_of(store).set_index("cell_id")["started_at"]


def wait_for_training(log: Path, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not log.exists():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_interrupted(driver: subprocess.Popen[str]) -> None:
    try:
        out, err = driver.communicate(timeout=120)
    finally:
        driver.kill()
    assert (driver.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == (
        "Interrupted. What was durable is kept; the same command goes on from there."
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_130_and_can_go_on(command_line, tmp_path, number):
    (tmp_path / "study.yaml").write_text(SLOW_STUDY)
    driver = command_line.start("run", "study.yaml", "--store", "store")
    try:
        wait_for_training(tmp_path / "log", driver)
        driver.send_signal(number)
        assert_interrupted(driver)
    finally:
        driver.kill()
    answer = command_line("run", "study.yaml", "--store", "store", "--json")
    assert answer.returncode == 0, answer.stderr
    assert len(cells_of(tmp_path / "store")) == 48


INTERRUPTED_IN_A_DESTRUCTOR = """
import os, pathlib, ray, signal

class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def wait(*arguments, waiting=ray.wait, interrupted=[], **options):
    if not interrupted and pathlib.Path(os.environ["MISBEHAVING_LOG"]).exists():
        interrupted.append(True)
        Interrupted()
    return waiting(*arguments, **options)

ray.wait = wait
"""
"""Sends SIGINT while the driver is where Python drops what is raised, once training has begun."""


@pytest.mark.ray
@pytest.mark.slow
def test_an_interrupt_that_python_drops_in_a_destructor_ends_the_run(command_line, tmp_path):
    (tmp_path / "study.yaml").write_text(SLOW_STUDY)
    arguments = ("run", "study.yaml", "--store", "store")
    driver = command_line.start(*arguments, before=INTERRUPTED_IN_A_DESTRUCTOR)
    assert_interrupted(driver)
    assert len((tmp_path / "log").read_text().splitlines()) < 48


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the cells of `SLOW_STUDY` come to where nobody kills anything."""
    store = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGINS))
        run_study(Study.from_text(SLOW_STUDY), store, inline=True)
    return outcome(store)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("victims", "rows_before"),
    [("driver", 1), ("worker", 24), ("both", 12), ("driver", 36)],
)
def test_sigkill_loses_no_durable_row_and_repeats_little(
    command_line, tmp_path, undisturbed, victims, rows_before
):
    (tmp_path / "study.yaml").write_text(SLOW_STUDY)
    store = tmp_path / "store"
    marker = f"SCALING_STUDY_TEST={tmp_path}"
    environment = {**command_line.environment, "SCALING_STUDY_TEST": str(tmp_path)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    driver = start()
    try:
        deadline = time.monotonic() + 120
        while len(before := durable_rows(store)) < rows_before:
            assert driver.poll() is None, driver.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workers = [
            pid
            for pid, command in processes_with(marker).items()
            if command.startswith("ray::ImplicitFunc")  # Ray's agents are called ray:: too
        ]
        assert workers
        status = run("status", str(store)).stdout  # as from another terminal
        assert "Running: " in status
        assert f"pid {driver.pid})" in status
        before = durable_rows(store)
        if victims in ("worker", "both"):
            os.kill(workers[0], signal.SIGKILL)
        if victims in ("driver", "both"):
            driver.kill()
        _, complaint = driver.communicate(timeout=120)
        if victims != "worker":
            assert driver.returncode == -signal.SIGKILL
            driver = start()
            _, complaint = driver.communicate(timeout=120)
        assert driver.returncode == 0, complaint
    finally:
        driver.kill()
        driver.wait()

    after = durable_rows(store)
    assert len(after) == after.index.nunique() == 48
    pd.testing.assert_series_equal(after[before.index], before)
    pd.testing.assert_frame_equal(outcome(store), undisturbed)
    # Each of the two workers loses at most the cells of one flush interval (0.3 s at 0.1 s a cell)
    # and the one under way.
    trained = (tmp_path / "log").read_text().splitlines()
    assert 48 <= len(trained) <= 48 + 2 * 5
