"""A Ray cluster whose nodes and trials can be killed, and a driver that is started again.

Processes that this machine runs for others are not touched: what is killed is a child of one of
the cluster's own nodes, told from a later process of the same id, or the driver.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from typing_extensions import override

ROOT = Path(__file__).resolve().parents[1]
NODES = 3
CPUS_A_NODE, GPUS_A_NODE = 2, 1
ADD_ATTEMPTS = 3
"""Starts of a node: Ray gives up on one after 30 s, which a busy machine may take."""
GCS_AWAY_SECONDS = 5.0
"""From the death of the head's control store to the start of the next one."""
MOST_IDLE_STARTS = 10
"""Drivers that may end badly by themselves before the test gives up."""


class ChaosError(Exception):
    """The test cannot go on; the message says why."""


@dataclass(frozen=True, order=True)
class Process:
    """A process, told from a later one of the same id."""

    pid: int
    started: int
    """Clock ticks from the machine's start to its own."""

    def kill(self) -> bool:
        """Send SIGKILL, and return whether it was there."""
        found = _stat(self.pid)
        if found is None or found[1] != self:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            return True
        return False


class Nodes(AbstractContextManager["Nodes"]):
    """A Ray cluster of several nodes on this machine, and what runs on it."""

    def __init__(self) -> None:
        self._ended: set[Process] = set()
        """What ran on nodes or for drivers that were killed: Ray ends it."""

    @override
    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster  # after the environment was set

        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(NODES):
            self._add()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        nodes = [*self._cluster.worker_nodes, self._cluster.head_node]
        self._ended.update(_children(map(_raylet, nodes)))
        try:
            for node in nodes:
                self._cluster.remove_node(node, allow_graceful=False)
        finally:
            for process in self._ended:
                process.kill()

    @property
    def address(self) -> str:
        """HOST:PORT, for drivers."""
        return str(self._cluster.address)

    def trials(self) -> list[Process]:
        """Return the processes in which the driver that lives has its trials."""
        started = _children(map(_raylet, self._cluster.worker_nodes))
        # Ray's agents are called ray:: too.
        found = {each for each, title in started.items() if title.startswith("ray::ImplicitFunc")}
        return sorted(found - self._ended)

    def kill_a_trial(self, chance: random.Random) -> bool:
        """Kill one of `trials`, and return whether there was one."""
        trials = self.trials()
        return bool(trials) and chance.choice(trials).kill()

    def forget_trials(self) -> None:
        """Take note that the driver of the trials was killed."""
        self._ended.update(self.trials())

    def replace_one(self, chance: random.Random) -> None:
        """Kill a node that is not the head, and add another one."""
        node = chance.choice(sorted(self._cluster.worker_nodes, key=_raylet))
        self._ended.update(_children([_raylet(node)]))
        self._cluster.remove_node(node, allow_graceful=False)
        self._add()

    def restart_gcs(self) -> None:
        """Kill the head's control store, with what it has in memory, and start another one."""
        head = self._cluster.head_node
        head.kill_gcs_server()
        time.sleep(GCS_AWAY_SECONDS)
        head.start_gcs_server()

    def _add(self) -> None:
        for attempt in range(1, ADD_ATTEMPTS + 1):
            try:
                self._cluster.add_node(num_cpus=CPUS_A_NODE, num_gpus=GPUS_A_NODE)
                return
            except Exception as error:  # of no class of its own; what was started ends with us
                if attempt == ADD_ATTEMPTS:
                    raise ChaosError(f"no node joined {ADD_ATTEMPTS} times: {error}") from error


class Driver(AbstractContextManager["Driver"]):
    """A process that drives the study, started again whenever it ended before the study did."""

    def __init__(self, study: Path, store: Path, address: str) -> None:
        code = "from benchmarks.chaos_study import drive; drive()"
        self._command = [sys.executable, "-c", code, str(study), str(store), address]
        self._log = store.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = self.idle_starts = 0

    @override
    def __enter__(self) -> Self:
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self.kill()

    def done(self) -> bool:
        """Return whether the study has ended; starts a driver where there is none.

        Raises `ChaosError` where drivers keep ending by themselves.
        """
        code = None if self._process is None else self._process.poll()
        if self._process is not None and code is None:
            return False
        if code == 0:
            return True
        if code is not None:
            self.idle_starts += 1
            if self.idle_starts > MOST_IDLE_STARTS:
                raise ChaosError(f"{self.idle_starts} drivers ended by themselves; see {self._log}")
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        return False

    def kill(self) -> None:
        """End the driver, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _raylet(node: Any) -> int:
    """Return the process id of the daemon whose children are all that runs on a node."""
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def _children(parents: Iterable[int]) -> dict[Process, str]:
    """Return the command lines of the processes that `parents`, by id, have started."""
    wanted, found = set(parents), {}
    for folder in Path("/proc").iterdir():
        known = _stat(int(folder.name)) if folder.name.isdigit() else None
        if known is not None and known[0] in wanted:
            try:
                found[known[1]] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it ended meanwhile
    return found


def _stat(pid: int) -> tuple[int, Process] | None:
    """Return a process and the id of its parent; None where it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, parent, *rest = text[text.rindex(")") + 2 :].split()  # its name may hold spaces
    return None if state == "Z" else (int(parent), Process(pid, int(rest[17])))
