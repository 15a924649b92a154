"""What a study may vary, and how a study file words the values of one axis.

One value, a list, `{values: [...]}`, `{log2: [lo, hi]}` (lo, 2 lo, 4 lo, … hi) or
`{log: [lo, hi], points: n}` (n values in equal ratios, both ends included). Every value is cast to
the axis's type; nothing is rounded to fit an integer axis, and no value may stand twice.
"""

import math
from collections.abc import Sequence
from typing import Any

from workloads.axis import Axis, AxisError, AxisKind, AxisValue
from workloads.optimizer import Optimizer
from workloads.schedules import (
    BATCH_SIZE_SCHEDULES,
    CONSTANT,
    LEARNING_RATE_SCHEDULES,
    batch_size_wording,
    learning_rate_wording,
)

__all__ = [
    "COMMON_AXES",
    "MOST_VALUES",
    "SEED",
    "AxisSpecError",
    "axis_values",
    "seed_values",
    "shown",
]

COMMON_AXES: tuple[Axis, ...] = (
    Axis(
        name="dataset_fraction",
        kind=AxisKind.NUMBER,
        meaning="Share of the workload's pool of training examples.",
        default=1.0,
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
    ),
    Axis(
        name="batch_size",
        kind=AxisKind.INTEGER,
        meaning="Examples a step, at the beginning.",
        minimum=1,
    ),
    Axis(
        name="learning_rate",
        kind=AxisKind.NUMBER,
        meaning="Learning rate; its schedule multiplies it.",
        minimum=0,
        exclusive_minimum=True,
    ),
    Axis(
        name="momentum",
        kind=AxisKind.NUMBER,
        meaning="Of the velocity with sgd and nesterov; adam's and adamw's beta 1.",
        default=0.0,
        minimum=0,
        maximum=1,
        exclusive_maximum=True,
    ),
    Axis(
        name="weight_decay",
        kind=AxisKind.NUMBER,
        meaning="That times the weights joins the gradient; with adamw it shrinks the weights.",
        default=0.0,
        minimum=0,
    ),
    Axis(
        name="optimizer",
        kind=AxisKind.TEXT,
        meaning="Update rule.",
        default=Optimizer.SGD.value,
        choices=tuple(optimizer.value for optimizer in Optimizer),
    ),
    Axis(
        name="learning_rate_schedule",
        kind=AxisKind.TEXT,
        meaning="How the learning rate changes along training.",
        default=CONSTANT,
        wording=learning_rate_wording,
        wordings=LEARNING_RATE_SCHEDULES,
    ),
    Axis(
        name="batch_size_schedule",
        kind=AxisKind.TEXT,
        meaning="How the batch grows along training.",
        default=CONSTANT,
        wording=batch_size_wording,
        wordings=BATCH_SIZE_SCHEDULES,
    ),
    Axis(
        name="seed",
        kind=AxisKind.INTEGER,
        meaning="Replicate: the source of all randomness of a cell.",
        minimum=0,
    ),
)
"""The axes of every workload but `model_size`, whose type the workload declares."""

SEED = COMMON_AXES[-1]

MOST_VALUES = 10_000
"""Values of one axis; more than any grid can train, and few enough to hold in memory."""

FORMS = (
    "one value, a list, {values: [...]}, {log2: [lo, hi]} or {log: [lo, hi], points: n} "
    f"with at most {MOST_VALUES} values"
)


