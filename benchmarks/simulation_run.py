"""A real run whose trials only sleep: what `benchmarks.simulation` is calibrated by."""

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from torch import Tensor
from typing_extensions import override

from workloads import AxisValues
from workloads.digits import Digits

__all__ = ["sleep_in_trials"]


class Sleeper(Digits):
    """Handwritten digits that take their time, and no CPU."""

    name = "sleeper"
    version = 1
    stackable = False
    seconds = 0.0
    """How long a cell sleeps before its one step."""
    log: Path
    """Where every training leaves a line: process, and time."""

    @override
    def training_targets(
        self, targets: Tensor, axes: AxisValues, stream: np.random.Generator
    ) -> Tensor:
        with self.log.open("a") as log:
            log.write(f"{os.getpid()} {time.time()}\n")
        time.sleep(self.seconds)
        return super().training_targets(targets, axes, stream)


def sleep_in_trials() -> None:
    """Run as the command line says: slots, trials, seconds, store. Print what it took as JSON."""
    from ray.cluster_utils import Cluster

    from orchestrator import Study, run_study

    slots, trials, seconds, folder = sys.argv[1:]
    workload = Sleeper()
    workload.seconds = float(seconds)
    workload.log = Path(folder).with_suffix(".log")
    grid = {
        "dataset_fraction": 0.125,
        "model_size": 4,
        "batch_size": list(range(1, 1 + int(trials))),  # each a shape, and so a trial
        "learning_rate": 0.1,
        "budget": {"steps": 1},
    }
    study = Study.from_dict({"name": "asleep", "seeds": 1, "grids": {"all": grid}}, workload)
    head = {"num_cpus": int(slots), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        began, before = time.time(), resource.getrusage(resource.RUSAGE_SELF)
        report = run_study(study, Path(folder), address=cluster.address)
        after = resource.getrusage(resource.RUSAGE_SELF)
    finally:
        cluster.shutdown()
    begins: dict[str, list[float]] = {}
    for line in workload.log.read_text().splitlines():
        worker, moment = line.split()
        begins.setdefault(worker, []).append(float(moment) - began)
    packs, trained = len(report.plan.packs), sum(map(len, begins.values()))
    if not report.all_done or not packs == trained == int(trials):
        sys.exit(f"{packs} packs and {trained} trainings instead of {trials}")
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    print(json.dumps({"begins": [*begins.values()], "driver_cpu": used}))
