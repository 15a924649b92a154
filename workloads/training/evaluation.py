"""When the validation set is looked at.

Every look is also a choice: the best of many looks is too good to be true. Few looks, at fixed
shares of training, keep that choice the same for a short and for a long run.
"""

import math
import re

__all__ = ["affordable_schedule", "evaluation_steps"]

LOOKS = 12
"""Looks of a run that can afford them: from T/45 on."""

FEWEST_LOOKS = 6
"""Looks of any run: from T/5.7 on. Those before are seldom the best."""

_GEOMETRIC = re.compile(r"geometric:([1-9][0-9]*)")


def affordable_schedule(*, steps: int, batch_size: int, validation_examples: int) -> str:
    """Return the schedule of a run: as many looks as cost no more arithmetic than its training.

    `LOOKS` at most and `FEWEST_LOOKS` at least; the earliest go first. A step on B examples is
    three forward passes of B (Kaplan et al. 2020, §2.1), a look one of the V validation examples:
    n V ≤ 3 T B. A short run with a large validation set would else do little but look.
    """
    affordable = 3 * steps * batch_size // validation_examples
    return f"geometric:{min(LOOKS, max(FEWEST_LOOKS, affordable))}"


def evaluation_steps(schedule: str, steps: int) -> tuple[int, ...]:
    """Return the steps after which the validation set is looked at, ascending; the last is `steps`.

    `schedule`: "geometric:n" looks at ceil(T · 2^(−k/2)) for k = n−1 … 0, with T = `steps`; equal
    steps are one look. So the looks stand at fixed shares of training, whatever T is: with n = 12
    from T/45 on, and the best of them is at most a factor 2^(1/4) from any step in between. A run
    too short for n distinct steps has fewer looks.

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
        look = math.ceil(steps * 2.0 ** (-k / 2))
        if look not in looks[-1:]:
            looks.append(look)
        if look == 1:
            break
    return tuple(reversed(looks))
