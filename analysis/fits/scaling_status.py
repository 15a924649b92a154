"""Whether a fitted law can be used, and with what reserve."""

from dataclasses import replace
from enum import StrEnum

import numpy as np
from scipy.special import fdtrc, stdtrit

from analysis.fits.fit_covariance import CONDITION_LIMIT, condition_of
from analysis.fits.fitting import FormFits, Huber, Loss, residuals
from analysis.fits.scaling_rows import ScalingRows
from analysis.forms.base import Array, Form

__all__ = ["ScalingStatus", "scaling_status"]

LEVEL = 0.95
MISFIT_LEVEL = 0.001
"""Chance at which a right form is called a poor fit: small, as the test ignores unequal noise."""
OUTLIER = 4.0
"""Standard deviations beyond which a residual is an outlier's: 1 of 16,000 of normal noise."""
MAD_TO_SD = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
ROUNDING = 1e-9
"""Differences of log y below this are rounding, not noise."""


class ScalingStatus(StrEnum):
    """What to know before the law is used; the first that applies."""

    FLAT = "flat: the values cannot be told from a constant, so that no exponent is identified"
    UNIDENTIFIED = (
        "unidentified: parameters trade off against each other without the fit becoming worse"
    )
    NOT_CONVERGED = "not converged: the search ended at its last step, where the loss hardly falls"
    LACK_OF_FIT = "lack of fit: the form misses the points by more than their replicates differ"
    AT_BOUND = "at a bound: a parameter ended at the limit of what its form allows"
    NARROW_RANGE = "narrow: a variable spans less than one decade; do not extrapolate"
    CONVERGED = "converged"


def scaling_status(
    form: Form,
    rows: ScalingRows,
    fits: FormFits,
    covariance: Array,
    bounds: Array | None,
    loss: Loss,
) -> ScalingStatus:
    """Return the first status that applies.

    `covariance`: (p, p) of the working parameters; `bounds`: (p, 2), None without an interval.
    Where `loss` is Huber's, outliers are judged no more than they were fitted.
    """
    log_residual = residuals(form, fits.theta[0], rows.x, rows.log_y, "log")
    if isinstance(loss, Huber):
        rows = _without_outliers(rows, log_residual)
    if _is_flat(rows, log_residual, len(form.parameters)):
        return ScalingStatus.FLAT
    if _unidentified(form, rows, covariance, bounds):
        return ScalingStatus.UNIDENTIFIED
    if not fits.converged[0]:
        return ScalingStatus.NOT_CONVERGED
    if _lacks_fit(rows, log_residual, len(form.parameters)):
        return ScalingStatus.LACK_OF_FIT
    if fits.at_bound[0].any():
        return ScalingStatus.AT_BOUND
    return ScalingStatus.NARROW_RANGE if rows.narrow else ScalingStatus.CONVERGED


def _without_outliers(rows: ScalingRows, log_residual: Array) -> ScalingRows:
    """Return `rows` without weight where the residual is an outlier's."""
    distance = np.abs(log_residual)
    scale = MAD_TO_SD * float(np.median(distance[rows.weights > 0]))
    kept = (distance <= OUTLIER * scale) | (distance < ROUNDING)
    return replace(rows, weights=np.where(kept, rows.weights, 0.0))


def _is_flat(rows: ScalingRows, log_residual: Array, parameters: int) -> bool:
    """Return whether a constant fits as well, by the F-test on log residuals at 95 %."""
    mean = np.average(rows.log_y, weights=rows.weights)
    about_mean = float(rows.weights @ (rows.log_y - mean) ** 2)
    left = float(rows.weights @ log_residual**2)
    if np.ptp(rows.log_y[rows.weights > 0]) < ROUNDING:
        return True
    freedom = rows.used - parameters
    explained = max(about_mean - left, 0.0) / (parameters - 1)
    return left > 0 and bool(
        fdtrc(parameters - 1, freedom, explained / (left / freedom)) > 1 - LEVEL
    )


def _unidentified(form: Form, rows: ScalingRows, covariance: Array, bounds: Array | None) -> bool:
    """Return whether a bound is infinite; without bounds, whether a ± is as wide as allowed."""
    if condition_of(covariance) > CONDITION_LIMIT:
        return True
    if bounds is not None and not np.isfinite(bounds).all():
        return True
    freedom = max(rows.used - len(form.parameters), 1)
    half = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(np.diagonal(covariance))
    return bool((half > np.array(form.upper) - np.array(form.lower)).any())


def _lacks_fit(rows: ScalingRows, log_residual: Array, parameters: int) -> bool:
    """Return whether the misfit exceeds the scatter of rows at the same x, by the F-test."""
    _, place = np.unique(rows.x, axis=0, return_inverse=True)
    place = place.reshape(-1)
    weights = rows.weights
    total = np.bincount(place, weights)
    mean = np.bincount(place, weights * rows.log_y) / np.where(total > 0, total, 1)
    pure = float(weights @ (rows.log_y - mean[place]) ** 2)
    places = int((total > 0).sum())
    within, between = rows.used - places, places - parameters
    if within < 1 or between < 1:
        return False
    misfit = max(float(weights @ log_residual**2) - pure, 0.0) / between
    if np.sqrt(misfit) < ROUNDING:
        return False
    return pure == 0 or bool(fdtrc(between, within, misfit / (pure / within)) < MISFIT_LEVEL)
