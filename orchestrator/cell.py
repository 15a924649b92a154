"""A cell: one training run, and the identity by which its result is known everywhere.

`Cell.cell_id` is a hash of everything that determines the result, and of nothing else: not of
the study, the grid, the pack, the machine or the device. Studies therefore share cells.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from workloads.axis import AxisValue
from workloads.recipe import Recipe
from workloads.schedules import CONSTANT
from workloads.training.trajectory import Trajectory

__all__ = ["Cell", "WorkloadAxes", "canonical_json"]

WorkloadAxes = tuple[tuple[str, AxisValue], ...]
"""Value of every axis that a workload declares, by name in alphabetical order."""

IDENTITY_DIGITS = 16
"""Hex digits of a `cell_id`: 64 bits, so that 10⁶ cells collide with probability 3e-8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One training run: one point of a grid with its seed."""

    workload: str
    """Name of the workload."""
    workload_version: int
    """Version that the workload declares."""
    data_fingerprint: str
    """Hash of the data that the workload trains and evaluates on."""
    dataset_fraction: float
    """Share of the pool, in (0, 1]."""
    train_examples: int
    """round(dataset_fraction × pool)."""
    model_size: AxisValue
    """Value of the workload's own size axis."""
    batch_size: int
    """Examples a step, at the beginning."""
    learning_rate: float
    """What the learning-rate schedule multiplies."""
    momentum: float
    """In [0, 1): of the velocity, or Adam's β₁."""
    weight_decay: float = 0.0
    """λ of the weights; at 0 omitted from the identity, as cells had none before."""
    seed: int
    """Replicate; the source of all the cell's randomness."""
    steps: int
    """Updates, resolved from the budget."""
    budget: str
    """The budget as the study worded it; no part of the identity."""
    workload_axes: WorkloadAxes = ()
    """Value of every axis that the workload declares, by name in alphabetical order."""
    default_axes: tuple[str, ...] = ()
    """Names of the workload axes that stand at their defaults: omitted from the identity, so that
    a workload may gain an axis without a new identity for old cells."""
    optimizer: str = "sgd"
    """Update rule."""
    learning_rate_schedule: str = "constant"
    """How the learning rate changes along training."""
    batch_size_schedule: str = CONSTANT
    """How the batch grows along training; constant, it is omitted from the identity, as no cell's
    batch grew before."""
    evaluation_schedule: str = "geometric:12"
    """When the validation set is looked at."""
    precision: str = "float32"
    """Number format of parameters and arithmetic."""
    training_version: int = 1
    """Version of the trainer: raised when the same cell would give another result."""

    _cell_id: str = field(default="", init=False, repr=False, compare=False)
    """The identity once it was asked for: it is hashed once, and travels with the cell."""

    @property
    def cell_id(self) -> str:
        """16 hex digits of SHA-256 over the canonical JSON of what determines the result."""
        if not self._cell_id:
            digest = hashlib.sha256(_identity_text(self).encode()).hexdigest()
            object.__setattr__(self, "_cell_id", digest[:IDENTITY_DIGITS])
        return self._cell_id

    def identity(self) -> dict[str, Any]:
        """Return what the result depends on, as it is hashed."""
        identity = {name: getattr(self, name) for name in _PLAIN}
        if not self.weight_decay:
            del identity["weight_decay"]
        if self.batch_size_schedule == CONSTANT:
            del identity["batch_size_schedule"]
        identity["workload_axes"] = _varied(self.workload_axes, self.default_axes)
        return identity

    @property
    def examples_seen(self) -> int:
        """Examples in all batches of the whole run."""
        if self.batch_size_schedule == CONSTANT:
            return self.steps * self.batch_size
        return Trajectory.of(self.recipe()).examples

    def recipe(self) -> Recipe:
        """Return what the trainer needs to know."""
        return Recipe(
            train_examples=self.train_examples,
            model_size=self.model_size,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
            learning_rate_schedule=self.learning_rate_schedule,
            batch_size_schedule=self.batch_size_schedule,
            steps=self.steps,
            seed=self.seed,
            axes=self.workload_axes,
            evaluation_schedule=self.evaluation_schedule,
        )


_PLAIN = sorted(
    {entry.name for entry in fields(Cell)} - {"budget", "workload_axes", "default_axes", "_cell_id"}
)
"""Fields of a cell's identity that hold one value each."""


def _varied(axes: WorkloadAxes, default_axes: tuple[str, ...]) -> dict[str, AxisValue]:
    return {name: value for name, value in axes if name not in default_axes}


# 10⁶ cells have 10⁶ identities made of some hundred values: the text of each value is made once,
# which is 4 times as fast as canonical_json(cell.identity()).


class _Form(NamedTuple):
    """The canonical JSON of identities with the same fields."""

    plain_values: Callable[[Cell], tuple[AxisValue, ...]]
    template: str
    axes_place: int

    @classmethod
    def of(cls, plain: Sequence[str]) -> "_Form":
        names = sorted([*plain, "workload_axes"])
        template = "{" + ",".join(f'"{name}":%s' for name in names) + "}"
        return cls(attrgetter(*plain), template, names.index("workload_axes"))


def _form(decays: bool, grows: bool) -> _Form:
    """Return the form of cells with a weight decay or not, and batches that grow or not."""
    omitted = {*([] if decays else ["weight_decay"]), *([] if grows else ["batch_size_schedule"])}
    return _Form.of([name for name in _PLAIN if name not in omitted])


_FORMS = {(a, b): _form(a, b) for a in (False, True) for b in (False, True)}


def _identity_text(cell: Cell) -> str:
    """Return `canonical_json(cell.identity())`."""
    form = _FORMS[bool(cell.weight_decay), cell.batch_size_schedule != CONSTANT]
    types = tuple([type(value) for _, value in cell.workload_axes])
    try:
        texts = [*map(_scalar_text, form.plain_values(cell))]
        texts.insert(form.axes_place, _axes_text(cell.workload_axes, types, cell.default_axes))
    except (TypeError, ValueError):
        return canonical_json(cell.identity())  # names the place of what has no text
    return form.template % tuple(texts)


@lru_cache(maxsize=2**16, typed=True)
def _scalar_text(value: AxisValue) -> str:
    if type(value) not in (bool, int, float, str):
        raise TypeError(value)  # caches tell 1 from 1.0 and True, but not within a tuple
    return canonical_json(value)


@lru_cache(maxsize=2**12)
def _axes_text(axes: WorkloadAxes, types: tuple[type, ...], default_axes: tuple[str, ...]) -> str:
    """Return the text of the axes off their defaults; `types` tells 1 from 1.0 to the cache."""
    return canonical_json(_varied(axes, default_axes))


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, floats to 12 digits.

    Only dicts with text keys, lists, tuples, text, integers, booleans, None and finite floats
    have one. Raises `TypeError` or `ValueError`, naming the place, for anything else.
    """
    return _ENCODER.encode(_stable(value, "value"))


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def _stable(value: Any, place: str) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(
                f"{place} is {value!r}, which has no stable bytes; use a finite number."
            )
        return float(f"{value:.12g}") + 0.0
    if type(value) in (list, tuple):
        return [_stable(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{place} has the key {key!r}; keys must be text.")
        return {key: _stable(item, f"{place}.{key}") for key, item in value.items()}
    raise TypeError(
        f"{place} is a {type(value).__name__}, which has no stable bytes. "
        "Allowed: text, integers, finite floats, booleans, None, and lists and dicts of them."
    )
