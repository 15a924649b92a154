"""What a study still has to train: its cells, minus what the store has, grouped into packs.

Planning touches nothing. What is done is decided by the store alone: **run = plan - store**.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import pandas as pd
import torch

from analysis import columns
from cluster.capacity import NodeResources, slots_of
from cluster.local import usable_cpus
from orchestrator.budget import BudgetError
from orchestrator.cell import Cell
from orchestrator.constraint import ConstraintError
from orchestrator.errors import PlanError
from orchestrator.packing import Pack, Shape, assumed_seconds, make_packs
from orchestrator.store import Store
from orchestrator.study import Grid, Study
from workloads.axis import AxisValue
from workloads.base import Workload
from workloads.cost import ModelCost, model_cost, training_flops
from workloads.resident import data_fingerprint, load_data
from workloads.source import source_hash
from workloads.training import TRAINING_VERSION
from workloads.training.arithmetic import Choice, choose_arithmetic
from workloads.training.lockstep import evaluation_flops

__all__ = ["GridPlan", "Plan", "ShapePath", "local_slots", "plan_study"]

CONFIRMED_POINTS = 100_000
"""Studies of more grid points than this need an explicit yes: 10⁵ is the size we test for."""


@dataclass(frozen=True, kw_only=True)
class GridPlan:
    """One grid's cells by what the store says of them."""

    name: str
    """Name of the grid."""
    cell_ids: tuple[str, ...]
    """All its cells."""
    statuses: Counter[str]
    """Number of cells that are new, completed, diverged or failed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of the study would do."""

    study: Study
    """The study that is planned."""
    grids: tuple[GridPlan, ...]
    """Its grids; a cell may belong to several."""
    cells: Mapping[str, Cell]
    """Every cell of the study, once, by cell_id."""
    statuses: Mapping[str, str]
    """new, completed, diverged or failed, by cell_id."""
    packs: tuple[Pack, ...]
    """The cells to train, longest pack first."""
    steps: int
    """Updates to make."""
    training_flops: float
    """Floating-point operations of forward and backward passes to make."""
    evaluation_flops: float
    """Floating-point operations of the looks at validation sets, and of the scores at the end."""
    paths: tuple["ShapePath", ...]
    """How the cells of each shape are computed, stacked or one by one, and why."""
    predicted_seconds: float
    """Seconds of one worker: from what earlier runs measured, else assumed."""
    unmeasured_cells: int
    """Cells to train whose shape no earlier run measured."""
    resources: tuple["ResourceNeed", ...]
    """What one trial of each model size holds."""

    @property
    def cells_to_run(self) -> int:
        """Number of cells in the packs."""
        return sum(len(pack.cells) for pack in self.packs)

    def count(self, status: str) -> int:
        """Return how many of the study's cells have `status`."""
        return sum(1 for known in self.statuses.values() if known == status)


@dataclass(frozen=True, kw_only=True)
class ShapePath:
    """How the cells to train of one shape are computed."""

    model_size: AxisValue
    """Value of the workload's size axis."""
    batch_size: int
    """Examples a step."""
    cells: int
    """Cells to train of this shape."""
    choice: Choice
    """The arithmetic path, and why it is not a faster one."""


@dataclass(frozen=True, kw_only=True)
class ResourceNeed:
    """What one trial of one model size asks of the cluster."""

    model_size: AxisValue
    """Value of the workload's size axis."""
    parameters: int
    """Parameters of that model."""
    cpus: float
    """CPUs of a trial."""
    gpus: float
    """GPUs of a trial."""


