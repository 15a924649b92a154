"""What everything but training costs: planning, the store, resuming, and the driver of a Ray run.

    python -m benchmarks.overhead                 # sizes up to 10⁶, some minutes
    python -m benchmarks.overhead --most 10000 --repetitions 1 --study-minutes 0.2    # two minutes

Run from the repository's root. Every measurement has a process of its own, whose peak memory is
then its own, and a peer: the plainest code that does the same job without checks, timed in the
same process on the same values.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.reporting import print_table, settings_lines, spread

# ray, torch and pandas are imported where they are measured. A child's peak memory begins with
# that of the process that starts it, so this one must stay small.
if TYPE_CHECKING:
    from orchestrator import Store, Study

ROOT = Path(__file__).resolve().parents[1]
CELLS_A_PART = 250
CURVE_ROWS_A_CELL = 12
CELLS_LEFT = 10
"""Cells that the store of a resumed study lacks."""
TRIALS = 4
"""Packs of a Ray run, one a batch size; a third run has ten times as many."""
RAY_CELLS = 4000


@dataclass(kw_only=True)
class Measured:
    """One line of the table."""

    what: str
    cells: int
    unit: str = "wall s"
    values: list[float] = field(default_factory=list)
    """One a repetition."""
    peak_mib: float | None = None
    """Peak resident memory of the process, after the first repetition."""
    peer: str = ""
    """What the peer does."""
    peer_values: list[float] = field(default_factory=list)

    def add(self, ours: float, theirs: float) -> None:
        """Take in one repetition."""
        self.values.append(ours)
        self.peer_values.append(theirs)

    def line(self) -> list[str]:
        ratio = (
            "" if not self.peer_values else f"{median(self.values) / median(self.peer_values):.2f}"
        )
        return [
            self.what,
            f"{self.cells:,}",
            spread(self.values),
            self.unit,
            f"{median(self.values) / self.cells * 1e6:.3g}",
            "" if self.peak_mib is None else f"{self.peak_mib:,.0f}",
            ratio,
            self.peer,
        ]


HEADERS = ["what", "cells", "median [min, max]", "unit", "µs a cell", "peak MiB", "ratio", "to"]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_mib() -> float:
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


# Planning


def study_axes(cells: int) -> dict[str, list[Any]]:
    """Return the axes of a grid of `cells` points, a power of ten from 10³."""
    seeds = min(10, cells // 100)
    axes: dict[str, list[Any]] = {
        "batch_size": [8, 12, 16, 24, 32, 48, 64, 96, 128, 192],
        "learning_rate": [round(0.001 * 1.6**i, 6) for i in range(10)],
        "dataset_fraction": [round(0.25 + 0.075 * i, 3) for i in range(10)],
        "momentum": [round(0.09 * i, 2) for i in range(10)],
        "model_size": [4, 6, 8, 12, 16, 24, 32, 48, 64, 96],
    }
    missing = cells // seeds
    for name, values in axes.items():
        axes[name] = values if missing > 1 else values[:1]
        missing = max(1, missing // len(axes[name]))
    return {**axes, "seed": list(range(seeds))}


def study_of(cells: int) -> "Study":
    from orchestrator import Study

    axes = study_axes(cells)
    seeds = axes.pop("seed")
    grid = {**axes, "budget": {"epochs": 10}, "where": "batch_size <= train_examples"}
    return Study.from_dict(
        {"name": "overhead", "workload": "digits", "seeds": seeds, "grids": {"all": grid}}
    )


def plain_plan(cells: int) -> dict[str, dict[str, Any]]:
    """Name every point by the SHA-256 of its JSON, and nothing else."""
    import hashlib
    import itertools

    axes = study_axes(cells)
    points: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        text = json.dumps(point, sort_keys=True)
        points[hashlib.sha256(text.encode()).hexdigest()[:16]] = point
    return points


def measure_planning(cells: int, repetitions: int) -> list[Measured]:
    from orchestrator import plan_study

    study = study_of(cells)
    plan_study(study_of(1000))  # loads the data and what torch imports to count operations
    planning = Measured(
        what="plan", cells=cells, peer="itertools.product + sha256(json.dumps(point))"
    )
    for _ in range(repetitions):
        ours = seconds(lambda: plan_study(study, confirmed=True))
        planning.peak_mib = planning.peak_mib or peak_mib()
        planning.add(ours, seconds(lambda: plain_plan(cells)))
    return [planning]


# The store


def cell_row(cell_id: str, pack_id: str, number: int) -> dict[str, Any]:
    """Return a row with a plausible value in every column of `cells`."""
    from orchestrator.storage.schema import COUNT, NUMBER, SCHEMAS, TEXT, TIME, Table

    plausible = {TEXT: "some text", COUNT: number, NUMBER: number / 7, TIME: datetime.now(UTC)}
    row = {column.name: plausible[column.type] for column in SCHEMAS[Table.CELLS]}
    return {**row, "cell_id": cell_id, "pack_id": pack_id, "status": "completed"}


def curve_rows(cell_id: str, pack_id: str) -> Iterator[dict[str, Any]]:
    for look in range(CURVE_ROWS_A_CELL):
        yield {
            "cell_id": cell_id,
            "pack_id": pack_id,
            "step": 10 * look,
            "epoch": 0.3 * look,
            "examples_seen": 320 * look,
            "train_loss": None if look == 0 else 1 / look,
            "validation_loss": 1 / (look + 1),
            "validation_error": 0.5 / (look + 1),
        }


Rows = list[dict[str, Any]]


def parts_of(cells: int) -> Iterator[tuple[str, Rows, Rows]]:
    """Yield the name and the rows of each part, made when asked for."""
    for first in range(0, cells, CELLS_A_PART):
        pack_id = f"pack{first}"
        ids = [f"{number:016x}" for number in range(first, min(first + CELLS_A_PART, cells))]
        yield (
            pack_id,
            [cell_row(cell_id, pack_id, number) for number, cell_id in enumerate(ids)],
            [row for cell_id in ids for row in curve_rows(cell_id, pack_id)],
        )


def plain_write(folder: Path, pack_id: str, cells: Rows, curves: Rows) -> None:
    """Write the rows of a part with pyarrow, without checks, read-back or fsync."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from orchestrator.storage.schema import SCHEMAS, Table

    for table, rows in ((Table.CELLS, cells), (Table.CURVES, curves)):
        (folder / table).mkdir(parents=True, exist_ok=True)
        data = pa.Table.from_pylist(rows, schema=SCHEMAS[table])
        pq.write_table(data, folder / table / f"{pack_id}.parquet")


