"""What runs on a Ray worker: one Ray Tune trial, which trains one pack."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import ray
import torch
from ray import tune

from orchestrator.execution import Failure, PackProgress, train_pack
from orchestrator.store import Store

__all__ = ["progress_of", "run_trial"]

logger = logging.getLogger(__name__)


def run_trial(
    config: Mapping[str, Any],
    *,
    packs: Mapping[str, "ray.ObjectRef[Any]"],
    workload: "ray.ObjectRef[Any]",
    store: str,
    flush_seconds: float,
) -> None:
    """Train the pack named by `config["pack_id"]`, reporting to Tune what became durable.

    `packs` and `workload` are references, so that a worker fetches only its own pack.
    """
    pack, trained_workload = ray.get([packs[config["pack_id"]], workload])
    device = torch.device("cuda" if pack.gpus > 0 else "cpu")
    opened = Store(store)
    with opened.work(f"pid {os.getpid()} pack {pack.pack_id}"):
        train_pack(
            pack,
            trained_workload,
            opened,
            device=device,
            flush_seconds=flush_seconds,
            report=_report,
        )


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
