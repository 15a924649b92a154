"""What the study that is planned can decide: by its grids alone, or by simulated studies.

Grids are asked what a report will ask of their results (`analysis.law_questions`). Structure costs
no simulation and is part of every plan; power takes seconds, and assumptions that are said.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import columns
from analysis.design.limits import (
    BatchLawLimits,
    PowerLawLimits,
    batch_law_limits,
    power_law_limits,
)
from analysis.design.planned_runs import DesignGrid
from analysis.errors import FitError
from analysis.json_values import json_value
from analysis.law_questions import NOTHING_TO_ASK, Law, LawQuestion, law_questions
from orchestrator.cell import Cell, canonical_json
from orchestrator.planning import Plan
from workloads.base import BaseWorkload
from workloads.resident import set_sizes

if TYPE_CHECKING:
    from analysis.design.batch_law import BatchLawDesign
    from analysis.design.power_law import PowerLawDesign

__all__ = ["GridForecast", "Power", "study_limits", "study_power"]

COLUMNS = (
    columns.TRAIN_EXAMPLES,
    columns.MODEL_SIZE,
    columns.BATCH_SIZE,
    columns.LEARNING_RATE,
    columns.MOMENTUM,
    columns.WEIGHT_DECAY,
    columns.SEED,
    columns.OPTIMIZER,
    columns.LEARNING_RATE_SCHEDULE,
    columns.BATCH_SIZE_SCHEDULE,
)
"""Fields of a cell that a law is asked of, named like the store's columns."""
MOST_CELLS = 200_000
"""Cells of a grid beyond which its structure is not judged, so that planning stays quick."""
SIMULATION_SECONDS = 20.0
"""What all simulations of a study may take on one core, about."""
MOST_SETS, FEWEST_SETS = 200, 10
ASSUMED_EXPONENT, ASSUMED_LOG_NOISE = -0.3, 0.04
"""Of a learning curve without pilot: an image classifier's exponent (Hestness et al. 2017, §4.3:
-.31 for top-1 error of ResNets, arXiv:1712.00409), and noise of 4 %."""
ASSUMED_START = 0.5
"""Share of the chance error at which that curve starts."""


@dataclass(frozen=True, kw_only=True)
class GridForecast:
    """What one grid, or one part of it, can say of one law."""

    grid: str
    """Name of the grid."""
    law: Law | None
    """None where no law can be asked of the grid."""
    part: str
    """Values of the axes that part the grid; empty for a whole one."""
    answer: "BatchLawLimits | PowerLawLimits | BatchLawDesign | PowerLawDesign | None"
    """Limits or design of that law; None where there is a `problem`."""
    problem: str = ""
    """Why nothing can be said; empty where something can."""

    def sentences(self) -> tuple[str, ...]:
        """Return what a person reads."""
        return (self.problem,) if self.answer is None else tuple(self.answer.sentences())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "grid": self.grid,
            "law": None if self.law is None else str(self.law),
            "part": self.part,
            "problem": self.problem or None,
            "answer": None if self.answer is None else json_value(self.answer.to_dict()),
        }


@dataclass(frozen=True, kw_only=True)
class Power:
    """What a simulation assumes."""

    noise: float | None = None
    """Standard deviation of a run's error."""
    depth: float | None = None
    """Depth of the bowl of error against batch size."""
    pilot: str | None = None
    """Store of an earlier study, to take curves and noise from instead."""


def study_limits(plan: Plan) -> tuple[GridForecast, ...]:
    """Return what every grid of the plan admits whatever the noise; nothing is simulated."""
    return tuple(_limits(asked) for asked in _asked_of(plan))


def study_power(plan: Plan, power: Power) -> tuple[GridForecast, ...]:
    """Return how every grid of the plan is expected to come out, by simulation.

    As many studies are simulated as take about 20 s of one core; their number depends on the plan
    alone. Raises `FitError` for an assumption that is not allowed or a pilot that is of no use.
    """
    pilot = None if power.pilot is None else _Pilot(power.pilot)
    asked = list(_asked_of(plan))
    laws = [each.question.law for each in asked if each.question is not None]
    seconds = SIMULATION_SECONDS / max(laws.count(Law.BATCH_SIZE), 1)
    workload = plan.study.workload
    found = []
    for each in asked:
        limits = _limits(each)
        if isinstance(limits.answer, BatchLawLimits):
            limits = replace(limits, answer=_batch_law(each, limits.answer, power, pilot, seconds))
        elif isinstance(limits.answer, PowerLawLimits):
            limits = replace(limits, answer=_power_law(each, limits.answer, pilot, workload))
        found.append(limits)
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One law asked of one grid; no question where the grid can speak to none."""

    grid: str
    question: LawQuestion | None
    remark: str = ""


def _asked_of(plan: Plan) -> Iterator[_Asked]:
    for grid in plan.grids:
        if len(grid.cell_ids) > MOST_CELLS:
            remark = f"{len(grid.cell_ids):,} cells are too many to judge while planning."
            yield _Asked(grid=grid.name, question=None, remark=remark)
            continue
        questions = list(law_questions(_table(plan.cells[cell_id] for cell_id in grid.cell_ids)))
        for question in questions:
            yield _Asked(grid=grid.name, question=question)
        if not questions:
            yield _Asked(grid=grid.name, question=None, remark=NOTHING_TO_ASK)


def _table(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return the cells as a table of results has them, without results.

    The workload's own axes stand in columns of their own, as `load_cells` puts them.
    """
    values = attrgetter(*COLUMNS)
    rows, axes = [], []
    for cell in cells:
        rows.append((*values(cell), canonical_json(dict(cell.workload_axes))))
        axes.append(dict(cell.workload_axes))
    table = pd.DataFrame(rows, columns=[*COLUMNS, columns.WORKLOAD_AXES])
    return table.join(pd.DataFrame(axes, index=table.index))


