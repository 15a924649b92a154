"""Training of a stack in tests: its path, its results, its state at pauses."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from workloads.base import Workload
from workloads.outcome import TrainingResult
from workloads.recipe import Recipe
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.lockstep import Lockstep
from workloads.training.trajectory import Trajectory


def path_of(workload: Workload, recipe: Recipe) -> Arithmetic:
    """Return the path that cells of the recipe's shape take on the CPU."""
    first, *later = (phase.batch for phase in Trajectory.of(recipe).phases)
    return choose_arithmetic(
        workload,
        recipe.model_size,
        recipe.axes,
        first,
        optimizer=recipe.optimizer,
        later_batches=tuple(later),
    ).arithmetic


def timeless(result: TrainingResult) -> TrainingResult:
    """Return `result` without its time, so that results can be compared."""
    return replace(result, wall_seconds=0.0)


def stack(
    workload: Workload, recipes: Sequence[Recipe], arithmetic: Arithmetic | None = None
) -> Lockstep:
    """Return `recipes`, all of one shape, ready to be trained together."""
    return Lockstep(workload, recipes, arithmetic or path_of(workload, recipes[0]), "cpu")


def results_of(lockstep: Lockstep, **run: Any) -> dict[int, TrainingResult]:
    """Return the results, without their times, by position."""
    return {place: timeless(result) for place, result in lockstep.run(**run)}


def trained(
    workload: Workload, recipes: Sequence[Recipe], arithmetic: Arithmetic | None = None
) -> list[TrainingResult]:
    """Return the results of `recipes` trained together, without their times."""
    results = results_of(stack(workload, recipes, arithmetic))
    assert sorted(results) == list(range(len(recipes)))
    return [results[place] for place in range(len(recipes))]


def trained_alone(
    workload: Workload, recipes: Sequence[Recipe], arithmetic: Arithmetic | None = None
) -> list[TrainingResult]:
    """Return the results of `recipes`, each a stack of one, without their times."""
    return [trained(workload, [recipe], arithmetic)[0] for recipe in recipes]


def paused_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stretches one step long, whatever the machine's speed."""
    monkeypatch.setattr("workloads.training.lockstep.STRETCH_EXAMPLES", 1)


def differences(
    one: Sequence[TrainingResult], other: Sequence[TrainingResult]
) -> Iterator[tuple[int, str, Any, Any]]:
    """Yield (member, field, one's value, the other's) wherever results are not equal."""
    for member, (mine, yours) in enumerate(zip(one, other, strict=True)):
        for name, value in vars(mine).items():
            # repr: a NaN equals itself, 0.0 is not -0.0, and floats are shown to the last bit.
            if repr(value) != repr(getattr(yours, name)):
                yield member, name, value, getattr(yours, name)


def assert_equal(one: Sequence[TrainingResult], other: Sequence[TrainingResult]) -> None:
    """Assert that results are the same to the last bit."""
    assert not list(differences(one, other))


def only(values: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return `values` without the padding beyond `shape`; the padding must be zeros."""
    own = tuple(slice(size) for size in shape)
    rest = values.clone()
    rest[own] = 0
    assert not rest.any()
    return values[own]
