"""What a parabola through a few batch sizes says wrong of an asymmetric curve, and its mend.

The vertex of three points a factor of 2 apart lies up to .2 octave from the optimum of a curve
that is steep on one side, and where it lies depends on how the grid happens to fall on the curve.
As optima move from group to group by other steps than the grid's, exponents move: on the noisy
quadratic at fixed epochs, by .09. So curves of the shape that all groups share are drawn with
optima spread over the place in question, at the group's own batch sizes and with its noise; the
vertices that come out where the observed one lies are wrong by as much, on average, as that one.
"""

import numpy as np
from numpy.typing import NDArray

from analysis.batches.curve_shape import CurveShape
from analysis.batches.parabola import parabola_vertex

__all__ = ["vertex_bias"]

Floats = NDArray[np.float64]

DRAWS = 1000
REACH = 2.5
"""Octaves on both sides of a vertex over which optima are drawn: far more than it can be wrong."""
BANDWIDTH = 0.12
"""Octaves within which a drawn vertex counts as lying where the observed one does."""
SEED = 0


def vertex_bias(
    octave: Floats, vertex: Floats, shape: CurveShape, height: Floats, noise: Floats
) -> Floats:
    """Return the (F, G) octaves that each vertex lies above the optimum, on average.

    `octave`: (G, K) log₂ batch sizes, NaN where there is none. `vertex`: (F, G), the first row of
    all seeds; NaN where there is none. `shape`, `height` (G,): of the curves. `noise` (G,):
    standard deviation of a mean error; with that of all groups together, noise that falls with N
    put N's exponent a quarter of its standard error too low.
    """
    groups = np.flatnonzero(np.isfinite(vertex[0]) & np.isfinite(height))
    bias = np.where(np.isfinite(vertex), 0.0, np.nan)
    if not len(groups):
        return bias
    rng = np.random.default_rng(SEED)
    place = (np.arange(DRAWS) + rng.uniform(size=(len(groups), DRAWS))) / DRAWS
    optimum = vertex[0, groups] + REACH * (2 * place.T - 1)
    grid, lowest = octave[groups], shape.lowest
    drawn = height[groups, None] * _looked_up(
        shape, np.nan_to_num(grid) - optimum[..., None] + lowest
    )
    drawn += noise[groups, None] * rng.standard_normal(drawn.shape)
    present = np.isfinite(grid)
    drawn[:, ~present] = np.inf
    found = parabola_vertex(grid, drawn, np.broadcast_to(present, drawn.shape), drawn.argmin(-1))
    wrong = found - optimum
    with np.errstate(invalid="ignore"):
        distance = (found - vertex[:, None, groups]) / BANDWIDTH
    weight = np.where(np.isfinite(distance), np.exp(-0.5 * distance**2), 0.0)
    total = weight.sum(axis=1)
    mean = (weight * np.nan_to_num(wrong)).sum(axis=1) / np.where(total > 0, total, 1.0)
    bias[:, groups] += np.where(total > 0, mean, 0.0)
    return bias


def _looked_up(shape: CurveShape, u: Floats) -> Floats:
    """Return f(u) from a fine table: a thousandth of an octave between entries is exact enough."""
    table = np.arange(u.min() - 0.01, u.max() + 0.01, 0.002)
    return np.interp(u, table, shape.value(table))
