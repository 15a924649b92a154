"""How long a study takes from process start to results on disk, beside the ways without us.

    python -m benchmarks.throughput                                    # minutes
    python -m benchmarks.throughput --repetitions 1 --cells 1024 --baseline-cells 8

The same cells (handwritten digits, a perceptron of width 32, batch 16, 300 steps, 12 looks at the
validation set) are trained by a plain PyTorch loop as Ray Tune trials, by the same loop in a pool
of processes, and by `scaling-study run`. Each run is a process of its own. Initialization, batch
order and looks are the same, and so must the results be. A baseline trains a sample of the cells;
its time for all is the time it took, plus the pace after its first quarter for every cell more.
"""

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.plain_training import BATCH_SIZE, MODEL_SIZE, STEPS, WORKLOAD, train_plainly
from benchmarks.reporting import print_table, settings_lines, spread
from cluster.local import usable_cpus

LEARNING_RATES = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16)
MOMENTA = (0.0, 0.25, 0.5, 0.625, 0.75, 0.8125, 0.875, 0.90625)
KEYS = ["learning_rate", "momentum", "seed"]
LOSSES = ["train_loss", "validation_loss", "test_loss"]

MILD_RATE = 0.1
"""ε/(1−m) up to which a cell is mild: no chaos makes another outcome of another last bit."""

LOSS_TOLERANCE = 1e-4
"""Largest difference between mild cells' losses: float32 sums of another order, 300 steps long."""

ERROR_TOLERANCE = 0.005
"""Largest difference between the arms' mean validation errors: two of 386 examples; chaos makes
single cells differ, in both directions."""

Point = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of training the cells."""

    title: str
    train: Callable[[Sequence[Point], Path], pd.DataFrame]
    """Trains cells and leaves results in the folder; returns them with `finished_at`."""
    sample: int
    """Cells trained for each of `--baseline-cells`."""


def tune_trials(points: Sequence[Point], folder: Path, *, reuse_actors: bool) -> pd.DataFrame:
    from ray import tune

    tuner = tune.Tuner(
        _trial,
        param_space={"point": tune.grid_search(list(points))},
        tune_config=tune.TuneConfig(reuse_actors=reuse_actors),
        run_config=tune.RunConfig(storage_path=str(folder)),
    )
    return pd.DataFrame([result.metrics for result in tuner.fit()])


def _trial(config: Mapping[str, Any]) -> None:
    from ray import tune

    tune.report(_timed(config["point"]))


def process_pool(points: Sequence[Point], folder: Path) -> pd.DataFrame:
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=usable_cpus(), backend="loky")
    return pd.DataFrame(pool(delayed(_timed)(point) for point in points))


def _timed(point: Point) -> dict[str, float]:
    return {**train_plainly(**point), "finished_at": time.time()}


ARMS = {
    "tune": Arm(
        title="plain loop, one Ray Tune trial a cell",
        train=lambda points, folder: tune_trials(points, folder, reuse_actors=False),
        sample=1,
    ),
    "tune_reuse": Arm(
        title="plain loop, Ray Tune, reuse_actors",
        train=lambda points, folder: tune_trials(points, folder, reuse_actors=True),
        sample=32,
    ),
    "pool": Arm(title="plain loop, process pool (joblib)", train=process_pool, sample=16),
}


@dataclass(frozen=True)
class Run:
    """One repetition of one arm."""

    seconds: float
    """From process start to the last file of results on disk, for all cells."""
    results: pd.DataFrame
    """What the trained cells came to."""


def baseline(name: str, points: Sequence[Point], cells: int) -> Run:
    """Run one arm on `points` in a fresh process and extrapolate its time to `cells`."""
    with _folder() as folder:
        pd.DataFrame(points).to_parquet(folder / "points.parquet")
        command = ["-m", "benchmarks.throughput", "--arm", name, "--folder"]
        seconds = _wall_seconds(command, folder, "results.parquet")
        results = pd.read_parquet(folder / "results.parquet")
    finished = results["finished_at"].sort_values().to_numpy()
    first = len(finished) // 4
    pace = (finished[-1] - finished[first]) / (len(finished) - 1 - first)
    return Run(seconds + pace * (cells - len(points)), results)


def ours(seeds: int) -> Run:
    """Run `scaling-study run` on all cells in a fresh process."""
    with _folder() as folder:
        (folder / "study.yaml").write_text(
            f"name: throughput\nworkload: {WORKLOAD}\nseeds: {seeds}\ngrids:\n  all:\n"
            f"    dataset_fraction: 1.0\n    model_size: {MODEL_SIZE}\n"
            f"    batch_size: {BATCH_SIZE}\n    budget: {{steps: {STEPS}}}\n"
            f"    learning_rate: {list(LEARNING_RATES)}\n    momentum: {list(MOMENTA)}\n"
        )
        command = "from orchestrator.cli import main; main()"
        arguments = ["-c", command, "run", str(folder / "study.yaml"), "--store"]
        seconds = _wall_seconds(arguments, folder / "store", "cells/*.parquet")
        return Run(seconds, pd.read_parquet(folder / "store" / "cells"))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="st-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _wall_seconds(arguments: Sequence[str], folder: Path, results: str) -> float:
    """Run a process on `folder`; return its seconds from its start to its last file of results."""
    # A Ray of its own: Tune's default would join one that happens to run on this machine.
    with _folder() as ray_folder:
        environment = {**os.environ, "RAY_TMPDIR": str(ray_folder), "RAY_ADDRESS": "local"}
        began = time.time()
        answer = subprocess.run(
            [sys.executable, *arguments, str(folder)],
            env=environment,
            capture_output=True,
            text=True,
        )
    if answer.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}")
    return max(path.stat().st_mtime for path in folder.glob(results)) - began


def disagreements(name: str, theirs: pd.DataFrame, our: pd.DataFrame) -> Iterator[str]:
    """Print how one arm's results differ from ours; yield what exceeds its tolerance."""
    both = theirs.merge(our, on=KEYS, suffixes=("_theirs", "_ours"), validate="one_to_one")
    if len(both) < len(theirs):
        yield f"{name}: {len(theirs) - len(both)} cells are not among ours"
    mild = both[both["learning_rate"] / (1 - both["momentum"]) <= MILD_RATE]
    losses = max((mild[f"{loss}_theirs"] - mild[f"{loss}_ours"]).abs().max() for loss in LOSSES)
    errors = [both[f"validation_error_{whose}"].mean() for whose in ("theirs", "ours")]
    print(
        f"  {name}: losses of {len(mild)} mild cells differ by at most {losses:.1e}; "
        f"mean validation error of all {len(both)}: {errors[0]:.5f}, ours {errors[1]:.5f}"
    )
    if not losses <= LOSS_TOLERANCE:
        yield f"{name}: losses of mild cells differ by {losses:.1e}"
    if not abs(errors[0] - errors[1]) <= ERROR_TOLERANCE:
        yield f"{name}: mean validation errors differ by {abs(errors[0] - errors[1]):.4f}"


