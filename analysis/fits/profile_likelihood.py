"""Intervals of any form's parameters by profile likelihood, all parameters and sides at once.

A value is kept unless holding the parameter there, the others fitted anew, raises the sum of
squares by more than the share F(1, n - p)/(n - p). Points must be independent: where replicates
of one seed share their noise over sizes, it is too narrow (see `analysis.curves.bounds`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from analysis.fits.fitting import fit_form
from analysis.forms.base import Array, Form

__all__ = ["profile_intervals"]

_DOUBLINGS = 30
"""A parameter without finite limit, such as a log, is unbounded beyond so many strides."""
_STEPS = 80
_PRECISION = 1e-7
"""Width of the last bracket of a bound, against the distance from the estimate."""


@dataclass(frozen=True, eq=False)
class _Walk:
    """What is fitted at every step: rows are (parameter, side)."""

    form: Form
    x: Array
    log_y: Array
    weights: Array
    scale: str
    which: NDArray[np.intp]
    ridge: Array
    """(2p, p) how the others follow when the parameter moves by 1, near the estimate."""

    def fit(self, inside: Array, target: Array) -> tuple[Array, Array]:
        """Return parameters and losses with the parameters held at `target`."""
        rows = np.arange(len(self.which))
        held = np.full(inside.shape, np.nan)
        held[rows, self.which] = target
        moved = inside + self.ridge * (target - inside[rows, self.which])[:, None]
        fits = fit_form(
            self.form,
            self.x,
            np.broadcast_to(self.log_y, (len(rows), len(self.log_y))),
            weights=self.weights,
            scale=self.scale,
            starts=np.stack([inside, moved], axis=1),
            held=held,
        )
        return fits.theta, fits.objective


def profile_intervals(
    form: Form,
    x: Array,
    log_y: Array,
    weights: Array,
    *,
    scale: str,
    theta: Array,
    objective: float,
    covariance: Array,
    level: float,
) -> Array:
    """Return (p, 2) bounds of the reported parameters, infinite where there is none.

    `theta`: (p,) fitted working parameters; `objective`: their weighted sum of squares;
    `covariance`: (p, p), for strides only. Where a reported parameter is made of several working
    ones, its bound is its value where its own working parameter has its bound.
    """
    parameters = len(theta)
    which = np.repeat(np.arange(parameters), 2)
    sign = np.tile([-1.0, 1.0], parameters)
    freedom = int((weights > 0).sum()) - parameters
    allowed = objective * (1 + float(fdtri(1, freedom, level)) / freedom)
    variance = np.diagonal(covariance)
    known = np.isfinite(variance) & (variance > 0)
    ridge = np.where(known[:, None], covariance / np.where(known, variance, 1.0)[:, None], 0.0)
    stride = np.where(known, np.sqrt(np.where(known, variance, 1.0)), 1e-2 + 1e-2 * np.abs(theta))
    walk = _Walk(form, x, log_y, weights, scale, which, ridge[which])
    ends, unbounded = _walk_out(walk, theta, objective, allowed, sign, stride[which])
    rows = np.arange(2 * parameters)
    # Of a logarithm, no lower bound is a lower bound of 0.
    ends[rows, which] = np.where(unbounded, sign * np.inf, ends[rows, which])
    with np.errstate(over="ignore"):
        return np.asarray(form.reported(ends)[rows, which].reshape(parameters, 2))


def _walk_out(
    walk: _Walk, theta: Array, objective: float, allowed: float, sign: Array, stride: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Return (2p, p) parameters at the bounds, and (2p,) whether there is none.

    Doubling strides find a rejected value, false position with bisections narrows the bracket.
    """
    which, rows = walk.which, np.arange(len(walk.which))
    limits = np.stack([walk.form.lower, walk.form.upper], axis=1)[which]
    end = np.where(sign > 0, limits[:, 1], limits[:, 0])
    inside = np.repeat(theta[None], len(which), axis=0)
    inner = np.full(len(which), objective - allowed)
    outside, outer = np.full(len(which), np.nan), np.full(len(which), np.nan)
    at_end = inside[rows, which] == end
    lost = np.zeros(len(which), dtype=bool)
    for step in range(_STEPS):
        here = inside[rows, which]
        walking = np.isnan(outside)
        ahead = np.where(sign > 0, np.minimum(here + stride, end), np.maximum(here - stride, end))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = inner / (inner - outer)
        share = np.where((step % 3 == 0) | ~np.isfinite(share), 0.5, np.clip(share, 0.02, 0.98))
        target = np.where(walking, ahead, here + share * (outside - here))
        narrow = np.abs(outside - here) <= _PRECISION * np.abs(outside - theta[which])
        done = at_end | lost | narrow
        if done.all():
            break
        fitted, loss = walk.fit(inside, np.where(done, here, target))
        margin = loss - allowed
        accepted, rejected = (margin <= 0) & ~done, (margin > 0) & ~done
        at_end |= accepted & walking & (target == end)
        inside = np.where(accepted[:, None], fitted, inside)
        inner = np.where(accepted, margin, inner)
        outside = np.where(rejected, target, outside)
        outer = np.where(rejected, margin, outer)
        stride = np.where(walking, stride * 2, stride)
        lost |= np.isnan(outside) & (step >= _DOUBLINGS) & ~at_end
    # A floor of 0 is a bound of the parameter itself; elsewhere the search's end is none.
    natural = (sign < 0) & (inside[rows, which] == 0) & (end == 0)
    return inside, (at_end & ~natural) | lost
