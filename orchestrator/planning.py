"""What a study still has to train: its cells, minus what the store has, grouped into packs.

Planning writes nothing to the store. What is done is decided by the store alone:
**run = plan - store**.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import cast

import numpy as np
import pandas as pd
import torch

from analysis import columns
from cluster.capacity import NodeResources, TrialResources, slots_of
from cluster.local import usable_cpus
from orchestrator.cell import Cell, WorkloadAxes
from orchestrator.errors import PlanError
from orchestrator.grid_cells import grid_cells, usable
from orchestrator.packing import (
    MOST_STACKED,
    Cost,
    Kind,
    Pack,
    Shape,
    assumed_seconds,
    make_packs,
    shared_seconds,
)
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from orchestrator.torch_threads import one_torch_thread
from workloads.axis import AxisValue
from workloads.base import BaseWorkload, ModelCost, SetSizes
from workloads.cost import TRAINING_PASSES, model_cost, training_flops
from workloads.resident import set_sizes
from workloads.source import source_hash
from workloads.training.arithmetic import Arithmetic, Choice, choose_arithmetic
from workloads.training.lockstep import evaluated_examples, evaluation_flops
from workloads.training.scoring import measures

__all__ = ["GridPlan", "Plan", "ShapePath", "local_slots", "plan_study", "refreshed"]

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
    """How the cells of each kind are computed, stacked or one by one, and why."""
    predicted_seconds: float
    """Seconds of one worker for the packs as they are cut: assumed ones, scaled by what earlier
    runs measured of the shape."""
    unmeasured_cells: int
    """Cells to train whose shape no earlier run measured."""
    resources: tuple["ResourceNeed", ...]
    """What trials of each model size hold."""

    @property
    def cells_to_run(self) -> int:
        """Number of cells in the packs."""
        return sum(len(pack.cells) for pack in self.packs)

    def count(self, status: str) -> int:
        """Return how many of the study's cells have `status`."""
        return sum(1 for known in self.statuses.values() if known == status)


@dataclass(frozen=True, kw_only=True)
class ShapePath:
    """How the cells to train of one kind are computed."""

    model_size: AxisValue
    """Value of the workload's size axis."""
    batch_size: int
    """Examples a step."""
    cells: int
    """Cells to train of this kind."""
    choice: Choice
    """The arithmetic path, and why it is not a faster one."""


@dataclass(frozen=True, kw_only=True)
class ResourceNeed:
    """What a trial of one model size asks of the cluster; where axes decide too, one of several."""

    model_size: AxisValue
    """Value of the workload's size axis."""
    parameters: int
    """Parameters of the largest such model."""
    trial: TrialResources
    """What a trial holds."""


def local_slots(resources: TrialResources) -> int:
    """Return how many trials that hold `resources` run at once on this machine."""
    machine = NodeResources(name="here", cpus=usable_cpus(), gpus=torch.cuda.device_count())
    return max(1, slots_of(resources, [machine]))