def compare(cells: int, baseline_cells: int, repetitions: int) -> None:
    """Run every arm, print the table, and exit with 1 where results disagree."""
    seeds = cells // (len(LEARNING_RATES) * len(MOMENTA))
    grid = itertools.product(LEARNING_RATES, MOMENTA, range(seeds))
    points = [dict(zip(KEYS, values, strict=True)) for values in grid]
    random.Random(0).shuffle(points)
    sizes = {name: min(cells, arm.sample * baseline_cells) for name, arm in ARMS.items()}
    runs: dict[str, list[Run]] = {name: [] for name in (*ARMS, "ours")}
    load = os.getloadavg()[0]
    for repetition in range(repetitions):
        for name, size in sizes.items():
            print(f"repetition {repetition + 1}: {name}", file=sys.stderr)
            runs[name].append(baseline(name, points[:size], cells))
        print(f"repetition {repetition + 1}: ours", file=sys.stderr)
        runs["ours"].append(ours(seeds))
    titles = {name: arm.title for name, arm in ARMS.items()} | {"ours": "scaling-study run"}
    print(*settings_lines(), sep="\n")
    print(f"load of the machine before: {load:.1f} (an idle one has 0; others' work counts)")
    _print_report(titles, sizes | {"ours": cells}, runs, cells)
    print("\nresults against ours:")
    faults = [
        fault
        for name in ARMS
        for fault in disagreements(name, runs[name][0].results, runs["ours"][0].results)
    ]
    diverged = (runs["ours"][0].results["status"] == "diverged").sum()
    print(
        f"  tolerances: {LOSS_TOLERANCE:g} for losses where ε/(1−m) ≤ {MILD_RATE:g}, "
        f"{ERROR_TOLERANCE:g} for mean errors; diverged: {diverged} of our {cells:,} cells"
    )
    if faults:
        sys.exit("\n".join(faults))


def _print_report(
    titles: Mapping[str, str],
    sizes: Mapping[str, int],
    runs: Mapping[str, Sequence[Run]],
    cells: int,
) -> None:
    print(
        f"cells: {cells:,} of {WORKLOAD}, width {MODEL_SIZE}, batch {BATCH_SIZE}, {STEPS} steps; "
        f"{usable_cpus()} processes of one thread\n"
        f"median [least, most] of {len(runs['ours'])}; a time marked * is extrapolated from the "
        "cells that were trained\n"
    )
    fastest = median(run.seconds for run in runs["ours"])
    rows = []
    for name, title in titles.items():
        seconds = [run.seconds for run in runs[name]]
        rows.append(
            (
                title,
                f"{sizes[name]:,}",
                spread(seconds) + " *" * (sizes[name] < cells),
                spread([1000 * value / cells for value in seconds]),
                spread([value / fastest for value in seconds]),
            )
        )
    headers = ["way", "trained", f"seconds for {cells:,}", "ms a cell", "times ours"]
    print_table(headers, rows)


def _train_arm(name: str, folder: Path) -> None:
    points = pd.read_parquet(folder / "points.parquet").to_dict("records")
    ARMS[name].train(points, folder).to_parquet(folder / "results.parquet")


def main() -> None:
    """Read the command line."""
    per_seed = len(LEARNING_RATES) * len(MOMENTA)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=64 * per_seed, help="a multiple of 64")
    parser.add_argument(
        "--baseline-cells",
        type=int,
        default=24,
        help="cells that Ray Tune trains one a trial; 32 times as many with reuse_actors, whose "
        "pace falls with the number of trials, and 16 times in the pool",
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        _train_arm(options.arm, options.folder)
        return
    if options.cells < per_seed or options.cells % per_seed:
        parser.error(f"--cells is {options.cells}; allowed: a multiple of {per_seed}")
    if options.baseline_cells < 8 or options.repetitions < 1:
        parser.error("--baseline-cells is at least 8 and --repetitions at least 1")
    compare(options.cells, options.baseline_cells, options.repetitions)


if __name__ == "__main__":
    main()
