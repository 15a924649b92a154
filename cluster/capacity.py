"""What a cluster has against what a study needs, compared before anything starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = [
    "DRIVER_CPUS",
    "NodeResources",
    "Requirement",
    "TrialResources",
    "accelerator_resource",
    "fit_together",
    "names_accelerator",
    "node_of",
    "shortfalls",
    "slots_of",
]

MOST = 10**9
"""Workers that any node holds, also one of which no limit is known."""

ACCELERATOR = "accelerator_type:"
"""How Ray begins the name of the resource that stands for a model of GPU."""

DRIVER_CPUS = 1.0
"""CPUs of the trial itself where several workers train its cell: it waits for them."""


@dataclass(frozen=True, kw_only=True)
class NodeResources:
    """What one node offers."""

    name: str
    """Address or host name."""
    cpus: float
    """CPUs that may be scheduled."""
    gpus: float
    """GPUs that may be scheduled."""
    named: Mapping[str, float] = field(default_factory=dict)
    """Whatever else may be scheduled, by Ray's names."""


@dataclass(frozen=True, kw_only=True)
class TrialResources:
    """What one trial holds: one worker, or several that train one cell together."""

    cpus: float
    """CPUs of each worker, on one node."""
    gpus: float
    """GPUs of each worker, on the same node."""
    workers: int = 1
    """How many they are; they may be on several nodes."""
    named: tuple[tuple[str, float], ...] = ()
    """Whatever else each worker holds on its node, by Ray's names, sorted."""

    def bundle(self) -> dict[str, float]:
        """Return what Ray is to reserve for one worker."""
        gpus = {"GPU": self.gpus} if self.gpus else {}
        return {"CPU": self.cpus, **gpus, **dict(self.named)}

    def __str__(self) -> str:
        one = f"{_number(self.cpus, 'CPU')} and {_number(self.gpus, 'GPU')}"
        one += "".join(f", {_named(name, amount)}" for name, amount in self.named)
        return one if self.workers == 1 else f"{self.workers} workers of {one} each"


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What one kind of trial holds."""

    purpose: str
    """Whose need it is, as in 'model_size 1024 (11.2M parameters)'."""
    resources: TrialResources
    """Of one trial."""


def node_of(name: str, resources: Mapping[str, float]) -> NodeResources:
    """Return a node that offers `resources`, as Ray lists them."""
    others = {each: held for each, held in resources.items() if each not in ("CPU", "GPU")}
    return NodeResources(
        name=name,
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        named=others,
    )


def accelerator_resource(accelerator_type: str) -> str:
    """Return Ray's name of the resource that nodes with GPUs of this model have one of."""
    return f"{ACCELERATOR}{accelerator_type}"


def names_accelerator(resource: str) -> bool:
    """Return whether a resource of this name stands for a model of GPU."""
    return resource.startswith(ACCELERATOR)


def shortfalls(requirements: Sequence[Requirement], nodes: Sequence[NodeResources]) -> list[str]:
    """Return one sentence for each requirement that the nodes cannot hold; empty when all fit."""
    return [
        f"{need.purpose} asks for {need.resources}{_where(need.resources)}, but "
        f"{_there_is(need.resources, nodes)}. Lower 'resources' in the study file, or use a larger "
        "cluster."
        for need in requirements
        if not slots_of(need.resources, nodes)
    ]


def slots_of(resources: TrialResources, nodes: Sequence[NodeResources]) -> int:
    """Return how many trials that hold `resources` run at once on the nodes."""
    workers = sum(_workers(resources, node) for node in nodes)
    if resources.workers == 1:
        return workers
    trial = DRIVER_CPUS + resources.workers * resources.cpus
    by_cpus = math.floor(min(sum(node.cpus for node in nodes) / trial, MOST))
    return min(workers // resources.workers, by_cpus)


def fit_together(trials: Sequence[TrialResources], nodes: Sequence[NodeResources]) -> bool:
    """Return whether so many trials, each of several workers, find room beside each other.

    Those that ask for most are placed first, workers on nodes that have the least to spare, as Ray
    does; the trials themselves take a CPU each of what is left.
    """
    free = list(nodes)
    for trial in sorted(trials, key=lambda each: (each.gpus, each.cpus), reverse=True):
        free.sort(key=lambda node: (node.gpus, len(node.named), node.cpus))
        left = trial.workers
        for i, node in enumerate(free):
            here = min(left, _workers(trial, node))
            free[i] = _less(node, trial, here)
            left -= here
        if left:
            return False
    spare = sum(math.floor(min(node.cpus, MOST) / DRIVER_CPUS) for node in free)
    return spare >= len(trials)


def _less(node: NodeResources, trial: TrialResources, workers: int) -> NodeResources:
    """Return what is left of `node` beside so many workers of `trial`."""
    shared = math.floor(1 / trial.gpus) if 0 < trial.gpus < 1 else 0
    named = {name: amount * workers for name, amount in trial.named}
    return replace(
        node,
        cpus=node.cpus - trial.cpus * workers,
        gpus=node.gpus - (math.ceil(workers / shared) if shared else trial.gpus * workers),
        named={name: held - named.get(name, 0.0) for name, held in node.named.items()},
    )


def _workers(resources: TrialResources, node: NodeResources) -> int:
    by_cpus = node.cpus / resources.cpus
    if resources.gpus == 0:
        by_gpus = math.inf
    elif resources.gpus < 1:  # a share of a device never spans two
        by_gpus = math.floor(node.gpus) * math.floor(1 / resources.gpus)
    else:
        by_gpus = node.gpus / resources.gpus
    by_names = (node.named.get(name, 0.0) / amount for name, amount in resources.named)
    return math.floor(min(by_cpus, by_gpus, *by_names, MOST))


def _where(resources: TrialResources) -> str:
    if resources.workers == 1:
        return " on one node"
    return f", and {_number(DRIVER_CPUS, 'CPU')} beside them"


def _there_is(resources: TrialResources, nodes: Sequence[NodeResources]) -> str:
    if not nodes:
        return "the cluster has no node"
    for name, amount in resources.named:
        having = [node for node in nodes if node.named.get(name, 0.0) >= amount]
        if not having:
            return f"no node has {_named(name, amount)}{_other_models(name, nodes)}"
        nodes = having
    if resources.workers == 1:
        node = max(nodes, key=lambda node: (node.gpus, node.cpus))
        return f"the largest of {len(nodes)} has {TrialResources(cpus=node.cpus, gpus=node.gpus)}"
    all_cpus, all_gpus = (sum(getattr(node, name) for node in nodes) for name in ("cpus", "gpus"))
    held = f"{_number(all_cpus, 'CPU')} and {_number(all_gpus, 'GPU')}"
    return f"all {len(nodes)} nodes together have {held}"


def _other_models(name: str, nodes: Sequence[NodeResources]) -> str:
    """Return what stands beside the model of GPU that is missed; nothing for other resources."""
    models = {each for node in nodes for each in node.named if names_accelerator(each)}
    if not names_accelerator(name) or not models:
        return ""
    return f", only {', '.join(sorted(each.removeprefix(ACCELERATOR) for each in models))}"


def _named(name: str, amount: float) -> str:
    if names_accelerator(name):
        return f"accelerator type {name.removeprefix(ACCELERATOR)}"
    return f"{amount:g} {name}"


def _number(number: float, what: str) -> str:
    return f"{number:g} {what}{'s' * (number != 1)}"
