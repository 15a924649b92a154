"""Workloads that train their cells by a loop of their own, in any framework and from any source.

For what a `Workload` cannot say: another library's trainer, an update rule that is not in
`Optimizer`, a stream that is never whole in memory. What a study varies keeps its meaning: shard,
batches, learning rates and looks are handed to the loop, which follows them.

    class Mine(SelfTrained):
        ...
        def train(self, run):
            model = ...
            for batch in run.batches():
                loss = model.update(*self._read(batch.examples), rate=batch.learning_rate)
                if batch.step + 1 in run.looks:
                    yield Look(train_loss=..., validation=Score(loss=..., error=...))
            return Finals(train=Score(...), test=Score(...))
"""

from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from workloads.axis import AxisValue, AxisValues
from workloads.base import BaseWorkload, ModelCost, SetSizes
from workloads.outcome import Score
from workloads.recipe import Recipe
from workloads.training.evaluation import look_steps
from workloads.training.sampling import BatchOrder, first_examples
from workloads.training.trajectory import Trajectory

__all__ = ["Batch", "CellRun", "Finals", "Look", "SelfTrained"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one update sees."""

    step: int
    """Updates made before."""
    examples: NDArray[np.int64]
    """(B,) numbers of its examples in the pool."""
    learning_rate: float
    """Of this update, by the learning-rate schedule."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a loop says after each step of `CellRun.looks`."""

    train_loss: float
    """Mean loss of the examples in batches since the look before, each before its update."""
    validation: Score
    """Means over the whole validation set; at the last look, with metrics where there are any."""


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What a loop returns after its last look."""

    train: Score
    """Means over the whole shard."""
    test: Score
    """Means over the whole test set, with the metrics of the last look."""


class CellRun:
    """One cell to train: its recipe, and what follows from it."""

    def __init__(
        self, workload: "SelfTrained", recipe: Recipe, device: torch.device | str = "cpu"
    ) -> None:
        """Raises `ValueError` where the pool has fewer examples than the recipe's shard."""
        self.recipe = recipe
        self.device = torch.device(device)
        """Where to train."""
        self._workload = workload
        self._shard = first_examples(
            workload.name, recipe, workload.sizes(dict(recipe.axes)).pool, groups=None
        )
        self.shard = self._shard.copy()  # the loop's, to sort as it likes
        """(N,) numbers, in the pool, of the examples to train on: those of a smaller shard of the
        same seed are the first of them. A stream that can only be read from its beginning takes
        its first N examples instead: shards are nested too, but the same for every seed."""
        self._trajectory = Trajectory.of(recipe)
        self.looks = look_steps(recipe.evaluation_schedule, self._trajectory)
        """Updates after which to yield a `Look`, ascending; the last is `recipe.steps`."""

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of all updates: the examples of `shard`, every epoch in a new order.

        The last partial batch of an epoch is dropped.
        """
        order = BatchOrder(self._workload, self.recipe)
        for step in range(self.recipe.steps):
            yield Batch(
                step=step,
                examples=self._shard[order.positions(step, 1)[0]],
                learning_rate=self._trajectory.learning_rate(self.recipe, step),
            )


class SelfTrained(BaseWorkload):
    """A workload with a training loop of its own.

    Its cells train one at a time, and from their beginning where a worker was killed: what is
    finished is never lost, what is under way is. Methods must not use or change global state;
    torch's global generators alone are forked and seeded for each cell.
    `workloads.testing.SelfTrainedConformance` checks that and more.
    """

    @abstractmethod
    def sizes(self, axes: AxisValues) -> SetSizes:
        """Return the sizes of the three sets. `axes`: a value for every axis in `self.axes`."""

    @abstractmethod
    def cost(self, size: AxisValue, axes: AxisValues) -> ModelCost:
        """Return what a model of `size` (a value of `model_size`) costs.

        Parameters decide on resources, operations on the time that is forecast.
        """

    @abstractmethod
    def train(self, run: CellRun) -> Generator[Look | None, None, Finals]:
        """Make the updates of `run.batches()`, yield a `Look` at each of `run.looks`, return.

        `yield None` at any other time says that the loop is alive: a worker that says nothing for
        half an hour is ended. A loss or an error that is not finite ends the cell as diverged.
        What is raised makes the cell failed. A recipe that the loop cannot follow, such as an
        `optimizer` that it does not know, it refuses by a `ValueError` or `NotImplementedError`.
        """