def plan_study(
    study: Study,
    store: Store | None = None,
    *,
    retry_failed: bool = False,
    confirmed: bool = False,
    mix_sources: bool = False,
    slots: Callable[[float, float], int] | None = None,
) -> Plan:
    """Return what a run of `study` on `store` would do; touches nothing.

    `store`: None, or one that does not exist yet: everything is new. `retry_failed`: failed
    cells are planned again. `confirmed`: more than 100,000 grid points are intended.
    `mix_sources`: rows trained by another source of the workload under the same version count.
    `slots`: how many trials that hold so many CPUs and GPUs run at once; by default, on this
    machine. Raises `PlanError` where one of these is not given and needed, and `StudyFileError`
    for a cell that is impossible.
    """
    points = study.points()
    if points > CONFIRMED_POINTS and not confirmed:
        raise PlanError(
            f"{study.source}: the grids have {points:,} points; more than "
            f"{CONFIRMED_POINTS:,} need --yes. Pass --yes, or take values off an axis."
        )
    membership = {grid.name: tuple(grid_cells(study, grid)) for grid in study.grids}
    cells = {cell.cell_id: cell for members in membership.values() for cell in members}
    rows = _known_rows(store)
    if not mix_sources:
        _refuse_mixed_sources(study.workload, rows)
    statuses = _statuses(cells, rows, store.failed_cell_ids() if store and len(cells) else set())
    runnable = {"new", "failed"} if retry_failed else {"new"}
    to_run = [cell for cell_id, cell in cells.items() if statuses[cell_id] in runnable]
    with _usable(study.workload):
        costs = _costs(study.workload, cells.values())
        choices = _choices(study, to_run, costs)
        evaluation = _evaluation_flops(study.workload, to_run, costs)
    rates = _measured_rates(rows)

    def seconds(cell: Cell) -> float:
        rate = rates.get(_measured_shape(cell))
        if rate is not None:
            return rate * cell.steps
        choice = choices[Shape.of(cell)]
        flops = evaluation[cell.cell_id]
        return assumed_seconds(cell, costs[_shape(cell)], choice.arithmetic, flops)

    measured = [cell.cell_id for cell in to_run if _measured_shape(cell) in rates]
    return Plan(
        study=study,
        grids=tuple(
            GridPlan(
                name=name,
                cell_ids=tuple(cell.cell_id for cell in members),
                statuses=Counter(statuses[cell.cell_id] for cell in members),
            )
            for name, members in membership.items()
        ),
        cells=cells,
        statuses=statuses,
        packs=make_packs(
            to_run,
            choices,
            {cell.model_size: costs[_shape(cell)].parameter_count for cell in to_run},
            study.resources,
            seconds,
            slots or local_slots,
            store.open_packs() if store is not None and to_run else {},
        ),
        steps=sum(cell.steps for cell in to_run),
        training_flops=sum(
            training_flops(costs[_shape(cell)], cell.steps * cell.batch_size) for cell in to_run
        ),
        evaluation_flops=sum(evaluation.values()),
        paths=_paths(to_run, choices),
        predicted_seconds=sum(map(seconds, to_run)),
        unmeasured_cells=len(to_run) - len(measured),
        resources=_resource_needs(study, to_run, costs),
    )