def measure_store(cells: int, repetitions: int) -> list[Measured]:
    rows = f"{CURVE_ROWS_A_CELL} curve rows a cell"
    writing = Measured(what=f"store write, {rows}", cells=cells, peer="pyarrow, no checks or fsync")
    reading = Measured(what=f"store read, {rows}", cells=cells, peer="pandas.read_parquet(folder)")
    for _ in range(repetitions):
        with TemporaryDirectory() as folder:
            once_through_a_store(cells, Path(folder), writing, reading)
    return [writing, reading]


def once_through_a_store(cells: int, folder: Path, writing: Measured, reading: Measured) -> None:
    import pandas as pd

    from orchestrator import Store

    store, plain = Store(folder / "store"), folder / "plain"
    store.create()
    ours = theirs = 0.0
    for pack_id, rows, curves in parts_of(cells):
        ours += seconds(partial(store.write_part, pack_id, rows, curves))
        theirs += seconds(partial(plain_write, plain, pack_id, rows, curves))
    writing.add(ours, theirs)
    writing.peak_mib = writing.peak_mib or peak_mib()
    ours = seconds(lambda: (store.read_cells(), store.read_curves()))
    reading.peak_mib = reading.peak_mib or peak_mib()
    reading.add(
        ours, seconds(lambda: [pd.read_parquet(plain / name) for name in ("cells", "curves")])
    )


# Resuming


