"""The examples of a stack: which of the pool each member sees, and when."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workloads.base import Split, Workload
from workloads.recipe import Recipe
from workloads.streams import stream
from workloads.training.sampling import BatchOrder, shard_rows
from workloads.training.scoring import EVALUATION_CHUNK
from workloads.training.stepper import by_member
from workloads.training.training_inputs import TrainingInputs
from workloads.training.trajectory import Trajectory

__all__ = ["Stock"]

GATHERED_ELEMENTS = 2**18
"""Numbers of inputs put into batch order at once (1 MB): one gather serves many small steps."""


class Stock:
    """The members' shards and batches, as places in the pool; its inputs are copied for no member.

    Members of one seed and shard see the same batches, which are drawn once.
    """

    def __init__(self, workload: Workload, recipes: Sequence[Recipe], pool: Split) -> None:
        self._pool = pool
        self._device = pool.inputs.device
        self._examples = [recipe.train_examples for recipe in recipes]
        self._trajectory = Trajectory.of(recipes[0])
        self._training_inputs = TrainingInputs(workload, recipes)
        self._example_elements = max(1, pool.inputs[0].numel())
        orders: dict[tuple[int, int], int] = {}
        noises: dict[tuple[Any, ...], int] = {}
        self._orders: list[BatchOrder] = []
        self._rows: list[NDArray[np.int64]] = []
        targets: list[Tensor] = []
        starts = [0]
        order_of, start_of = [], []
        for recipe in recipes:
            key = recipe.seed, recipe.train_examples
            if key not in orders:
                orders[key] = len(self._orders)
                self._orders.append(BatchOrder(workload, recipe))
                self._rows.append(shard_rows(workload, recipe, pool))
            noise = (*key, recipe.axes)
            if noise not in noises:
                noises[noise] = len(targets)
                rows = torch.from_numpy(self._rows[orders[key]])
                seen = workload.training_targets(
                    pool.targets.cpu(),
                    dict(recipe.axes),
                    stream(workload.name, recipe.seed, "training_targets"),
                )
                targets.append(seen.cpu().index_select(0, rows))
                starts.append(starts[-1] + len(rows))
            order_of.append(orders[key])
            start_of.append(starts[noises[noise]])
        self._targets = torch.cat(targets).to(self._device)
        self._order_of, self._start_of = np.array(order_of), np.array(start_of)

    def batches(self, first: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets) of `steps` steps from `first`: each (n · B, …), by member.

        All of one phase of the trajectory, whose batches the members share.
        """
        used = np.unique(self._order_of)
        member = np.searchsorted(used, self._order_of)
        positions = np.stack([self._orders[o].positions(first, steps) for o in used], axis=1)
        rows = np.stack([self._rows[o][positions[:, u]] for u, o in enumerate(used)], axis=1)
        rows = rows[:, member].reshape(-1)
        targets = (positions[:, member] + self._start_of[:, None]).reshape(-1)
        step = len(self._order_of) * self._trajectory.phase_at(first).batch
        at_once = step * max(1, GATHERED_ELEMENTS // (step * self._example_elements))
        for start in range(0, len(rows), at_once):
            stretch = slice(start, start + at_once)
            gathered = self._gathered(self._pool.inputs, rows[stretch])
            inputs = self._training_inputs.of_steps(
                gathered, first + start // step, len(gathered) // step
            )
            yield from zip(
                torch.split(inputs, step),
                torch.split(self._gathered(self._targets, targets[stretch]), step),
                strict=True,
            )

    def shards(
        self, members: Sequence[int], most: int | None = None
    ) -> Iterator[tuple[list[int], int]]:
        """Yield members of one size of shard together, with that size (at most `most`)."""
        sizes: dict[int, list[int]] = {}
        for i in members:
            size = self._examples[i] if most is None else min(most, self._examples[i])
            sizes.setdefault(size, []).append(i)
        for size, some in sizes.items():
            yield some, size

    def shard_chunks(self, members: slice, examples: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (k, c, …) inputs and targets of the heads of k members' shards."""
        for first in range(0, examples, EVALUATION_CHUNK):
            places = np.arange(first, min(first + EVALUATION_CHUNK, examples))
            rows = np.stack([self._rows[o][places] for o in self._order_of[members]])
            inputs = self._gathered(self._pool.inputs, rows)
            targets = self._gathered(self._targets, places + self._start_of[members][:, None])
            yield by_member(inputs, len(rows)), by_member(targets, len(rows))

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members alone, in that order."""
        self._training_inputs.keep(members)
        self._examples = [self._examples[i] for i in members]
        self._order_of, self._start_of = self._order_of[members], self._start_of[members]

    def _gathered(self, source: Tensor, rows: NDArray[np.int64]) -> Tensor:
        return source.index_select(0, torch.from_numpy(rows.ravel()).to(self._device))
