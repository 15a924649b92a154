"""Which batch and rate each update has: phases of whole epochs, whatever the batch is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.workloads.training.models import DIGITS, Perceptron
from workloads.recipe import Recipe
from workloads.schedules import BatchSizeSchedule
from workloads.training.evaluation import look_steps
from workloads.training.sampling import BatchOrder
from workloads.training.trajectory import Trajectory, noise_scale, steps_of_epochs

INCREASE = "increase:5@0.3,0.6,0.8"


def steps(examples: int, batch: int, schedule: str, epochs: int) -> int:
    return steps_of_epochs(
        train_examples=examples,
        batch_size=batch,
        schedule=BatchSizeSchedule.parse(schedule),
        epochs=epochs,
    )


def growing(
    examples: int, batch: int, epochs: int, schedule: str = INCREASE, **changes: object
) -> Recipe:
    return replace(
        DIGITS,
        train_examples=examples,
        batch_size=batch,
        batch_size_schedule=schedule,
        steps=steps(examples, batch, schedule, epochs),
        **changes,
    )


def test_phases_of_a_run_by_hand():
    # 1,000 examples, 10 epochs, batch 4: 250, 50, 10 and, at the bound of 100, 10 updates an epoch.
    recipe = growing(1000, 4, 10)
    assert recipe.steps == 3 * 250 + 3 * 50 + 2 * 10 + 2 * 10
    trajectory = Trajectory.of(recipe)
    assert trajectory.batches == ((0, 4), (750, 20), (900, 100), (920, 100))
    assert trajectory.epochs == 10
    assert trajectory.examples == 10_000
    assert trajectory.examples_before(751) == 3000 + 20
    rates = [trajectory.learning_rate(recipe, step) / 0.1 for step in (0, 749, 750, 900, 920, 939)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.2, 0.2])


def test_the_last_partial_batch_of_an_epoch_is_dropped_in_every_phase():
    recipe = growing(103, 2, 4, "increase:2@0.5")  # 51 updates, then 25
    assert recipe.steps == 2 * 51 + 2 * 25
    assert Trajectory.of(recipe).examples == 2 * 102 + 2 * 100


cases = st.tuples(
    st.integers(10, 300),  # examples
    st.integers(1, 12),  # batch
    st.integers(1, 60),  # epochs
    st.sampled_from([INCREASE, "increase:2@0.5", "increase:1.5@0.1,0.2,0.9", "increase:7@0.35"]),
)


@given(cases)
@settings(deadline=None)
def test_steps_grow_with_epochs_and_tell_them(case: tuple[int, int, int, str]):
    examples, batch, epochs, schedule = case
    try:
        recipe = growing(examples, batch, epochs, schedule)
    except ValueError:
        assume(False)
    trajectory = Trajectory.of(recipe)
    assert trajectory.epochs == epochs
    assert steps(examples, batch, schedule, epochs + 1) > recipe.steps
    ends = [phase.first_step for phase in trajectory.phases[1:]] + [recipe.steps]
    epochs_of = [
        (end - phase.first_step) / phase.epoch_steps
        for phase, end in zip(trajectory.phases, ends, strict=True)
    ]
    assert sum(epochs_of) == epochs
    assert all(own == int(own) >= 1 for own in epochs_of)


@given(cases, st.data())
@settings(deadline=None)
def test_every_epoch_shows_each_example_once_at_most_and_the_same_order_in_all_arms(
    case: tuple[int, int, int, str], data: st.DataObject
):
    examples, batch, epochs, schedule = case
    try:
        recipe = growing(examples, batch, epochs, schedule)
    except ValueError:
        assume(False)
    trajectory, order = Trajectory.of(recipe), BatchOrder(Perceptron(), recipe)
    phase = trajectory.phases[data.draw(st.integers(0, len(trajectory.phases) - 1))]
    seen = order.positions(phase.first_step, phase.epoch_steps).ravel()
    assert len(set(seen)) == len(seen) == phase.epoch_steps * phase.batch
    constant = replace(recipe, batch_size_schedule="constant", steps=epochs * (examples // batch))
    start = phase.first_epoch * (examples // batch)
    other = BatchOrder(Perceptron(), constant).positions(start, examples // batch).ravel()
    both = min(len(seen), len(other))
    assert np.array_equal(seen[:both], other[:both])


def test_steps_that_are_no_whole_number_of_epochs_are_refused():
    recipe = growing(1000, 4, 10)
    with pytest.raises(ValueError, match=r"steps is 941; with batch_size_schedule 'increase:5@"):
        Trajectory.of(replace(recipe, steps=941))


@pytest.mark.parametrize(("schedule", "epochs"), [(INCREASE, 2), ("increase:5@0.9", 3)])
def test_milestones_that_fall_together_are_refused(schedule: str, epochs: int):
    with pytest.raises(ValueError, match=f"of {epochs} epochs are the epochs"):
        steps(100, 4, schedule, epochs)


def test_runs_of_equal_epochs_are_looked_at_after_equal_epochs():
    arms = [growing(1000, 4, 40), replace(growing(1000, 4, 40), batch_size_schedule="constant")]
    arms[1] = replace(arms[1], steps=40 * 250)
    looks = []
    for recipe in arms:
        trajectory = Trajectory.of(recipe)
        at = look_steps("geometric:12", trajectory)
        assert at[-1] == recipe.steps
        looks.append([trajectory.examples_before(step) / 1000 for step in at])
    # To within one update, at most a tenth of an epoch.
    assert looks[0] == pytest.approx(looks[1], abs=0.1)


@pytest.mark.parametrize("count", [1, 7, 100])
def test_rates_at_the_middle_of_updates_sum_to_the_integral_of_the_schedule(count: int):
    recipe = replace(DIGITS, steps=count, learning_rate_schedule="linear")
    # Of a linear function the midpoint rule is exact.
    assert Trajectory.of(recipe).rate_factors(0, count).mean() == pytest.approx(0.5)


def test_rates_of_two_batch_sizes_agree_at_equal_epochs():
    shapes = (5, 25)
    rates = []
    for batch in shapes:
        epoch_steps = 100 // batch
        recipe = replace(
            DIGITS,
            train_examples=100,
            batch_size=batch,
            steps=20 * epoch_steps,
            learning_rate_schedule="step:5@0.3,0.6,0.8",
        )
        factors = Trajectory.of(recipe).rate_factors(0, recipe.steps)
        rates.append(factors.reshape(20, epoch_steps))
    assert np.array_equal(rates[0][:, 0], rates[1][:, 0])
    assert all((own == own[:, :1]).all() for own in rates)


def test_the_noise_scale_is_that_of_smith_and_le():
    recipe = replace(DIGITS, train_examples=1000, momentum=0.9)
    assert noise_scale(recipe, 0.1, 10) == pytest.approx(0.1 / 0.1 * 99)
    assert noise_scale(replace(recipe, optimizer="adam"), 0.1, 10) is None
    assert noise_scale(recipe, 0.1, 1000) == 0
