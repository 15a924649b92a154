"""Predictions of points that a fit has not seen, for many splits of one table at once.

Splits and folds of the seeds are rows of one call of `fit_form`: a point left out has weight 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis.curves.bounds import score_bounds
from analysis.curves.curve_points import curve_points
from analysis.curves.floor_curves import curves_at_floors
from analysis.errors import FitError
from analysis.fits.fitting import fit_form
from analysis.forms import find_form
from analysis.forms.base import Array, Form

__all__ = [
    "Held",
    "Observations",
    "chosen_forms",
    "fit_folds",
    "floor_range",
    "forecast",
    "observe",
    "pooled_spread",
    "predict_held_out",
    "refuse_missing",
    "scores",
]

_POINT = "_point"
EXACT = 1e-12
"""Mean squares of log error below this are rounding; an information criterion takes them for it."""


@dataclass(frozen=True, eq=False)
class Observations:
    """Mean log errors at n points, with those of each fold of S seeds."""

    x: Array
    """(n, v) values of the columns x, by the first of them ascending where there is one."""
    log_y: Array
    """(1 + S, n) means of all seeds, then without each; (1, n) for a table of one seed."""
    seeds: NDArray[np.intp]
    """(n,) seeds at each point."""
    spread: Array
    """(n,) variance of log error between seeds; NaN where there is one."""
    n_cells: int
    """Number of cells."""
    why: tuple[str, ...]
    """Sentences about sizes left out."""


@dataclass(frozen=True, eq=False)
class Held:
    """Predictions of one form in K splits."""

    log_predicted: Array
    """(K, n) at every point, seen or not."""
    log_lower: Array
    """(K, n) lower bounds of an observed mean log error; NaN with one seed."""
    log_upper: Array
    """(K, n) upper bounds."""


def observe(
    cells: pd.DataFrame,
    x: Sequence[str],
    y: str,
    *,
    seed: str | None,
    choose: Sequence[str],
    chance_error: float | None,
    validation_examples: int | None,
) -> Observations:
    """Return the points of a table by the rules of `fit_power_law`: one each distinct x."""
    name, values = x[0], cells
    if len(x) > 1:
        refuse_missing(cells, x)
        codes = cells.groupby(list(x), sort=True).ngroup()
        name, values = _POINT, cells.assign(**{_POINT: codes + 1.0})
    points = curve_points(
        values,
        x=name,
        y=y,
        seed=seed,
        choose=choose,
        chance_error=chance_error,
        validation_examples=validation_examples,
        named=x,
    )
    without: list[int | None] = [None]
    if len(points.seeds) > 1:
        without += range(len(points.seeds))
    each = points.envelope.log_error
    count = (~np.isnan(each)).sum(axis=1)
    centred = each - np.nanmean(each, axis=1, keepdims=True)
    squares = np.nansum(centred**2, axis=1)
    out = points.table[(points.table["why"] != "") & ~points.table["used"]]
    return Observations(
        x=_values(values, name, x, points.size),
        log_y=np.stack([points.mean_log_error(fold) for fold in without]),
        seeds=count,
        spread=np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan),
        n_cells=points.n_cells,
        why=tuple(f"{name} {row[name]:g} not used: {row['why']}." for _, row in out.iterrows()),
    )


def refuse_missing(cells: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise `FitError` where a column is missing, or a row has none of its values."""
    if missing := [name for name in names if name not in cells]:
        raise FitError(f"No column {missing[0]!r}. Columns here: {', '.join(map(str, cells))}.")
    for name in names:
        if nulls := int(cells[name].isna().sum()):
            raise FitError(
                f"{nulls} of {len(cells)} rows have no {name}. Drop or complete them first."
            )


def _values(cells: pd.DataFrame, name: str, x: Sequence[str], points: Array) -> Array:
    """Return (n, v) values of `x` where the column `name` has the values `points`."""
    rows = cells.drop_duplicates(name).set_index(name)
    here = rows.reindex(points)
    columns = [points if column == name else here[column].to_numpy() for column in x]
    values = np.column_stack(columns).astype(float)
    if not (np.isfinite(values) & (values > 0)).all():
        raise FitError(f"{', '.join(x)} must be finite and above 0; logs of them are needed.")
    return values


def chosen_forms(names: Sequence[str], variables: int) -> list[Form]:
    """Return the forms of those names, each of `variables` variables; `FitError` otherwise."""
    if isinstance(names, str) or not names:
        raise FitError(f"forms is {names!r}; pass names, such as ('M1', 'M2').")
    forms = [find_form(name) for name in names]
    if len({form.name for form in forms}) < len(forms):
        raise FitError(f"forms names one twice: {', '.join(names)}.")
    for form in forms:
        if len(form.variables) != variables:
            raise FitError(
                f"{form.name} has the variables {', '.join(form.variables)}, and x names "
                f"{variables} columns. Name as many, or choose other forms."
            )
    return forms


