"""What a cluster has against what a study needs, compared before anything starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["NodeResources", "Requirement", "shortfalls", "slots_of"]


@dataclass(frozen=True, kw_only=True)
class NodeResources:
    """What one node offers."""

    name: str
    """Address or host name."""
    cpus: float
    """CPUs that may be scheduled."""
    gpus: float
    """GPUs that may be scheduled."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What one kind of trial holds on a single node."""

    purpose: str
    """Whose need it is, as in 'model_size 1024 (11.2M parameters)'."""
    cpus: float
    """CPUs of one trial."""
    gpus: float
    """GPUs of one trial."""


def shortfalls(requirements: Sequence[Requirement], nodes: Sequence[NodeResources]) -> list[str]:
    """Return one sentence for each requirement that fits on no node; empty when all fit."""
    return [
        f"{need.purpose} asks for {_resources(need.cpus, need.gpus)} on one node, but "
        f"{_largest(nodes)}. Lower 'resources' in the study file, or use a larger cluster."
        for need in requirements
        if not any(need.cpus <= node.cpus and need.gpus <= node.gpus for node in nodes)
    ]


def slots_of(cpus: float, gpus: float, nodes: Sequence[NodeResources]) -> int:
    """Return how many trials, each of so many CPUs and GPUs on one node, run at once."""
    return sum(_slots(cpus, gpus, node) for node in nodes)


def _slots(cpus: float, gpus: float, node: NodeResources) -> int:
    by_cpus = node.cpus / cpus
    if gpus == 0:
        by_gpus = math.inf
    elif gpus < 1:  # a share of a device never spans two
        by_gpus = math.floor(node.gpus) * math.floor(1 / gpus)
    else:
        by_gpus = node.gpus / gpus
    return math.floor(min(by_cpus, by_gpus))


def _largest(nodes: Sequence[NodeResources]) -> str:
    if not nodes:
        return "the cluster has no node"
    node = max(nodes, key=lambda node: (node.gpus, node.cpus))
    return f"the largest of {len(nodes)} has {_resources(node.cpus, node.gpus)}"


def _resources(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"
