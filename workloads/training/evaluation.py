"""When the validation set is looked at.

Every look is also a choice: the best of many looks is too good to be true. Few looks, at fixed
shares of training, keep that choice the same for a short and for a long run.
"""

import math
import re

__all__ = ["evaluation_steps"]

_GEOMETRIC = re.compile(r"geometric:([1-9][0-9]*)")


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
