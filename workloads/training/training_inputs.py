"""Inputs as training steps see them: what a workload's `training_inputs` makes of a batch.

Counter-based, like batches: what a step draws depends on seed and step alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workloads.base import DrawWords, Workload
from workloads.recipe import Recipe
from workloads.streams import stream

__all__ = ["TrainingInputs"]


class TrainingInputs:
    """The inputs of the members of a stack; members of one seed draw the same at every step."""

    def __init__(self, workload: Workload, recipes: Sequence[Recipe]) -> None:
        self._workload = workload
        self._changes = type(workload).training_inputs is not Workload.training_inputs
        self._seeds = [recipe.seed for recipe in recipes]
        self._axes = [recipe.axes for recipe in recipes]

    def of_steps(self, inputs: Tensor, first: int, steps: int) -> Tensor:
        """Return what (steps · n · B, …) inputs become: B of each of n members, step after step.

        `first`: number of updates made before the first of the steps. `inputs` are left alone.
        """
        if not self._changes:
            return inputs
        batch = len(inputs) // (steps * len(self._seeds))
        by_axes: dict[Any, list[int]] = {}
        for member, axes in enumerate(self._axes):
            by_axes.setdefault(axes, []).append(member)
        if len(by_axes) == 1:
            draw = self._draw(range(len(self._seeds)), range(first, first + steps), batch)
            return self._workload.training_inputs(inputs, dict(self._axes[0]), draw)
        changed = inputs.clone()
        given, taken = (
            each.view(steps, -1, batch, *inputs.shape[1:]) for each in (inputs, changed)
        )
        for axes, members in by_axes.items():
            draw = self._draw(members, range(first, first + steps), batch)
            own = given[:, members]
            result = self._workload.training_inputs(own.flatten(0, 2), dict(axes), draw)
            taken[:, members] = result.view_as(own)
        return changed

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members alone, in that order."""
        self._seeds = [self._seeds[i] for i in members]
        self._axes = [self._axes[i] for i in members]

    def _draw(self, members: Sequence[int], steps: range, batch: int) -> DrawWords:
        """Return the function that draws words for the examples of some members at some steps."""
        name, seeds = self._workload.name, [self._seeds[i] for i in members]

        def draw(number: int) -> NDArray[np.uint64]:
            own = {
                (seed, step): stream(name, seed, "training_inputs", step).bit_generator.random_raw(
                    batch * number
                )
                for seed in dict.fromkeys(seeds)
                for step in steps
            }
            words = np.concatenate([own[seed, step] for step in steps for seed in seeds])
            return words.reshape(-1, number)

        return draw