def measure_resume(cells: int, repetitions: int) -> list[Measured]:
    from orchestrator import Store, plan_study

    study = study_of(cells)
    resuming = Measured(what="resume", cells=cells, peer="plan, without a store")
    with TemporaryDirectory() as folder:
        store = Store(folder)
        fill(store, study)
        plan_study(study_of(1000))  # see above
        for _ in range(repetitions):
            began = time.perf_counter()
            plan = plan_study(study, store, confirmed=True, mix_sources=True)
            ours = time.perf_counter() - began
            assert plan.cells_to_run == CELLS_LEFT, plan.cells_to_run
            resuming.peak_mib = resuming.peak_mib or peak_mib()
            resuming.add(ours, seconds(lambda: plan_study(study, confirmed=True)))
    return [resuming]


def fill(store: "Store", study: "Study") -> None:
    """Write a row of every cell of `study` but the last few, without curves, as packs do."""
    from orchestrator.grid_cells import grid_cells

    store.create()
    ids = [cell.cell_id for cell in grid_cells(study, study.grids[0])][:-CELLS_LEFT]
    for first in range(0, len(ids), CELLS_A_PART):
        pack_id = f"pack{first}"
        members = ids[first : first + CELLS_A_PART]
        rows = [cell_row(cell_id, pack_id, number) for number, cell_id in enumerate(members)]
        store.write_part(pack_id, rows, [])


# A real run on Ray


def driver_cpu_seconds(cells: int, trials: int) -> float:
    """Return what a run of `cells` one-step cells in `trials` packs costs this process."""
    from orchestrator import Study, run_study

    study = Study.from_dict(
        {
            "name": "overhead",
            "workload": "digits",
            "seeds": cells // trials,
            "grids": {
                "all": {
                    "dataset_fraction": 0.125,
                    "model_size": 4,
                    "batch_size": list(range(1, trials + 1)),
                    "learning_rate": 0.1,
                    "budget": {"steps": 1},
                }
            },
        }
    )
    with TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF)
        report = run_study(study, folder)
        after = resource.getrusage(resource.RUSAGE_SELF)
    assert report.all_done
    assert report.tally.completed == cells // trials * trials
    assert len(report.plan.packs) == trials
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def measure_run(cells: int, trials: int) -> list[Measured]:
    return [Measured(what="run", cells=cells, values=[driver_cpu_seconds(cells, trials)])]


def run_lines(most: int, repetitions: int) -> Iterator[list[str]]:
    """Yield the lines on the driver of a Ray run: start, each cell, each trial."""
    many, few = min(RAY_CELLS, most), 10 * TRIALS
    start, a_cell, a_trial = [], [], []
    for _ in range(repetitions):
        base, cells, trials = (
            in_a_process("run", *sizes)[0].values[0]
            for sizes in ((few, TRIALS), (many, TRIALS), (few, 10 * TRIALS))
        )
        start.append(base)
        a_cell.append((cells - base) / (many - few) * 1e6)
        a_trial.append((trials - base) / (9 * TRIALS) * 1e3)
    yield [f"Ray run: its {TRIALS} trials of few cells", f"{few:,}", spread(start), "driver CPU s"]
    yield ["Ray run: each further cell", f"{many:,}", spread(a_cell), "driver CPU µs"]
    yield ["Ray run: each further trial", f"{few:,}", spread(a_trial), "driver CPU ms"]


# A whole study


STUDY_AXES: dict[str, Any] = {
    "model_size": [16, 64],
    "batch_size": [16, 64],
    "learning_rate": [0.02, 0.04, 0.06, 0.08, 0.1, 0.12],
    "momentum": [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9],
    "budget": {"steps": 3000},
}
CELL_SECONDS = 0.07
"""About what a cell of `STUDY_AXES` takes on one core, to make a study of the length asked for."""


