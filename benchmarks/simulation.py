"""A simulated cluster of 1,000 GPUs: how busy one driver keeps it, by the length of a pack.

    python -m benchmarks.simulation                    # calibrated by real Ray runs, some minutes
    python -m benchmarks.simulation --slots 64 256

What is simulated: slots that train one pack after another, longest first, and one driver that
serves them in turn: it starts a trial, takes its result, and gives the slot the next one. Two
costs are measured on real runs of 8 and of 32 trials that only sleep, as many at once as there are
slots: the driver's CPU time a trial, and the time that a slot waits between two trials beyond that.
Simulated times of those runs, and of one of 16 trials, stand beside the real ones. What no run on
one machine shows, and so is not in it: a network between driver and nodes, and Ray's own scheduling
of many nodes.
"""

import argparse
import heapq
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.reporting import print_table, settings_lines

ROOT = Path(__file__).resolve().parents[1]
SLEEP_SECONDS = 3.0
RUNS = ((2, 8), (4, 16), (8, 32))
"""Slots and trials of the real runs; the outer two calibrate, the one between is foretold."""
SLOTS = (64, 256, 1000)
PACK_SECONDS = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
PACKS_A_SLOT = 16
"""As the packs of a study are cut; its tail is part of what is lost."""
SPREAD = 0.3
"""Standard deviation of the logarithm of a pack's length: predictions are that good."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a trial costs beside its training, in seconds."""

    driver: float
    """Of the driver, which serves one trial at a time."""
    gap: float
    """Of the slot, beyond what the driver takes."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a simulated run went."""

    seconds: float
    """From the first slot that is ready to the last end of a pack."""
    utilisation: float
    """Share of the slots' time in which they trained."""
    driver_busy: float
    """Share of the time in which the driver worked."""


def simulate(packs: Sequence[float], ready: Sequence[float], costs: Costs) -> Outcome:
    """Train packs of these seconds, in this order, on slots that are ready when `ready` says."""
    free = list(ready)
    heapq.heapify(free)
    driver_free = end = min(ready)
    for seconds in packs:
        driver_free = max(driver_free, heapq.heappop(free)) + costs.driver
        ended = driver_free + costs.gap + seconds
        heapq.heappush(free, ended)
        end = max(end, ended)
    whole = end - min(ready)
    return Outcome(
        seconds=whole,
        utilisation=sum(packs) / (len(ready) * whole),
        driver_busy=costs.driver * len(packs) / whole,
    )


@dataclass(frozen=True, kw_only=True)
class RealRun:
    """What a run of sleeping trials took, in seconds."""

    begins: Sequence[Sequence[float]]
    """By slot, when its trials began to train, from the run's own beginning."""
    driver_cpu: float
    """The driver's CPU time."""

    @property
    def trials(self) -> int:
        return sum(map(len, self.begins))

    @property
    def seconds(self) -> float:
        """From the first trial's beginning to the last one's."""
        return max(map(max, self.begins)) - min(map(min, self.begins))

    def waits(self) -> list[float]:
        """Return how long slots did not sleep between the beginnings of two trials."""
        return [
            second - first - SLEEP_SECONDS
            for slot in self.begins
            for first, second in itertools.pairwise(slot)
        ]


def real_run(slots: int, trials: int, folder: Path) -> RealRun:
    """Run trials that sleep on a Ray of so many CPUs, in a process of its own."""
    code = "from benchmarks.simulation_run import sleep_in_trials; sleep_in_trials()"
    words = [str(slots), str(trials), str(SLEEP_SECONDS), str(folder / f"store-{slots}")]
    answer = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env={**os.environ, "RAY_TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    return RealRun(**json.loads(answer.stdout.splitlines()[-1]))


def calibrated(runs: Sequence[RealRun]) -> Costs:
    """Return the costs that the first and the last run show: few trials and many."""
    few, many = runs[0], runs[-1]
    driver = (many.driver_cpu - few.driver_cpu) / (many.trials - few.trials)
    return Costs(driver=driver, gap=median([*few.waits(), *many.waits()]) - driver)


def foretold(run: RealRun, costs: Costs) -> float:
    """Return the simulated seconds of a real run, whose slots are ready as they really were."""
    before = costs.driver + costs.gap
    ready = [begins[0] - before for begins in run.begins]
    # The last trials' sleep is left out on both sides: nobody sees when they end.
    return simulate([SLEEP_SECONDS] * run.trials, ready, costs).seconds - before - SLEEP_SECONDS


def packs_of(seconds: float, number: int) -> list[float]:
    """Return the lengths of packs about one length, the longest first."""
    chance = random.Random(0)
    return sorted(
        (seconds * chance.lognormvariate(0.0, SPREAD) for _ in range(number)), reverse=True
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=SLOTS)
    parser.add_argument(
        "--trial-ms",
        type=float,
        help="simulate with this cost of a trial to the driver instead, such as benchmarks.scale's",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="si-", ignore_cleanup_errors=True) as folder:
        runs = [real_run(slots, trials, Path(folder)) for slots, trials in RUNS]
    costs = calibrated(runs)
    print(*settings_lines(), sep="\n")
    print(
        f"\nreal runs of trials that sleep {SLEEP_SECONDS:g} s; a trial costs the driver "
        f"{1e3 * costs.driver:.0f} ms, and its slot {1e3 * costs.gap:.0f} ms more\n"
    )
    print_table(
        ["slots", "trials", "real seconds", "simulated", "ratio", "slot waits, ms"],
        [
            [
                len(run.begins),
                run.trials,
                f"{run.seconds:.2f}",
                f"{(told := foretold(run, costs)):.2f}",
                f"{told / run.seconds:.3f}",
                f"{1e3 * median(run.waits()):.0f}",
            ]
            for run in runs
        ],
    )
    print(f"\nsimulated: {PACKS_A_SLOT} packs a slot, their lengths spread by {SPREAD:g}", end="")
    if options.trial_ms is not None:
        costs = replace(costs, driver=options.trial_ms / 1e3)
        print(f"; a trial costs the driver {options.trial_ms:g} ms", end="")
    print("\n")
    lines = []
    for slots in options.slots:
        for seconds in PACK_SECONDS:
            packs = packs_of(seconds, PACKS_A_SLOT * slots)
            told = simulate(packs, [0.0] * slots, costs)
            ideal = simulate(packs, [0.0] * slots, Costs(driver=0.0, gap=0.0))
            lines.append(
                [
                    f"{slots:,}",
                    f"{seconds:g}",
                    f"{len(packs):,}",
                    f"{told.seconds:.0f}",
                    f"{told.utilisation:.2f}",
                    f"{ideal.utilisation:.2f}",
                    f"{told.driver_busy:.2f}",
                ]
            )
    print_table(
        ["slots", "pack, s", "packs", "seconds", "utilisation", "without costs", "driver busy"],
        lines,
    )


if __name__ == "__main__":
    main()