def grid_cells(study: Study, grid: Grid) -> Iterator[Cell]:
    """Yield the cells of one grid that satisfy its constraint.

    Raises `StudyFileError`, with the line, for a cell that cannot be trained: a shard without
    examples, or a batch larger than its shard.
    """
    workload = study.workload
    own = sorted(axis.name for axis in workload.axes)
    defaults = {axis.name: axis.default for axis in workload.axes}
    names = list(grid.axes)
    facts: dict[tuple[tuple[str, AxisValue], ...], tuple[int, str]] = {}
    matched = False
    for values in itertools.product(*grid.axes.values()):
        point: dict[str, Any] = dict(zip(names, values, strict=True))
        axes = tuple((name, point[name]) for name in own)
        if axes not in facts:
            with _usable(workload):
                facts[axes] = _data_facts(workload, axes)
        pool, fingerprint = facts[axes]
        train_examples = round(point["dataset_fraction"] * pool)
        if train_examples < 1:
            raise study.located(
                grid.lines["dataset_fraction"],
                f"dataset_fraction {point['dataset_fraction']:g} of the {pool:,} training examples "
                f"is no example; allowed: at least {0.5 / pool:.3g}. Raise it.",
            )
        with _located(study, grid, "budget"):
            steps = grid.budget.steps(
                train_examples=train_examples,
                batch_size=point["batch_size"],
                learning_rate=point["learning_rate"],
            )
        if grid.where is not None:
            with _located(study, grid, "where"):
                wanted = grid.where.holds(
                    {**point, "train_examples": train_examples, "steps": steps}
                )
            if not wanted:
                continue
        if point["batch_size"] > train_examples:
            raise study.located(
                grid.lines["batch_size"],
                f"grid '{grid.name}' has batch_size {point['batch_size']} for a shard of "
                f"{train_examples} examples (dataset_fraction {point['dataset_fraction']:g} of "
                f"{pool:,}); a batch is at most the shard. "
                "Add 'where: batch_size <= train_examples', or take the value off the axis.",
            )
        matched = True
        yield Cell(
            workload=workload.name,
            workload_version=workload.version,
            data_fingerprint=fingerprint,
            dataset_fraction=point["dataset_fraction"],
            train_examples=train_examples,
            model_size=point["model_size"],
            batch_size=point["batch_size"],
            learning_rate=point["learning_rate"],
            momentum=point["momentum"],
            weight_decay=point["weight_decay"],
            seed=point["seed"],
            steps=steps,
            budget=grid.budget.wording,
            workload_axes=axes,
            default_axes=tuple(name for name, value in axes if value == defaults[name]),
            training_version=TRAINING_VERSION,
        )
    if not matched:
        raise study.located(
            grid.lines["where"],
            f"grid '{grid.name}' has no cell: none of its points satisfies its 'where'. "
            "Loosen the constraint or widen an axis.",
        )


@contextmanager
def _located(study: Study, grid: Grid, key: str) -> Iterator[None]:
    """Add the line of the grid's `key` to errors that come of a combination of its values."""
    try:
        yield
    except (BudgetError, ConstraintError) as error:
        raise study.located(grid.lines[key], f"grid '{grid.name}': {error}") from error


@contextmanager
def _usable(workload: Workload) -> Iterator[None]:
    """Turn what a workload raises while it is only looked at into a `PlanError`."""
    try:
        yield
    except Exception as error:
        raise PlanError(
            f"The workload '{workload.name}' cannot be planned: its data or model raised "
            f"{type(error).__name__}: {error}. Install what it lacks or mend it; its conformance "
            "test (workloads.testing.WorkloadConformance) shows the place."
        ) from error


@lru_cache(maxsize=1024)
def _data_facts(workload: Workload, axes: tuple[tuple[str, AxisValue], ...]) -> tuple[int, str]:
    """Return the size of the pool and the fingerprint of the data."""
    data = load_data(workload, dict(axes), "cpu")
    return len(data.train), data_fingerprint(workload, dict(axes))


KNOWN_COLUMNS = (
    columns.CELL_ID,
    columns.STATUS,
    columns.WORKLOAD,
    columns.WORKLOAD_VERSION,
    columns.WORKLOAD_SOURCE,
    columns.MODEL_SIZE,
    columns.BATCH_SIZE,
    columns.STEPS,
    columns.WALL_SECONDS,
)


def _known_rows(store: Store | None) -> pd.DataFrame:
    if store is None or not store.exists():
        return pd.DataFrame(columns=list(KNOWN_COLUMNS))
    return store.read_cells(columns=KNOWN_COLUMNS)


def _refuse_mixed_sources(workload: Workload, rows: pd.DataFrame) -> None:
    same = (rows[columns.WORKLOAD] == workload.name) & (
        rows[columns.WORKLOAD_VERSION] == workload.version
    )
    source = source_hash(workload)
    others = sorted(set(rows.loc[same, columns.WORKLOAD_SOURCE]) - {source})
    if others:
        raise PlanError(
            f"The source of workload '{workload.name}' is {source}, but the store has rows of "
            f"version {workload.version} trained by source {', '.join(others)}. Raise the "
            "workload's version if its results changed, or pass --mix-sources if they did not."
        )


def _statuses(cells: Mapping[str, Cell], rows: pd.DataFrame, failed: set[str]) -> dict[str, str]:
    done = dict(zip(rows[columns.CELL_ID], rows[columns.STATUS], strict=True))
    return {
        cell_id: str(done.get(cell_id, "failed" if cell_id in failed else "new"))
        for cell_id in cells
    }