def predict_held_out(
    form: Form, observed: Observations, train: NDArray[np.bool_], level: float
) -> Held:
    """Return predictions of (K, n) splits, `train` telling the points that each fit sees.

    The interval is of a new mean over as many seeds as the point has: the jackknife variance of the
    curve's log, and the variance between seeds, pooled over the points seen, over the number of
    seeds; t with S - 1 degrees. Seeds shared by all sizes shift curve and new point together,
    which the sum ignores: there it is wide. For M2 the curves through the ends of the interval of γ
    are included, as γ̂ = 0 in all folds looks certain: at 8 times the sizes seen and independent
    noise the jackknife alone covered .75 to .78 at a nominal .90, with them .89 to .92.
    """
    return _intervals(form, observed, train, observed.x, observed.seeds, level)


def forecast(form: Form, observed: Observations, x: Array, level: float, seeds: int | None) -> Held:
    """Return (1, r) predictions at (r, v) `x` of means of `seeds` runs, from all points.

    By default as many seeds as the last point has.
    """
    if seeds is not None and seeds < 1:
        raise FitError(f"seeds is {seeds}; the mean of at least 1 run can be predicted.")
    everything = np.ones((1, len(observed.x)), dtype=bool)
    runs = np.full(len(x), observed.seeds[-1] if seeds is None else seeds)
    return _intervals(form, observed, everything, x, runs, level)


def _intervals(
    form: Form,
    observed: Observations,
    train: NDArray[np.bool_],
    x: Array,
    seeds: NDArray[np.intp],
    level: float,
) -> Held:
    """Return (K, r) predictions at (r, v) `x` of means of (r,) `seeds` runs; see above."""
    values = form.log_value(fit_folds(form, observed, train), x)
    predicted = values[:, 0]
    folds = values.shape[1] - 1
    if folds < 2:
        return Held(predicted, *np.full((2, *predicted.shape), np.nan))
    rest = values[:, 1:]
    curve = (folds - 1) / folds * ((rest - rest.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    new = pooled_spread(observed, train)[:, None] / seeds
    quantile = float(stdtrit(folds - 1, (1 + level) / 2))
    half = quantile * np.sqrt(curve + new)
    lower, upper = predicted - half, predicted + half
    if form.name == "M2":
        low, high = floor_range(form, observed, train, level, x)
        lower = np.minimum(lower, predicted - np.hypot(predicted - low, quantile * np.sqrt(new)))
        upper = np.maximum(upper, predicted + np.hypot(high - predicted, quantile * np.sqrt(new)))
    return Held(predicted, lower, upper)


def floor_range(
    form: Form, observed: Observations, train: NDArray[np.bool_], level: float, x: Array
) -> tuple[Array, Array]:
    """Return (K, n) least and largest log curves of M2 fitted with γ held at its bounds."""
    low, high = np.empty((len(train), len(x))), np.empty((len(train), len(x)))
    for split, seen in enumerate(train):
        means, count = observed.log_y[:, seen], int(seen.sum())
        exact = (np.zeros((count, count)),) * 2
        bounds = score_bounds(np.log(observed.x[seen, 0]), means, exact, floor=True, level=level)
        values = form.log_value(curves_at_floors(observed.x[seen, 0], means[0], bounds[2]), x)
        low[split], high[split] = values.min(axis=0), values.max(axis=0)
    return low, high


def fit_folds(form: Form, observed: Observations, train: NDArray[np.bool_]) -> Array:
    """Return (K, 1 + S, p) working parameters: in each split of all seeds, then without each."""
    splits, folds = len(train), len(observed.log_y)
    fits = fit_form(
        form,
        observed.x,
        np.tile(observed.log_y, (splits, 1)),
        weights=np.repeat(train.astype(float), folds, axis=0),
    )
    return fits.theta.reshape(splits, folds, -1)


def pooled_spread(observed: Observations, train: NDArray[np.bool_]) -> Array:
    """Return (K,) variances of log error between seeds, pooled over the points seen."""
    freedom = train * (observed.seeds - 1)
    return np.asarray((freedom * np.nan_to_num(observed.spread)).sum(axis=1) / freedom.sum(axis=1))


def scores(form: Form, observed: Observations, theta: Array) -> tuple[float, float]:
    """Return AIC and BIC of a fit to all points, (p,) `theta`; NaN with no residual freedom.

    n log(RSS/n) + 2 (p + 1), and (p + 1) log n in place of the second term: Gaussian errors of
    mean log error, their variance being the last parameter.
    """
    n, parameters = len(observed.x), len(form.parameters) + 1
    if n <= parameters:
        return float("nan"), float("nan")
    residual = observed.log_y[0] - form.log_value(theta, observed.x)
    fit = n * np.log(max(float((residual**2).mean()), EXACT))
    return float(fit + 2 * parameters), float(fit + parameters * np.log(n))
