"""Whether a study survives what a cluster does to it: workers, nodes and drivers are killed.

    python -m benchmarks.chaos                                # 2,040 cells, 51 kills
    python -m benchmarks.chaos --cells 60 --kills 3 --seed 1
    python -m benchmarks.chaos --cells 300 --kills 0 --heads 3

Three nodes with declared CPUs and GPUs, and a head that holds nothing, run the study once in peace
and once under kills: SIGKILL to a trial's process, to a node's daemon, with which Ray ends what
runs there (another node joins), or to the driver (another one starts). `--heads`: also to the
head's control store (GCS), which then keeps its tables in RocksDB, and is started again. What is
killed, and how far the study is by then, is drawn from the seed. Exits with 1 unless every cell has
one row, no durable row was lost or its cell trained again, and all results are those of the
undisturbed run. Linux alone: it reads /proc.
"""

import argparse
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from benchmarks.chaos_cluster import (
    CPUS_A_NODE,
    GPUS_A_NODE,
    NODES,
    ROOT,
    ChaosError,
    Driver,
    Nodes,
)
from benchmarks.chaos_evidence import Findings, Watch, findings
from benchmarks.chaos_study import GPU_SHARE, TRAININGS, study_text, trainings
from benchmarks.reporting import print_table, settings_lines

LEFT = 90
"""Cells without a row when the last kill is due: some packs, of which one may end at any time."""
STARTING = 0.25
"""Share of the kills of nodes and drivers that may hit a driver that still starts; all others come
when a trial's process is there, so that each costs something."""
LONGEST_DELAY = 1.0
"""Seconds from that many rows to the kill, at most: kills also fall between two flushes."""
POLL_SECONDS = 0.1


class Kill(StrEnum):
    """What is killed."""

    TRIAL = "trial"
    NODE = "node"
    DRIVER = "driver"
    HEAD = "head"


@dataclass(kw_only=True)
class Disturbance:
    """What was done to a study."""

    kills: Counter[Kill] = field(default_factory=Counter)
    driver_starts: int = 0
    driver_ends: int = 0
    """Drivers that ended by themselves before the study did."""
    seconds: float = 0.0


def wait_until(condition: Callable[[], bool], driver: Driver, deadline: float) -> bool:
    """Return whether `condition` came to hold before the study's end."""
    while not driver.done():
        if condition():
            return True
        if time.monotonic() > deadline:
            raise ChaosError("the time is up")
        time.sleep(POLL_SECONDS)
    return False


def _training(nodes: Nodes, ready: Callable[[], bool]) -> bool:
    return ready() and bool(nodes.trials())


def _strike(kind: Kill, driver: Driver, nodes: Nodes, chance: random.Random) -> None:
    if kind is Kill.HEAD:
        nodes.restart_gcs()
    elif kind is Kill.NODE:
        nodes.replace_one(chance)
    else:
        driver.kill()
        nodes.forget_trials()


def disturb(
    driver: Driver,
    nodes: Nodes,
    watch: Watch,
    cells: int,
    kills: Sequence[Kill],
    seed: int,
    deadline: float,
) -> Disturbance:
    """Run the study to its end, killing on the way."""
    chance = random.Random(seed)
    order = chance.sample(kills, len(kills))
    done, began = Disturbance(), time.monotonic()
    for number, kind in enumerate(order):
        due = (cells - LEFT) * (number + chance.random()) / len(order)
        ready = partial(watch.has, due)
        if kind is Kill.TRIAL or chance.random() >= STARTING:
            ready = partial(_training, nodes, ready)
        if not wait_until(ready, driver, deadline):
            break
        time.sleep(chance.uniform(0.0, LONGEST_DELAY))
        rows = watch.look()
        if kind is Kill.TRIAL:
            struck = wait_until(partial(nodes.kill_a_trial, chance), driver, deadline)
        elif struck := not driver.done():
            _strike(kind, driver, nodes, chance)
        done.kills[kind] += struck
        seconds = time.monotonic() - began
        print(
            f"{number + 1} of {len(order)}: {kind}, {rows} rows, {seconds:.0f} s", file=sys.stderr
        )
    wait_until(lambda: False, driver, deadline)
    done.driver_starts, done.driver_ends = driver.starts, driver.idle_starts
    done.seconds = time.monotonic() - began
    return done


