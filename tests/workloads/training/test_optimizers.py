"""Whole runs with other optimizers and schedules: as a plain loop makes them, alone or stacked."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.workloads.training import models
from tests.workloads.training.models import DIGITS
from tests.workloads.training.stacks import (
    assert_equal,
    path_of,
    paused_at_every_step,
    results_of,
    stack,
    trained,
    trained_alone,
)
from tests.workloads.training.test_checkpoints import run_with_states, under_way
from tests.workloads.training.test_stepper import plain_optimizer
from workloads.base import Split, Workload
from workloads.outcome import TrainingResult
from workloads.recipe import Recipe
from workloads.resident import load_data
from workloads.schedules import BatchSizeSchedule
from workloads.streams import permutations
from workloads.training.arithmetic import Arithmetic
from workloads.training.initial import initial_model
from workloads.training.lockstep import train
from workloads.training.sampling import training_shard
from workloads.training.scoring import evaluate
from workloads.training.trajectory import steps_of_epochs

OPTIMIZERS = ("sgd", "nesterov", "adam", "adamw")
INCREASE = "increase:3@0.25,0.5"


def grown(recipe: Recipe, epochs: int, schedule: str = INCREASE) -> Recipe:
    """Return `recipe` with batches that grow, for so many epochs."""
    return replace(
        recipe,
        batch_size_schedule=schedule,
        steps=steps_of_epochs(
            train_examples=recipe.train_examples,
            batch_size=recipe.batch_size,
            schedule=BatchSizeSchedule.parse(schedule),
            epochs=epochs,
        ),
    )


BASE = replace(DIGITS, model_size=5, train_examples=96, batch_size=3, steps=32)


def plain_updates(recipe: Recipe, shard: Split) -> Iterator[tuple[float, Tensor]]:
    """Yield (rate, rows) of every update of three phases, with no code of the trainer's.

    Four epochs of 96 examples: one of batches of 3, one of 9, which is the bound, and two of 9
    whose rate is divided by 3; the first rate falls like a cosine.
    """
    for epoch, batch, divisor in ((0, 3, 1), (1, 9, 1), (2, 9, 3), (3, 9, 3)):
        (order,) = permutations(96, epoch, 1, models.Perceptron.name, recipe.seed, "batches")
        for k in range(96 // batch):
            share = (epoch + (k + 0.5) / (96 // batch)) / 4
            rate = recipe.learning_rate * (1 + np.cos(np.pi * share)) / 2 / divisor
            yield rate, torch.from_numpy(order[k * batch : (k + 1) * batch])


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_is_that_of_a_plain_loop_with_torch_optim(optimizer: str, decay: float):
    recipe = replace(BASE, optimizer=optimizer, weight_decay=decay, learning_rate=0.02)
    recipe = replace(grown(recipe, 4), learning_rate_schedule="cosine")
    workload = models.Perceptron()
    assert recipe.steps == 32 + 10 + 20
    shard = training_shard(workload, recipe, load_data(workload, dict(recipe.axes)).train)
    model: nn.Module = initial_model(workload, recipe)
    torchs = plain_optimizer(model, recipe)
    for rate, rows in plain_updates(recipe, shard):
        torchs.param_groups[0]["lr"] = rate
        torchs.zero_grad()
        workload.loss(model(shard.inputs[rows]), shard.targets[rows]).mean().backward()
        torchs.step()
    expected = evaluate(workload, model, shard).loss
    for path in (Arithmetic.ONE_BY_ONE, Arithmetic.STACKED_LAYERS, Arithmetic.STACKED_MODULES):
        result = train(workload, recipe, device="cpu", arithmetic=path)
        # float32 rounds a step at 6e-8, and 62 steps of a small model amplify that little; a phase
        # or a rate that were wrong would change the loss by a percent and more.
        assert result.train_loss == pytest.approx(expected, rel=1e-5), path
        assert result.examples_seen == 32 * 3 + 30 * 9
        assert result.epochs == pytest.approx((96 + 270) / 96)


def test_a_look_tells_rate_batch_and_noise_of_the_update_before_it():
    recipe = replace(grown(BASE, 4), learning_rate_schedule="step:10@0.75")
    curve = train(models.Perceptron(), recipe, device="cpu").curve
    seen = {look.step: (look.learning_rate, look.batch_size, look.noise_scale) for look in curve}
    # Looks at shares 1/2, 1/√2 and 1 of 4 epochs, of which the first has 32 updates, others 10.
    assert seen[42] == pytest.approx((0.1, 9, 0.1 / 0.1 * (96 / 9 - 1)))
    assert seen[51] == pytest.approx((0.1 / 3, 9, 1 / 3 * (96 / 9 - 1)))
    assert seen[62] == pytest.approx((0.1 / 30, 9, 1 / 30 * (96 / 9 - 1)))


def test_the_training_loss_of_a_look_is_the_mean_over_examples():
    class Counting(models.Perceptron):
        name = "counting"

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            losses = super().loss(outputs, targets)
            if torch.is_grad_enabled():
                seen.extend(losses.detach().tolist())
            return losses

    seen: list[float] = []
    recipe = replace(grown(BASE, 4, "increase:3@0.5"), evaluation_schedule="geometric:1")
    (look,) = train(Counting(), recipe, device="cpu").curve
    assert len(seen) == 2 * 96 + 2 * 90
    assert look.train_loss == pytest.approx(np.mean(seen), rel=1e-6)


STACKS = [
    *((models.Perceptron, 3, optimizer, grows) for optimizer in OPTIMIZERS for grows in (0, 1)),
    *((models.Normed, 3, optimizer, True) for optimizer in ("sgd", "adam")),
    (models.Perceptron, 33, "adam", True),
    (models.GeluPerceptron, 5, "adamw", True),
    (models.Convolutions, 4, "adam", False),
    (models.Convolutions, 4, "nesterov", True),
    (models.Tokens, 3, "adam", True),
    (models.RowsTransformer, 7, "adamw", False),
]

VARIANTS = (
    {},
    {"learning_rate_schedule": "cosine", "learning_rate": 0.05, "momentum": 0.5},
    {"learning_rate_schedule": "warmup:0.2+step:2@0.5", "seed": 8, "weight_decay": 0.01},
    {"learning_rate_schedule": "linear", "learning_rate": 1e30},
    {"learning_rate_schedule": "inverse:9", "axes": (("label_noise", 0.7),), "momentum": 0.0},
    {"weight_decay": 1.0, "evaluation_schedule": "geometric:1"},
    {"learning_rate_schedule": "warmup:0.5", "momentum": 0.99, "seed": 2**40},
)


def members(size: int, optimizer: str, grows: bool) -> tuple[Recipe, ...]:
    """Return cells of one shape with the same batches, which differ in all else."""
    shape = replace(
        DIGITS, model_size=size, optimizer=optimizer, learning_rate=0.01, batch_size=3, steps=30
    )
    if grows:
        shape = grown(shape, 4)  # 64 examples: 21 updates of 3 and, at the bound, 10 of 6
        return tuple(replace(shape, **variant) for variant in VARIANTS)
    lengths = (30, 7, 12, 30, 13, 1, 30)
    own = zip(VARIANTS, lengths, strict=True)
    return tuple(replace(shape, **variant, steps=steps) for variant, steps in own)


@lru_cache(maxsize=64)
def each_alone(
    kind: type[Workload], size: int, optimizer: str, grows: bool
) -> list[TrainingResult]:
    return trained_alone(kind(), members(size, optimizer, grows))


@pytest.mark.parametrize(
    ("kind", "size", "optimizer", "grows"), STACKS, ids=lambda x: getattr(x, "name", x)
)
@settings(deadline=None, derandomize=True, max_examples=2, phases=[Phase.generate])
@given(order=st.permutations(range(len(VARIANTS))), size_of_stack=st.integers(2, 7))
def test_any_cells_in_any_order_and_number_come_out_as_if_each_were_alone(
    kind: type[Workload],
    size: int,
    optimizer: str,
    grows: bool,
    order: list[int],
    size_of_stack: int,
):
    cells, alone = members(size, optimizer, grows), each_alone(kind, size, optimizer, grows)
    assert path_of(kind(), cells[0]) is not Arithmetic.ONE_BY_ONE
    for start in range(0, len(order), size_of_stack):
        some = order[start : start + size_of_stack]
        assert_equal(trained(kind(), [cells[i] for i in some]), [alone[i] for i in some])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_these_cells_differ_and_a_schedule_changes_a_run(optimizer: str):
    for grows in (False, True):
        results = each_alone(models.Perceptron, 3, optimizer, grows)
        losses = [result.train_loss for result in results if result.status == "completed"]
        assert len(set(losses)) == len(losses) >= 6


def test_a_constant_cell_beside_one_whose_rate_changes_keeps_its_bits():
    constant, changing = DIGITS, replace(DIGITS, learning_rate_schedule="cosine")
    for path in (Arithmetic.STACKED_LAYERS, Arithmetic.STACKED_MODULES):
        together = trained(models.Perceptron(), [constant, changing], path)
        assert_equal(together, trained_alone(models.Perceptron(), [constant, changing], path))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (models.Perceptron, Arithmetic.STACKED_LAYERS),
        (models.Normed, Arithmetic.STACKED_MODULES),
        (models.BatchNormed, Arithmetic.ONE_BY_ONE),
    ],
)
def test_a_run_goes_on_from_every_pause(
    kind: type[Workload], path: Arithmetic, optimizer: str, monkeypatch: pytest.MonkeyPatch
):
    one = path is Arithmetic.ONE_BY_ONE
    cells = list(members(4, optimizer, grows=True))[1 : 2 if one else 4]
    undisturbed = results_of(stack(kind(), cells, path))
    paused_at_every_step(monkeypatch)
    results, states = run_with_states(kind(), cells, path)
    assert results == undisturbed
    for state in states[3::11]:
        resumed = stack(kind(), cells, path)
        resumed.load(state, range(len(cells)))
        expected = {i: undisturbed[i] for i in under_way(state)}
        assert results_of(resumed) == expected, f"after step {state['step']}"


@pytest.mark.parametrize(
    "other",
    [
        replace(BASE, optimizer="adam"),
        replace(BASE, batch_size=4),
        grown(BASE, 4),
    ],
)
def test_cells_that_step_otherwise_are_not_stacked(other: Recipe):
    with pytest.raises(ValueError, match="cannot be stacked"):
        stack(models.Perceptron(), [BASE, other], Arithmetic.STACKED_LAYERS)


def test_cells_of_unequal_shards_whose_batches_grow_at_the_same_steps_are_stacked():
    cells = [grown(replace(BASE, train_examples=n, seed=n), 4) for n in (96, 97)]
    assert_equal(trained(models.Perceptron(), cells), trained_alone(models.Perceptron(), cells))


def test_a_stack_whose_batches_grow_needs_memory_for_the_largest():
    small, large = (
        stack(models.Perceptron(), [each], Arithmetic.STACKED_LAYERS).bytes_a_member
        for each in (BASE, grown(BASE, 4))
    )
    assert large > 2 * small


def test_a_rehearsal_may_go_beyond_the_last_step():
    lockstep = stack(models.Perceptron(), members(3, "adam", grows=True))
    assert lockstep.rehearse(0.05) > 0
