"""The nodes of the Ray cluster that this process has joined, and tasks that ask one of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.errors import LaunchError

__all__ = ["NODE_LOST", "Answer", "alive_nodes", "answers", "on"]

NODE_LOST = (NodeDiedError, TaskUnschedulableError)
"""What a task raises whose node is lost before it answers."""

ANSWER_SECONDS = 120.0
"""How long a node may take to answer: starting a process there and importing torch takes 10."""

Node = Mapping[str, Any]
Answer = tuple[Node, Any]
"""A node, and what it answered: a value, or the `RayError` that came instead."""


def alive_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of each node that is there."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def on(node: Node) -> dict[str, Any]:
    """Return the options of a task that runs on `node`, however busy that is."""
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return {"num_cpus": 0, "scheduling_strategy": strategy}


def answers(asked: Sequence[tuple[Node, "ray.ObjectRef[Any]"]]) -> list[Answer]:
    """Return what nodes answer to tasks; raises `LaunchError` about those that do not answer."""
    references = [reference for _, reference in asked]
    _, missing = ray.wait(references, num_returns=len(references), timeout=ANSWER_SECONDS)
    silent = [node["NodeManagerAddress"] for node, reference in asked if reference in missing]
    if silent:
        raise LaunchError(
            f"{', '.join(silent)} did not answer within {ANSWER_SECONDS:g} s. Look at the nodes' "
            "logs, or take them out of the cluster."
        )
    return [(node, _value(reference)) for node, reference in asked]


def _value(reference: "ray.ObjectRef[Any]") -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
