"""Which batch and which learning rate every update of a run has.

A run has one phase, or one more than its batch-size schedule has milestones. Phases are whole
epochs, so that every epoch is cut into batches of one size.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workloads.optimizer import Optimizer
from workloads.recipe import Recipe
from workloads.schedules import CONSTANT, BatchSizeSchedule, LearningRateSchedule

__all__ = ["Phase", "Trajectory", "examples_in_batches", "noise_scale", "steps_of_epochs"]


@dataclass(frozen=True)
class Phase:
    """A stretch of updates with batches of one size."""

    first_step: int
    """Updates made before it."""
    first_epoch: int
    """Epochs before it."""
    batch: int
    """Examples of an update."""
    epoch_steps: int
    """Updates of an epoch: the last partial batch is dropped."""
    rate_factor: float
    """What the learning rate is multiplied by, beside its schedule; 1 unless the batch was
    increased by less than asked."""


@dataclass(frozen=True)
class Trajectory:
    """The phases of one run, and the learning rate along them."""

    phases: tuple[Phase, ...]
    steps: int
    """All updates."""
    epochs: float
    """The steps in epochs; whole where the batch grows."""
    schedule: LearningRateSchedule

    @classmethod
    def of(cls, recipe: Recipe) -> "Trajectory":
        """Return the trajectory of `recipe`.

        Raises `ValueError` for an unknown schedule, a batch without examples, or a number of steps
        that is no whole number of epochs where the batch grows.
        """
        return _trajectory(
            recipe.train_examples,
            recipe.batch_size,
            recipe.steps,
            recipe.learning_rate_schedule,
            recipe.batch_size_schedule,
        )

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """(First step, batch) of every phase: what cells of one stack must share."""
        return tuple((phase.first_step, phase.batch) for phase in self.phases)

    @property
    def constant_rate(self) -> bool:
        """Whether all updates have the cell's own learning rate."""
        return self.schedule.is_constant and all(p.rate_factor == 1.0 for p in self.phases)

    @property
    def examples(self) -> int:
        """Examples in all batches."""
        return self.examples_before(self.steps)

    def phase_at(self, step: int) -> Phase:
        """Return the phase of the update that follows `step` updates; the last has no end."""
        phases = self.phases
        if len(phases) == 1:
            return phases[0]
        return next(phase for phase in reversed(phases) if phase.first_step <= step)

    def phase_end(self, step: int) -> float:
        """Return the updates before the next phase, where update `step` is in this one."""
        return min((p.first_step for p in self.phases if p.first_step > step), default=math.inf)

    def examples_before(self, step: int) -> int:
        """Return the examples in the first `step` batches."""
        starts = [*(phase.first_step for phase in self.phases[1:]), step]
        return sum(
            max(0, min(end, step) - phase.first_step) * phase.batch
            for phase, end in zip(self.phases, starts, strict=True)
        )

    def step_at(self, share: float) -> int:
        """Return the first step after which `share` of training, in (0, 1], is done."""
        if len(self.phases) == 1:
            return math.ceil(self.steps * share)
        epoch = self.epochs * share
        phase = next(phase for phase in reversed(self.phases) if phase.first_epoch < epoch)
        done = phase.first_step + math.ceil((epoch - phase.first_epoch) * phase.epoch_steps)
        return min(done, self.steps)

    def rate_factors(self, first: int, steps: int) -> NDArray[np.float64]:
        """Return what the learning rate is multiplied by in `steps` updates of one phase.

        The first of them follows `first` updates.
        """
        middles = np.arange(first, first + steps) + 0.5
        phase = self.phase_at(first)
        if len(self.phases) == 1:
            shares = middles / self.steps
        else:
            into = (middles - phase.first_step) / phase.epoch_steps
            shares = (phase.first_epoch + into) / self.epochs
        return self.schedule.factors(np.minimum(shares, 1.0)) * phase.rate_factor

    def learning_rate(self, recipe: Recipe, step: int) -> float:
        """Return the learning rate of the update that follows `step` updates."""
        return recipe.learning_rate * float(self.rate_factors(step, 1)[0])


