"""What the chaos test trains, its driver, and the side log: every training leaves a line.

The log is written by the workload, which knows neither store nor driver, when a cell's training
begins: also where the cell is one of a stack, and where it goes on from a checkpoint. Every cell
of the study has a seed of its own, by which lines and rows name it.
"""

import itertools
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from cluster.capacity import TrialResources
from orchestrator import Study, run_study
from orchestrator.errors import StudyError
from orchestrator.study_file.yaml_lines import dump
from workloads import AxisValues
from workloads.digits import Digits
from workloads.streams import stream

TRAININGS = "CHAOS_TRAININGS"
"""Environment variable: the path of the side log."""

STEPS = {8: 6_000, 16: 1_200, 10: 400}
"""Steps by width, each a tenth of a second of one core in the arithmetic path that it takes:
stacked layers, stacked modules (on any processor: on some, odd widths round by the place in the
stack), one by one."""

NORMS: Mapping[int, type[nn.Module]] = {16: nn.LayerNorm, 10: nn.BatchNorm1d}
"""The layer by which a width leaves the fastest path, or all stacks."""

RATES = (0.02, 0.05)

GPU_SHARE = 0.5
"""What a trial holds of a declared GPU."""

FLUSH_SECONDS, CHECKPOINT_SECONDS = 0.5, 1.5
"""Packs of so short cells would end before their first checkpoint at the usual intervals."""


class ChaosDigits(Digits):
    """Handwritten digits, and a perceptron whose width chooses the arithmetic path."""

    name = "chaos_digits"
    version = 1

    @override
    def model(self, size: int) -> nn.Module:
        first, *others = super().model(size).children()
        norms = [NORMS[size](size)] if size in NORMS else []
        return nn.Sequential(first, *norms, *others)

    @override
    def training_targets(
        self, targets: Tensor, axes: AxisValues, stream: np.random.Generator
    ) -> Tensor:
        line = f"{time.time_ns()} {_name_of(stream)}\n".encode()
        # One write to a file open for appending: whole, in turn, and no SIGKILL takes it back.
        log = os.open(os.environ[TRAININGS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(log, line)
        finally:
            os.close(log)
        return super().training_targets(targets, axes, stream)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of one cell, as the side log has it."""

    seed: int
    """Of the cell."""
    began_ns: int
    """When it began, in nanoseconds since 1970."""


def trainings(log: Path, cells: int) -> list[Training]:
    """Return what the side log of a study of `cells` says.

    Measurements of how many cells to stack begin a cell too; they take one that has no row.
    """
    names = [_name_of(stream(ChaosDigits.name, seed, "training_targets")) for seed in range(cells)]
    seeds = {name: seed for seed, name in enumerate(names)}
    lines = (line.split() for line in log.read_text().splitlines())
    return [Training(seed=seeds[name], began_ns=int(began)) for began, name in lines]


def _name_of(generator: np.random.Generator) -> str:
    """Return the key of a cell's stream, which its seed determines."""
    key = generator.bit_generator.state["state"]["key"]
    return "".join(f"{word:016x}" for word in key)


def study_text(cells: int) -> str:
    """Return the study file of so many cells, with seeds 0 … cells − 1."""
    points = list(itertools.product(STEPS.items(), RATES))
    grids = {
        f"point_{place}": {
            "dataset_fraction": 0.5,
            "model_size": width,
            "batch_size": 16,
            "learning_rate": rate,
            "momentum": 0.9,
            "budget": {"steps": steps},
            "seeds": list(range(place, cells, len(points))),
        }
        for place, ((width, steps), rate) in enumerate(points)
    }
    return dump({"name": "chaos", "workload": ChaosDigits.name, "grids": grids})


def drive() -> None:
    """Run the study file, on the store and the cluster that the command line names.

    As `scaling-study run --retry-failed` does, at shorter intervals, and but for one thing: Ray is
    asked for a share of a GPU beside the trial's CPU. GPUs that are only declared schedule trials
    and hide devices from them, but nothing can be trained on them, and so the study asks for none.
    """
    from orchestrator.running import tune

    def bundle(resources: TrialResources) -> dict[str, float]:
        return {"CPU": resources.cpus, "GPU": GPU_SHARE}

    study, store, address = sys.argv[1:]
    options: dict[str, Any] = {
        "retry_failed": True,
        "flush_seconds": FLUSH_SECONDS,
        "checkpoint_seconds": CHECKPOINT_SECONDS,
    }
    tune._bundle = bundle
    try:
        report = run_study(Study.from_file(study, ChaosDigits()), store, address=address, **options)
    except StudyError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(3)
    sys.exit(0 if report.all_done else 1)
