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

from analysis.jackknife import Jackknife
from analysis.least_squares import (
    EXPONENT_LIMIT,
    Array,
    fit_curves,
    log_curve,
    log_curve_gradient,
    polish,
)

__all__ = ["profile_bounds", "score_bounds"]

Rejection = Callable[[Array, Array, NDArray[np.intp]], Array]
"""(k, 3) parameters, (k,) losses and (k,) which is tested -> (k,), above 0 where rejected."""

_STEPS = 80
_PRECISION = 1e-8
"""Width of the last bracket of a bound, against the distance from the estimate."""


def score_bounds(
    log_size: Array,
    means: Array,
    held_out_variance: tuple[Array, Array],
    *,
    floor: bool,
    level: float,
) -> Array:
    """Return (3, 2) bounds of (log α, β, γ) by the jackknifed score.

    `means`: (1 + S, n) mean log errors of all seeds, then without each. `held_out_variance`: two
    (n, n) covariances of them from the sampling of the held-out set; the larger effect counts.
    """
    jackknife = Jackknife(means[0], means[1:])
    covariances = [jackknife.covariance + extra for extra in held_out_variance]
    quantile = float(stdtrit(jackknife.degrees_of_freedom, (1 + level) / 2))

    def rejection(theta: Array, loss: Array, which: NDArray[np.intp]) -> Array:
        del loss
        gradient = log_curve_gradient(theta, log_size)
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
        direction = direction / np.where(silent, 1.0, rest)[:, None]
        score = np.einsum("kn,kn->k", direction, means[0] - log_curve(theta, log_size))
        variances = [np.einsum("ki,ij,kj->k", direction, c, direction) for c in covariances]
        error = np.sqrt(np.max(variances, axis=0).clip(min=0))
        return np.asarray(np.where(silent, -1.0, np.abs(score) - quantile * error))

    return _walk_out(log_size, means[0], rejection, floor=floor)


def profile_bounds(log_size: Array, log_error: Array, *, floor: bool, level: float) -> Array:
    """Return (3, 2) bounds of (log α, β, γ) by profile likelihood.

    `log_error`: (n, S). Rejected is what raises the residual sum of squares over all seeds and
    sizes above its minimum by more than the share F(1, SK - p) / (SK - p).
    """
    sizes, seeds = log_error.shape
    mean = log_error.mean(axis=1)
    _, loss = fit_curves(log_size, mean[None], floor=floor)
    # All seeds share the sizes, so that only the misfit of the means depends on the parameters.
    total = ((log_error - mean[:, None]) ** 2).sum() + seeds * loss[0]
    freedom = seeds * sizes - (3 if floor else 2)
    allowed = loss[0] + float(fdtri(1, freedom, level)) / freedom * total / seeds

    def rejection(theta: Array, loss: Array, which: NDArray[np.intp]) -> Array:
        del theta, which
        return np.asarray(loss - allowed)

    return _walk_out(log_size, mean, rejection, floor=floor)


def _walk_out(log_size: Array, log_error: Array, rejection: Rejection, *, floor: bool) -> Array:
    """Return (3, 2) values where `rejection` begins, walking out from the fit to `log_error`.

    Doubling strides find a rejected value, then false position with bisections narrows the
    bracket. All parameters and both directions go at once; each starts from its last fit.
    """
    estimate = fit_curves(log_size, log_error[None], floor=floor)[0][0]
    parameters = 3 if floor else 2
    which = np.repeat(np.arange(parameters), 2)
    sign = np.tile([-1.0, 1.0], parameters)
    rows = np.arange(len(which))
    held = np.zeros((len(which), 3), dtype=bool)
    held[rows, which] = True
    held[:, 2] |= not floor
    reach = np.abs(log_size).max() * EXPONENT_LIMIT
    ends = np.array(
        [
            [estimate[0] - reach, estimate[0] + reach],
            [-EXPONENT_LIMIT, EXPONENT_LIMIT],
            # No floor above the highest error fits; where this one is not rejected, none is.
            [0.0, np.exp(log_error.max())],
        ]
    )
    end = ends[which, (sign > 0).astype(int)]
    data = np.repeat(log_error[None], len(which), axis=0)

    inside = np.repeat(estimate[None], len(which), axis=0)
    inner = np.minimum(rejection(inside, np.zeros(len(which)), which), 0.0)
    outside, outer = np.full(len(which), np.nan), np.full(len(which), np.nan)
    stride = np.array([0.02 * np.abs(log_size).max(), 0.02, 0.02 * np.exp(log_error.min())])[which]
    unbounded = inside[rows, which] == end
    for step in range(_STEPS):
        here = inside[rows, which]
        walking = np.isnan(outside)
        ahead = np.where(sign > 0, np.minimum(here + stride, end), np.maximum(here - stride, end))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = inner / (inner - outer)
        share = np.where((step % 3 == 0) | ~np.isfinite(share), 0.5, np.clip(share, 0.02, 0.98))
        between = here + share * (outside - here)
        target = np.where(walking, ahead, between)
        start = inside.copy()
        start[rows, which] = target
        # Along the ridge the level follows the exponent: keep the middle of the curve in place.
        start[:, 0] -= np.where(which == 1, (target - here) * log_size.mean(), 0.0)
        theta, loss = polish(log_size, data, start, held)
        margin = rejection(theta, loss, which)
        done = unbounded | (
            np.abs(outside - here) <= _PRECISION * np.abs(outside - estimate[which])
        )
        accepted = (margin <= 0) & ~done
        rejected = (margin > 0) & ~done
        unbounded |= accepted & walking & (target == end)
        inside = np.where(accepted[:, None], theta, inside)
        inner = np.where(accepted, margin, inner)
        outside = np.where(rejected, target, outside)
        outer = np.where(rejected, margin, outer)
        stride = np.where(walking, stride * 2, stride)
        if done.all():
            break
    bounds = np.where(unbounded, sign * np.inf, inside[rows, which])
    full = np.zeros((3, 2))
    full[:parameters] = bounds.reshape(parameters, 2)
    full[2] = full[2].clip(min=0)
    return full