class AxisSpecError(AxisError):
    """An axis that a study words wrongly; `path` leads from the axis to the culprit."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def axis_values(axis: Axis, spec: object) -> tuple[AxisValue, ...]:
    """Return the values that `spec`, as a study file words it, gives to `axis`, in its order.

    Raises `AxisSpecError` on a value that the axis does not admit, one that stands twice, an
    empty list, or an unknown form.
    """
    if isinstance(spec, list | tuple):
        return _listed(axis, spec)
    if not isinstance(spec, dict):
        return (_cast(axis, spec),)
    match sorted(spec):
        case ["values"]:
            if not isinstance(spec["values"], list | tuple):
                raise AxisSpecError(
                    f"values of {axis.name} is {shown(spec['values'])}; allowed: a list.", "values"
                )
            return _listed(axis, spec["values"], "values")
        case ["log2"]:
            return _powers_of_two(axis, *_ends(axis, spec, "log2"))
        case ["log", "points"]:
            points = spec["points"]
            if type(points) is not int or not 2 <= points <= MOST_VALUES:
                raise AxisSpecError(
                    f"points of {axis.name} is {shown(points)}; "
                    f"allowed: an integer in [2, {MOST_VALUES}].",
                    "points",
                )
            return _geometric(axis, *_ends(axis, spec, "log"), points)
    raise AxisSpecError(f"{axis.name} is {shown(spec)}; allowed: {FORMS}.")


def seed_values(spec: object) -> tuple[AxisValue, ...]:
    """Return the seeds 0 … n-1 for an integer n, or the seeds that a list names.

    Raises `AxisSpecError` like `axis_values`.
    """
    if isinstance(spec, list | tuple):
        return _listed(SEED, spec)
    if type(spec) is int and 1 <= spec <= MOST_VALUES:
        return tuple(range(spec))
    raise AxisSpecError(
        f"seeds is {shown(spec)}; allowed: how many (an integer in [1, {MOST_VALUES}]), "
        "or a list of different integers from 0."
    )


def shown(value: object) -> str:
    """Return `value` as an error message shows it: what it is, and not too long."""
    if value is None:
        return "empty"
    nouns = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
    noun = nouns.get(type(value), "a mapping" if isinstance(value, dict) else "a list")
    return f"{_cut(value)} ({noun})"


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _cast(axis: Axis, value: Any, *path: str | int) -> AxisValue:
    if value is None or isinstance(value, dict | list | tuple):
        raise AxisSpecError(
            f"{axis.name} is {shown(value)}; allowed: {axis.allowed()}. Write a value there.",
            *path,
        )
    try:
        return axis.cast(value)
    except AxisError as error:
        raise AxisSpecError(f"{error} {_advice(axis, value)}", *path) from error


def _advice(axis: Axis, value: object) -> str:
    if axis.kind is AxisKind.TEXT:
        return "Change it." if isinstance(value, str) else "Quote it if text is meant."
    if isinstance(value, str):
        return "Write a plain number, without quotes, underscores or units."
    return "Change it, or take it off the axis."


def _listed(axis: Axis, items: Sequence[object], *path: str | int) -> tuple[AxisValue, ...]:
    if not 1 <= len(items) <= MOST_VALUES:
        raise AxisSpecError(
            f"{axis.name} lists {len(items)} values; allowed: 1 to {MOST_VALUES}, "
            f"each {axis.allowed()}.",
            *path,
        )
    values: dict[AxisValue, object] = {}
    for position, item in enumerate(items):
        value = _cast(axis, item, *path, position)
        if value in values:
            raise AxisSpecError(
                f"{axis.name} lists {value!r} twice (as {values[value]!r} and {item!r}); "
                "allowed: different values. Remove one; for repeated runs raise seeds.",
                *path,
                position,
            )
        values[value] = item
    return tuple(values)


def _ends(axis: Axis, spec: dict[str, Any], form: str) -> tuple[float, float]:
    """Return the two ends of a range, cast to the axis's type."""
    ends = spec[form]
    if axis.kind is AxisKind.TEXT:
        raise AxisSpecError(
            f"{axis.name} is {shown(spec)}, but it holds text, which has no ranges; "
            f"allowed: {axis.allowed()}, or a list of them.",
            form,
        )
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise AxisSpecError(
            f"{form} of {axis.name} is {shown(ends)}; allowed: [lo, hi], two numbers.", form
        )
    low, high = (float(_cast(axis, end, form, i)) for i, end in enumerate(ends))
    if not 0 < low < high:
        raise AxisSpecError(
            f"{form} of {axis.name} runs from {low:g} to {high:g}; allowed: 0 < lo < hi. "
            "Swap the ends, or write a list.",
            form,
        )
    return low, high


def _powers_of_two(axis: Axis, low: float, high: float) -> tuple[AxisValue, ...]:
    octaves = math.log2(high) - math.log2(low)
    doublings = round(octaves)
    # Both ends are rounded to 12 digits, so that their ratio is known to 1e-11.
    if doublings < 1 or not math.isclose(math.ldexp(high, -doublings), low, rel_tol=1e-11):
        raise AxisSpecError(
            f"log2 of {axis.name} doubles from {low:g} and misses {high:g}; allowed: an upper end "
            f"of lo × 2ⁿ, like {math.ldexp(low, max(1, math.floor(octaves))):g}. "
            "Change an end, or write a list.",
            "log2",
        )
    inner = (_cast(axis, math.ldexp(low, i), "log2") for i in range(doublings))
    return (*inner, axis.cast(high))


def _geometric(axis: Axis, low: float, high: float, points: int) -> tuple[AxisValue, ...]:
    shares = (i / (points - 1) for i in range(points))
    exact = [float(f"{low ** (1 - share) * high**share:.12g}") for share in shares]
    if axis.kind is AxisKind.INTEGER and not all(value.is_integer() for value in exact):
        missed = next(value for value in exact if not value.is_integer())
        nearest = sorted({round(value) for value in exact})
        raise AxisSpecError(
            f"log of {axis.name} with {points} points gives {missed:g}; allowed: {axis.allowed()}, "
            f"never rounded unasked. Write a list, like {_cut(nearest)}.",
            "log",
        )
    if len(set(exact)) < points:
        raise AxisSpecError(
            f"log of {axis.name} with {points} points from {low:g} to {high:g} gives the same "
            "value twice; allowed: values that differ in 12 digits. Lower points.",
            "points",
        )
    return tuple(_cast(axis, value, "log") for value in exact)
