"""The driver's side of Ray Tune: what becomes of packs when Tune, a worker or the store fails."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from types import SimpleNamespace

import pandas as pd
import pytest
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import TuneError

from cluster.local import usable_cpus
from orchestrator.errors import LaunchError, StorageError, StoreError
from orchestrator.running.executor import PackEnd
from orchestrator.running.interrupts import Interrupts
from orchestrator.running.room import RoomLostError
from orchestrator.running.tune import _Watcher


def trial(pack_id):
    return SimpleNamespace(config={"pack_id": pack_id})


RESULT = {
    "pack_id": "a",
    "completed": 1,
    "diverged": 0,
    "failures": (),
    "best_validation_error": 0.1,
}


def test_a_store_error_in_the_driver_travels_as_itself_though_tune_wraps_it():
    def report(progress):
        raise StoreError("the disk is full")

    watcher = _Watcher(report, ["a"], Interrupts())
    with pytest.raises(StoreError):
        watcher.on_trial_result(1, [], trial("a"), RESULT)
    with pytest.raises(StoreError, match="the disk is full"):
        watcher.end_of_round(TuneError("wrapped"))


def test_what_tune_fails_in_after_its_last_trial_costs_nothing(caplog):
    watcher = _Watcher(lambda progress: None, ["a"], Interrupts())
    watcher.on_trial_complete(1, [], trial("a"))
    watcher.end_of_round(EOFError("Ran out of input"))
    assert watcher.fates == {}
    assert "after its last trial: EOFError('Ran out of input')" in caplog.text


def test_a_trial_that_tune_ends_without_a_word_is_suspected():
    watcher = _Watcher(lambda progress: None, ["done", "reset"], Interrupts())
    watcher.on_trial_complete(1, [], trial("done"))
    watcher.end_of_trials()
    assert {pack_id: fate.end for pack_id, fate in watcher.fates.items()} == {
        "reset": PackEnd.SUSPECTED
    }


def test_a_file_that_tune_cannot_write_is_an_error_of_the_storage():
    watcher = _Watcher(lambda progress: None, ["a"], Interrupts())
    with pytest.raises(StorageError, match="No space left"):
        watcher.end_of_round(OSError(28, "No space left on device"))


def test_an_error_of_tune_itself_is_one_of_the_launch():
    with pytest.raises(LaunchError, match="something else"):
        _Watcher(lambda progress: None, ["a"], Interrupts()).end_of_round(
            TuneError("something else")
        )


def test_a_run_ended_by_the_memory_monitor_tells_packs_under_way_from_those_that_waited():
    watcher = _Watcher(lambda progress: None, ["done", "under way", "waiting"], Interrupts())
    watcher.on_trial_start(1, [], trial("done"))
    watcher.on_trial_complete(1, [], trial("done"))
    watcher.on_trial_start(1, [], trial("under way"))
    error = RuntimeError("Caught unexpected exception")
    error.__cause__ = OutOfMemoryError("killed")
    watcher.end_of_round(error)
    assert {pack_id: fate.end for pack_id, fate in watcher.fates.items()} == {
        "under way": PackEnd.SUSPECTED,
        "waiting": PackEnd.ROUND_ENDED,
    }


def test_where_room_is_lost_all_open_packs_go_into_another_round():
    def look(open_packs):
        raise RoomLostError(f"{len(open_packs)} are open")

    watcher = _Watcher(lambda progress: None, ["under way", "waiting"], Interrupts(), look)
    watcher.on_trial_start(1, [], trial("under way"))
    with pytest.raises(RoomLostError):
        watcher.on_step_begin(1, [])
    watcher.end_of_round(TuneError("wrapped"))
    assert {fate.end for fate in watcher.fates.values()} == {PackEnd.ROUND_ENDED}
    assert len(watcher.fates) == 2


@pytest.mark.parametrize(("init_failed", "end"), [(True, PackEnd.FAULT), (False, PackEnd.DIED)])
def test_a_worker_that_never_came_up_is_no_fault_of_its_cells(tmp_path, init_failed, end):
    error = RayActorError(error_msg="died", actor_init_failed=init_failed)
    (tmp_path / "error").write_bytes(cloudpickle.dumps(error))
    watcher = _Watcher(lambda progress: None, ["a"], Interrupts())
    failed = SimpleNamespace(config={"pack_id": "a"}, pickled_error_file=tmp_path / "error")
    watcher.on_trial_error(1, [], failed)
    assert watcher.fates["a"].end is end


TWO_NODES = """
import json
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from orchestrator import Store
from orchestrator import fitness
from orchestrator.running.tune import RayExecutor

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1)
seen, other = Store(sys.argv[1]), Store(sys.argv[2])
with seen.drive("the driver"), RayExecutor(cluster.address) as executor:
    told = [len(executor.nodes()), executor.faults(seen)]
    # As if the path led the nodes to another disk, where another driver has been.
    beat, heartbeat = seen.heartbeat(), Store.heartbeat
    with other.drive("another"):
        Store.heartbeat = lambda store: beat  # in this process alone
        told.append(executor.faults(other))
    Store.heartbeat = heartbeat
    versions = fitness.installed_versions
    fitness.installed_versions = lambda: {"torch": "0.1"}  # the driver's, as it were
    told.append(executor.faults(seen))
    fitness.installed_versions = versions
    # As if the node were lost while it is asked.
    nodes = ray.nodes()
    cluster.remove_node(node, allow_graceful=False)
    ray.nodes = lambda: nodes
    told.append(executor.faults(seen))
