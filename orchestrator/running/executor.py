"""What an executor promises: to train packs somewhere and say what became of them.

`InlineExecutor` trains in this process, for debugging; `RayExecutor` (in `tune`) on a cluster.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

import torch
from typing_extensions import override

from cluster.capacity import NodeResources, TrialResources, slots_of
from orchestrator.packing import Pack
from orchestrator.running.execution import Assignment, train_pack
from orchestrator.running.pack_rows import PackProgress
from orchestrator.storage.store import Store

__all__ = ["Executor", "InlineExecutor", "PackEnd", "PackFate"]


class PackEnd(StrEnum):
    """How a pack ended where it did not end well."""

    DIED = "the worker process died under it, twice"
    FAULT = "an exception outside its cells ended it, twice"
    SUSPECTED = "memory ran out on a node while it was under way"
    ROUND_ENDED = "the round ended before it did"


@dataclass(frozen=True)
class PackFate:
    """How a pack ended where it did not end well, and why."""

    end: PackEnd
    """What happened."""
    reason: str
    """What is known of the cause."""


class Executor(AbstractContextManager["Executor"]):
    """A place where packs are trained; a context manager that holds its resources."""

    @abstractmethod
    def nodes(self) -> Sequence[NodeResources]:
        """Return what each node of the cluster has."""

    def slots(self, resources: TrialResources) -> int:
        """Return how many packs that hold `resources` train at once; at least one."""
        return max(1, slots_of(resources, self.nodes()))

    @abstractmethod
    def faults(self, store: Store) -> Sequence[str]:
        """Return why nodes are unfit, a sentence each that begins with the node.

        They do not see in `store` what this driver, its holder, wrote there, or have other versions
        than the driver. One that is lost before it answers is not among them.
        """

    @abstractmethod
    def train(
        self,
        packs: Sequence[Pack],
        assignment: Assignment,
        report: Callable[[PackProgress], None],
    ) -> Mapping[str, PackFate]:
        """Train `packs`, calling `report` for what became durable or failed.

        Returns the fate, by pack_id, of the packs that did not end well.
        """


class InlineExecutor(Executor):
    """Trains one pack after another in this process: slow, but a debugger can step through it."""

    @override
    def __exit__(self, *_: object) -> None:
        # Nothing is held.
        return None

    @override
    def nodes(self) -> Sequence[NodeResources]:
        # This machine holds whatever is asked of it: nothing is scheduled.
        return [NodeResources(name="inline", cpus=float("inf"), gpus=torch.cuda.device_count())]

    @override
    def slots(self, resources: TrialResources) -> int:
        return 1

    @override
    def faults(self, store: Store) -> Sequence[str]:
        return []

    @override
    def train(
        self,
        packs: Sequence[Pack],
        assignment: Assignment,
        report: Callable[[PackProgress], None],
    ) -> Mapping[str, PackFate]:
        for pack in packs:
            device = torch.device("cuda" if pack.resources.gpus > 0 else "cpu")
            with assignment.store.work(f"inline {pack.pack_id}"):
                train_pack(pack, assignment, device=device, report=report)
        return {}
