"""What runs on a Ray worker: one Ray Tune trial, which trains one pack."""

import os
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import tune

from orchestrator.fitness import require_fitness
from orchestrator.packing import Pack
from orchestrator.running.execution import Assignment, DeviceLostError, train_pack
from orchestrator.running.hang import die_unless_called_again, forget_hangs
from orchestrator.running.pack_rows import Failure, PackProgress
from workloads.base import ModelCost
from workloads.cost import learn_costs

__all__ = ["WorkersLostError", "progress_of", "run_trial"]


class WorkersLostError(Exception):
    """One of the workers of a cell died under it; the message says what is known."""


def run_trial(
    config: Mapping[str, Any],
    *,
    packs: Mapping[str, "ray.ObjectRef[Any]"],
    assignment: Assignment,
    costs: Mapping[Any, ModelCost],
) -> None:
    """Train the pack named by `config["pack_id"]`, reporting to Tune what became durable.

    `packs` are references, so that a worker fetches only its own. `costs`: what the driver has
    counted, for the worker to know.
    """
    if assignment.expected is not None:
        require_fitness(assignment.expected, assignment.store)
    learn_costs(costs)
    pack: Pack = ray.get(packs[config["pack_id"]])
    if pack.resources.workers > 1:
        from orchestrator.running.parallel_trial import (
            train_together,  # Ray Train: only where it is used
        )

        train_together(pack, assignment, costs)
        return
    gpus = pack.resources.gpus
    device = torch.device("cuda" if gpus > 0 else "cpu")
    if gpus > 0:
        torch.cuda.set_per_process_memory_fraction(min(1.0, gpus))
    with assignment.store.work(f"pid {os.getpid()} pack {pack.pack_id}"):
        try:
            train_pack(
                pack,
                assignment,
                device=device,
                report=_report,
                alive=lambda: die_unless_called_again(assignment.hang_seconds),
            )
        except DeviceLostError:
            # Ray would use this process again, and cells that have done nothing would fail in it.
            traceback.print_exc()
            os._exit(1)
        finally:
            forget_hangs()


def _report(progress: PackProgress) -> None:
    tune.report(asdict(progress))


def progress_of(result: Mapping[str, Any]) -> PackProgress | None:
    """Return what a worker reported, from Tune's result; None for results of Tune's own."""
    if "completed" not in result:
        return None
    return PackProgress(
        pack_id=result["pack_id"],
        completed=result["completed"],
        diverged=result["diverged"],
        failures=tuple(Failure(**failure) for failure in result["failures"]),
        best_validation_error=result["best_validation_error"],
    )
