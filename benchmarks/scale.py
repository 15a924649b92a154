"""What one driver carries: 10⁵ cells in thousands of trials, from the plan to a compacted store.

    python -m benchmarks.scale                               # 100,000 cells in 2,000 trials
    python -m benchmarks.scale --trials 100 --seeds 10       # 1,000 cells

Cells of one step, so that what is not training shows. Every pair of width and batch size is a shape
of its own and so a trial; the driver's memory is read while it goes on. Exits with 1 where it grows
by more than `MOST_KIB` a trial: thousands of them are then a small part of a machine. Linux alone:
it reads /proc.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reporting import print_table, settings_lines

ROOT = Path(__file__).resolve().parents[1]
BATCH_SIZES = 50
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Of the trials, after which the driver's memory is told."""
MOST_KIB = 64.0
"""Growth of the driver's memory by one trial that has ended: Tune keeps some 30 KiB of each."""


@dataclass(kw_only=True)
class Run:
    """What was seen of a run."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the driver's process."""
    peak_mib: float = 0.0
    begun: int = 0
    """Trials that have begun."""
    first_after: float = 0.0
    """Seconds from the process's start to the first trial's."""
    cpu_before: float = 0.0
    """Seconds of the driver's CPU until then."""
    durable: int = 0
    """Cells."""
    memory: list[tuple[int, float]] = field(default_factory=list)
    """Trials that had begun, and the driver's resident MiB then."""

    @property
    def growth(self) -> float:
        """KiB of the driver a trial, by the last three quarters of them."""
        (first, before), (last, after) = self.memory[len(self.memory) // 4], self.memory[-1]
        return 1024 * (after - before) / (last - first)


def study_text(trials: int, seeds: int) -> str:
    """Return the study file of so many trials of `seeds` cells each."""
    widths = list(range(4, 4 + trials // BATCH_SIZES))
    batches = list(range(1, 1 + BATCH_SIZES))
    return json.dumps(
        {
            "name": "scale",
            "workload": "digits",
            "seeds": seeds,
            "grids": {
                "all": {
                    "dataset_fraction": 0.125,
                    "model_size": widths,
                    "batch_size": batches,
                    "learning_rate": 0.1,
                    "budget": {"steps": 1},
                }
            },
        }
    )


def watched_run(study: Path, store: Path, environment: dict[str, str], minutes: float) -> Run:
    """Run the study, looking at the driver's memory whenever a trial begins."""
    words = ["run", str(study), "--store", str(store), "--yes", "--log", "json"]
    began, seen = time.monotonic(), Run()
    driver = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        assert driver.stderr is not None
        for line in driver.stderr:
            _take_in(seen, line, driver.pid, time.monotonic() - began)
            if time.monotonic() - began > 60 * minutes:
                sys.exit(f"the run took more than {minutes:g} minutes")
        _, status, usage = os.wait4(driver.pid, 0)
    finally:
        driver.kill()
    if status:
        sys.exit(f"the run ended with {os.waitstatus_to_exitcode(status)}")
    seen.seconds = time.monotonic() - began
    seen.cpu_seconds = usage.ru_utime + usage.ru_stime
    seen.peak_mib = usage.ru_maxrss / 1024
    return seen


def _take_in(seen: Run, line: str, pid: int, seconds: float) -> None:
    if not line.startswith("{"):
        print(line, file=sys.stderr, end="")  # of Ray, or a traceback
        return
    event = json.loads(line)
    if event["message"].endswith("begins."):
        seen.begun += 1
        if seen.begun == 1:
            seen.first_after, seen.cpu_before = seconds, _cpu_seconds(pid)
        seen.memory.append((seen.begun, _resident_mib(pid)))
    elif "durable" in event["message"]:
        seen.durable += event["cells"]
    elif event["level"] in ("warning", "error"):
        print(line, file=sys.stderr, end="")


def _cpu_seconds(pid: int) -> float:
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()  # its name may hold spaces
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (resident,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(resident) / 1024


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = work()
    return time.perf_counter() - began, value


def _files(store: Path) -> tuple[int, float]:
    found = [path for path in store.rglob("*.parquet") if path.is_file()]
    return len(found), sum(path.stat().st_size for path in found) / 2**20


def lines(run: Run, store_path: Path, cells: int) -> list[tuple[str, str]]:
    """Return what was found, and what the store costs before and after compaction."""
    from orchestrator import Store

    store = Store(store_path)
    before, before_mib = _files(store_path)
    reading, rows = _timed(store.read_cells)
    compacting, _ = _timed(store.compact)
    after, after_mib = _files(store_path)
    rereading, rows_after = _timed(store.read_cells)
    for table in (rows, rows_after):
        if not len(table) == table["cell_id"].nunique() == cells:
            sys.exit(f"{len(table)} rows of {cells} cells")
    memory = dict(run.memory)
    return [
        ("cells", f"{cells:,}"),
        ("trials", f"{run.begun:,}"),
        ("seconds, whole", f"{run.seconds:.0f}"),
        ("seconds until the first trial", f"{run.first_after:.1f}"),
        ("driver CPU seconds until then", f"{run.cpu_before:.1f}"),
        (
            "driver CPU ms a trial after that",
            f"{1e3 * (run.cpu_seconds - run.cpu_before) / run.begun:.1f}",
        ),
        *(
            (
                f"driver MiB after {share:.0%} of the trials",
                f"{memory[round(share * run.begun)]:.0f}",
            )
            for share in SHARES
        ),
        ("driver KiB a trial, after a quarter of them", f"{run.growth:.0f}"),
        ("driver MiB at most", f"{run.peak_mib:.0f}"),
        ("files, MiB", f"{before:,}, {before_mib:.0f}"),
        ("seconds to read all rows", f"{reading:.1f}"),
        ("seconds to compact", f"{compacting:.1f}"),
        ("files, MiB after that", f"{after:,}, {after_mib:.0f}"),
        ("seconds to read all rows after that", f"{rereading:.1f}"),
    ]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000, help=f"a multiple of {BATCH_SIZES}")
    parser.add_argument("--seeds", type=int, default=50, help="cells a trial")
    parser.add_argument("--minutes", type=float, default=30.0, help="give up after so many")
    options = parser.parse_args()
    if options.trials < BATCH_SIZES or options.trials % BATCH_SIZES or options.seeds < 1:
        parser.error(f"--trials is a multiple of {BATCH_SIZES}, and --seeds at least 1")
    cells = options.trials * options.seeds
    with tempfile.TemporaryDirectory(prefix="sc-", ignore_cleanup_errors=True) as folder:
        study, store = Path(folder, "study.yaml"), Path(folder, "store")
        study.write_text(study_text(options.trials, options.seeds))
        environment = {**os.environ, "RAY_TMPDIR": folder}
        run = watched_run(study, store, environment, options.minutes)
        print(*settings_lines(), sep="\n")
        print(f"cells of digits, one step each, {options.seeds} a trial\n")
        print_table(["what", "figure"], lines(run, store, cells))
    if run.growth > MOST_KIB:
        sys.exit(f"the driver grows by {run.growth:.0f} KiB a trial; allowed: {MOST_KIB:.0f}")


if __name__ == "__main__":
    main()
