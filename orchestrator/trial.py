"""What runs on a Ray worker: one Ray Tune trial, which trains one pack."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import tune

from orchestrator.execution import Assignment, Failure, PackProgress, train_pack
from orchestrator.planning import Pack
from workloads.cost import ModelCost, learn_costs

__all__ = ["progress_of", "run_trial"]


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
    learn_costs(costs)
    pack: Pack = ray.get(packs[config["pack_id"]])
    device = torch.device("cuda" if pack.gpus > 0 else "cpu")
    with assignment.store.work(f"pid {os.getpid()} pack {pack.pack_id}"):
        train_pack(pack, assignment, device=device, report=_report)


def _report(progress: PackProgress) -> None:
    tune.report(asdict(progress))


def progress_of(result: Mapping[str, Any]) -> PackProgress | None:
    """Return what a worker reported, from Tune's result; None for results of Tune's own."""
    if "completed" not in result:
        return None
    return PackProgress(
        completed=result["completed"],
        diverged=result["diverged"],
        failures=tuple(Failure(**failure) for failure in result["failures"]),
        best_validation_error=result["best_validation_error"],
    )