def _limits(asked: _Asked) -> GridForecast:
    question = asked.question
    if question is None:
        return GridForecast(grid=asked.grid, law=None, part="", answer=None, problem=asked.remark)
    found = GridForecast(grid=asked.grid, law=question.law, part=question.part_name, answer=None)
    if question.law is Law.POWER_LAW:
        seeds = question.cells.groupby(columns.TRAIN_EXAMPLES)[columns.SEED].nunique()
        sizes = [float(size) for size in seeds.index]
        limits = power_law_limits(sizes, int(seeds.min()), choose=question.choose)
        return replace(found, answer=limits)
    try:
        grid = DesignGrid.of_cells(question.cells)
    except FitError as error:  # what the analysis of the results will say, too
        return replace(found, problem=str(error))
    return replace(found, answer=batch_law_limits(grid))


def _batch_law(
    asked: _Asked, limits: BatchLawLimits, power: Power, pilot: "_Pilot | None", seconds: float
) -> "BatchLawDesign":
    from analysis.design.assumed_curves import DEPTH, NOISE, Bowl
    from analysis.design.batch_law import forecast_batch_law

    grid = limits.grid
    sets = _affordable_sets(grid, seconds)
    if pilot is not None:
        return forecast_batch_law(grid, pilot=pilot.cells_like(asked), sets=sets)
    noise = NOISE if power.noise is None else power.noise
    bowl = Bowl(depth=DEPTH if power.depth is None else power.depth)
    return forecast_batch_law(grid, noise=noise, curve=bowl, sets=sets)


def _affordable_sets(grid: DesignGrid, seconds: float) -> int:
    """Return how many studies of each of two truths can be simulated, 10 to 200.

    A study took 30 ms and 2 ms a curve on one core, 5 to 16 seeds alike.
    """
    sets = int(seconds / 2 / (0.03 + 0.002 * len(grid.groups)))
    return min(max(sets, FEWEST_SETS), MOST_SETS)


def _power_law(
    asked: _Asked, limits: PowerLawLimits, pilot: "_Pilot | None", workload: BaseWorkload
) -> "PowerLawDesign":
    from analysis.curves.power_law import fit_power_law
    from analysis.design.power_law import AssumedCurve, curve_of_pilot, power_law_design

    assert asked.question is not None
    choose = asked.question.choose
    axes = json.loads(asked.question.cells[columns.WORKLOAD_AXES].iloc[0])
    if pilot is not None:
        assumed = curve_of_pilot(fit_power_law(pilot.cells_like(asked), choose=choose, ci=None))
    else:
        start = ASSUMED_START * workload.chance_error * min(limits.sizes) ** -ASSUMED_EXPONENT
        assumed = AssumedCurve(start, ASSUMED_EXPONENT, 0.0, ASSUMED_LOG_NOISE)
    return power_law_design(
        limits.sizes,
        limits.seeds,
        alpha=assumed.alpha,
        beta=assumed.beta,
        gamma=assumed.gamma,
        noise=assumed.noise,
        choose=choose,
        chance_error=workload.chance_error,
        validation_examples=set_sizes(workload, axes).validation,
    )


class _Pilot:
    """The results of an earlier study, asked the same questions."""

    def __init__(self, store: str) -> None:
        from analysis.loading import load_cells, load_grids

        self.store = store
        cells = load_cells(store)
        self.asked = [
            _Asked(grid=str(grid), question=question)
            for (_, grid), members in load_grids(store).groupby([columns.STUDY, columns.GRID])
            for question in law_questions(
                cells[cells[columns.CELL_ID].isin(members[columns.CELL_ID])]
            )
        ]

    def cells_like(self, planned: _Asked) -> pd.DataFrame:
        """Return the pilot's cells of the same law: of the same grid and part, or the only ones.

        Raises `FitError` where there are none, or several of which none is named alike.
        """
        assert planned.question is not None
        law = planned.question.law
        found = {
            (each.grid, each.question.part_name): each.question.cells
            for each in self.asked
            if each.question is not None and each.question.law is law
        }
        alike = found.get((planned.grid, planned.question.part_name))
        if alike is not None:
            return alike
        if len(found) == 1:
            return next(iter(found.values()))
        listed = "; ".join(f"{grid} {part}".strip() for grid, part in found) or "none"
        raise FitError(
            f"The pilot {self.store} must have one grid for the {law} of grid '{planned.grid}', or "
            f"one named alike; it has: {listed}. Give another pilot, or --noise."
        )
