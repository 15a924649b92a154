"""Intervals as the values of a parameter that a test does not reject, the others fitted anew.

At each value v the other parameters are fitted, with γ ≥ 0, and a test asks whether v could be
true. Walking out from the estimate until it says no respects what a symmetric ± cannot: a floor
at its bound 0, and an exponent that no data bound on one side, whose interval is then infinite
there. Two tests, by what noise they assume:

`score_bounds`: the derivative of the misfit by the parameter, against its jackknife standard error
over seeds, t with S - 1. Seeds may shift or tilt their whole curve. On a straight line it is the
jackknife of the estimate itself, digit by digit. With 10 seeds, β = -.1, γ = .02 and 4 % noise
the jackknife of the estimate covers .88 at a nominal .95, since γ ends at 0 in half the data
sets and its folds with it; this covers .95, and is no wider.
`profile_bounds`: the residual sum of squares, F with SK - p. Seeds independent across sizes; where
a seed tilts its curve it covers as little as .77.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, stdtrit

from analysis.curves.least_squares import (
    EXPONENT_LIMIT,
    Array,
    fit_curves,
    log_curve,
    log_curve_gradient,
    polish,
)
from analysis.fits.jackknife import Jackknife

__all__ = ["profile_bounds", "score_bounds"]

Rejection = Callable[[Array, Array, NDArray[np.intp], NDArray[np.intp]], Array]
"""(k, 3) parameters, (k,) losses, (k,) which is tested and (k,) of which table -> (k,), above 0
where rejected."""

_STEPS = 80
_PRECISION = 1e-8
"""Width of the last bracket of a bound, against the distance from the estimate."""
_CURVE_PRECISION = 1e-9
"""Of log errors on the way: what is tested hardly depends on the other parameters."""


def score_bounds(
    log_size: Array,
    means: Array,
    held_out_variance: tuple[Array, Array],
    *,
    floor: bool,
    level: float,
    freedom: float | None = None,
    fits: Array | None = None,
) -> Array:
    """Return (..., 3, 2) bounds of (log α, β, γ) by the jackknifed score.

    `means`: (..., 1 + S, n) mean log errors of all seeds, then without each. Leading dimensions
    are tables of the same sizes, whose walks share their steps: 500 at once take a tenth of the
    time. `held_out_variance`: two (n, n) covariances of the means from the sampling of the held-out
    set; the larger effect counts. `freedom`: of Student's t, S - 1 if None. `fits`: (..., 3)
    curves fitted to the means of all seeds, where they are at hand.
    """
    tables = means.reshape(-1, *means.shape[-2:])
    jackknives = [Jackknife(table[0], table[1:]) for table in tables]
    between_seeds = np.stack([jackknife.covariance for jackknife in jackknives])
    covariances = [between_seeds + extra for extra in held_out_variance]
    freedom = jackknives[0].degrees_of_freedom if freedom is None else freedom
    quantile = float(stdtrit(freedom, (1 + level) / 2))

    def rejection(
        theta: Array, loss: Array, which: NDArray[np.intp], table: NDArray[np.intp]
    ) -> Array:
        del loss
        direction, silent = _score_direction(log_curve_gradient(theta, log_size), theta, which)
        score = np.einsum("kn,kn->k", direction, tables[table, 0] - log_curve(theta, log_size))
        variances = [np.einsum("ki,kij,kj->k", direction, c[table], direction) for c in covariances]
        error = np.sqrt(np.max(variances, axis=0).clip(min=0))
        return np.asarray(np.where(silent, -1.0, np.abs(score) - quantile * error))

    if fits is None:
        fits, _ = fit_curves(log_size, tables[:, 0], floor=floor)
    bounds = _walk_out(log_size, tables[:, 0], fits.reshape(-1, 3), rejection, floor=floor)
    return bounds.reshape(*means.shape[:-2], 3, 2)


def _score_direction(
    gradient: Array, theta: Array, which: NDArray[np.intp]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return (k, n) unit derivatives by the tested parameter, at right angles to all others.

    And (k,) whether the others leave nothing of it, so that no value can be rejected. A floor at 0
    counts as held there.
    """
    rows = np.arange(len(theta))
    direction = gradient[rows, :, which]
    length = np.linalg.norm(direction, axis=1)
    others = gradient.copy()
    others[rows, :, which] = 0
    others[theta[:, 2] <= 0, :, 2] = 0
    # Unit columns: the level, the slope and the floor differ by orders of magnitude.
    norm = np.linalg.norm(others, axis=1, keepdims=True)
    others = np.divide(others, norm, out=np.zeros_like(others), where=norm > 0)
    fitted = np.linalg.pinv(others, rcond=1e-12) @ direction[:, :, None]
    direction = direction - (others @ fitted)[:, :, 0]
    rest = np.linalg.norm(direction, axis=1)
    silent = rest <= 1e-9 * length
    return direction / np.where(silent, 1.0, rest)[:, None], silent


