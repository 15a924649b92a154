"""Whether a fitted curve can be used, and with what reserve."""

from enum import StrEnum

import numpy as np
from scipy.special import fdtrc, fdtri, stdtrit

from analysis.curves.curve_points import CurvePoints
from analysis.curves.least_squares import EXPONENT_LIMIT, Array, fit_curves
from analysis.fits.fit_covariance import CONDITION_LIMIT, condition_of, inverse_information
from analysis.fits.fitting import FormFits
from analysis.fits.jackknife import Jackknife
from analysis.fits.seed_noise import seed_noise
from analysis.forms.base import Form

__all__ = ["FitStatus", "fit_status", "form_status"]

LEVEL = 0.95
MISFIT_LEVEL = 0.001
"""Chance at which a right form is called a poor fit: small, as the test ignores unequal noise."""
ROUNDING = 1e-9
"""Differences of log error below this are rounding, not noise."""


class FitStatus(StrEnum):
    """What to know before the fit is used; the first that applies."""

    FLAT = "flat: the error cannot be told from a constant, so that no exponent is identified"
    UNIDENTIFIED = "unidentified: exponent and floor trade off, and some |β| beyond 4 fits as well"
    NARROW_RANGE = "narrow: the sizes span less than one decade; do not extrapolate"
    POOR_FIT = "poor fit: the form misses the points by more than the noise of seeds explains"
    NOT_CONVERGED = "not converged: the search ended at its last step, where the loss hardly falls"
    FLOOR_AT_ZERO = "converged, with the floor γ at its bound 0"
    AT_BOUND = "converged, with a parameter at the limit of what its form allows"
    CONVERGED = "converged"


def fit_status(
    points: CurvePoints,
    means: Array,
    theta: Array,
    loss: float,
    exponent: Array | None,
    *,
    floor: bool,
) -> FitStatus:
    """Return the first status that applies.

    `means`: (1 + S, n) mean log errors of all seeds, then without each; `theta`, `loss`: the fit;
    `exponent`: (2,) bounds of β at 95 %, None where no interval was made.
    """
    log_size = np.log(points.size)
    parameters = 3 if floor else 2
    variance, freedom = _noise(points, parameters, loss)
    if _is_flat(points, means, variance, freedom):
        return FitStatus.FLAT
    if floor:
        if exponent is None:
            allowed = loss + variance * float(fdtri(1, freedom, LEVEL))
            exponent = _open_ends(log_size, means[0], allowed)
        if not np.isfinite(exponent).all():
            return FitStatus.UNIDENTIFIED
    if points.size.max() < 10 * points.size.min():
        return FitStatus.NARROW_RANGE
    if _is_poor(points, loss, variance, len(log_size) - parameters, freedom):
        return FitStatus.POOR_FIT
    if floor and theta[2] == 0:
        return FitStatus.FLOOR_AT_ZERO
    return FitStatus.CONVERGED


def form_status(points: CurvePoints, means: Array, form: Form, fits: FormFits) -> FitStatus:
    """Return the first status that applies to a fit of any form to `means[0]`.

    Unidentified is a parameter whose ±, from the noise of seeds, is as wide as its form allows.
    """
    size = points.size[:, None]
    parameters = len(form.parameters)
    loss = float(fits.objective[0])
    variance, freedom = _noise(points, parameters, loss)
    if _is_flat(points, means, variance, freedom):
        return FitStatus.FLAT
    jacobian = form.log_gradient(fits.theta[0], size)
    information = inverse_information(jacobian, np.ones(len(size)), ~fits.at_bound[0])
    half = np.sqrt(variance * fdtri(1, freedom, LEVEL) * np.diagonal(information))
    width = np.array(form.upper) - np.array(form.lower)
    if condition_of(information) > CONDITION_LIMIT or (half > width).any():
        return FitStatus.UNIDENTIFIED
    if points.size.max() < 10 * points.size.min():
        return FitStatus.NARROW_RANGE
    if _is_poor(points, loss, variance, len(size) - parameters, freedom):
        return FitStatus.POOR_FIT
    if not fits.converged[0]:
        return FitStatus.NOT_CONVERGED
    return FitStatus.AT_BOUND if fits.at_bound[0].any() else FitStatus.CONVERGED


def _is_poor(points: CurvePoints, loss: float, variance: float, upper: int, lower: int) -> bool:
    """Return whether the misfit at `upper` degrees of freedom is more than noise explains."""
    misfit = loss / upper
    tested = len(points.seeds) > 1 and np.sqrt(misfit) > ROUNDING
    return bool(tested and _tail(misfit, variance, upper, lower))


def _is_flat(points: CurvePoints, means: Array, noise: float, freedom: int) -> bool:
    """Return whether the error could be one constant.

    The straight line through the points could be level, at 95 %, and a constant misses them by no
    more than `noise` explains: a curve that falls and rises again is not flat.
    """
    log_size = np.log(points.size)
    centred = log_size - log_size.mean()
    weights = centred / (centred @ centred)
    slopes = means @ weights
    about_mean = float(np.sum((means[0] - means[0].mean()) ** 2))
    if _is_poor(points, about_mean, noise, len(log_size) - 1, freedom):
        return False
    if np.abs(slopes[0]) * np.ptp(log_size) < ROUNDING:
        return True
    if len(slopes) > 1:
        variance = Jackknife(slopes[:1], slopes[1:, None]).standard_error[0] ** 2
        quantile = stdtrit(points.degrees_of_freedom, (1 + LEVEL) / 2)
    else:
        residual = means[0] - means[0].mean() - slopes[0] * centred
        variance = residual @ residual / (len(log_size) - 2) / (centred @ centred)
        quantile = stdtrit(len(log_size) - 2, (1 + LEVEL) / 2)
    variance = variance + weights**2 @ points.binomial_variance
    return bool(np.abs(slopes[0]) <= quantile * np.sqrt(variance))


def _open_ends(log_size: Array, log_error: Array, allowed: float) -> Array:
    """Return (2,) limits of β, infinite where even the end of the search has an allowed loss."""
    limits = np.array([-EXPONENT_LIMIT, EXPONENT_LIMIT])
    losses = [
        fit_curves(log_size, log_error[None], floor=True, exponent=limit)[1][0] for limit in limits
    ]
    return np.where(np.array(losses) <= allowed, limits * np.inf, limits)


def _noise(points: CurvePoints, parameters: int, loss: float) -> tuple[float, int]:
    """Return the variance of a point's mean log error, and its degrees of freedom.

    The mean over points, which may have unequal numbers of seeds. From `seed_noise`, as a shift of
    a seed's whole curve does not blur its shape; for a single seed, from the misfit of the curve.
    """
    scores = points.envelope.log_error
    if len(points.seeds) < 2:
        freedom = len(scores) - parameters
        return loss / freedom, freedom
    between_runs, freedom = seed_noise(scores)
    variance = between_runs * float((1 / (~np.isnan(scores)).sum(axis=1)).mean())
    return variance + float(points.binomial_variance.mean()), freedom


def _tail(misfit: float, variance: float, upper: int, lower: int) -> bool:
    return variance == 0 or bool(fdtrc(upper, lower, misfit / variance) < MISFIT_LEVEL)
