"""The driver's side of Ray Tune: one trial a pack, on this machine or on a running cluster."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial
from typing_extensions import override

from cluster.capacity import NodeResources
from cluster.local import usable_cpus
from orchestrator.errors import LaunchError
from orchestrator.execution import Assignment, PackProgress
from orchestrator.executor import Executor, PackFate
from orchestrator.planning import Pack
from orchestrator.trial import progress_of, run_trial

__all__ = ["RayExecutor"]

WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
"""One torch thread a worker: more workers than cores with many threads each ruin everything."""

TUNE_ENVIRONMENT = {
    # Five files a trial that nobody reads: results are in the store.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Interrupts reach the driver, which ends the run in order.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune's snapshot is rewritten whole; the store alone decides what is done.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Tune's output goes to standard output whatever its verbosity; ours is the only one.
    "RAY_AIR_NEW_OUTPUT": "0",
}


CONNECT_SECONDS = 10.0
"""How long the head node may take to accept a connection."""


class RayExecutor(Executor):
    """Trains packs as Ray Tune trials."""

    def __init__(self, address: str | None = None) -> None:
        """Use the cluster at `address` ('auto' or HOST:PORT); None starts Ray on this machine."""
        if address and address.startswith("ray://"):
            raise LaunchError(
                f"The address {address!r} is a Ray Client address, under which Ray Tune's driver "
                "would lose the run with the connection. Start the study on the cluster itself, "
                "with --address auto on a node of it."
            )
        self._address = address

    @override
    def __enter__(self) -> Self:
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "runtime_env": {"env_vars": WORKER_ENVIRONMENT},
        }
        if self._address is None:
            options |= {
                "address": "local",
                "num_cpus": usable_cpus(),
                "include_dashboard": False,
            }
        else:
            _require_listener(self._address)
            options |= {"address": self._address}
        with _own_sigterm():
            try:
                ray.init(**options)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise _unreachable(self._address or "this machine", error) from error
        return self

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ray.shutdown()

    @override
    def nodes(self) -> Sequence[NodeResources]:
        return [
            NodeResources(
                name=node["NodeManagerAddress"],
                cpus=node["Resources"].get("CPU", 0.0),
                gpus=node["Resources"].get("GPU", 0.0),
            )
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
        ]

    @override
    def train(
        self,
        packs: Sequence[Pack],
        assignment: Assignment,
        report: Callable[[PackProgress], None],
    ) -> Mapping[str, PackFate]:
        shares = {pack.pack_id: (pack.cpus, pack.gpus) for pack in packs}

        def resources(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
            cpus, gpus = shares[config["pack_id"]]
            return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": gpus}])

        trainable = tune.with_parameters(
            run_trial,
            packs={pack.pack_id: ray.put(pack) for pack in packs},
            assignment=assignment,
        )
        watcher = _Watcher(report)
        filesystem, root = assignment.store.ray_storage()
        filesystem.delete_dir_contents(root, missing_dir_ok=True)
        with _environment(TUNE_ENVIRONMENT), _quiet_tune():
            tune.Tuner(
                tune.with_resources(trainable, resources),
                param_space={"pack_id": tune.grid_search([pack.pack_id for pack in packs])},
                tune_config=tune.TuneConfig(reuse_actors=len(set(shares.values())) == 1),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=root,
                    storage_filesystem=filesystem,
                    failure_config=tune.FailureConfig(max_failures=1),
                    callbacks=[watcher],
                    verbose=0,
                ),
            ).fit()
        if not self.nodes():
            raise LaunchError(
                "Every node of the Ray cluster is gone. What was durable is kept: start the "
                "cluster and run the study again."
            )
        return watcher.fates


def _require_listener(address: str) -> None:
    """Raise `LaunchError` if nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise LaunchError(
            f"The address is {address!r}; allowed: 'auto', or HOST:PORT of a running Ray cluster."
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> LaunchError:
    return LaunchError(
        f"Ray cannot be reached at {address}: {error}. "
        "Check the address and the cluster; without --address, Ray is started here."
    )


class _Watcher(tune.Callback):
    """Hands reports on as they come, and keeps the fate of trials that ended badly."""

    def __init__(self, report: Callable[[PackProgress], None]) -> None:
        self._report = report
        self.fates: dict[str, PackFate] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks so that it could restore the run, which we never do.
        return {}

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
        if progress is not None:
            self._report(progress)

    @override
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # Not trial.get_pickled_error(), which looks where the file arrives only later.
        file = trial.pickled_error_file
        error = None if file is None else cloudpickle.loads(Path(file).read_bytes())
        self.fates[trial.config["pack_id"]] = PackFate(
            died=isinstance(error, RayActorError), reason=str(error).strip()
        )


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Run the block, then put back the SIGTERM handler that Ray replaces with its own."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
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
