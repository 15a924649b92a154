"""What a study still has to train: its cells, minus what the store has, grouped into packs.

Planning touches nothing. What is done is decided by the store alone: **run = plan - store**.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis import columns
from orchestrator.cell import Cell, WorkloadAxes, canonical_json
from orchestrator.errors import PlanError
from orchestrator.grid_cells import grid_cells, usable
from orchestrator.store import Store
from orchestrator.study import Study
from workloads.axis import AxisValue
from workloads.base import Workload
from workloads.cost import ModelCost, model_cost, training_flops
from workloads.source import source_hash
from workloads.training import ARITHMETIC

__all__ = ["GridPlan", "Pack", "Plan", "plan_study", "refreshed"]

CONFIRMED_POINTS = 100_000
"""Studies of more grid points than this need an explicit yes: 10⁵ is the size we test for."""

PACK_SECONDS = 20.0
"""Predicted length of a pack. One trial costs 0.05-0.1 s of scheduling, so 20 s keeps that below
0.5 %, while a lost worker repeats little."""

STEP_SECONDS = 1.2e-4
"""Assumed fixed cost of a step where nothing was measured: Python and kernel starts of a small
model on one CPU thread (measured 0.1-0.15 ms)."""

FLOPS_PER_SECOND = 2e10
"""Assumed arithmetic rate where nothing was measured: one CPU thread on small matrices."""


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Cells that one Ray Tune trial trains together."""

    cells: tuple[Cell, ...]
    """The members, in the order in which they are trained."""
    cpus: float
    """CPUs that the trial holds."""
    gpus: float
    """GPUs that the trial holds; a fraction shares a device."""

    @cached_property
    def pack_id(self) -> str:
        """16 hex digits over the sorted cell_ids and the arithmetic path."""
        identity = [ARITHMETIC, *sorted(cell.cell_id for cell in self.cells)]
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]

    def holding(self, cells: Sequence[Cell]) -> "Pack":
        """Return a pack of `cells` with the same resources."""
        return Pack(cells=tuple(cells), cpus=self.cpus, gpus=self.gpus)


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
    predicted_seconds: float | None
    """Seconds of one worker for the shapes that earlier runs measured; None: none was."""
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
) -> Plan:
    """Return what a run of `study` on `store` would do; touches nothing.

    `store`: None, or one that does not exist yet: everything is new. `retry_failed`: failed
    cells are planned again. `confirmed`: more than 100,000 grid points are intended.
    `mix_sources`: rows trained by another source of the workload under the same version count.
    Raises `PlanError` where one of these is not given and needed, and `StudyFileError` for a
    cell that is impossible.
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
    return _plan(
        study,
        membership,
        cells,
        _findings(study, store, cells, mix_sources=mix_sources),
        retry_failed=retry_failed,
    )


def refreshed(
    plan: Plan, store: Store, *, retry_failed: bool = False, mix_sources: bool = False
) -> Plan:
    """Return `plan` by what `store` says now; its cells are not made again.

    The options are those that `plan` was made with. Raises `PlanError` like `plan_study`.
    """
    findings = _findings(plan.study, store, plan.cells, mix_sources=mix_sources)
    if findings.statuses == plan.statuses:
        return plan
    membership = {grid.name: grid.cell_ids for grid in plan.grids}
    return _plan(plan.study, membership, plan.cells, findings, retry_failed=retry_failed)


@dataclass(frozen=True)
class _Findings:
    """What the store says of a study's cells."""

    rows: pd.DataFrame
    """All rows of the store, with `KNOWN_COLUMNS`."""
    statuses: Mapping[str, str]
    """new, completed, diverged or failed, by cell_id."""


def _findings(
    study: Study, store: Store | None, cells: Mapping[str, Cell], *, mix_sources: bool
) -> _Findings:
    # Failures first: a cell that is trained between the two reads has its row in the second.
    failed = store.failed_attempts() if store else set()
    rows = _known_rows(store)
    if not mix_sources:
        _refuse_mixed_sources(study.workload, rows)
    return _Findings(rows, _statuses(cells, rows, failed))