def steps_of_epochs(
    *, train_examples: int, batch_size: int, schedule: BatchSizeSchedule, epochs: int
) -> int:
    """Return the updates of so many epochs, in all phases.

    Milestones are rounded to whole epochs. Raises `ValueError` where two of them become one, or
    one falls on the beginning or the end, since then the batch would not grow as asked.
    """
    milestones = _milestone_epochs(schedule, epochs)
    edges = [0, *milestones, epochs]
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(
            f"the milestones {', '.join(f'{share:g}' for share in schedule.shares)} of {epochs} "
            f"epochs are the epochs {', '.join(map(str, milestones))}"
        )
    return _counted_steps(_lengths(train_examples, batch_size, schedule), milestones, epochs)


def examples_in_batches(
    train_examples: int, batch_size: int, steps: int, batch_size_schedule: str
) -> int:
    """Return the examples in all batches of a run, whatever its rates are."""
    return _trajectory(train_examples, batch_size, steps, CONSTANT, batch_size_schedule).examples


def noise_scale(recipe: Recipe, learning_rate: float, batch: int) -> float | None:
    """Return g = ε/(1 − m) · (N/B − 1), the scale of SGD's noise; None for adaptive optimizers.

    Source: Smith & Le 2018, "A Bayesian perspective on generalization and stochastic gradient
    descent", arXiv:1710.06451, §4, with the effective rate of momentum of its §5.
    """
    if Optimizer(recipe.optimizer).is_adaptive or recipe.momentum >= 1:
        return None
    scale = learning_rate / (1 - recipe.momentum) * (recipe.train_examples / batch - 1)
    return scale if math.isfinite(scale) else None


@lru_cache(maxsize=2**14)
def _trajectory(
    train_examples: int, batch_size: int, steps: int, rate_schedule: str, batch_schedule: str
) -> Trajectory:
    schedule = BatchSizeSchedule.parse(batch_schedule)
    rates = LearningRateSchedule.parse(rate_schedule)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; allowed: an integer from 1.")
    batch = min(batch_size, train_examples)
    if schedule.is_constant:
        epoch_steps = train_examples // batch
        phase = Phase(0, 0, batch, epoch_steps, 1.0)
        return Trajectory((phase,), steps, steps / epoch_steps, rates)
    lengths = _lengths(train_examples, batch, schedule)
    epochs = _epochs_of_steps(lengths, schedule, steps)
    first_epochs = [0, *_milestone_epochs(schedule, epochs)]
    phases: list[Phase] = []
    for first_epoch, (own, factor), epoch_steps in zip(
        first_epochs, schedule.phases(batch, train_examples), lengths, strict=True
    ):
        before = phases[-1] if phases else Phase(0, 0, own, epoch_steps, factor)
        first_step = before.first_step + (first_epoch - before.first_epoch) * before.epoch_steps
        phases.append(Phase(first_step, first_epoch, own, epoch_steps, factor))
    return Trajectory(tuple(phases), steps, epochs, rates)


def _lengths(train_examples: int, batch_size: int, schedule: BatchSizeSchedule) -> list[int]:
    """Return the updates of an epoch of every phase."""
    batch = min(batch_size, train_examples)
    return [train_examples // own for own, _ in schedule.phases(batch, train_examples)]


def _milestone_epochs(schedule: BatchSizeSchedule, epochs: int) -> list[int]:
    return [math.floor(share * epochs + 0.5) for share in schedule.shares]


def _counted_steps(lengths: Sequence[int], milestones: Sequence[int], epochs: int) -> int:
    edges = [0, *milestones, epochs]
    own = itertools.pairwise(edges)
    return sum((b - a) * length for (a, b), length in zip(own, lengths, strict=True))


def _epochs_of_steps(lengths: Sequence[int], schedule: BatchSizeSchedule, steps: int) -> int:
    """Return the number of epochs that has so many steps: there is one at most.

    One epoch more moves every milestone by 0 or 1. Phases therefore gain and lose an epoch in turn,
    the first and the last of these gaining; as later epochs have no more steps, steps grow.
    """
    least, most = 1, max(1, steps)
    while least < most:
        middle = (least + most) // 2
        if _counted_steps(lengths, _milestone_epochs(schedule, middle), middle) < steps:
            least = middle + 1
        else:
            most = middle
    if _counted_steps(lengths, _milestone_epochs(schedule, least), least) != steps:
        raise ValueError(
            f"steps is {steps}; with batch_size_schedule {schedule.wording!r}, allowed: the steps "
            "of a whole number of epochs."
        )
    return least
