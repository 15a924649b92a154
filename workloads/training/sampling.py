"""Which examples a cell trains on, and in which order: functions of its seed alone.

Counter-based: any stretch of steps can be drawn without those before it, by whoever needs it, and
in bulk. Drawing one epoch at a time would cost a small cell more than its training.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workloads.base import BaseWorkload, Split, Workload
from workloads.recipe import Recipe
from workloads.streams import permutation, permutations, stream
from workloads.training.training_inputs import TrainingInputs
from workloads.training.trajectory import Phase, Trajectory

__all__ = [
    "BatchOrder",
    "batches",
    "effective_batch",
    "first_examples",
    "shard_rows",
    "training_shard",
]

DRAWN_AT_ONCE = 2**16
"""Examples put into order at once (0.5 MB): many epochs of a small shard, one of a large one."""


def training_shard(workload: Workload, recipe: Recipe, pool: Split) -> Split:
    """Return the cell's shard, with the targets that training sees, on the pool's device.

    The first `train_examples` of the seed's order of the pool, so that shards of one seed are
    nested; in whole groups where the pool has them. Raises `ValueError` where the pool has fewer.
    """
    rows = torch.from_numpy(shard_rows(workload, recipe, pool))
    noise = stream(workload.name, recipe.seed, "training_targets")
    targets = workload.training_targets(pool.targets.cpu(), dict(recipe.axes), noise)
    return Split(
        pool.inputs.index_select(0, rows.to(pool.inputs.device)),
        targets.cpu().index_select(0, rows).to(pool.targets.device),
    )


def shard_rows(workload: Workload, recipe: Recipe, pool: Split) -> NDArray[np.int64]:
    """Return the (N,) places in the pool of the N examples of the cell's shard."""
    groups = None if pool.groups is None else pool.groups.numpy()
    return first_examples(workload.name, recipe, len(pool), groups)


def first_examples(
    name: str, recipe: Recipe, pool_examples: int, groups: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the first N of the order in which the seed of `recipe` takes a pool's examples.

    `name`: the workload's. `groups`: (pool_examples,) as `Split.groups`.
    """
    if not 1 <= recipe.train_examples <= pool_examples:
        raise ValueError(
            f"train_examples is {recipe.train_examples}; "
            f"allowed: 1 to {pool_examples}, the pool of workload {name!r}."
        )
    if groups is None:
        order = _pool_order(name, recipe.seed, pool_examples)
    else:
        turn = permutation(int(groups[-1]) + 1, name, recipe.seed, "shard")
        order = np.argsort(np.argsort(turn)[groups], kind="stable")
    return order[: recipe.train_examples]


def effective_batch(recipe: Recipe) -> int:
    """Return the examples of the first step: a shard smaller than the batch is the batch."""
    if recipe.batch_size < 1:
        raise ValueError(f"batch_size is {recipe.batch_size}; allowed: an integer from 1.")
    return min(recipe.batch_size, recipe.train_examples)


class BatchOrder:
    """The order in which one cell sees its shard: the same for all cells of its seed and shard.

    Every epoch is a new order of the shard, cut into full batches; the last partial one is
    dropped. The order of an epoch does not depend on the batch. A shard no larger than the batch is
    the batch, in its own order.
    """

    def __init__(self, workload: BaseWorkload, recipe: Recipe) -> None:
        self._name, self._seed = workload.name, recipe.seed
        self._examples, self._trajectory = recipe.train_examples, Trajectory.of(recipe)
        self._epochs = math.ceil(self._trajectory.epochs)
        self._drawn = np.empty((0, 0), np.int64)
        self._first_drawn = 0

    def positions(self, first: int, steps: int) -> NDArray[np.int64]:
        """Return (steps, batch) places in the shard: the batches of `steps` steps from `first`.

        All of one phase of the trajectory.
        """
        phase = self._trajectory.phase_at(first)
        if phase.batch == self._examples:
            return np.broadcast_to(np.arange(self._examples), (steps, self._examples))
        stretches = []
        while steps:
            ahead = first - self._first_drawn
            if not 0 <= ahead < len(self._drawn) or self._drawn.shape[1] != phase.batch:
                self._draw(phase, first)
                ahead = first - self._first_drawn
            stretches.append(self._drawn[ahead : ahead + steps])
            first += len(stretches[-1])
            steps -= len(stretches[-1])
        return stretches[0] if len(stretches) == 1 else np.concatenate(stretches)

    def _draw(self, phase: Phase, step: int) -> None:
        into = (step - phase.first_step) // phase.epoch_steps
        epoch = phase.first_epoch + into
        epochs = max(1, min(DRAWN_AT_ONCE // self._examples, self._epochs - epoch))
        orders = permutations(self._examples, epoch, epochs, self._name, self._seed, "batches")
        full = phase.epoch_steps * phase.batch
        self._drawn = orders[:, :full].reshape(-1, phase.batch)
        self._first_drawn = phase.first_step + into * phase.epoch_steps


def batches(workload: Workload, recipe: Recipe, shard: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, targets) of batch after batch, without end: for a plain training loop."""
    order, seen = BatchOrder(workload, recipe), TrainingInputs(workload, [recipe])
    for step in count():
        rows = torch.from_numpy(order.positions(step, 1)[0]).to(shard.inputs.device)
        inputs = seen.of_steps(shard.inputs.index_select(0, rows), step, 1)
        yield inputs, shard.targets.index_select(0, rows)


@lru_cache(maxsize=64)
def _pool_order(workload_name: str, seed: int, pool_examples: int) -> NDArray[np.int64]:
    return permutation(pool_examples, workload_name, seed, "shard")
