"""How the best model grows with the data: s(m) = σ m^β_p, from grids of model sizes per shard.

A grid names no best size, only neighbours that are worse; at its edge not even that. So each shard
gives a parabola's vertex where the grid is fine enough, an interval where it is not, and an open
bound at an edge. Source of the law: Hestness et al. 2017, §3 (arXiv:1712.00409), who report
.5 ≤ β_p < 1 from points without intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis import columns
from analysis.batches.batch_grid import BatchGrid
from analysis.batches.optimum import ALPHA, OptimumLabel, Peaks, find_peaks
from analysis.curves.curve_points import CurvePoints, curve_points
from analysis.curves.envelope import cross_fit
from analysis.errors import FitError
from analysis.fits.censored_regression import fit_interval_censored
from analysis.fits.jackknife import Jackknife
from analysis.json_values import json_value
from analysis.summary_table import Summary, format_number

__all__ = ["ModelSizeLaw", "ModelSizeStatus", "fit_model_size_law"]

Floats = NDArray[np.float64]

LEVEL = 0.95
MIN_SHARDS = 3
MAXIMUM_SHARE = 0.5
"""Share of shards whose optimum may be unseen, as for the batch-size law."""


class ModelSizeStatus(StrEnum):
    """What to know before the exponent is used; the first that applies."""

    FLAT = "flat: in more than half of the shards no model size is known to be worse"
    CENSORED = "censored: in more than half of the shards the best size may lie beyond the grid"
    CONTRADICTORY = "contradictory: no power law passes through the interval of every shard"
    BOUNDED = (
        "bounded: too few shards have a best size that a parabola estimates; the bounds are the "
        "slopes of all lines through the intervals of every shard"
    )
    ESTIMATED = "estimated"


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSizeLaw:
    """s(m) = σ m^β_p; look at `status` first."""

    x: str
    """Column of the shard sizes m."""
    y: str
    """Column of the error."""
    model_size: str
    """Column of the model sizes s."""
    beta: float
    """β_p; NaN where the data give bounds alone."""
    standard_error: float
    """Jackknife over seeds; infinite where there is none."""
    degrees_of_freedom: int
    """Seeds - 1."""
    bounds: tuple[float, float]
    """Bounds of β_p at 95 %; infinite where the data give none."""
    log_sigma: float
    """log σ; NaN like `beta`."""
    status: ModelSizeStatus
    """Whether, and with what reserve, the exponent can be used; its value is the sentence."""
    optima: pd.DataFrame
    """One row a shard: `label`, `lower` and `upper` (the nearest sizes known to be worse, 0 and inf
    where there are none), `best_size` of the grid, `optimum` (NaN without vertex), `sizes`."""
    seeds: tuple[object, ...]
    """Seeds behind it."""
    n_cells: int
    """Number of cells."""
    cell_ids: tuple[str, ...]
    """Their ids; empty where the table has none."""
    folds: Floats
    """(S, 2) log₂ s at the mean of log₂ m, and β_p, without each seed; (0, 2) where bounded."""
    centre: tuple[float, float]
    """Mean of log₂ m, and log₂ s there; NaN like `beta`."""

    def conf_int(self) -> pd.DataFrame:
        """Return the bounds of β_p at 95 %: index `beta`, columns `lower` and `upper`."""
        return pd.DataFrame([self.bounds], index=["beta"], columns=["lower", "upper"])

    def predict(self, m: ArrayLike, level: float = LEVEL) -> pd.DataFrame:
        """Return `predicted`, `lower` and `upper` best model size for shards of `m` examples.

        Bounds are those of the law, by the jackknife; NaN, 0 and infinity where it has none.
        """
        size = np.asarray(m, dtype=float).ravel()
        if not (np.isfinite(size) & (size > 0)).all():
            raise FitError("Shard sizes to predict at must be finite and above 0.")
        away = np.log2(size) - self.centre[0]
        estimate = self.centre[1] + self.beta * away
        half = np.full(len(size), np.inf)
        if len(self.folds):
            values = self.folds[:, :1] + self.folds[:, 1:] * away
            jackknife = Jackknife(estimate, values)
            half = jackknife.interval(level)[:, 1] - estimate
        centre = np.nan_to_num(estimate)
        bounds = {"lower": np.exp2(centre - half), "upper": np.exp2(centre + half)}
        return pd.DataFrame(
            {"predicted": np.exp2(estimate), **bounds}, index=pd.Index(size, name=self.x)
        )

    def summary(self) -> Summary:
        """Return a printable summary."""
        row = {"estimate": self.beta, "lower": self.bounds[0], "upper": self.bounds[1]}
        labels = self.optima["label"].value_counts()
        facts = (
            ("Error", self.y),
            ("Shards", f"{len(self.optima)} of {self.x}"),
            ("Model size", self.model_size),
            ("σ", format_number(math.exp(self.log_sigma))),
            ("Optima", ", ".join(f"{n} {label}" for label, n in labels.items())),
            ("Seeds", str(len(self.seeds))),
            ("Cells", str(self.n_cells)),
        )
        return Summary(
            title="Best model size, s(m) = σ m^β_p",
            facts=facts,
            table=pd.DataFrame([row], index=["beta"]),
            notes=(f"Status: {self.status}.",),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: infinite bounds are "inf" and "-inf", NaN is None."""
        names = ("x", "y", "model_size", "beta", "standard_error", "degrees_of_freedom", "bounds")
        return {
            **{name: json_value(getattr(self, name)) for name in (*names, "log_sigma", "seeds")},
            "status": self.status.name.lower(),
            "status_text": str(self.status),
            "optima": json_value(self.optima.to_dict("records")),
            "n_cells": self.n_cells,
            "cell_ids": list(self.cell_ids),
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def fit_model_size_law(
    cells: pd.DataFrame,
    x: str = columns.TRAIN_EXAMPLES,
    y: str = columns.BEST_VALIDATION_ERROR,
    *,
    model_size: str = columns.PARAMETER_COUNT,
    choose: Sequence[str] = (),
    seed: str = columns.SEED,
    alpha: float = ALPHA,
    chance_error: float | None = None,
    validation_examples: int | None = None,
) -> ModelSizeLaw:
    """Fit log s = log σ + β_p log m to the best model sizes of the shards.

    In each shard the sizes not worse than the best, paired by seed, are the set of the best, and
    the nearest sizes beyond it bound the optimum; the rules are those of `optimal_batch_sizes`, on
    log error. An interior optimum enters as its parabola's vertex where sizes an octave apart or
    less allow one, else as its interval, one at the grid's edge with an open bound, in a regression
    by interval-censored maximum likelihood. Choice and regression are made anew without each seed;
    t with S - 1 degrees. With 8 shards of factor 2 and 5 or 10 seeds the nominal 95 % intervals
    covered .91 to .98 and the bias was below .01 (octave grids at random phase, symmetric and
    asymmetric curves, a third to half of the shards censored, seeds that shift their exponent).
    With a rate to choose of three about as good they covered .98 and .99.

    Where that regression cannot be made (as on a grid of factor 4, which has no vertices), every
    β_p of a line through the intervals of all shards is kept, the intervals at a level of
    alpha / shards: bounds that are the grid's spacing, and no estimate.

    Args:
        cells: one row a run. Shards at the error of chance are left out, as by `fit_power_law`.
        x: column of shard sizes m > 0.
        y: column of the error.
        model_size: column of model sizes s > 0, such as numbers of parameters.
        choose: columns, such as the learning rate, whose best value stands for each shard and model
            size: chosen by the other seeds, as in `fit_power_law`, and anew in every fold.
        seed: column of the replicate, shared across sizes.
        alpha: level at which a model size counts as worse.
        chance_error: as in `fit_power_law`.
        validation_examples: as in `fit_power_law`.

    Raises:
        FitError: fewer than 3 usable shards or seeds, a seed missing in a shard, or what
            `fit_power_law` refuses.
    """
    points = curve_points(
        cells,
        x=x,
        y=y,
        seed=seed,
        choose=[model_size, *choose],
        chance_error=chance_error,
        validation_examples=validation_examples,
    )
    _check(cells, points, x, model_size)
    seeds = len(points.seeds)
    grid = _grid(points, points.log_error)
    peaks = _remade_peaks(points, alpha) if choose else find_peaks(grid, _folds(seeds), alpha=alpha)
    octaves = np.log2(points.size)
    estimates = _regress(octaves, peaks)
    label = peaks.label
    if estimates is None:
        strict = find_peaks(grid, _folds(seeds)[:1], alpha=alpha / len(octaves))
        bounds = _feasible_slopes(octaves, strict.lower, strict.upper)
    else:
        jackknife = Jackknife(estimates[0], estimates[1:])
        low, high = jackknife.interval(LEVEL)[1]
        bounds = float(low), float(high)
    status = _status(label, estimates is None, bounds)
    if status in (ModelSizeStatus.FLAT, ModelSizeStatus.CENSORED, ModelSizeStatus.CONTRADICTORY):
        estimates, bounds = None, (-math.inf, math.inf)
    middle, beta = (math.nan, math.nan) if estimates is None else map(float, estimates[0])
    centre = float(octaves.mean())
    return ModelSizeLaw(
        x=x,
        y=y,
        model_size=model_size,
        beta=beta,
        standard_error=math.inf if estimates is None else float(jackknife.standard_error[1]),
        degrees_of_freedom=seeds - 1,
        bounds=bounds,
        log_sigma=(middle - beta * centre) * math.log(2),
        status=status,
        optima=_optima(points, grid, peaks, x),
        seeds=points.seeds,
        n_cells=points.n_cells,
        cell_ids=points.cell_ids,
        folds=np.zeros((0, 2)) if estimates is None else estimates[1:],
        centre=(centre, middle),
    )


def _check(cells: pd.DataFrame, points: CurvePoints, x: str, model_size: str) -> None:
    if not pd.api.types.is_numeric_dtype(cells[model_size]) or (cells[model_size] <= 0).any():
        raise FitError(f"{model_size!r} must hold numbers above 0; logs of them are needed.")
    if len(points.size) < MIN_SHARDS:
        raise FitError(
            f"{len(points.size)} shards of {x} can be used, and {MIN_SHARDS} are needed. Train "
            "more shards, or correct the chance error: a shard above .9 of it is left out."
        )
    lacking = np.flatnonzero(np.isnan(points.envelope.log_error).any(axis=0))
    if len(lacking):
        names = [str(points.seeds[i]) for i in lacking]
        raise FitError(
            f"Seed {', '.join(names)} is missing in a shard. Train it there, or leave it out."
        )
    if len(points.seeds) < 3:
        raise FitError(f"{len(points.seeds)} seeds; 3 are needed for a jackknife of the choice.")


def _folds(seeds: int) -> NDArray[np.bool_]:
    """Return (1 + S, S) which seeds take part: all, and all but each."""
    return np.concatenate([np.ones((1, seeds), dtype=bool), ~np.eye(seeds, dtype=bool)])


def _remade_peaks(points: CurvePoints, alpha: float) -> Peaks:
    """Return the optima of all folds, the other choices being made anew in each."""
    found = []
    for keep in _folds(len(points.seeds)):
        grid = _grid(points, points.log_error[:, :, keep])
        found.append(find_peaks(grid, keep[None, keep], alpha=alpha))
    whole, *rest = found
    estimate = np.concatenate([whole.estimate, *(peaks.estimate for peaks in rest)])
    # Labels are those of all seeds, as everywhere.
    return replace(whole, estimate=np.where(np.isfinite(whole.estimate), estimate, np.nan))


def _grid(points: CurvePoints, log_error: Floats) -> BatchGrid:
    """Return (n, choices, seeds) log errors as a grid of the best other choices.

    Shards are groups, model sizes stand for batch sizes.
    """
    size_of = np.array([choice[0] for choice in points.choices], dtype=float)
    sizes = np.unique(size_of)
    best = [cross_fit(log_error[:, size_of == size]).log_error for size in sizes]
    errors = np.stack(best, axis=2).transpose(1, 0, 2)
    present = np.isfinite(errors).all(axis=0)
    # Present sizes first, in their order.
    order = np.argsort(~present, axis=1, kind="stable")
    errors = np.take_along_axis(errors, order[None], axis=2)
    width = int(present.sum(axis=1).max())
    values = np.where(present, sizes, np.nan)
    return BatchGrid(
        groups=pd.DataFrame(index=range(len(points.size))),
        train_examples=points.size,
        batch_sizes=np.take_along_axis(values, order, axis=1)[:, :width],
        errors=errors[:, :, :width],
        chance_error=np.nanmax(errors, axis=(0, 2)),
        seeds=points.seeds[: log_error.shape[2]],
        cells=pd.DataFrame(),
        excluded=pd.DataFrame(),
    )


def _regress(octaves: Floats, peaks: Peaks) -> Floats | None:
    """Return (1 + S, 2) intercepts at the mean and slopes; None where a fold has none."""
    if np.isfinite(peaks.estimate[0]).sum() < MIN_SHARDS:
        return None
    design = np.stack([np.ones_like(octaves), octaves - octaves.mean()], axis=1)
    fits = fit_interval_censored(design, *peaks.observed)
    slopes = fits.coefficients[:, 1]
    # Seeds that truly differ move slopes by far more than the last Newton step.
    if not fits.identified.all() or np.ptp(slopes) < 1e-9:
        return None
    return fits.coefficients


def _feasible_slopes(octaves: Floats, lower: Floats, upper: Floats) -> tuple[float, float]:
    """Return the least and the largest slope of lines through all intervals; crossed if none is.

    A line exists when every pair of intervals has one: for shards j left of i its slope lies from
    (lower_i - upper_j) / (x_i - x_j) to (upper_i - lower_j) / (x_i - x_j).
    """
    left, right = np.triu_indices(len(octaves), 1)
    apart = octaves[right] - octaves[left]
    least = (lower[right] - upper[left]) / apart
    most = (upper[right] - lower[left]) / apart
    return float(least.max()), float(most.min())


def _status(
    label: NDArray[np.object_], bounded: bool, bounds: tuple[float, float]
) -> ModelSizeStatus:
    if (label == OptimumLabel.FLAT).mean() > MAXIMUM_SHARE:
        return ModelSizeStatus.FLAT
    if (label == OptimumLabel.CENSORED).mean() > MAXIMUM_SHARE:
        return ModelSizeStatus.CENSORED
    if not bounded:
        return ModelSizeStatus.ESTIMATED
    return ModelSizeStatus.BOUNDED if bounds[0] <= bounds[1] else ModelSizeStatus.CONTRADICTORY


def _optima(points: CurvePoints, grid: BatchGrid, peaks: Peaks, x: str) -> pd.DataFrame:
    best = np.take_along_axis(grid.batch_sizes, peaks.best[0][:, None], axis=1)[:, 0]
    return pd.DataFrame(
        {
            x: points.size,
            "label": pd.Series([OptimumLabel(name) for name in peaks.label], dtype=object),
            "lower": np.exp2(peaks.lower),
            "upper": np.exp2(peaks.upper),
            "best_size": best,
            "optimum": np.exp2(peaks.estimate[0]),
            "sizes": np.isfinite(grid.batch_sizes).sum(axis=1),
        }
    )
