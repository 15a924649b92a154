"""A Ray Tune trial whose cell several workers train together, through Ray Train.

The trial holds one CPU and waits. Ray Train starts the workers in a placement group of its own and
joins them to a torch.distributed group: NCCL on GPUs, gloo on CPUs. Each trains the same cell on
its part of every batch; the first alone writes the row.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from ray import train, tune
from ray.exceptions import RayActorError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from cluster.capacity import TrialResources
from orchestrator.errors import LaunchError, StoreError
from orchestrator.fitness import require_fitness
from orchestrator.packing import Pack
from orchestrator.running.execution import Assignment, train_part
from orchestrator.running.hang import die_unless_called_again, forget_hangs
from orchestrator.running.pack_rows import Failure, PackProgress
from orchestrator.running.trial import WorkersLostError
from workloads.base import ModelCost
from workloads.cost import learn_costs

__all__ = ["train_together"]


OF_OTHERS = re.compile("gloo|nccl|closed by peer|connection reset", re.IGNORECASE)
"""What torch.distributed says to a worker whose partner is gone."""


def train_together(pack: Pack, assignment: Assignment, costs: Mapping[Any, ModelCost]) -> None:
    """Train the one cell of `pack` with the workers it asks for, and report as a trial does.

    A cell that raises becomes a failure. Raises `WorkersLostError` where a worker died, and what a
    worker met that is no fault of the cell: an error of the store or of its node.
    """
    filesystem, root = assignment.store.ray_storage()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"pack": pack, "assignment": assignment, "costs": dict(costs)},
        scaling_config=_scaling(pack.resources),
        torch_config=TorchConfig(backend="nccl" if pack.resources.gpus else "gloo"),
        run_config=train.RunConfig(
            name=f"workers-{pack.pack_id}",
            storage_path=root,
            storage_filesystem=filesystem,
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call, list-item]
        ),
    )
    try:
        trainer.fit()
    except train.ControllerError as error:  # met what a dead worker leaves before it was asked
        if not isinstance(error.controller_failure, RayActorError):
            raise
        raise WorkersLostError(str(error)) from error
    except train.WorkerGroupError as error:
        causes = [*error.worker_failures.values()]
        if not causes or any(_raised(each) is None for each in causes):
            raise WorkersLostError(str(error)) from error
        for cause in map(_raised, causes):
            if isinstance(cause, StoreError | LaunchError):
                raise type(cause)(str(cause)) from error
        # Where one worker raises, those that wait for it raise too.
        first = min(causes, key=lambda each: bool(OF_OTHERS.search(str(_raised(each)))))
        failures = (_failure(pack, first),)
        tune.report(asdict(PackProgress(pack_id=pack.pack_id, failures=failures)))


def _scaling(resources: TrialResources) -> train.ScalingConfig:
    return train.ScalingConfig(
        num_workers=resources.workers,
        use_gpu=resources.gpus > 0,
        resources_per_worker=resources.bundle(),
    )


def _worker(config: Mapping[str, Any]) -> None:
    """Train this worker's part of the cell; every worker reports at the end, the first what came.

    Reporting is a rendezvous: the cell ends when all workers have.
    """
    learn_costs(config["costs"])
    pack, assignment = config["pack"], config["assignment"]
    if assignment.expected is not None:
        require_fitness(assignment.expected, assignment.store)
    rank = train.get_context().get_world_rank()
    device = train.torch.get_device()
    reported: list[PackProgress] = []
    with assignment.store.work(f"pid {os.getpid()} pack {pack.pack_id} rank {rank}"):
        try:
            train_part(
                pack,
                assignment,
                rank=rank,
                device=torch.device(device),
                report=reported.append,
                alive=lambda: die_unless_called_again(assignment.hang_seconds),
            )
        finally:
            forget_hangs()
    train.report(asdict(reported[-1]) if reported else {})


def _raised(error: Exception) -> BaseException | None:
    """Return what the cell raised in a worker, without Ray Train's wrapper; None if that died.

    A death is an exception of Ray's own. The wrapper, where there is one, has no public name.
    """
    cause: BaseException = getattr(error, "_base_exc", error)
    return None if type(cause).__module__.partition(".")[0] == "ray" else cause


def _failure(pack: Pack, error: Exception) -> Failure:
    cause = _raised(error) or error
    return Failure(
        cell_id=pack.cells[0].cell_id,
        pack_id=pack.pack_id,
        error_type=type(cause).__name__,
        error_message=str(cause),
        error_traceback=str(error),
        host=socket.gethostname(),
        failed_at=datetime.now(UTC),
    )
