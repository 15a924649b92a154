"""The cells of a grid: the product of its axes, less what its constraint leaves out.

10⁶ cells are made of few values: what several points share is worked out once.
"""

import itertools
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from orchestrator.cell import Cell, WorkloadAxes
from orchestrator.errors import PlanError, StudyFileError
from orchestrator.study_file.budget import BudgetError
from orchestrator.study_file.constraint import ConstraintError
from orchestrator.study_file.study import Grid, Study
from workloads.axis import AxisValue
from workloads.base import BaseWorkload
from workloads.data.data_set import MissingDataError
from workloads.errors import WorkloadError
from workloads.resident import data_fingerprint, set_sizes
from workloads.training import TRAINING_VERSION
from workloads.training.evaluation import affordable_schedule
from workloads.training.trajectory import examples_in_batches

__all__ = ["grid_cells", "usable"]


def grid_cells(study: Study, grid: Grid) -> Iterator[Cell]:
    """Yield the cells of one grid that satisfy its constraint.

    Raises `StudyFileError`, with the line, for a cell that cannot be trained: a shard without
    examples, a batch larger than its shard, or a budget that its schedules do not go with.
    """
    workload = study.workload
    defaults = {axis.name: axis.cast(axis.default) for axis in workload.axes}
    own = sorted(defaults)
    names = [name for name in grid.axes if name != "seed"]

    # Points share what these return, each worked out once.

    @cache
    def data(axes: WorkloadAxes) -> _DataFacts:
        with usable(workload):
            pool, validation, fingerprint = _data_facts(workload, axes)
        at_default = tuple(name for name, value in axes if value == defaults[name])
        return _DataFacts(axes, at_default, pool, validation, fingerprint)

    @cache
    def train_examples_of(fraction: float, pool: int) -> int:
        if (train_examples := round(fraction * pool)) >= 1:
            return train_examples
        raise study.located(
            grid.lines["dataset_fraction"],
            f"dataset_fraction {fraction:g} of the {pool:,} training examples "
            f"is no example; allowed: at least {0.5 / pool:.3g}. Raise it.",
        )

    @cache
    def steps_of(
        train_examples: int,
        batch_size: int,
        learning_rate: float,
        momentum: float,
        rates: str,
        batches: str,
    ) -> int:
        try:
            return grid.budget.steps(
                train_examples=train_examples,
                batch_size=batch_size,
                learning_rate=learning_rate,
                momentum=momentum,
                learning_rate_schedule=rates,
                batch_size_schedule=batches,
            )
        except BudgetError as error:
            raise _located(study, grid, "budget", error) from error

    @cache
    def examples_of(train_examples: int, batch_size: int, steps: int, batches: str) -> int:
        return examples_in_batches(train_examples, batch_size, steps, batches)

    @cache
    def schedule_of(examples_seen: int, validation: int) -> str:
        return affordable_schedule(examples_seen=examples_seen, validation_examples=validation)

    def facts_at(point: "_Point") -> _DataFacts:
        return data(tuple([(name, point[name]) for name in own]))

    def shard_at(point: "_Point") -> int:
        return train_examples_of(point["dataset_fraction"], facts_at(point).pool)

    def steps_at(point: "_Point") -> int:
        return steps_of(
            point["train_examples"],
            point["batch_size"],
            point["learning_rate"],
            point["momentum"],
            point["learning_rate_schedule"],
            point["batch_size_schedule"],
        )

    work_out = {"train_examples": shard_at, "steps": steps_at}
    shards: dict[tuple[int, int], float] = {}
    matched, wording = False, grid.budget.wording
    for values in itertools.product(*(grid.axes[name] for name in names)):
        point = _Point(zip(names, values, strict=True), work_out)
        seeds = _wanted_seeds(study, grid, point)
        if not seeds:
            continue
        facts, train_examples, steps = facts_at(point), point["train_examples"], point["steps"]
        rates, batches = point["learning_rate_schedule"], point["batch_size_schedule"]
        fraction = shards.setdefault((facts.pool, train_examples), point["dataset_fraction"])
        if fraction != point["dataset_fraction"]:
            raise study.located(
                grid.lines["dataset_fraction"],
                f"grid '{grid.name}' has dataset_fraction {fraction:.12g} and "
                f"{point['dataset_fraction']:.12g}, which are the same {train_examples:,} of "
                f"{facts.pool:,} examples; allowed: fractions with shards of their own. Take one "
                "off the axis.",
            )
        if point["batch_size"] > train_examples:
            raise study.located(
                grid.lines["batch_size"],
                f"grid '{grid.name}' has batch_size {point['batch_size']} for a shard of "
                f"{train_examples} examples (dataset_fraction {point['dataset_fraction']:g} of "
                f"{facts.pool:,}); a batch is at most the shard. "
                "Add 'where: batch_size <= train_examples', or take the value off the axis.",
            )
        seen = examples_of(train_examples, point["batch_size"], steps, batches)
        schedule = schedule_of(seen, facts.validation)
        for seed in seeds:
            matched = True
            yield Cell(
                workload=workload.name,
                workload_version=workload.version,
                data_fingerprint=facts.fingerprint,
                dataset_fraction=point["dataset_fraction"],
                train_examples=train_examples,
                model_size=point["model_size"],
                batch_size=point["batch_size"],
                learning_rate=point["learning_rate"],
                momentum=point["momentum"],
                weight_decay=point["weight_decay"],
                seed=seed,
                steps=steps,
                budget=wording,
                optimizer=point["optimizer"],
                learning_rate_schedule=rates,
                batch_size_schedule=batches,
                workload_axes=facts.axes,
                default_axes=facts.at_default,
                evaluation_schedule=schedule,
                training_version=TRAINING_VERSION,
            )
    if not matched:
        raise study.located(
            grid.lines["where"],
            f"grid '{grid.name}' has no cell: none of its points satisfies its 'where'. "
            "Loosen the constraint or widen an axis.",
        )