def plan_study(
    study: Study,
    store: Store | None = None,
    *,
    retry_failed: bool = False,
    confirmed: bool = False,
    mix_sources: bool = False,
    slots: Callable[[TrialResources], int] | None = None,
) -> Plan:
    """Return what a run of `study` on `store` would do; writes nothing to it.

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
    cells: dict[str, Cell] = {}
    membership: dict[str, tuple[str, ...]] = {}
    for grid in study.grids:
        members = {cell.cell_id: cell for cell in grid_cells(study, grid)}
        membership[grid.name] = tuple(members)
        cells |= members
    return _plan(study, membership, cells, store, retry_failed, mix_sources, slots or local_slots)


def refreshed(
    plan: Plan,
    store: Store,
    *,
    retry_failed: bool = False,
    mix_sources: bool = False,
    slots: Callable[[TrialResources], int] = local_slots,
) -> Plan:
    """Return what `plan_study` would by what `store` says now, without making the cells again.

    The options are those of `plan_study`, and so are the errors.
    """
    membership = {grid.name: grid.cell_ids for grid in plan.grids}
    return _plan(plan.study, membership, plan.cells, store, retry_failed, mix_sources, slots)


def _plan(
    study: Study,
    membership: Mapping[str, tuple[str, ...]],
    cells: Mapping[str, Cell],
    store: Store | None,
    retry_failed: bool,
    mix_sources: bool,
    slots: Callable[[TrialResources], int],
) -> Plan:
    """Return the plan of `cells`, which are those of the grids in `membership`, by cell_id."""
    # Failures first: a cell that is trained between the two reads has its row in the second.
    failed = store.failed_attempts() if store is not None else set()
    rows = _known_rows(store)
    if not mix_sources:
        _refuse_mixed_sources(study.workload, rows)
    statuses = _statuses(cells, rows, failed)
    runnable = {"new", "failed"} if retry_failed else {"new"}
    to_run = [cell for cell_id, cell in cells.items() if statuses[cell_id] in runnable]
    # What a cell costs is worked out once for all that do the same work, which are most.
    counts = Counter(map(_work, to_run))
    examples = {_work(cell): cell for cell in to_run}
    # Paths are tried out as workers train. With a thread a core, 100 shapes took 54 s on a busy
    # machine, and 4 s with one.
    with usable(study.workload), one_torch_thread():
        costs = _costs(study.workload, cells.values())
        trials = {
            shape: study.resources.for_parameters(cost.parameter_count)
            for shape, cost in costs.items()
        }

        def kind(cell: Cell) -> Kind:
            return Kind(Shape.of(cell), trials[_shape(cell)])

        choices = _choices(study.workload, examples.values(), kind)
        evaluation = _evaluation_flops(study.workload, examples, costs)
    paces = _measured_paces(study.workload, rows)

    def predicted_cost(cell: Cell) -> Cost:
        training = training_flops(costs[_shape(cell)], cell.examples_seen)
        arithmetic = choices[kind(cell)].arithmetic
        own = assumed_seconds(arithmetic, cell.steps, training + evaluation[_work(cell)])
        pace = paces.get(_measured_shape(cell), 1.0)
        return Cost(own=own * pace, shared=shared_seconds(arithmetic, cell.steps) * pace)

    predicted = {work: predicted_cost(cell) for work, cell in examples.items()}
    packing = make_packs(
        to_run,
        choices,
        kind,
        lambda cell: predicted[_work(cell)],
        slots,
        store.open_packs() if store is not None and to_run else {},
    )

    def total(value: Callable[[Cell], float]) -> float:
        return sum(value(cell) * counts[work] for work, cell in examples.items())

    return Plan(
        study=study,
        grids=tuple(
            GridPlan(
                name=name, cell_ids=members, statuses=Counter(map(statuses.__getitem__, members))
            )
            for name, members in membership.items()
        ),
        cells=cells,
        statuses=statuses,
        packs=packing.packs,
        steps=sum(cell.steps for cell in to_run),
        training_flops=total(lambda cell: training_flops(costs[_shape(cell)], cell.examples_seen)),
        evaluation_flops=total(lambda cell: evaluation[_work(cell)]),
        paths=_paths(counts, examples, choices, kind),
        predicted_seconds=packing.seconds,
        unmeasured_cells=sum(
            counts[work] for work, cell in examples.items() if _measured_shape(cell) not in paces
        ),
        resources=_resource_needs(examples.values(), costs, trials),
    )


_Work = tuple[object, ...]

_work: Callable[[Cell], _Work] = attrgetter(
    "model_size",
    "batch_size",
    "data_fingerprint",
    "workload_axes",
    "train_examples",
    "steps",
    "evaluation_schedule",
    "optimizer",
    "batch_size_schedule",
)
"""What the time of a cell depends on."""


KNOWN_COLUMNS = (
    columns.CELL_ID,
    columns.STATUS,
    columns.WORKLOAD,
    columns.WORKLOAD_VERSION,
    columns.WORKLOAD_SOURCE,
    columns.MODEL_SIZE,
    columns.BATCH_SIZE,
    columns.OPTIMIZER,
    columns.BATCH_SIZE_SCHEDULE,
    columns.TRAIN_EXAMPLES,
    columns.VALIDATION_EXAMPLES,
    columns.TEST_EXAMPLES,
    columns.VALIDATION_EVALUATIONS,
    columns.PACK_ID,
    columns.PACKED_CELLS,
    columns.ARITHMETIC,
    columns.STEPS,
    columns.EXAMPLES_SEEN,
    columns.TRAINING_FLOPS,
    columns.WALL_SECONDS,
)


def _known_rows(store: Store | None) -> pd.DataFrame:
    if store is None or not store.exists():
        return pd.DataFrame(columns=list(KNOWN_COLUMNS))
    return store.read_cells(columns=KNOWN_COLUMNS)


def _refuse_mixed_sources(workload: BaseWorkload, rows: pd.DataFrame) -> None:
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


_MeasuredShape = tuple[AxisValue, int, str, str]

_measured_shape: Callable[[Cell], _MeasuredShape] = attrgetter(
    "model_size", "batch_size", "optimizer", "batch_size_schedule"
)


_SHAPE_COLUMNS = [
    columns.MODEL_SIZE,
    columns.BATCH_SIZE,
    columns.OPTIMIZER,
    columns.BATCH_SIZE_SCHEDULE,
]


def _measured_paces(workload: BaseWorkload, rows: pd.DataFrame) -> dict[_MeasuredShape, float]:
    """Return how many seconds cells took for each assumed one, by every shape of earlier runs.

    Not the seconds of a step: a short cell does little but look and score, a long one little of
    either. Nor those of a cell: alone it bears all that a stack shares, among many next to nothing,
    so that whole packs are asked, by the model that predicts packs.
    """
    paths = [*_SHAPE_COLUMNS, columns.ARITHMETIC]
    sums = _measured_packs(workload, rows).groupby(level=paths).sum()
    assumed = [
        assumed_seconds(path, steps, flops) + shared_seconds(path, stack_steps)
        for path, steps, flops, stack_steps in zip(
            map(Arithmetic, sums.index.get_level_values(columns.ARITHMETIC)),
            sums[columns.STEPS],
            sums["flops"],
            sums["stack_steps"],
            strict=True,
        )
    ]
    totals = sums.assign(assumed=assumed).groupby(level=_SHAPE_COLUMNS).sum()
    paces = (totals[columns.WALL_SECONDS] / totals["assumed"]).to_dict()
    return cast(dict[_MeasuredShape, float], paces)


def _measured_packs(workload: BaseWorkload, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the completed cells of every pack took, and what they did for it.

    The frame is indexed by shape, arithmetic and pack; `stack_steps` are those of the stacks, of
    which the cells bore the cost.
    """
    own = rows[
        (rows[columns.WORKLOAD] == workload.name)
        & rows[columns.ARITHMETIC].isin([each.value for each in Arithmetic])
    ]
    done = own[own[columns.STATUS] == "completed"]
    evaluated = evaluated_examples(
        done[columns.VALIDATION_EVALUATIONS].to_numpy() + measures(workload),
        done[columns.TRAIN_EXAMPLES].to_numpy(),
        done[columns.VALIDATION_EXAMPLES].to_numpy(),
        done[columns.TEST_EXAMPLES].to_numpy(),
    )
    share = evaluated / (TRAINING_PASSES * done[columns.EXAMPLES_SEEN])
    packs = (
        done.assign(flops=done[columns.TRAINING_FLOPS] * (1 + share), longest=done[columns.STEPS])
        .groupby([*_SHAPE_COLUMNS, columns.ARITHMETIC, columns.PACK_ID])
        .agg(
            {
                columns.WALL_SECONDS: "sum",
                columns.STEPS: "sum",
                "flops": "sum",
                "longest": "max",
                columns.PACKED_CELLS: "max",
            }
        )
    )
    # Members that diverged are counted: they mostly left the others early. Those that went on in
    # another pack, after a kill, are not: while they were here, they bore their part.
    members = own.groupby(columns.PACK_ID).size().reindex(packs.index, level=columns.PACK_ID)
    here = (members / packs[columns.PACKED_CELLS]).clip(upper=1.0)
    stack_steps = np.maximum(packs["longest"] * here, packs[columns.STEPS] / MOST_STACKED)
    return packs.assign(stack_steps=stack_steps)


