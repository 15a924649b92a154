"""Packs of two kinds on nodes of two kinds: is a GPU ever idle while a pack waits for one?

    python -m benchmarks.placement               # some minutes

Two nodes have CPUs and GPUs of a model that is only declared, one has CPUs alone. Packs sleep: half
of them hold a CPU and a GPU, which Ray reserves though nothing could be trained on it, half a CPU.
Printed is the share of time in which slots were busy, from when the last of them began its first
pack to when the last pack of its kind began. A slot's pause between two packs is in it.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.reporting import print_table, settings_lines

GPU = {"num_cpus": 4, "num_gpus": 3, "resources": {"accelerator_type:A100": 1}}
NODES = (GPU, GPU, {"num_cpus": 6})
SLOTS = {4: 6, 64: 8}
"""Of packs that hold a GPU, by width, and of those that hold a CPU: what is left on three nodes."""
NEEDS = {4: {"cpus": 1, "gpus": 0, "custom": {"gpu_wanted": 1}}, 64: {"cpus": 1, "gpus": 0}}
PACKS = 48
"""Of each kind."""
SLEEP_SECONDS = 5.0


def busy_share(begins: Sequence[float], ends: Sequence[float], slots: int) -> float:
    """Return the share of time in which so many slots were busy while packs waited for one."""
    first, last = sorted(begins)[slots - 1], max(begins)
    within = (min(end, last) - max(begin, first) for begin, end in zip(begins, ends, strict=True))
    return sum(max(seconds, 0.0) for seconds in within) / (slots * (last - first))


def rows_of_run(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Run the study on such a cluster; return its rows, and what could not be placed on less."""
    from ray.cluster_utils import Cluster

    from benchmarks.simulation_run import Sleeper
    from cluster.capacity import TrialResources
    from orchestrator import Store, Study, run_study
    from orchestrator.errors import PlanError
    from orchestrator.running import tune

    def bundle(resources: TrialResources) -> dict[str, float]:
        held = resources.bundle()
        if held.pop("gpu_wanted", None) is None:
            return held
        return {**held, "GPU": 1.0, "accelerator_type:A100": 0.001}

    tune._bundle = bundle
    workload = Sleeper()
    workload.seconds, workload.log = SLEEP_SECONDS, folder / "log"
    small, large = NEEDS
    axes = {"dataset_fraction": 0.125, "learning_rate": 0.1, "budget": {"steps": 1}}
    batches = list(range(1, 1 + PACKS))  # each a shape, and so a pack
    study = Study.from_dict(
        {
            "name": "placed",
            "seeds": 1,
            "grids": {"all": {**axes, "model_size": [small, large], "batch_size": batches}},
            "resources": [{"up_to_parameters": 1000, **NEEDS[small]}, NEEDS[large]],
        },
        workload,
    )
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    refused: list[str] = []
    try:
        cluster.add_node(**NODES[-1])
        try:
            run_study(study, folder / "less", address=cluster.address)
        except PlanError as error:
            refused = str(error).splitlines()
        for node in NODES[:-1]:
            wanted = {**node["resources"], "gpu_wanted": node["num_gpus"]}
            cluster.add_node(**{**node, "resources": wanted})
        run_study(study, folder / "store", address=cluster.address)
    finally:
        cluster.shutdown()
    return Store(folder / "store").read_cells(), refused


def main() -> None:
    """Run it, and print what was found."""
    with tempfile.TemporaryDirectory(prefix="pl-", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        rows, refused = rows_of_run(Path(folder))
    if len(rows) != len(SLOTS) * PACKS:
        sys.exit(f"{len(rows)} rows of {len(SLOTS) * PACKS} cells")
    begins = rows["started_at"].map(lambda moment: moment.timestamp())
    rows = rows.assign(begin=begins, end=begins + rows["pack_wall_seconds"])
    print(*settings_lines(), sep="\n")
    print("\nwithout the nodes with GPUs, refused before anything starts:")
    print(*refused, sep="\n")
    print(f"\npacks of {SLEEP_SECONDS:g} s\n")
    table = []
    for width, slots in SLOTS.items():
        kind = rows[rows["model_size"] == width]
        share = busy_share(kind["begin"].tolist(), kind["end"].tolist(), slots)
        held = "a CPU and a GPU" if width == min(SLOTS) else "a CPU"
        table.append(
            [
                held,
                len(kind),
                slots,
                f"{kind['end'].max() - rows['begin'].min():.0f}",
                f"{share:.3f}",
            ]
        )
    print_table(["a pack holds", "packs", "slots", "seconds", "busy while packs wait"], table)


if __name__ == "__main__":
    main()
