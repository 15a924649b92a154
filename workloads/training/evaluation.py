"""When the validation set is looked at.

Every look is also a choice: the best of many looks is too good to be true. Few looks, at fixed
shares of training, keep that choice the same for a short and for a long run.
"""

import math
import re
from collections.abc import Callable

from workloads.outcome import Evaluation, Score
from workloads.recipe import Recipe
from workloads.training.trajectory import Trajectory, noise_scale

__all__ = ["affordable_schedule", "evaluation_at", "evaluation_steps", "look_steps"]

LOOKS = 12
"""Looks of a run that can afford them: from T/45 on."""

FEWEST_LOOKS = 6
"""Looks of any run: from T/5.7 on. Those before are seldom the best."""

_GEOMETRIC = re.compile(r"geometric:([1-9][0-9]*)")


def affordable_schedule(*, examples_seen: int, validation_examples: int) -> str:
    """Return the schedule of a run: as many looks as cost no more arithmetic than its training.

    `LOOKS` at most and `FEWEST_LOOKS` at least; the earliest go first. A step on B examples is
    three forward passes of B (Kaplan et al. 2020, §2.1), a look one of the V validation examples:
    n V ≤ 3 S, with S = `examples_seen` in all batches. A short run with a large validation set
    would else do little but look.
    """
    affordable = 3 * examples_seen // validation_examples
    return f"geometric:{min(LOOKS, max(FEWEST_LOOKS, affordable))}"


def look_steps(schedule: str, trajectory: Trajectory) -> tuple[int, ...]:
    """Return the steps of `evaluation_steps`; where the batch grows, at the same epochs.

    So runs of equal epochs are looked at after equal epochs, however large their batches are.
    """
    return evaluation_steps(schedule, trajectory.steps, trajectory.step_at)


def evaluation_steps(
    schedule: str, steps: int, step_at: Callable[[float], int] | None = None
) -> tuple[int, ...]:
    """Return the steps after which the validation set is looked at, ascending; the last is `steps`.

    `schedule`: "geometric:n" looks at ceil(T · 2^(−k/2)) for k = n−1 … 0, with T = `steps`; equal
    steps are one look. So the looks stand at fixed shares of training, whatever T is: with n = 12
    from T/45 on, and the best of them is at most a factor 2^(1/4) from any step in between. A run
    too short for n distinct steps has fewer looks. `step_at`: the first step after which a share
    of training is done; ceil(T · share) by default.

    Raises `ValueError` for another schedule, or fewer steps than 1.
    """
    match = _GEOMETRIC.fullmatch(schedule)
    if match is None:
        raise ValueError(
            f"evaluation_schedule is {schedule!r}; "
            "allowed: 'geometric:n' with an integer n from 1, as in 'geometric:12'."
        )
    if steps < 1:
        raise ValueError(f"steps is {steps}; allowed: an integer from 1.")
    looks: list[int] = []
    for k in range(int(match[1])):
        share = 2.0 ** (-k / 2)
        look = math.ceil(steps * share) if step_at is None else step_at(share)
        if look not in looks[-1:]:
            looks.append(look)
        if look == 1:
            break
    return tuple(reversed(looks))


def evaluation_at(recipe: Recipe, step: int, train_loss: float, validation: Score) -> Evaluation:
    """Return the record of a look after `step` updates.

    `train_loss`: mean loss of the examples in batches since the look before.
    """
    trajectory = Trajectory.of(recipe)
    examples_seen = trajectory.examples_before(step)
    learning_rate = trajectory.learning_rate(recipe, step - 1)
    batch = trajectory.phase_at(step - 1).batch
    return Evaluation(
        step=step,
        epoch=examples_seen / recipe.train_examples,
        examples_seen=examples_seen,
        train_loss=_finite(train_loss),
        validation_loss=_finite(validation.loss),
        validation_error=_finite(validation.error),
        learning_rate=learning_rate,
        batch_size=batch,
        noise_scale=noise_scale(recipe, learning_rate, batch),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
