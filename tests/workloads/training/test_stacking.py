"""A cell's result does not depend on the stack that it is trained in: not by one bit."""

import random
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.workloads.training import models
from tests.workloads.training.models import DIGITS
from tests.workloads.training.stacks import assert_equal, path_of, trained, trained_alone
from workloads.base import Workload
from workloads.outcome import TrainingResult
from workloads.recipe import Recipe
from workloads.training.arithmetic import Arithmetic

LAYERS, MODULES = Arithmetic.STACKED_LAYERS, Arithmetic.STACKED_MODULES

KINDS = [
    *((models.Perceptron, width, batch, LAYERS) for width in (3, 16, 33) for batch in (1, 5, 16)),
    (models.TanhPerceptron, 3, 1, LAYERS),
    (models.TanhPerceptron, 33, 5, LAYERS),
    (models.GeluPerceptron, 16, 1, LAYERS),
    (models.GeluPerceptron, 33, 5, LAYERS),
    (models.Convolutions, 4, 5, LAYERS),
    (models.Convolutions, 8, 1, LAYERS),
    (models.Normed, 3, 5, MODULES),
    (models.Tokens, 3, 1, MODULES),
    (models.Tokens, 5, 16, MODULES),
    (models.RowsLstm, 8, 8, MODULES),
    (models.RowsTransformer, 7, 5, MODULES),
]
KINDS_OF_MODEL = pytest.mark.parametrize(
    ("kind", "size", "batch", "path"), KINDS, ids=[f"{k[0].name}-{k[1]}-{k[2]}" for k in KINDS]
)

# Eleven cells that differ in everything that members of a stack may differ in. One rate overflows
# at once, one lets the loss explode but not overflow, one is stopped at the first check of 256.
VARIANTS = (
    {"learning_rate": 0.1, "momentum": 0.0},
    {"learning_rate": 1e30, "momentum": 0.9, "steps": 260},
    {"learning_rate": 0.05, "momentum": 0.5, "weight_decay": 0.01, "steps": 7},
    {"learning_rate": 0.3, "momentum": 0.9, "seed": 8},
    {"learning_rate": 0.1, "momentum": 0.9, "axes": (("label_noise", 0.7),), "steps": 9},
    {"learning_rate": 300.0, "momentum": 0.0, "weight_decay": 0.1},
    {"learning_rate": 0.1, "momentum": 0.9, "train_examples": 300, "steps": 13},
    {"learning_rate": 0.2, "momentum": 0.9, "evaluation_schedule": "geometric:1", "seed": 8},
    {"learning_rate": 0.0, "momentum": 0.0, "steps": 1},
    {"learning_rate": 0.1, "momentum": 0.99, "seed": 2**40, "axes": (("label_noise", 1.0),)},
    {"learning_rate": 0.1, "momentum": 0.0, "weight_decay": 1.0, "steps": 12},
)


def members(size: int, batch: int) -> tuple[Recipe, ...]:
    """Return the cells of one shape; one more has a shard that is no larger than the batch."""
    shape = replace(DIGITS, model_size=size, batch_size=batch)
    small = replace(shape, train_examples=batch, batch_size=500, learning_rate=0.02)
    return (*(replace(shape, **variant) for variant in VARIANTS), small)


@lru_cache(maxsize=64)
def each_alone(kind: type[Workload], size: int, batch: int) -> list[TrainingResult]:
    return trained_alone(kind(), members(size, batch))


@KINDS_OF_MODEL
def test_the_models_of_this_file_take_the_path_that_it_is_about(
    kind: type[Workload], size: int, batch: int, path: Arithmetic
):
    assert path_of(kind(), members(size, batch)[0]) is path


@KINDS_OF_MODEL
def test_these_cells_differ_and_some_diverge(
    kind: type[Workload], size: int, batch: int, path: Arithmetic
):
    results = each_alone(kind, size, batch)
    losses = {result.train_loss for result in results if result.status == "completed"}
    assert len(losses) >= 6
    # At any rate: tokens whose embeddings are saturated, like a perceptron's, learn their shard.
    assert results[1].status == "diverged" or kind is models.Tokens


@KINDS_OF_MODEL
@settings(deadline=None, derandomize=True, max_examples=2, phases=[Phase.generate])
@given(order=st.permutations(range(len(VARIANTS) + 1)), size_of_stack=st.integers(2, 12))
def test_any_cells_in_any_order_and_number_come_out_as_if_each_were_alone(
    kind: type[Workload],
    size: int,
    batch: int,
    path: Arithmetic,
    order: list[int],
    size_of_stack: int,
):
    cells, alone = members(size, batch), each_alone(kind, size, batch)
    for start in range(0, len(order), size_of_stack):
        some = order[start : start + size_of_stack]
        together = trained(kind(), [cells[i] for i in some])
        assert_equal(together, [alone[i] for i in some])


@pytest.mark.parametrize("size", [3, 5, 33])
def test_a_recurrent_shape_that_rounds_by_its_place_is_not_stacked(size: int):
    # Which shapes do is the processor's: either the choice has seen it, or there is nothing to see.
    cells = members(size, 5)
    if path_of(models.RowsLstm(), cells[0]) is MODULES:
        some = [9, 3, 7, 6, 4, 11]
        together = trained(models.RowsLstm(), [cells[i] for i in some])
        assert_equal(together, trained_alone(models.RowsLstm(), [cells[i] for i in some]))


@pytest.mark.parametrize("kind", [models.Perceptron, models.Convolutions, models.Normed])
def test_every_place_of_a_stack_of_thirty_five_gives_the_same_bits(kind: type[Workload]):
    # Equal cells, so that any difference is one of place; 35 is no multiple of a vector or tile.
    cell = replace(DIGITS, model_size=3, steps=5, weight_decay=0.01)
    results = trained(kind(), [cell] * 35)
    assert_equal(results, trained(kind(), [cell]) * 35)


@pytest.mark.parametrize("kind", [models.GeluPerceptron, models.Convolutions, models.Normed])
def test_members_that_leave_one_by_one_do_not_touch_those_that_stay(kind: type[Workload]):
    cells = [replace(DIGITS, model_size=3, seed=i, steps=i + 1) for i in range(11)]
    random.Random(0).shuffle(cells)
    assert_equal(trained(kind(), cells), trained_alone(kind(), cells))


def test_members_evaluated_in_groups_score_as_in_one(monkeypatch: pytest.MonkeyPatch):
    cells = members(33, 5)
    at_once = trained(models.GeluPerceptron(), cells)
    monkeypatch.setattr("workloads.training.lockstep.EVALUATION_ELEMENTS", 3 * 1024 * 64)
    assert_equal(trained(models.GeluPerceptron(), cells), at_once)


def test_how_often_one_member_is_evaluated_changes_no_other():
    often, seldom = (
        [replace(DIGITS, evaluation_schedule=schedule, steps=40), replace(DIGITS, seed=1, steps=30)]
        for schedule in ("geometric:50", "geometric:1")
    )
    one, other = trained(models.Perceptron(), often), trained(models.Perceptron(), seldom)
    assert one[0].validation_evaluations > other[0].validation_evaluations == 1
    assert one[0].train_loss == other[0].train_loss
    assert_equal(one[1:], other[1:])
