"""What every backend says to Ray in the same words."""

import json
import shlex
from collections.abc import Mapping

from cluster.description import ClusterDescription, NodeShape, StudyFile

__all__ = [
    "RAY_PORT",
    "environment_variables",
    "ray_start_resources",
    "run_command",
    "shell_options",
]

RAY_PORT = 6379
"""Ray's own default for the head's port."""


def environment_variables(description: ClusterDescription) -> dict[str, str]:
    """Return what every Ray process must find in its environment.

    Authentication is on, never left to a default. One thread a worker: threads that outnumber the
    CPUs cost more than packing gains. Ray's memory monitor is off: where memory runs out, the
    kernel kills the worker, which is retried alone; a kill by the monitor ends all of Ray Tune.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "OMP_NUM_THREADS": "1",
        "RAY_memory_monitor_refresh_ms": "0",
        **description.environment.variables,
    }


def ray_start_resources(shape: NodeShape) -> dict[str, str]:
    """Return the options of `ray start`, without dashes, that say what a node has."""
    options = {"num-cpus": str(shape.cpus), "num-gpus": str(shape.gpus)}
    if named := shape.named_resources():
        options["resources"] = json.dumps(named)
    return options


def run_command(description: ClusterDescription, study: StudyFile, study_word: str) -> str:
    """Return the command that runs `study`; `study_word` is its path as a shell reads it."""
    store = shlex.quote(description.storage.store(study.name))
    grows = any(group.min_nodes < group.max_nodes for group in description.workers)
    options = " --autoscaling" * grows + " --yes" * study.confirmed
    return f"scaling-study run {study_word} --store {store} --address auto{options}"


def shell_options(options: Mapping[str, str]) -> str:
    """Return options as a shell reads them."""
    return " ".join(f"--{name}={shlex.quote(value)}" for name, value in options.items())


def home_word(path: str) -> str:
    """Return a path as a shell reads it, its leading ~ as the home folder."""
    if path.startswith("~/"):
        return '"$HOME"/' + shlex.quote(path.removeprefix("~/"))
    return shlex.quote(path)
