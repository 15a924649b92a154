"""The nodes of the Ray cluster that this process has joined, and tasks that ask one of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["NODE_LOST", "Answer", "alive_nodes", "answers", "on", "why_none"]

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
    """Return what nodes answer to tasks, or why they do not."""
    references = [reference for _, reference in asked]
    ready, _ = ray.wait(references, num_returns=len(references), timeout=ANSWER_SECONDS)
    return [
        (node, _value(reference) if reference in ready else GetTimeoutError())
        for node, reference in asked
    ]


def why_none(error: RayError) -> str:
    """Return the sentence of why a node has not answered."""
    if isinstance(error, NODE_LOST):
        return "it was lost before it answered."
    if isinstance(error, GetTimeoutError):
        return (
            f"it did not answer within {ANSWER_SECONDS:g} s. Look at its logs, or take it out of "
            "the cluster."
        )
    cause = getattr(error, "cause", None) or error
    last = str(cause).strip().splitlines()[-1]
    return f"nothing of ours runs there: {type(cause).__name__}: {last}"


def _value(reference: "ray.ObjectRef[Any]") -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        return error
