"""Linear least squares inside the search for starting points: what is linear is not searched."""

import numpy as np

from analysis.forms.base import Array

__all__ = ["linear_starts", "smallest_and_largest"]

_RIDGE = 1e-10
"""Against collinear columns, as a share of each column's sum of squares: starts need no digits."""


def linear_starts(design: Array, target: Array, weights: Array) -> Array:
    """Return (..., q) coefficients of weighted least squares of `target` on `design`.

    `design`: (..., n, q); `target` and `weights`: (..., n); leading dimensions broadcast.
    """
    weighted = design * weights[..., None]
    normal = np.swapaxes(weighted, -1, -2) @ design
    right = (np.swapaxes(weighted, -1, -2) @ target[..., None])[..., 0]
    scale = np.sqrt(np.einsum("...qq->...q", normal))
    scale = np.where(scale > 0, scale, 1.0)
    normal = normal / (scale[..., :, None] * scale[..., None, :])
    normal = normal + _RIDGE * np.eye(design.shape[-1])
    return np.asarray(np.linalg.solve(normal, (right / scale)[..., None])[..., 0] / scale)


def smallest_and_largest(values: Array, weights: Array) -> tuple[Array, Array]:
    """Return (k,) least and greatest of (k, n) values among those with weight above 0."""
    counted = weights > 0
    low = np.where(counted, values, np.inf).min(axis=1)
    return low, np.where(counted, values, -np.inf).max(axis=1)
