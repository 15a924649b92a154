"""The nodes of the Ray cluster that this process has joined, and tasks that ask one of them."""

from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import NodeDiedError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["NODE_LOST", "alive_nodes", "on"]

NODE_LOST = (NodeDiedError, TaskUnschedulableError)
"""What a task raises whose node is lost before it answers."""


def alive_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of each node that is there."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def on(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task that runs on `node`, however busy that is."""
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return {"num_cpus": 0, "scheduling_strategy": strategy}