Path(sys.argv[3]).write_text(json.dumps(told))
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_nodes_that_do_not_see_what_the_driver_wrote_are_named_and_lost_ones_are_not(
    command_line, tmp_path
):
    paths = [str(tmp_path / name) for name in ("seen", "other", "told")]
    command = [sys.executable, "-c", TWO_NODES, *paths]
    answer = subprocess.run(
        command, env=command_line.environment, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    # Not on standard output, where Ray speaks of the lost node.
    nodes, sound, unshared, older, lost = json.loads((tmp_path / "told").read_text())
    assert (nodes, sound, lost) == (2, [], [])
    assert len(unshared) == len(older) == 2
    assert all("does not see in the store" in fault for fault in unshared)
    assert all(f"torch is {version('torch')}, the driver's is 0.1" in each for each in older)


GROWING = """
name: growing
workload: digits
seeds: 2
grids:
  all:
    model_size: [4, 64]
    batch_size: 16
    learning_rate: 0.1
    budget: {steps: 20}
resources:
- {up_to_parameters: 1000, cpus: 1, gpus: 0}
- {cpus: 1, gpus: 0, custom: {fast_disk: 1}}
"""


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_cells_wait_for_a_node_that_joins_and_hold_up_no_others(
    command_line, real_cluster, tmp_path
):
    (tmp_path / "study.yaml").write_text(GROWING)
    cluster = real_cluster(num_cpus=1)
    command = ["run", "study.yaml", "--store", str(tmp_path / "store"), "--address"]
    command += [cluster.address, "--log", "json"]
    refused = command_line(*command)
    assert refused.returncode == 2, refused.stderr
    assert "0 GPUs, 1 fast_disk on one node, but no node has 1 fast_disk" in refused.stderr
    assert "pass --autoscaling" in refused.stderr
    driver = command_line.start(*command, "--autoscaling")
    told = []
    try:
        for line in driver.stderr:
            told.append(line)
            if "cells more are durable" in line:
                break
        assert any("Until such a node joins, these cells wait." in line for line in told)
        assert set(pd.read_parquet(tmp_path / "store" / "cells")["model_size"]) == {4}
        cluster.add_node(num_cpus=1, resources={"fast_disk": 1})
        _, rest = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, rest
    assert len(pd.read_parquet(tmp_path / "store" / "cells")) == 4


SLOW_PACKS = """
import os, sys, time
from pathlib import Path
from orchestrator import Study, run_study
from workloads.digits import Digits

store, log, address = sys.argv[1:]

class Slow(Digits):
    name = "slow"
    version = 1
    stackable = False

    def training_targets(self, targets, axes, stream):
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {len(targets)}\\n")
        time.sleep(1.0)  # less than a worker takes to start
        return super().training_targets(targets, axes, stream)

grid = {"dataset_fraction": 0.125, "model_size": 4, "learning_rate": 0.1, "budget": {"steps": 1}}
grid["batch_size"] = list(range(1, 41))  # each a shape of its own, and so a trial
study = Study.from_dict({"name": "slow", "seeds": 1, "grids": {"all": grid}}, Slow())
sys.exit(not run_study(study, store, address=address).all_done)
"""


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_a_node_that_joins_late_trains_packs_shorter_than_its_workers_start(
    command_line, real_cluster, tmp_path
):
    cluster = real_cluster(num_cpus=1)
    script, log = tmp_path / "slow_packs.py", tmp_path / "log"
    script.write_text(SLOW_PACKS)
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "store"), str(log), cluster.address],
        env=command_line.environment,
        text=True,
        stderr=subprocess.PIPE,
    )
    try:
        while driver.poll() is None and not log.exists():
            time.sleep(0.05)
        cluster.add_node(num_cpus=1)
        _, said = driver.communicate(timeout=300)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    trained = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert trained.total() == 40
    assert len(trained) == 2
    assert min(trained.values()) > 3


ONE_CELL = (
    "{name: small, workload: digits, seeds: 1, grids: {one: {dataset_fraction: 1.0, "
    "model_size: 4, batch_size: 16, learning_rate: 0.1, budget: {steps: 10}}}}"
)


@pytest.mark.ray
@pytest.mark.slow
def test_a_credential_of_the_driver_is_in_no_log_of_ray(command_line, ray_folder, tmp_path):
    (tmp_path / "study.yaml").write_text(ONE_CELL)
    secret = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "not-to-be-logged"}
    run = replace(command_line, environment={**command_line.environment, **secret})
    answer = run("run", "study.yaml", "--store", "store")
    assert answer.returncode == 0, answer.stderr
    session = (ray_folder / "ray" / "session_latest").resolve()
    logs = [path for path in session.rglob("*") if path.is_file()]
    assert logs
    assert [path for path in logs if b"not-to-be-logged" in path.read_bytes()] == []


@pytest.mark.ray
@pytest.mark.slow
def test_trials_take_over_the_workers_that_ray_started_and_that_have_imported_torch(
    command_line, ray_folder, tmp_path
):
    # A worker started for a trial alone would cost 2 to 3 s more, and nobody would notice.
    (tmp_path / "study.yaml").write_text(ONE_CELL)
    answer = command_line("run", "study.yaml", "--store", "store")
    assert answer.returncode == 0, answer.stderr
    session = (ray_folder / "ray" / "session_latest").resolve()
    assert len(list(session.glob("logs/python-core-worker-*"))) == usable_cpus()
