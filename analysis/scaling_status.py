"""Whether a fitted law can be used, and with what reserve."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, stdtrit

from analysis.fitting import FormFits, residuals
from analysis.forms.base import Array, Form
from analysis.scaling_rows import ScalingRows

__all__ = ["ScalingStatus", "condition_of", "covariance_of", "scaling_status"]

LEVEL = 0.95
MISFIT_LEVEL = 0.001
"""Chance at which a right form is called a poor fit: small, as the test ignores unequal noise."""
ROUNDING = 1e-9
"""Differences of log y below this are rounding, not noise."""
CONDITION_LIMIT = 1e12
"""Beyond, the covariance has lost all of a double's digits."""


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
    form: Form, rows: ScalingRows, fits: FormFits, covariance: Array, bounds: Array | None
) -> ScalingStatus:
    """Return the first status that applies.

    `covariance`: (p, p) of the working parameters; `bounds`: (p, 2), None without an interval.
    """
    log_residual = residuals(form, fits.theta[0], rows.x, rows.log_y, "log")
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


def covariance_of(
    jacobian: Array, weights: Array, residual: Array, free: NDArray[np.bool_]
) -> Array:
    """Return the (p, p) linearized covariance σ² (J'WJ)⁻¹; 0 for parameters that are not free.

    `jacobian`: (n, p); `weights`, `residual`: (n,); `free`: (p,). σ² is the weighted mean square
    of the residuals per degree of freedom; infinite where a parameter has no influence.
    """
    parameters = jacobian.shape[1]
    used = jacobian[:, free] * np.sqrt(weights)[:, None]
    norm = np.linalg.norm(used, axis=0)
    freedom = max(int((weights > 0).sum()) - parameters, 1)
    variance = float(weights @ residual**2) / freedom
    result = np.zeros((parameters, parameters))
    if not (norm > 0).all():
        return np.full_like(result, np.inf)
    inverse = np.linalg.pinv(used / norm, rcond=1e-14)
    result[np.ix_(free, free)] = variance * (inverse @ inverse.T) / np.outer(norm, norm)
    return result


def condition_of(covariance: Array) -> float:
    """Return the condition number of a covariance scaled to unit diagonal, fixed parameters out."""
    free = np.diagonal(covariance) > 0
    if not free.any():
        return 1.0
    if not np.isfinite(covariance).all():
        return float(np.inf)
    kept = covariance[np.ix_(free, free)]
    scale = np.sqrt(np.diagonal(kept))
    return float(np.linalg.cond(kept / np.outer(scale, scale)))


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
