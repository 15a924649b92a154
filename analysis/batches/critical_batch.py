"""The critical batch size: how far a larger batch still saves steps to reach a target.

Not the batch size of least error, which `optimal_batch_sizes` finds at a fixed number of steps:
here the target is fixed, and steps S are counted. Up to the critical batch size twice the batch
needs almost half the steps; beyond it the steps level off and examples E = B S are wasted.

One curve stands behind two published definitions. McCandlish et al. 2018, arXiv:1812.06162, §2.3,
have (S/S_min - 1)(E/E_min - 1) = 1; with E = B S that is S = S_min + E_min/B, the curve
S = a + b/B of Zhang et al. 2024, arXiv:2410.21676. From its a = S_min and b = E_min:

- `critical_batch_size` B_crit = E_min/S_min, where twice the least steps and twice the least
  examples are needed. In theory the gradient noise scale (`analysis.batches.noise_scale`).
- `overhead_batch_size`: where examples are 1 + overhead times those of a base batch size B_0.
  From a B + b = (1 + overhead)(a B_0 + b): B = (1 + overhead) B_0 + overhead · B_crit. Zhang et al.
  take overhead .2 and B_0 = 256, the batch size whose steps set their target; hence their
  b/(5a) + 307.2. With B_0 = 0 it is against perfect scaling, E_min itself.

How B_crit moves with the loss, B_crit = B_* L^(-1/α_B) (Kaplan et al. 2020, arXiv:2001.08361,
§5.1), is a power law without floor: `fit_power_law(table, x="loss", y="critical_batch_size",
form="M1", …)`, whose β is -1/α_B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc

from analysis import columns
from analysis.batches.steps_curve import StepsToTarget, fit_steps, log_steps_at, steps_bounds
from analysis.errors import FitError
from analysis.fits.seed_noise import seed_noise
from analysis.json_values import json_value
from analysis.mixed_settings import HELD, refuse_mixed
from analysis.summary_table import Summary

__all__ = ["CriticalBatchSizes", "CriticalBatchStatus", "fit_critical_batch_size"]

Array = NDArray[np.float64]
LEVEL = 0.95
MIN_BATCH_SIZES = 4
NEAR = 2.0
"""Some batch size must be this factor below B_crit, where examples are within 1.5 of the least,
and some this factor above it, where steps are. A convention of this project."""
MISFIT_LEVEL = 0.001
"""Chance at which a right curve is called a poor fit."""

QUANTITIES = ("steps_min", "examples_min", "critical_batch_size")


class CriticalBatchStatus(StrEnum):
    """What to know before a critical batch size is used; the first that applies."""

    NO_PLATEAU = "unidentified: no batch size near the plateau, where steps level off"
    NO_LINEAR_REGIME = "unidentified: no batch size near perfect scaling, where examples are least"
    POOR_FIT = "poor fit: a + b/B misses the steps by more than the noise of seeds explains"
    CONVERGED = "converged"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CriticalBatchSizes:
    """S = S_min + E_min/B fitted to each group; look at `status` before a number is used."""

    steps: str
    """Column of the steps to the target."""
    batch_size: str
    """Column of the batch size B."""
    by: tuple[str, ...]
    """Columns that tell groups apart, each with a curve of its own."""
    overhead: float
    """Share of further examples at `overhead_batch_size`."""
    base_batch_size: float
    """B_0, whose examples the overhead is counted from; 0 for perfect scaling."""
    status: pd.Series
    """A `CriticalBatchStatus` for each group; its value is the sentence."""
    theta: Array
    """(groups, 2) log S_min and log E_min."""
    data: tuple[StepsToTarget, ...]
    """What each group's curve was fitted to."""

    @property
    def params(self) -> pd.DataFrame:
        """One row a group: S_min, E_min, B_crit, and the batch size of the overhead."""
        logs = [self.theta[:, 0], self.theta[:, 1], self.theta[:, 1] - self.theta[:, 0]]
        values = self._with_overhead(np.exp(np.stack(logs, axis=1)))
        return pd.DataFrame(values, index=self.status.index, columns=list(self._names))

    def conf_int(self, level: float = LEVEL) -> pd.DataFrame:
        """Return bounds `lower`, `upper`, one row for each group and quantity.

        The values that a test at 1 - level does not reject, the rest of the curve fitted anew.
        With seeds: the derivative of the misfit against its jackknife standard error, t with S - 1.
        Without: the sum of squares, F with n - 2 degrees, for independent runs. A side that the
        data leave open has the bound 0 or infinity; so have B_crit and what depends on it, where no
        batch size is near that end (`status`).
        """
        if not 0 < level < 1:
            raise FitError(f"level is {level}; it must lie between 0 and 1, such as 0.95.")
        bounds = np.stack([_bounds(steps, level) for steps in self.data])
        full = np.moveaxis(self._with_overhead(np.moveaxis(bounds, 1, 2)), 2, 1)
        index = pd.MultiIndex.from_tuples(
            [(*_as_tuple(group), name) for group in self.status.index for name in self._names],
            names=[*self.status.index.names, "quantity"],
        )
        return pd.DataFrame(full.reshape(-1, 2), index=index, columns=["lower", "upper"])

    def predict(self, batch_size: ArrayLike) -> pd.DataFrame:
        """Return the steps to the target at batch sizes, one row a group and a column each."""
        size = np.asarray(batch_size, dtype=float).ravel()
        if not (np.isfinite(size) & (size > 0)).all():
            raise FitError("Batch sizes to predict at must be finite and above 0.")
        steps = np.exp(log_steps_at(self.theta, np.log(size)))
        sizes = pd.Index(size, name=self.batch_size)
        return pd.DataFrame(steps, index=self.status.index, columns=sizes)

    def summary(self) -> Summary:
        """Return a printable summary: the curve, the quantities with intervals, the reserves."""
        table = self.conf_int()
        table.insert(0, "estimate", self.params.to_numpy().ravel())
        runs = sum(int(np.isfinite(of.log_steps).sum()) for of in self.data)
        seeds = {of.seeds for of in self.data}
        methods = sorted({"profile" if number == 1 else "jackknife" for number in seeds})
        facts = (
            ("Steps", self.steps),
            ("Batch size", self.batch_size),
            ("Form", "S_min + E_min/B"),
            ("Interval", f"{' or '.join(methods)}, {LEVEL:.0%}"),
            ("Overhead", f"{self.overhead:g} over B = {self.base_batch_size:g}"),
            ("Seeds", " to ".join(str(number) for number in sorted({min(seeds), max(seeds)}))),
            ("Groups", str(len(self.data))),
            ("Runs", str(runs)),
        )
        notes = [f"{_name(group)}: {status}." for group, status in self.status.items()]
        return Summary(title="Critical batch size", facts=facts, table=table, notes=tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Return the fits as plain values for JSON; infinite bounds are "inf"."""
        bounds = self.conf_int()
        groups = []
        for place, (group, status) in enumerate(self.status.items()):
            rows = bounds.iloc[place * len(self._names) : (place + 1) * len(self._names)]
            rows = rows.set_axis(list(self._names))
            groups.append(
                {
                    "group": json_value(list(_as_tuple(group))),
                    "status": CriticalBatchStatus(status).name.lower(),
                    "params": json_value(self.params.iloc[place].to_dict()),
                    "conf_int": json_value(rows.to_dict("index")),
                    "batch_sizes": json_value(self.data[place].batch_size.tolist()),
                    "seeds": self.data[place].seeds,
                }
            )
        return {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "by": list(self.by),
            "overhead": self.overhead,
            "base_batch_size": self.base_batch_size,
            "level": LEVEL,
            "groups": groups,
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        statuses = ", ".join(
            f"{_name(group)} {CriticalBatchStatus(status).name}"
            for group, status in self.status.items()
        )
        return f"CriticalBatchSizes({statuses})"

    @property
    def _names(self) -> tuple[str, ...]:
        return (*QUANTITIES, "overhead_batch_size")

    def _with_overhead(self, values: Array) -> Array:
        """Return (..., 4) `values` (..., 3) and the batch size of the overhead behind them."""
        more = (1 + self.overhead) * self.base_batch_size + self.overhead * values[..., 2]
        return np.concatenate([values, more[..., None]], axis=-1)


def fit_critical_batch_size(
    table: pd.DataFrame,
    *,
    steps: str,
    batch_size: str = columns.BATCH_SIZE,
    by: str | Sequence[str] = (),
    seed: str | None = None,
    overhead: float = 0.2,
    base_batch_size: float = 0.0,
) -> CriticalBatchSizes:
    """Fit S = S_min + E_min/B to steps to a target, by least squares on log S, for each group.

    Args:
        table: one row a run that reached the target.
        steps: column of the steps S > 0 to the target; not a budget of steps, equal for all runs.
        batch_size: column of B > 0.
        by: columns of groups, such as the model's size; each has a curve of its own.
        seed: column that tells replicates apart; None for one run at each batch size.
        overhead: share of further examples at `overhead_batch_size`, .2 as in Zhang et al. 2024.
        base_batch_size: B_0 in the same unit as B; 0 counts from perfect scaling.

    Returns:
        A `CriticalBatchSizes`; look at `.status` before a number is used.

    Raises:
        FitError: fewer than 4 batch sizes in a group, a batch size with one seed among several, two
            runs of one batch size and seed, numbers that are missing, infinite, 0 or negative, or a
            group of several models, workloads, optimizers, schedules or axes of the workload.
    """
    groups_by = (by,) if isinstance(by, str) else tuple(by)
    _check(table, [steps, batch_size, *groups_by, *([] if seed is None else [seed])])
    if table.empty:
        raise FitError("The table has no rows; check the study or filter that made it.")
    if not (overhead > 0 and 0 <= base_batch_size < np.inf):
        raise FitError(
            f"overhead is {overhead} and base_batch_size {base_batch_size}; the first must be "
            "above 0, the second 0 (perfect scaling) or a batch size."
        )
    for name in (steps, batch_size):
        _check_positive(table, name, steps)
    index, parts = _groups(table, groups_by)
    for part in parts:
        _refuse_mixed(part, groups_by)
    data = tuple(
        _steps(part, steps, batch_size, seed, _name(group))
        for group, part in zip(index, parts, strict=True)
    )
    theta = np.stack([fit_steps(np.log(of.batch_size), of.means[:1])[0] for of in data])
    statuses = [_status(of, of_theta) for of, of_theta in zip(data, theta, strict=True)]
    return CriticalBatchSizes(
        steps=steps,
        batch_size=batch_size,
        by=groups_by,
        overhead=overhead,
        base_batch_size=base_batch_size,
        status=pd.Series(statuses, index=index, name="status", dtype=object),
        theta=theta,
        data=data,
    )


def _groups(table: pd.DataFrame, by: tuple[str, ...]) -> tuple[pd.Index, list[pd.DataFrame]]:
    """Return the groups' names, in order of appearance, and their rows; one "all" without `by`."""
    if not by:
        return pd.Index(["all"], name="group"), [table]
    names, parts = zip(*table.groupby(list(by), sort=False), strict=True)
    index = pd.MultiIndex.from_tuples(names, names=by)
    return index if len(by) > 1 else index.get_level_values(0), list(parts)


def _refuse_mixed(part: pd.DataFrame, by: tuple[str, ...]) -> None:
    """Refuse a group whose runs differ in more than batch size, seed, rate and momentum."""
    held = HELD if columns.PARAMETER_COUNT in by else (*HELD, columns.MODEL_SIZE)
    refuse_mixed(part, held, by, "where it varies, the steps may too", "name it in `by`")


def _as_tuple(group: object) -> tuple[object, ...]:
    return group if isinstance(group, tuple) else (group,)


def _name(group: object) -> str:
    return ", ".join(str(value) for value in _as_tuple(group))


def _check(table: pd.DataFrame, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in table]:
        raise FitError(f"No column {missing[0]!r}. Columns here: {', '.join(map(str, table))}.")
    if len(set(names)) < len(names):
        raise FitError(
            f"steps, batch_size, by and seed must be different columns; got {', '.join(names)}."
        )
    for name in names:
        if nulls := int(table[name].isna().sum()):
            raise FitError(
                f"{nulls} of {len(table)} rows have no {name}. "
                + (_UNREACHED if name == names[0] else "Drop or complete them first.")
            )


_UNREACHED = (
    "A batch size whose runs did not all reach the target has no mean: leave it out whole, or take "
    "an easier target."
)


def _check_positive(table: pd.DataFrame, name: str, steps: str) -> None:
    if not pd.api.types.is_numeric_dtype(table[name]) or pd.api.types.is_bool_dtype(table[name]):
        raise FitError(f"Column {name!r} is of type {table[name].dtype}; numbers are needed.")
    values = table[name].to_numpy(dtype=float)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        hint = " Leave out batch sizes that did not reach the target." if name == steps else ""
        raise FitError(
            f"Column {name!r} holds {values[wrong][0]:g}; finite numbers above 0 are needed.{hint}"
        )


def _steps(
    table: pd.DataFrame, steps: str, batch_size: str, seed: str | None, group: str
) -> StepsToTarget:
    keys = [batch_size, *([] if seed is None else [seed])]
    if table.duplicated(keys).any():
        row = table[table.duplicated(keys)].iloc[0]
        where = ", ".join(f"{key}={row[key]}" for key in keys)
        raise FitError(
            f"{group}: several runs have {where}. Name the seed's column with seed=…, columns that "
            "tell curves apart with by=…, or keep the fastest run at each batch size."
        )
    if table[batch_size].nunique() < MIN_BATCH_SIZES:
        raise FitError(
            f"{group}: {table[batch_size].nunique()} distinct values of {batch_size}, and "
            f"{MIN_BATCH_SIZES} are needed. Train more batch sizes."
        )
    logs = table.assign(**{steps: np.log(table[steps].to_numpy(dtype=float))})
    if seed is None:
        wide = logs.set_index(batch_size)[[steps]].sort_index()
    else:
        wide = logs.pivot_table(index=batch_size, columns=seed, values=steps, sort=True)
    lonely = (wide.notna().sum(axis=1) < 2) & (wide.shape[1] > 1)
    if lonely.any():
        raise FitError(
            f"{group}: {batch_size} {wide.index[lonely][0]:g} has one seed only, others have more. "
            "Leave it out, or train it on another seed."
        )
    return StepsToTarget(
        batch_size=wide.index.to_numpy(dtype=float), log_steps=wide.to_numpy(dtype=float)
    )


def _status(steps: StepsToTarget, theta: Array) -> CriticalBatchStatus:
    critical = float(np.exp(theta[1] - theta[0]))
    lower, upper = np.exp(steps_bounds(steps, LEVEL)[2])
    if steps.batch_size.max() < NEAR * critical or np.isinf(upper):
        return CriticalBatchStatus.NO_PLATEAU
    if steps.batch_size.min() > critical / NEAR or lower == 0:
        return CriticalBatchStatus.NO_LINEAR_REGIME
    if steps.seeds > 1 and _misses(steps, theta):
        return CriticalBatchStatus.POOR_FIT
    return CriticalBatchStatus.CONVERGED


def _misses(steps: StepsToTarget, theta: Array) -> bool:
    """Return whether the means lie off the curve by more than seeds do from their shifted means."""
    means = steps.means[0]
    between_runs, freedom = seed_noise(steps.log_steps)
    noise = between_runs * float((1 / np.isfinite(steps.log_steps).sum(axis=1)).mean())
    off = means - log_steps_at(theta[None], np.log(steps.batch_size))[0]
    upper = len(means) - 2
    misfit = float(off @ off) / upper
    if misfit < 1e-18:  # Rounding.
        return False
    return noise == 0 or bool(fdtrc(upper, freedom, misfit / noise) < MISFIT_LEVEL)


def _bounds(steps: StepsToTarget, level: float) -> Array:
    """Return (3, 2) bounds of S_min, E_min and B_crit."""
    theta = fit_steps(np.log(steps.batch_size), steps.means[:1])[0]
    bounds = np.exp(steps_bounds(steps, level))
    critical = np.exp(theta[1] - theta[0])
    if steps.batch_size.max() < NEAR * critical:
        bounds[0, 0], bounds[2, 1] = 0.0, np.inf
    if steps.batch_size.min() > critical / NEAR:
        bounds[1, 0], bounds[2, 0] = 0.0, 0.0
    return np.asarray(bounds)