def _choices(
    workload: BaseWorkload, cells: Iterable[Cell], kind: Callable[[Cell], Kind]
) -> dict[Kind, Choice]:
    """Return the arithmetic path of every kind."""
    choices: dict[Kind, Choice] = {}
    for cell in cells:
        common = kind(cell)
        if common not in choices:
            shape, trial = common
            choices[common] = choose_arithmetic(
                workload,
                cell.model_size,
                cell.workload_axes,
                cell.batch_size,
                "cuda" if trial.gpus > 0 else "cpu",
                cell.optimizer,
                tuple(batch for _, batch in shape.later_batches),
                trial.workers,
            )
    return choices


def _paths(
    counts: Mapping[_Work, int],
    examples: Mapping[_Work, Cell],
    choices: Mapping[Kind, Choice],
    kind: Callable[[Cell], Kind],
) -> tuple[ShapePath, ...]:
    cells: Counter[Kind] = Counter()
    for work, cell in examples.items():
        cells[kind(cell)] += counts[work]
    return tuple(
        ShapePath(
            model_size=common.shape.model_size,
            batch_size=common.shape.batch_size,
            cells=number,
            choice=choices[common],
        )
        for common, number in cells.items()
    )


def _evaluation_flops(
    workload: BaseWorkload, examples: Mapping[_Work, Cell], costs: Mapping["_Shape", ModelCost]
) -> dict[_Work, float]:
    """Return the operations of all evaluations of a cell, by its work."""
    sizes: dict[WorkloadAxes, SetSizes] = {}
    flops = {}
    for work, cell in examples.items():
        axes = cell.workload_axes
        if axes not in sizes:
            sizes[axes] = set_sizes(workload, dict(axes))
        own = sizes[axes]
        flops[work] = evaluation_flops(
            costs[_shape(cell)],
            cell.recipe(),
            validation_examples=own.validation,
            test_examples=own.test,
            with_metrics=measures(workload),
        )
    return flops


