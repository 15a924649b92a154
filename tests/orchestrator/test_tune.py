"""The driver's side of Ray Tune: what becomes of packs when Tune, a worker or the store fails."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from ray.exceptions import OutOfMemoryError
from ray.tune import TuneError

from cluster.local import usable_cpus
from orchestrator.errors import StoreError
from orchestrator.executor import PackEnd
from orchestrator.interrupts import Interrupts
from orchestrator.tune import _Watcher


def trial(pack_id):
    return SimpleNamespace(config={"pack_id": pack_id})


RESULT = {"completed": 1, "diverged": 0, "failures": (), "best_validation_error": 0.1}


def test_a_store_error_in_the_driver_travels_as_itself_though_tune_wraps_it():
    def report(progress):
        raise StoreError("the disk is full")

    watcher = _Watcher(report, ["a"], Interrupts())
    with pytest.raises(StoreError):
        watcher.on_trial_result(1, [], trial("a"), RESULT)
    with pytest.raises(StoreError, match="the disk is full"):
        watcher.end_of_round(TuneError("wrapped"))


def test_an_error_of_tune_itself_travels():
    with pytest.raises(TuneError, match="something else"):
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
        "under way": PackEnd.DIED,
        "waiting": PackEnd.NOT_STARTED,
    }


TWO_NODES = """
import sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from orchestrator import Store
from orchestrator.tune import RayExecutor

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1)
seen, other = Store(sys.argv[1]), Store(sys.argv[2])
with seen.drive("the driver"), RayExecutor(cluster.address) as executor:
    counts = [len(executor.nodes()), len(executor.nodes_without(seen))]
    # As if the path led the nodes to another disk, where another driver has been.
    beat, heartbeat = seen.heartbeat(), Store.heartbeat
    with other.drive("another"):
        Store.heartbeat = lambda store: beat  # in this process alone
        counts.append(len(executor.nodes_without(other)))
    Store.heartbeat = heartbeat
    # As if the node were lost while it is asked.
    nodes = ray.nodes()
    cluster.remove_node(node, allow_graceful=False)
    ray.nodes = lambda: nodes
    counts.append(len(executor.nodes_without(seen)))
Path(sys.argv[3]).write_text(str(counts))
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.slow
def test_nodes_that_do_not_see_what_the_driver_wrote_are_named_and_lost_ones_are_not(
    command_line, tmp_path
):
    paths = [str(tmp_path / name) for name in ("seen", "other", "counts")]
    command = [sys.executable, "-c", TWO_NODES, *paths]
    answer = subprocess.run(
        command, env=command_line.environment, capture_output=True, text=True, timeout=300
    )
    # Not on standard output, where Ray speaks of the lost node.
    assert (tmp_path / "counts").read_text() == "[2, 0, 2, 0]", answer.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_trials_take_over_the_workers_that_ray_started_and_that_have_imported_torch(
    command_line, ray_folder, tmp_path
):
    # A worker started for a trial alone would cost 2 to 3 s more, and nobody would notice.
    (tmp_path / "study.yaml").write_text(
        "{name: small, workload: digits, seeds: 1, grids: {one: {dataset_fraction: 1.0, "
        "model_size: 4, batch_size: 16, learning_rate: 0.1, budget: {steps: 10}}}}"
    )
    answer = command_line("run", "study.yaml", "--store", "store")
    assert answer.returncode == 0, answer.stderr
    session = (ray_folder / "ray" / "session_latest").resolve()
    assert len(list(session.glob("logs/python-core-worker-*"))) == usable_cpus()
