"""Which examples a cell trains on, and in which order: functions of its seed alone."""

from collections.abc import Iterator
from itertools import count, repeat

import torch
from torch import Tensor

from workloads.base import Split, Workload
from workloads.recipe import Recipe
from workloads.streams import permutation, stream

__all__ = ["batches", "training_shard"]

GATHER_BYTES = 16 * 2**20
"""Inputs put into an epoch's order at once: one gather serves many batches, in bounded memory."""


def training_shard(workload: Workload, recipe: Recipe, pool: Split) -> Split:
    """Return the cell's shard, with the targets that training sees, on the pool's device.

    The first `train_examples` of the seed's order of the pool, so that shards of one seed are
    nested.
    """
    if not 1 <= recipe.train_examples <= len(pool):
        raise ValueError(
            f"train_examples is {recipe.train_examples}; "
            f"allowed: 1 to {len(pool)}, the pool of workload {workload.name!r}."
        )
    noise = stream(workload.name, recipe.seed, "training_targets")
    targets = workload.training_targets(pool.targets.cpu(), dict(recipe.axes), noise)
    order = permutation(len(pool), workload.name, recipe.seed, "shard")
    rows = torch.from_numpy(order[: recipe.train_examples])
    return Split(
        pool.inputs.index_select(0, rows.to(pool.inputs.device)),
        targets.cpu().index_select(0, rows).to(pool.targets.device),
    )


def batches(workload: Workload, recipe: Recipe, shard: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (inputs, targets) of batch after batch, without end.

    Every epoch is a new order of the shard, cut into full batches; the last partial one is
    dropped. A shard no larger than the batch is the batch.
    """
    batch, examples = recipe.batch_size, len(shard)
    if batch < 1:
        raise ValueError(f"batch_size is {batch}; allowed: an integer from 1.")
    if batch >= examples:
        yield from repeat((shard.inputs, shard.targets))
    example_bytes = shard.inputs[0].numel() * shard.inputs.element_size()
    gathered = batch * max(1, GATHER_BYTES // (batch * max(1, example_bytes)))
    for epoch in count():
        order = permutation(examples, workload.name, recipe.seed, "batches", epoch)
        rows = torch.from_numpy(order[: examples - examples % batch]).to(shard.inputs.device)
        for some in torch.split(rows, gathered):
            inputs, targets = (
                shard.inputs.index_select(0, some),
                shard.targets.index_select(0, some),
            )
            yield from zip(torch.split(inputs, batch), torch.split(targets, batch), strict=True)
