"""Intervals by profile likelihood: how far a parameter moves before the fit is rejected.

What to use when: the narrower interval where seeds are independent from size to size (coverage
.953 at a nominal .95). Where a seed shifts the slope of its whole curve it covers .89, and the
jackknife .95.
"""

import numpy as np
from scipy.special import fdtri

from analysis.least_squares import EXPONENT_LIMIT, Array, fit_curves, polish

__all__ = ["profile_intervals", "threshold"]

_DOUBLINGS = 40
_BISECTIONS = 34
"""Halvings of a bracket at most as wide as the distance already walked: 1e-10 of it."""


def threshold(level: float, degrees_of_freedom: int) -> float:
    """Return by what share of the residual sum of squares one parameter may raise it."""
    return float(fdtri(1, degrees_of_freedom, level)) / degrees_of_freedom


def profile_intervals(
    log_size: Array, log_error: Array, *, floor: bool, level: float
) -> tuple[Array, Array]:
    """Return (3, 2) bounds of (log α, β, γ) and (3,) their estimates.

    `log_error`: (seeds, n). A bound is where the residual sum of squares over all seeds and sizes,
    minimized over the other parameters with γ ≥ 0, exceeds its minimum by F(1, SK - p) / (SK - p).
    An exponent that |β| = 4 does not exceed has an infinite bound; γ's lower bound is then 0.
    """
    seeds, sizes = log_error.shape
    parameters = 3 if floor else 2
    mean = log_error.mean(axis=0)
    theta, loss = fit_curves(log_size, mean[None], floor=floor)
    within = ((log_error - mean) ** 2).sum()
    # All seeds share the sizes, so that only the misfit of the means depends on the parameters.
    freedom = seeds * sizes - parameters
    allowed = loss[0] + threshold(level, freedom) * (within + seeds * loss[0]) / seeds
    sides = [(j, sign) for j in range(parameters) for sign in (-1, 1)]
    reached = _walk(log_size, mean, theta[0], allowed, sides, held=not floor)
    bounds = np.zeros((3, 2))
    bounds[:parameters] = reached.reshape(parameters, 2)
    return bounds, theta[0]


def _walk(
    log_size: Array,
    log_error: Array,
    estimate: Array,
    allowed: float,
    sides: list[tuple[int, int]],
    *,
    held: bool,
) -> Array:
    """Return how far each (parameter, direction) goes from `estimate` while the loss is allowed."""
    which = np.array([j for j, _ in sides])
    sign = np.array([s for _, s in sides])
    rows = np.arange(len(sides))
    hold = np.zeros((len(sides), 3), dtype=bool)
    hold[rows, which] = True
    hold[:, 2] |= held
    data = np.repeat(log_error[None], len(sides), axis=0)
    reach = np.abs(log_size).max() * EXPONENT_LIMIT
    limit = np.array([[-reach, reach], [-EXPONENT_LIMIT, EXPONENT_LIMIT], [0, np.inf]])
    limit[0] += estimate[0]
    end = limit[which, (sign > 0).astype(int)]

    inside = np.repeat(estimate[None], len(sides), axis=0)
    outside = np.full(len(sides), np.nan)
    stride = 1e-3 * np.where(which == 2, np.exp(log_error.min()), 1.0)
    open_end = np.zeros(len(sides), dtype=bool)
    for _ in range(_DOUBLINGS + _BISECTIONS):
        walking = np.isnan(outside) & ~open_end
        here = inside[rows, which]
        ahead = here + sign * stride
        ahead = np.where(sign > 0, np.minimum(ahead, end), np.maximum(ahead, end))
        target = np.where(walking, ahead, np.where(open_end, here, (here + outside) / 2))
        start = inside.copy()
        start[rows, which] = target
        # Along the ridge the level follows the exponent: keep the middle of the curve in place.
        moved = start[:, 1] - inside[:, 1]
        start[:, 0] -= np.where(which == 1, moved * log_size.mean(), 0.0)
        theta, loss = polish(log_size, data, start, hold)
        accepted = loss <= allowed
        outside = np.where(accepted | open_end, outside, target)
        inside = np.where((accepted & ~open_end)[:, None], theta, inside)
        open_end |= walking & accepted & (target == end)
        stride = np.where(walking, stride * 2, stride)
    found = inside[rows, which]
    infinite = np.where((which == 2) & (sign < 0), 0.0, sign * np.inf)
    return np.where(open_end, infinite, found)