def chaos(folder: Path, cells: int, kills: Sequence[Kill], seed: int, minutes: float) -> list[str]:
    """Run the study in peace and under kills, print the table, and return what is wrong."""
    deadline = time.monotonic() + 60 * minutes
    study, log = folder / "study.yaml", folder / "trainings"
    peaceful, disturbed = folder / "peaceful", folder / "disturbed"
    study.write_text(study_text(cells))
    with Nodes() as nodes:
        with Driver(study, peaceful, nodes.address) as driver:
            peace = disturb(driver, nodes, Watch(peaceful), cells, [], seed, deadline)
        log.rename(folder / "trainings-in-peace")
        watch = Watch(disturbed)
        with Driver(study, disturbed, nodes.address) as driver:
            war = disturb(driver, nodes, watch, cells, kills, seed, deadline)
    begun = trainings(log, cells)
    found = findings(disturbed, peaceful, watch, begun, cells)
    print(*settings_lines(), sep="\n")
    print(
        f"cluster: {NODES} nodes of {CPUS_A_NODE} CPUs and {GPUS_A_NODE} declared GPU, 1 CPU and "
        f"{GPU_SHARE:g} GPU a trial; seed {seed}\n"
    )
    print_table(["what", "figure"], _lines(cells, war, peace, len(begun), found))
    faults = found.faults()
    if war.kills.total() < len(kills):
        faults.append(f"{war.kills.total()} kills instead of {len(kills)}: the study ended before")
    return faults


def _lines(
    cells: int, war: Disturbance, peace: Disturbance, begun: int, found: Findings
) -> Sequence[tuple[str, str]]:
    return [
        ("cells", f"{cells:,}"),
        *((f"kills: {kind}s", str(war.kills[kind])) for kind in Kill),
        ("driver starts", str(war.driver_starts)),
        ("drivers that ended by themselves", str(war.driver_ends)),
        ("seconds", f"{war.seconds:.0f}"),
        ("seconds of the undisturbed run", f"{peace.seconds:.0f}"),
        ("trainings begun", f"{begun:,}"),
        ("cells without a row", str(found.missing)),
        ("rows too many", str(found.repeated)),
        ("durable rows lost", str(found.lost)),
        ("cells with a row trained again", str(found.trained_again)),
        ("cells that differ from the undisturbed run's", str(found.differing)),
        ("checkpoints and damaged files left", str(found.left_over)),
    ]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=2040)
    parser.add_argument("--kills", type=int, default=51, help="a third of each kind but heads")
    parser.add_argument("--heads", type=int, default=0, help="kills of the head's control store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=90.0, help="give up after so many")
    parser.add_argument("--keep", action="store_true", help="keep stores and logs")
    options = parser.parse_args()
    if options.cells < 6 or min(options.kills, options.heads) < 0:
        parser.error("--cells is at least 6, one of each point; --kills, --heads at least 0")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # as an end, with `finally`
    # Ray puts sockets into it, whose paths are at most 107 bytes long.
    folder = Path(tempfile.mkdtemp(prefix="ch-"))
    os.environ |= {
        "RAY_TMPDIR": str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: Ray keeps to the loopback
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        TRAININGS: str(folder / "trainings"),
    }
    if options.heads:
        os.environ |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(folder / "gcs")}
    others = (Kill.TRIAL, Kill.NODE, Kill.DRIVER)
    kills = [others[i % len(others)] for i in range(options.kills)] + [Kill.HEAD] * options.heads
    try:
        faults = chaos(folder, options.cells, kills, options.seed, options.minutes)
    except ChaosError as error:
        faults = [str(error)]
    if faults or options.keep:
        print(f"Stores and logs lie in {folder}.", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