_MeasuredShape = tuple[str, AxisValue, int]


def _measured_shape(cell: Cell) -> _MeasuredShape:
    return cell.workload, cell.model_size, cell.batch_size


def _measured_rates(rows: pd.DataFrame) -> dict[_MeasuredShape, float]:
    """Return the seconds of a step, evaluations included, of every shape that earlier runs had."""
    completed = rows[rows[columns.STATUS] == "completed"]
    shape = [columns.WORKLOAD, columns.MODEL_SIZE, columns.BATCH_SIZE]
    sums = completed.groupby(shape)[[columns.WALL_SECONDS, columns.STEPS]].sum()
    rates = (sums[columns.WALL_SECONDS] / sums[columns.STEPS]).to_dict()
    return cast(dict[_MeasuredShape, float], rates)


def local_slots(cpus: float, gpus: float) -> int:
    """Return how many trials that hold so many CPUs and GPUs run at once on this machine."""
    machine = NodeResources(name="here", cpus=usable_cpus(), gpus=torch.cuda.device_count())
    return max(1, slots_of(cpus, gpus, [machine]))


def _choices(
    study: Study, to_run: Sequence[Cell], costs: Mapping["_Shape", ModelCost]
) -> dict[Shape, Choice]:
    """Return the arithmetic path of every shape."""
    choices: dict[Shape, Choice] = {}
    for cell in to_run:
        shape = Shape.of(cell)
        if shape not in choices:
            parameters = costs[_shape(cell)].parameter_count
            _, gpus = study.resources.for_parameters(parameters)
            choices[shape] = choose_arithmetic(
                study.workload,
                cell.model_size,
                cell.workload_axes,
                cell.batch_size,
                "cuda" if gpus > 0 else "cpu",
            )
    return choices


def _paths(to_run: Sequence[Cell], choices: Mapping[Shape, Choice]) -> tuple[ShapePath, ...]:
    counts = Counter(map(Shape.of, to_run))
    return tuple(
        ShapePath(
            model_size=shape.model_size,
            batch_size=shape.batch_size,
            cells=counts[shape],
            choice=choices[shape],
        )
        for shape in counts
    )


def _evaluation_flops(
    workload: Workload, to_run: Sequence[Cell], costs: Mapping["_Shape", ModelCost]
) -> dict[str, float]:
    """Return by cell_id the operations of all its evaluations."""
    sizes: dict[tuple[tuple[str, AxisValue], ...], tuple[int, int]] = {}
    flops = {}
    for cell in to_run:
        axes = cell.workload_axes
        if axes not in sizes:
            data = load_data(workload, dict(axes))
            sizes[axes] = len(data.validation), len(data.test)
        validation, test = sizes[axes]
        flops[cell.cell_id] = evaluation_flops(
            costs[_shape(cell)], cell.recipe(), validation_examples=validation, test_examples=test
        )
    return flops


_Shape = tuple[AxisValue, tuple[tuple[str, AxisValue], ...]]


def _shape(cell: Cell) -> _Shape:
    """Return what the cost of a cell's model depends on: its size, and the data's axes."""
    return cell.model_size, cell.workload_axes


def _costs(workload: Workload, cells: Iterable[Cell]) -> dict[_Shape, ModelCost]:
    # One value of the axes after the other, as their data are loaded to count the operations.
    shapes = sorted({_shape(cell) for cell in cells}, key=lambda shape: str(shape[::-1]))
    return {(size, axes): model_cost(workload, size, dict(axes)) for size, axes in shapes}


def _resource_needs(
    study: Study, to_run: Sequence[Cell], costs: Mapping[_Shape, ModelCost]
) -> tuple[ResourceNeed, ...]:
    parameters = {cell.model_size: costs[_shape(cell)].parameter_count for cell in to_run}
    needs = []
    for size in sorted(parameters):
        cpus, gpus = study.resources.for_parameters(parameters[size])
        needs.append(
            ResourceNeed(model_size=size, parameters=parameters[size], cpus=cpus, gpus=gpus)
        )
    return tuple(needs)
