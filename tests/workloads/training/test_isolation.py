"""What goes wrong with one member is that member's own."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.workloads.training import models
from tests.workloads.training.models import DIGITS
from tests.workloads.training.stacks import (
    assert_equal,
    path_of,
    results_of,
    stack,
    trained,
    trained_alone,
)
from workloads.base import Workload
from workloads.recipe import Recipe
from workloads.training.lockstep import CHECK_STEPS

LONG = replace(DIGITS, model_size=4, steps=300, evaluation_schedule="geometric:2")
"""Longer than `CHECK_STEPS`, and first looked at before it: at 213."""

HEALTHY = [replace(LONG, seed=seed) for seed in range(4)]

STACKED = [
    models.Perceptron,
    models.GeluPerceptron,
    models.Convolutions,
    models.Normed,
    models.RowsTransformer,
]


def with_outlier(cells: list[Recipe], place: int, outlier: Recipe) -> list[Recipe]:
    return [*cells[:place], outlier, *cells[place:]]


@pytest.mark.parametrize("kind", STACKED)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_member_whose_rate_overflows_leaves_the_others_as_without_it(
    kind: type[Workload], place: int
):
    # At a rate of 0.1 one of the transformers diverges by itself.
    cells = [replace(cell, steps=60, learning_rate=0.05) for cell in HEALTHY]
    outlier = replace(cells[0], learning_rate=1e30, weight_decay=0.5, momentum=0.9)
    results = trained(kind(), with_outlier(cells, place, outlier))
    lost = results.pop(place)
    assert lost.status == "diverged"
    assert [result.status for result in results] == ["completed"] * 4
    assert_equal(results, trained(kind(), cells))


class PoisonedTargets(models.Perceptron):
    """The loss is NaN on class 10, which takes the place of class 3 where there is label noise."""

    name = "poisoned targets"

    def training_targets(self, targets, axes, stream):
        return torch.where(targets == 3, 10, targets) if axes["label_noise"] else targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        poison = torch.where(targets == 10, math.nan, 0.0)
        return super().loss(outputs, targets.clamp(max=9)) + poison


class PoisonedConvolutions(PoisonedTargets, models.Convolutions):
    name = "poisoned convolutions"


class PoisonedModules(PoisonedTargets, models.Normed):
    name = "poisoned modules"


@pytest.mark.parametrize("kind", [PoisonedTargets, PoisonedConvolutions, PoisonedModules])
def test_a_loss_that_is_nan_stays_in_its_member_which_leaves_at_its_next_pause(
    kind: type[Workload],
):
    poisoned = replace(LONG, axes=(("label_noise", 0.5),), evaluation_schedule="geometric:1")
    results = trained(kind(), with_outlier(HEALTHY, 1, poisoned))
    lost = results.pop(1)
    assert lost.status == "diverged"
    assert lost.steps == CHECK_STEPS
    assert lost.curve == ()
    assert_equal(results, trained(kind(), HEALTHY))


def test_a_member_that_diverges_leaves_at_a_pause_of_its_own_and_not_at_anothers():
    # The neighbour is looked at from step 1 on; the diverging member's only pause is the check.
    lost = replace(LONG, learning_rate=1e30, evaluation_schedule="geometric:1")
    neighbour = replace(LONG, evaluation_schedule="geometric:100")
    results = trained(models.Perceptron(), [neighbour, lost])
    assert results[1].steps == CHECK_STEPS
    assert_equal(results, trained_alone(models.Perceptron(), [neighbour, lost]))


def test_a_diverged_member_is_in_no_later_state_of_the_stack():
    lost = replace(LONG, learning_rate=1e30, evaluation_schedule="geometric:1")
    lockstep = stack(models.Perceptron(), [*HEALTHY, lost])
    seen: dict[int, list[int]] = {}
    results_of(lockstep, pause=lambda: seen.update({lockstep.step: sorted(lockstep.members)}))
    assert all((4 in members) == (step < CHECK_STEPS) for step, members in seen.items())
    assert max(seen) >= CHECK_STEPS


def test_a_weight_that_overflowed_does_not_meet_a_neighbours_decay():
    # Tokens that no example has keep the stack finite while others overflow: λ = 0 must add
    # nothing to them, not 0 · ∞ = NaN. This cell of one example runs on for all its steps.
    cells = [
        replace(DIGITS, model_size=3, batch_size=1, learning_rate=1e30, momentum=0.9, steps=300),
        replace(DIGITS, model_size=3, batch_size=1, learning_rate=300, weight_decay=0.1),
    ]
    workload = models.Tokens()
    assert_equal(trained(workload, cells), trained_alone(workload, cells))


def test_members_of_different_shapes_are_refused_with_the_shapes():
    cells = [replace(DIGITS, model_size=4), replace(DIGITS, model_size=8)]
    with pytest.raises(ValueError, match=r"several shapes .* 4, batch 5, sgd; .* 8, batch 5, sgd"):
        stack(models.Perceptron(), cells)
    cells = [replace(DIGITS, batch_size=4), replace(DIGITS, train_examples=3)]
    with pytest.raises(ValueError, match=r"several shapes .*, batch 3, sgd; .*, batch 4, sgd"):
        stack(models.Perceptron(), cells)


def test_members_of_different_data_are_refused_by_name():
    class Shifted(models.Perceptron):
        name = "shifted"

        def data(self, axes):
            data = super().data(axes)
            data.train.inputs.add_(axes["label_noise"])
            return data

    other = replace(DIGITS, axes=(("label_noise", 0.5),))
    with pytest.raises(ValueError, match="'shifted' that train on different data"):
        stack(Shifted(), [DIGITS, other])


def test_a_member_whose_shard_is_larger_than_the_pool_is_refused_with_the_limit():
    with pytest.raises(ValueError, match="train_examples is 5000; allowed: 1 to 1024"):
        stack(models.Perceptron(), [DIGITS, replace(DIGITS, train_examples=5000)])


def test_several_cells_are_not_taken_one_by_one():
    assert path_of(models.BatchNormed(), DIGITS) == "one by one"
    with pytest.raises(ValueError, match="2 cells cannot be stacked one by one"):
        stack(models.BatchNormed(), [DIGITS, DIGITS])
