"""Coverage of `PowerLawFit.predict_interval` beyond the sizes fitted, where the form is true.

Tables are those of the section `power_law`: nine sizes over 2.4 decades. The curve is predicted at
2, 4 and 16 times the largest. M1 is judged on curves without floor alone.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import fit_power_law
from analysis.curves.least_squares import log_curve
from tests.analysis.calibration.power_law import (
    FLOORS,
    LEVEL,
    LOG_SIZES,
    SEEDS,
    SIZES,
    Tables,
    make_tables,
)
from tests.analysis.calibration.power_law import Task as TablesTask
from tests.analysis.calibration.registry import Row, share_row

Array = NDArray[np.float64]

TIMES = (2, 4, 16)
"""Multiples of the largest size fitted."""
NOISES = ("independent", "seed × slope")
FORMS = (("M1", FLOORS[0]), ("M2", FLOORS[0]), ("M2", FLOORS[1]))
REQUIRED = (0.91, 1.0)
"""Not too low. Where a floor may be hidden the interval errs on the wide side."""
CHUNK = 100


class Task(NamedTuple):
    """Tables of one kind that are fitted with one form."""

    form: str
    tables: TablesTask


class Result(NamedTuple):
    """What the intervals of one task's tables were."""

    task: Task
    covered: NDArray[np.bool_]
    """(sets, 3) whether they hold the curve, by `TIMES`."""
    width: Array
    """(sets, 3) log of upper over lower."""


def tasks(sets: int) -> list[Task]:
    """Return the tasks of the section, `sets` tables of each kind."""
    kinds = [(form, floor, n, s) for form, floor in FORMS for n in NOISES for s in SEEDS]
    return [
        Task(form, TablesTask(noise, floor, seeds, min(CHUNK, sets - first), (22, index, chunk)))
        for index, (form, floor, noise, seeds) in enumerate(kinds)
        for chunk, first in enumerate(range(0, sets, CHUNK))
    ]


def measure(task: Task) -> Result:
    """Return coverage and width of a task's tables."""
    tables = make_tables(task.tables)
    at = SIZES[-1] * np.array(TIMES, dtype=float)
    bounds = []
    for log_error in tables.log_error:
        fit = fit_power_law(as_cells(log_error), x="m", y="error", form=task.form)
        bounds.append(np.log(fit.predict_interval(at, LEVEL)[["lower", "upper"]].to_numpy()))
    lower, upper = np.moveaxis(np.array(bounds), 2, 0)
    curve = true_curves(tables, at)
    return Result(task, (lower <= curve) & (curve <= upper), upper - lower)


def as_cells(log_error: Array) -> pd.DataFrame:
    """Return the table of (n, S) log errors."""
    sizes, seeds = log_error.shape
    return pd.DataFrame(
        {
            "m": np.repeat(SIZES[:sizes], seeds),
            "seed": np.tile(np.arange(seeds), sizes),
            "error": np.exp(log_error).ravel(),
        }
    )


def true_curves(tables: Tables, at: Array) -> Array:
    """Return (d, a) log errors without noise at (a,) sizes."""
    beta, gamma = tables.beta, tables.gamma
    log_alpha = np.log(tables.first - gamma) - beta * LOG_SIZES[0]
    return log_curve(np.stack([log_alpha, beta, gamma], axis=1), np.log(at))


def rows(results: list[Result]) -> list[Row]:
    """Return coverage and median width, by kind and multiple of the largest size."""
    kinds: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        of = result.task.tables
        kinds[result.task.form, f"{of.noise}, {of.seeds} seeds, {of.floor}"].append(result)
    return [row for kind, of_kind in kinds.items() for row in _rows(*kind, of_kind)]


def _rows(form: str, truth: str, results: list[Result]) -> list[Row]:
    covered = np.concatenate([result.covered for result in results])
    width = np.concatenate([result.width for result in results])
    made = []
    for times, inside, wide in zip(TIMES, covered.T, width.T, strict=True):
        what = f"{form}, curve at {times}× the largest size"
        hits, sets = int(inside.sum()), len(inside)
        made.append(share_row(f"{what}, 95 % coverage", truth, hits, sets, REQUIRED))
        factor = float(np.exp(np.median(wide)))
        made.append(Row(what=f"{what}, median upper / lower", truth=truth, sets=sets, value=factor))
    return made