@contextmanager
def usable(workload: BaseWorkload) -> Iterator[None]:
    """Turn what a workload raises while it is only looked at into a `PlanError`."""
    try:
        yield
    except MissingDataError:
        raise  # it says all: which data, and how to get them
    except WorkloadError as error:
        raise PlanError(f"The workload '{workload.name}' cannot be planned: {error}") from error
    except Exception as error:
        raise PlanError(
            f"The workload '{workload.name}' cannot be planned: its data or model raised "
            f"{type(error).__name__}: {error}. Install what it lacks or mend it; its conformance "
            "test (workloads.testing.WorkloadConformance) shows the place."
        ) from error


class _Point(dict[str, Any]):
    """The values of one point of a grid; what they come to is worked out when it is asked for."""

    def __init__(
        self,
        values: Iterable[tuple[str, AxisValue]],
        work_out: Mapping[str, Callable[["_Point"], AxisValue]],
    ) -> None:
        super().__init__(values)
        self._work_out = work_out

    def __missing__(self, name: str) -> AxisValue:
        value = self[name] = self._work_out[name](self)
        return value


@dataclass(frozen=True)
class _DataFacts:
    """What planning needs to know of the data at one point of the workload's own axes."""

    axes: WorkloadAxes
    """Value of every axis of the workload, by name in alphabetical order."""
    at_default: tuple[str, ...]
    """Names of those that stand at their defaults."""
    pool: int
    """Size of the pool of training examples."""
    validation: int
    """Size of the validation set."""
    fingerprint: str
    """Hash of the data."""


@lru_cache(maxsize=1024)
def _data_facts(workload: BaseWorkload, axes: WorkloadAxes) -> tuple[int, int, str]:
    """Return the sizes of the pool and of the validation set, and the fingerprint of the data."""
    sizes = set_sizes(workload, dict(axes))
    return sizes.pool, sizes.validation, data_fingerprint(workload, dict(axes))


def _wanted_seeds(study: Study, grid: Grid, point: _Point) -> Sequence[Any]:
    """Return the seeds with which `point`, which has all names but `seed`, is wanted."""
    seeds = grid.axes["seed"]
    if grid.where is None:
        return seeds
    try:
        if "seed" not in grid.where.names:
            return seeds if grid.where.holds(point) else ()
        return [seed for seed in seeds if grid.where.holds(ChainMap({"seed": seed}, point))]
    except ConstraintError as error:
        raise _located(study, grid, "where", error) from error


def _located(study: Study, grid: Grid, key: str, error: StudyFileError) -> StudyFileError:
    """Return an error that comes of a combination of values, with the line of the grid's `key`."""
    return study.located(grid.lines[key], f"grid '{grid.name}': {error}")
