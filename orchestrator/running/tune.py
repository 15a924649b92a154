"""The driver's side of Ray Tune: one trial a pack, on this machine or on a running cluster."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import ray
from ray import cloudpickle, tune
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from typing_extensions import override

from cluster.capacity import DRIVER_CPUS, NodeResources, TrialResources, node_of
from cluster.local import usable_cpus
from orchestrator.errors import LaunchError, RequestError, StorageError
from orchestrator.fitness import Expected
from orchestrator.nodes import NODE_LOST, alive_nodes, answers, on, why_none
from orchestrator.packing import Pack
from orchestrator.running.admission import Admission
from orchestrator.running.execution import Assignment
from orchestrator.running.executor import Executor, PackEnd, PackFate
from orchestrator.running.interrupts import Interrupts, kept_interrupts
from orchestrator.running.order import LongestFirst, in_waves
from orchestrator.running.pack_rows import PackProgress
from orchestrator.running.room import Room, RoomLostError
from orchestrator.running.trial import WorkersLostError, progress_of, run_trial
from orchestrator.storage.store import Store
from workloads.cost import counted_costs

__all__ = ["RayExecutor"]

logger = logging.getLogger(__name__)

WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
"""One torch thread a worker: more workers than cores with many threads each ruin everything."""

START_ENVIRONMENT = {
    # Workers that Ray starts here inherit it: for a runtime environment they would start anew.
    **WORKER_ENVIRONMENT,
    # Ray starts one worker a CPU by itself; they import torch and Tune before they are needed.
    "RAY_preload_python_modules": "orchestrator.running.trial",
    # Out of memory, the kernel kills the worker, and its pack is retried and halved. Ray's own
    # monitor would end Tune's whole run with it.
    "RAY_memory_monitor_refresh_ms": "0",
}

TUNE_ENVIRONMENT = {
    # Five files a trial that nobody reads: results are in the store.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Interrupts reach the driver, which ends the run in order.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's snapshot is rewritten whole; the store alone decides what is done.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Tune's output goes to standard output whatever its verbosity; ours is the only one.
    "RAY_AIR_NEW_OUTPUT": "0",
}


TUNE_ONLY = "PL_DISABLE_FORK"
"""A variable that Tune gives to its actors, for a library that we do not use. Ray starts a process
anew for every other environment: without it, actors take over the workers that Ray has started,
which saves 2 to 3 s."""

MOST_WAITING = 1000
"""Trials of several kinds that wait for room at once: Ray looks at each of them again and again."""

FEWEST_WAITING = 200
"""Trials of one kind that do so, for an autoscaler to see and for nodes that join to be given."""

CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
)

CONNECT_SECONDS = 10.0
"""How long the head node may take to accept a connection."""


class RayExecutor(Executor):
    """Trains packs as Ray Tune trials."""

    def __init__(self, address: str | None = None, *, may_grow: bool = False) -> None:
        """Use the cluster at `address` ('auto' or HOST:PORT); None starts Ray on this machine.

        `may_grow`: nodes may join, for which packs wait that none holds.
        """
        if address is not None:
            _refuse_address(address)
        self._address = address
        self._may_grow = may_grow
        self._tune_only: str | None = None
        self.dashboard = ""
        """HOST:PORT of Ray's dashboard, once it is known."""

    @override
    def __enter__(self) -> Self:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is None:
            options |= {
                "address": "local",
                "num_cpus": usable_cpus(),
                "include_dashboard": False,
            }
            self._tune_only = class_cache.DEFAULT_ENV_VARS.pop(TUNE_ONLY, None)
        else:
            _require_listener(self._address)
            options |= {
                "address": self._address,
                "runtime_env": {"env_vars": WORKER_ENVIRONMENT},
            }
        # Tune would hand them to every actor, and Ray logs what an actor is handed. Nodes have
        # their own.
        class_cache.ENV_VARS_TO_PROPAGATE.difference_update(CREDENTIALS)
        with _own_sigterm(), _environment(START_ENVIRONMENT):
            try:
                context = ray.init(**options)
            except (ConnectionError, ValueError, RuntimeError, RayError) as error:
                raise _unreachable(self._address or "this machine", error) from error
        if context.dashboard_url:
            self.dashboard = context.dashboard_url
            logger.info("Ray's dashboard: http://%s", self.dashboard)
        return self

    @override
    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        if self._tune_only is not None:
            class_cache.DEFAULT_ENV_VARS[TUNE_ONLY] = self._tune_only

    @override
    def nodes(self) -> Sequence[NodeResources]:
        return [node_of(node["NodeManagerAddress"], node["Resources"]) for node in alive_nodes()]

    def _nodes_if_told(self) -> Sequence[NodeResources] | None:
        try:
            return self.nodes()
        except (RayError, ConnectionError, RuntimeError) as error:
            logger.warning("The head node does not say which nodes there are: %s", error)
            return None

    @override
    def slots(self, resources: TrialResources) -> int:
        return super().slots(self._asked(resources))

    def _asked(self, resources: TrialResources) -> TrialResources:
        """Return what is asked of Ray: this machine alone has no named resources."""
        return replace(resources, named=()) if self._address is None else resources

    @override
    def faults(self, store: Store) -> Sequence[str]:
        if self._address is None:
            return []  # the only node is the driver's
        expected = Expected.of(store)
        asked = [
            (node, _faults.options(**on(node)).remote(store, expected)) for node in alive_nodes()
        ]
        found = []
        for node, answer in answers(asked):
            name = node["NodeManagerAddress"]
            if isinstance(answer, NODE_LOST):
                logger.warning("Node %s was lost before anything ran on it.", name)
            elif isinstance(answer, RayError):
                found.append(f"{name}: {why_none(answer)}")
            else:
                found += [f"{name}: {fault}" for fault in answer]
        return found

    @override
    def train(
        self,
        packs: Sequence[Pack],
        assignment: Assignment,
        report: Callable[[PackProgress], None],
    ) -> Mapping[str, PackFate]:
        packs = in_waves(packs, self.slots)
        held = {pack.pack_id: self._asked(pack.resources) for pack in packs}
        bundles = {pack_id: _bundle(resources) for pack_id, resources in held.items()}

        def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
            return tune.PlacementGroupFactory([bundles[config["pack_id"]]])

        trainable = tune.with_parameters(
            run_trial,
            packs={pack.pack_id: ray.put(pack) for pack in packs},
            assignment=assignment,
            costs=counted_costs(),
        )
        waiting = {"TUNE_MAX_PENDING_TRIALS_PG": str(self._most_waiting(packs))}
        with (
            _environment(TUNE_ENVIRONMENT | waiting),
            _quiet_tune(),
            kept_interrupts() as interrupts,
        ):
            room = Room(self._nodes_if_told, held, may_grow=self._may_grow)
            admission = Admission(held, room.holds)
            watcher = _Watcher(
                report,
                list(held),
                interrupts,
                lambda open_packs: room.look(open_packs, admission.under_way()),
            )
            try:
                filesystem, root = assignment.store.ray_storage()
                filesystem.delete_dir_contents(root, missing_dir_ok=True)
                tune.Tuner(
                    tune.with_resources(trainable, resources),
                    tune_config=tune.TuneConfig(
                        search_alg=admission,
                        num_samples=len(packs),
                        scheduler=LongestFirst(),
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(
                        name="trials",
                        storage_path=root,
                        storage_filesystem=filesystem,
                        failure_config=tune.FailureConfig(max_failures=1),
                        callbacks=[watcher],
                        verbose=0,
                    ),
                ).fit()
            except Exception as error:
                watcher.end_of_round(error)
            else:
                watcher.end_of_trials()
        if not self.nodes():
            raise LaunchError(
                "Every node of the Ray cluster is gone. What was durable is kept: start the "
                "cluster and run the study again."
            )
        return watcher.fates

    def _most_waiting(self, packs: Sequence[Pack]) -> int:
        """Return how many trials are to wait for room at once.

        Of one kind, the first that wait are those that start next. Of several, each may.
        """
        kinds = {pack.resources for pack in packs}
        if len(kinds) > 1:
            return min(len(packs), MOST_WAITING)
        return max(FEWEST_WAITING, *map(self.slots, kinds))


def _bundle(resources: TrialResources) -> dict[str, float]:
    """Return what Ray is to reserve for the trial itself."""
    if resources.workers > 1:
        return {"CPU": DRIVER_CPUS}
    return resources.bundle()


def _require_listener(address: str) -> None:
    """Raise `LaunchError` if nobody listens at HOST:PORT; Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _refuse_address(address: str) -> None:
    """Raise `RequestError` if `address` is none that a driver can join."""
    if address.startswith("ray://"):
        raise RequestError(
            f"The address {address!r} is a Ray Client address, under which Ray Tune's driver "
            "would lose the run with the connection. Send the study as a job, with "
            "'scaling-study submit STUDY --address http://HOST:8265', or start it on a node of the "
            "cluster, with --address auto."
        )
    if address != "auto" and not _is_host_and_port(address):
        raise RequestError(
            f"The address is {address!r}; allowed: 'auto', or HOST:PORT of a running Ray cluster."
        )


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        host.encode("idna")  # as the socket will
    except UnicodeError:
        return False
    return bool(host) and port.isascii() and port.isdigit() and int(port) < 2**16


@ray.remote
def _faults(store: Store, expected: Expected) -> list[str]:
    return expected.faults(store)


def _unreachable(address: str, error: Exception) -> LaunchError:
    return LaunchError(
        f"Ray cannot be reached at {address}: {error}. "
        "Check the address, the token and the cluster; without --address, Ray is started here."
    )


class _Watcher(tune.Callback):
    """Hands on reports and interrupts that were lost, and keeps what became of open trials.

    `look` is given the open packs again and again; what it raises ends the round.
    """

    def __init__(
        self,
        report: Callable[[PackProgress], None],
        pack_ids: Sequence[str],
        interrupts: Interrupts,
        look: Callable[[Collection[str]], None] = lambda open_packs: None,
    ) -> None:
        self._report = report
        self._interrupts = interrupts
        self._look = look
        self._open = dict.fromkeys(pack_ids, PackEnd.ROUND_ENDED)
        self._error: Exception | None = None
        self.fates: dict[str, PackFate] = {}

    def end_of_round(self, error: Exception) -> None:
        """Say what becomes of the packs that are open after `error` ended Tune itself.

        Raises our own error where it was the cause: Tune wraps what its callbacks raise. Tune
        also ends altogether where Ray's memory monitor kills a worker, and does not say whose: any
        pack under way may have been its. After the last trial, it reads and writes files of its
        own, which nobody needs.
        """
        if isinstance(self._error, RoomLostError):
            logger.warning("%s Trials are placed anew.", self._error)
            reason = str(self._error)
            self.fates |= {each: PackFate(PackEnd.ROUND_ENDED, reason) for each in self._open}
            return
        if self._error is not None:
            raise self._error
        if not self._open:
            logger.warning("Ray Tune failed after its last trial: %r", error)
            return
        if isinstance(error, OSError) and not isinstance(error, RayError | ConnectionError):
            raise StorageError(
                f"Ray Tune could not use its folder in the store: {error}. What was durable is "
                "kept; look at the storage, and run the study again."
            ) from error
        if not isinstance(error.__cause__, OutOfMemoryError):
            raise LaunchError(
                f"Ray Tune ended: {type(error).__name__}: {error}. What was durable is kept: run "
                "the study again."
            ) from error
        self.fates |= {
            pack_id: PackFate(end, str(error.__cause__)) for pack_id, end in self._open.items()
        }

    def end_of_trials(self) -> None:
        """Suspect the packs whose trials Tune has ended without a word.

        It does so where a worker that is to take another trial does not come free of its last.
        """
        reason = "Ray Tune ended the trial and did not say why."
        self.fates |= {pack_id: PackFate(PackEnd.SUSPECTED, reason) for pack_id in self._open}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks so that it could restore the run, which we never do.
        return {}

    @override
    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self._interrupts.raise_lost()
        with self._kept():
            self._look(self._open.keys())

    @override
    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        progress = progress_of(result)
        if progress is None:
            return
        with self._kept():
            self._report(progress)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what the block raises, in which Tune wraps an error of its own."""
        try:
            yield
        except Exception as error:
            self._error = error
            raise

    @override
    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        pack_id = trial.config["pack_id"]
        self._open[pack_id] = PackEnd.SUSPECTED
        logger.info("Pack %s begins.", pack_id, extra={"pack_id": pack_id})

    @override
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._open.pop(trial.config["pack_id"], None)

    @override
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # Not trial.get_pickled_error(), which looks where the file arrives only later.
        file = trial.pickled_error_file
        if file is None:  # what Tune keeps no pickle of, it keeps the text of
            error: Exception = RuntimeError(Path(trial.error_file).read_text().strip())
        else:
            error = cloudpickle.loads(Path(file).read_bytes())
        cause = getattr(error, "cause", None) or error  # of a RayTaskError, without its colours
        # One that never came up has met what its node lacks, and not the cells.
        died = isinstance(error, RayActorError) and not error.actor_init_failed
        died = died or isinstance(cause, WorkersLostError)
        pack_id = trial.config["pack_id"]
        self._open.pop(pack_id, None)
        fate = PackFate(PackEnd.DIED if died else PackEnd.FAULT, f"{type(cause).__name__}: {cause}")
        logger.warning("Pack %s: %s.", pack_id, fate.end, extra={"pack_id": pack_id})
        self.fates[pack_id] = fate


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Run the block, then put back the SIGTERM handler that Ray replaces with its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:  # Ray's handler, between being set and being replaced
            raise KeyboardInterrupt from end
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Run the block without Tune's own log of failed trials: a fate becomes our own message."""
    tune_logger = logging.getLogger("ray.tune")
    level = tune_logger.level
    tune_logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        tune_logger.setLevel(level)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Run the block with `values` in the environment: Ray Tune takes these settings only there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
