"""The vertex of a parabola through the batch sizes about the best one."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["parabola_vertex"]

Floats = NDArray[np.float64]

WINDOW_OCTAVES = 1.25
"""The parabola's half width: one octave, with room for rounded grids and for B/(1-B/N)."""


def parabola_vertex(
    octave: Floats, mean: Floats, learned: NDArray[np.bool_], best: NDArray[np.intp]
) -> Floats:
    """Return (F, G) vertices of least-squares parabolas about the best; NaN where there is none.

    `octave`: (G, K) log₂ batch sizes. `mean`: (F, G, K) mean errors. `learned`: (F, G, K) points
    that may be used. `best`: (F, G) places of the smallest errors. None where the best has no
    neighbour to use on a side, the parabola no minimum, or its vertex lies outside the points.
    """
    offset = np.nan_to_num(octave - np.take_along_axis(octave, best.T, axis=-1).T[..., None], nan=0)
    inside = learned & np.isfinite(octave) & (np.abs(offset) <= WINDOW_OCTAVES)
    offset = np.where(inside, offset, 0.0)
    height = np.where(inside, mean, 0.0)
    left, right = offset.min(axis=-1), offset.max(axis=-1)
    usable = (left < 0) & (right > 0)
    square = offset**2
    count, s1, s2 = inside.sum(axis=-1), offset.sum(axis=-1), square.sum(axis=-1)
    s3, s4 = (square * offset).sum(axis=-1), (square**2).sum(axis=-1)
    moments = np.stack([count, s1, s2, s1, s2, s3, s2, s3, s4], axis=-1).reshape(*s1.shape, 3, 3)
    moments[~usable] = np.eye(3)
    sums = np.stack([height.sum(-1), (offset * height).sum(-1), (square * height).sum(-1)], -1)
    _, slope, curvature = np.moveaxis(np.linalg.solve(moments, sums[..., None])[..., 0], -1, 0)
    usable &= curvature > 0
    vertex = -slope / (2 * np.where(usable, curvature, 1.0))
    usable &= (vertex >= left) & (vertex <= right)
    centre = np.take_along_axis(octave, best.T, axis=-1).T
    return np.where(usable, centre + vertex, np.nan)