def _plan(
    study: Study,
    membership: Mapping[str, tuple[str, ...]],
    cells: Mapping[str, Cell],
    findings: _Findings,
    *,
    retry_failed: bool,
) -> Plan:
    statuses = findings.statuses
    runnable = {"new", "failed"} if retry_failed else {"new"}
    to_run = [cell for cell_id, cell in cells.items() if statuses[cell_id] in runnable]
    with usable(study.workload):
        costs = _costs(study.workload, cells.values())
    examples: Counter[_Shape] = Counter()
    for cell in to_run:
        examples[_shape(cell)] += cell.steps * cell.batch_size
    seconds, unmeasured = _predicted_seconds(to_run, findings.rows)
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
        packs=_packs(study, to_run, costs),
        steps=sum(cell.steps for cell in to_run),
        training_flops=sum(training_flops(costs[shape], seen) for shape, seen in examples.items()),
        predicted_seconds=seconds,
        unmeasured_cells=unmeasured,
        resources=_resource_needs(study, {shape: costs[shape] for shape in examples}),
    )


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


def _predicted_seconds(to_run: Sequence[Cell], rows: pd.DataFrame) -> tuple[float | None, int]:
    """Return the seconds of one worker for the measured cells, and how many are unmeasured."""
    completed = rows[rows[columns.STATUS] == "completed"]
    shape = [columns.WORKLOAD, columns.MODEL_SIZE, columns.BATCH_SIZE]
    sums = completed.groupby(shape)[[columns.WALL_SECONDS, columns.STEPS]].sum()
    rates = (sums[columns.WALL_SECONDS] / sums[columns.STEPS]).to_dict()
    if not rates:
        return None, len(to_run)
    known = [
        cell.steps * rates[key]
        for cell in to_run
        if (key := (cell.workload, cell.model_size, cell.batch_size)) in rates
    ]
    return (sum(known) if known else None), len(to_run) - len(known)


_Shape = tuple[AxisValue, WorkloadAxes]


def _shape(cell: Cell) -> _Shape:
    """Return what the cost of a cell's model depends on: its size, and the data's axes."""
    return cell.model_size, cell.workload_axes


def _costs(workload: Workload, cells: Iterable[Cell]) -> dict[_Shape, ModelCost]:
    # One value of the axes after the other, as their data are loaded to count the operations.
    shapes = sorted({_shape(cell) for cell in cells}, key=lambda shape: str(shape[::-1]))
    return {(size, axes): model_cost(workload, size, dict(axes)) for size, axes in shapes}


def _resource_needs(study: Study, costs: Mapping[_Shape, ModelCost]) -> tuple[ResourceNeed, ...]:
    parameters = {size: cost.parameter_count for (size, _), cost in costs.items()}
    needs = []
    for size in sorted(parameters):
        cpus, gpus = study.resources.for_parameters(parameters[size])
        needs.append(
            ResourceNeed(model_size=size, parameters=parameters[size], cpus=cpus, gpus=gpus)
        )
    return tuple(needs)


def _packs(
    study: Study, to_run: Sequence[Cell], costs: Mapping[_Shape, ModelCost]
) -> tuple[Pack, ...]:
    """Return packs of one shape each, about `PACK_SECONDS` long, longest first.

    Which cells share a pack depends on the cells alone, not on their order in the file.
    """

    def seconds(cell: Cell) -> float:
        flops = training_flops(costs[_shape(cell)], cell.batch_size)
        return cell.steps * (STEP_SECONDS + flops / FLOPS_PER_SECOND)

    shapes: dict[tuple[str, str, int], list[Cell]] = defaultdict(list)
    for cell in to_run:
        shapes[(cell.workload, canonical_json(cell.model_size), cell.batch_size)].append(cell)
    packs: list[tuple[float, Pack]] = []
    for members in shapes.values():
        cpus, gpus = study.resources.for_parameters(costs[_shape(members[0])].parameter_count)
        members.sort(key=lambda cell: (-cell.steps, cell.cell_id))
        total = sum(map(seconds, members))
        number = -(-total // PACK_SECONDS) if study.workload.stackable else len(members)
        number = min(max(1, int(number)), len(members))
        for first in range(number):
            share = tuple(members[first::number])
            packs.append((sum(map(seconds, share)), Pack(cells=share, cpus=cpus, gpus=gpus)))
    packs.sort(key=lambda item: (-item[0], item[1].pack_id))
    return tuple(pack for _, pack in packs)