_Shape = tuple[AxisValue, WorkloadAxes]


def _shape(cell: Cell) -> _Shape:
    """Return what the cost of a cell's model depends on: its size, and the data's axes."""
    return cell.model_size, cell.workload_axes


def _costs(workload: BaseWorkload, cells: Iterable[Cell]) -> dict[_Shape, ModelCost]:
    # One value of the axes after the other, as their data are loaded to count the operations.
    shapes = sorted({_shape(cell) for cell in cells}, key=lambda shape: str(shape[::-1]))
    return {(size, axes): model_cost(workload, size, dict(axes)) for size, axes in shapes}


def _resource_needs(
    cells: Iterable[Cell],
    costs: Mapping[_Shape, ModelCost],
    trials: Mapping[_Shape, TrialResources],
) -> tuple[ResourceNeed, ...]:
    """Return what trials of every size hold, each time for the largest model that holds it."""
    largest: dict[tuple[AxisValue, TrialResources], int] = {}
    for shape in set(map(_shape, cells)):
        size, _ = shape
        need = size, trials[shape]
        largest[need] = max(costs[shape].parameter_count, largest.get(need, 0))
    needs = [
        ResourceNeed(model_size=size, parameters=parameters, trial=trial)
        for (size, trial), parameters in largest.items()
    ]
    return tuple(sorted(needs, key=attrgetter("model_size", "parameters")))