def study_lines(minutes: float) -> Iterator[list[str]]:
    """Yield what a study of about so many minutes spends on other things than training."""
    import pandas as pd

    from cluster.local import usable_cpus
    from orchestrator.study_file.yaml_lines import dump

    slots, points = usable_cpus(), 2 * 2 * 6 * 7
    seeds = max(1, round(60 * minutes * slots / CELL_SECONDS / points))
    study = {"name": "long", "workload": "digits", "seeds": seeds, "grids": {"all": STUDY_AXES}}
    with TemporaryDirectory(prefix="ray") as ray_folder, TemporaryDirectory() as folder:
        (Path(folder) / "study.yaml").write_text(dump(study))
        command = "from orchestrator.cli import main; main()"
        began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", command, "run", f"{folder}/study.yaml", "--store", folder],
            cwd=ROOT,
            env={**os.environ, "RAY_TMPDIR": ray_folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        parts = [path.stat().st_mtime for path in (Path(folder) / "cells").iterdir()]
        rows = pd.read_parquet(Path(folder) / "cells")
    start = rows["started_at"].min().timestamp()
    window = max(parts) - start
    training = rows["wall_seconds"].sum()
    share = 100 * (1 - training / slots / window)
    driver = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cells = len(rows)
    a_cell = f"{1e6 * window * slots / cells:,.0f}"
    yield ["study: from the first cell to the last row", f"{cells:,}", f"{window:.0f}", "wall s"]
    yield ["study: of that, not training or evaluation", f"{cells:,}", f"{share:.1f}", "%", a_cell]
    yield ["study: start-up before that", f"{cells:,}", f"{start - began:.1f}", "wall s"]
    yield [
        "study: the driver, its start and Ray's included",
        f"{cells:,}",
        f"{driver:.1f}",
        "CPU s",
        f"{1e6 * driver / cells:,.0f}",
    ]


# The table


MEASUREMENTS: dict[str, Callable[[int, int], list[Measured]]] = {
    "planning": measure_planning,
    "store": measure_store,
    "resume": measure_resume,
    "run": measure_run,
}


def in_a_process(name: str, size: int, other: int) -> list[Measured]:
    """Return what a fresh process measures."""
    with TemporaryDirectory(prefix="ray") as folder:
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.overhead", "--one", name, str(size), str(other)],
            cwd=ROOT,
            env={**os.environ, "RAY_TMPDIR": folder, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return [Measured(**values) for values in json.loads(answer.stdout.splitlines()[-1])]


def lines(most: int, repetitions: int) -> Iterator[list[str]]:
    sizes = [size for size in (10**3, 10**4, 10**5, 10**6) if size <= most]
    for name in ("planning", "store", "resume"):
        for size in sizes:
            if name == "store" and size == 10**6:
                continue  # 13 million rows: minutes, and 10⁵ cells tell the cost of a cell
            print(f"measuring: {name}, {size:,} cells", file=sys.stderr, flush=True)
            often = 1 if size == 10**6 else repetitions
            yield from (measured.line() for measured in in_a_process(name, size, often))
    print("measuring: runs on Ray", file=sys.stderr, flush=True)
    yield from run_lines(most, max(1, repetitions - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6, help="largest number of cells; 0: none")
    parser.add_argument("--repetitions", type=int, default=3, help="of each; 10⁶ cells have one")
    parser.add_argument("--study-minutes", type=float, default=5.0, help="0: no whole study")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, size, other = given.one
        print(json.dumps([asdict(each) for each in MEASUREMENTS[name](int(size), int(other))]))
        return
    began = time.monotonic()
    table = list(lines(given.most, given.repetitions)) if given.most else []
    if given.study_minutes:
        print(f"measuring: a study of {given.study_minutes:g} minutes", file=sys.stderr, flush=True)
        table += study_lines(given.study_minutes)
    print(*settings_lines(), sep="\n")
    print(
        f"settings: parts of {CELLS_A_PART} cells; a resumed store lacks {CELLS_LEFT} cells; "
        f"{given.repetitions} repetitions (1 of 10⁶ cells, {max(1, given.repetitions - 1)} of Ray "
        f"runs), medians; took {time.monotonic() - began:.0f} s"
    )
    print(
        f"Ray runs: digits, one step a cell, {TRIALS} trials; the CPU time of the driver's own "
        "process, whose start-up is subtracted by a run that is equal but for few cells, or trials."
    )
    print()
    print_table(HEADERS, [[*line, *[""] * (len(HEADERS) - len(line))] for line in table])


if __name__ == "__main__":
    main()