def profile_bounds(log_size: Array, log_error: Array, *, floor: bool, level: float) -> Array:
    """Return (..., 3, 2) bounds of (log α, β, γ) by profile likelihood.

    `log_error`: (..., n, S); leading dimensions as in `score_bounds`. Rejected is what raises the
    residual sum of squares over all seeds and sizes above its minimum by more than the share
    F(1, SK - p) / (SK - p).
    """
    sizes, seeds = log_error.shape[-2:]
    tables = log_error.reshape(-1, sizes, seeds)
    means = tables.mean(axis=2)
    fits, loss = fit_curves(log_size, means, floor=floor)
    # All seeds share the sizes, so that only the misfit of the means depends on the parameters.
    total = ((tables - means[:, :, None]) ** 2).sum(axis=(1, 2)) + seeds * loss
    freedom = seeds * sizes - (3 if floor else 2)
    allowed = loss + float(fdtri(1, freedom, level)) / freedom * total / seeds

    def rejection(
        theta: Array, loss: Array, which: NDArray[np.intp], table: NDArray[np.intp]
    ) -> Array:
        del theta, which
        return np.asarray(loss - allowed[table])

    bounds = _walk_out(log_size, means, fits, rejection, floor=floor)
    return bounds.reshape(*log_error.shape[:-2], 3, 2)


def _walk_out(
    log_size: Array, log_error: Array, fits: Array, rejection: Rejection, *, floor: bool
) -> Array:
    """Return (d, 3, 2) values where `rejection` begins, walking out from (d, 3) fits.

    Doubling strides find a rejected value, then false position with bisections narrows the
    bracket. All parameters and both directions go at once; each starts from its last fit.
    """
    parameters = 3 if floor else 2
    which = np.tile(np.repeat(np.arange(parameters), 2), len(fits))
    sign = np.tile([-1.0, 1.0], parameters * len(fits))
    table = np.repeat(np.arange(len(fits)), 2 * parameters)
    rows = np.arange(len(which))
    held = np.zeros((len(which), 3), dtype=bool)
    held[rows, which] = True
    held[:, 2] |= not floor
    limit = EXPONENT_LIMIT if floor else np.inf
    end = _ends(log_size, log_error, fits, limit)[table, which, (sign > 0).astype(int)]

    inside = fits[table]
    estimate = inside[rows, which]
    inner = np.minimum(rejection(inside, np.zeros(len(which)), which, table), 0.0)
    outside, outer = np.full(len(which), np.nan), np.full(len(which), np.nan)
    reach = 0.02 * np.abs(log_size).max()
    lowest = 0.02 * np.exp(log_error.min(axis=1))
    stride = np.select([which == 0, which == 1], [reach, 0.02], lowest[table])
    unbounded = estimate == end
    for step in range(_STEPS):
        bracket = np.abs(outside - inside[rows, which])
        done = unbounded | (bracket <= _PRECISION * np.abs(outside - estimate))
        if done.all():
            break
        at = rows[~done]
        here = inside[at, which[at]]
        walking = np.isnan(outside[at])
        ahead = here + sign[at] * stride[at]
        ahead = np.where(sign[at] > 0, np.minimum(ahead, end[at]), np.maximum(ahead, end[at]))
        target = np.where(walking, ahead, _between(here, outside[at], inner[at], outer[at], step))
        start = inside[at]
        start[np.arange(len(at)), which[at]] = target
        # Along the ridge the level follows the exponent: keep the middle of the curve in place.
        start[:, 0] -= np.where(which[at] == 1, (target - here) * log_size.mean(), 0.0)
        theta, loss = polish(
            log_size,
            log_error[table[at]],
            start,
            held[at],
            limit=limit,
            precision=_CURVE_PRECISION,
        )
        margin = rejection(theta, loss, which[at], table[at])
        fine = margin <= 0
        inside[at[fine]], inner[at[fine]] = theta[fine], margin[fine]
        outside[at[~fine]], outer[at[~fine]] = target[~fine], margin[~fine]
        unbounded[at] = fine & walking & (target == end[at])
        stride[at] *= np.where(walking, 2.0, 1.0)
    bounds = np.where(unbounded, sign * np.inf, inside[rows, which])
    full = np.zeros((len(fits), 3, 2))
    full[:, :parameters] = bounds.reshape(-1, parameters, 2)
    full[:, 2] = full[:, 2].clip(min=0)
    return full


def _ends(log_size: Array, log_error: Array, fits: Array, limit: float) -> Array:
    """Return (d, 3, 2) values at which the walk ends; what is not rejected there is unbounded."""
    reach = np.abs(log_size).max() * limit
    ends = np.empty((len(fits), 3, 2))
    ends[:, 0] = fits[:, :1] + np.array([-reach, reach])
    ends[:, 1] = [-limit, limit]
    ends[:, 2, 0] = 0.0
    # No floor above the highest error fits; where this one is not rejected, none is.
    ends[:, 2, 1] = np.exp(log_error.max(axis=1))
    return ends


def _between(here: Array, outside: Array, inner: Array, outer: Array, step: int) -> Array:
    """Return (k,) values inside the brackets: false position, and each third time the middle."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = inner / (inner - outer)
    share = np.where((step % 3 == 0) | ~np.isfinite(share), 0.5, np.clip(share, 0.02, 0.98))
    return np.asarray(here + share * (outside - here))
