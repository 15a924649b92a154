"""How well the points determine parameters: linearized covariances and how they trade off."""

import numpy as np
from numpy.typing import NDArray

from analysis.forms.base import Array

__all__ = ["CONDITION_LIMIT", "condition_of", "inverse_information"]

CONDITION_LIMIT = 1e12
"""Beyond, a covariance has lost nearly all of a double's digits."""


def inverse_information(jacobian: Array, weights: Array, free: NDArray[np.bool_]) -> Array:
    """Return (p, p) (J'WJ)⁻¹, the covariance at unit variance; 0 for parameters not free.

    `jacobian`: (n, p); `weights`: (n,); `free`: (p,). All infinite where a free parameter has no
    influence on any point.
    """
    used = jacobian[:, free] * np.sqrt(weights)[:, None]
    norm = np.linalg.norm(used, axis=0)
    result = np.zeros((jacobian.shape[1],) * 2)
    if not (norm > 0).all():
        return np.full_like(result, np.inf)
    # Unit columns: parameters may differ by orders of magnitude.
    inverse = np.linalg.pinv(used / norm, rcond=1e-14)
    result[np.ix_(free, free)] = (inverse @ inverse.T) / np.outer(norm, norm)
    return result


def condition_of(covariance: Array) -> float:
    """Return the condition number of a covariance scaled to unit diagonal, fixed parameters out."""
    if not np.isfinite(covariance).all():
        return float(np.inf)
    free = np.diagonal(covariance) > 0
    if not free.any():
        return 1.0
    kept = covariance[np.ix_(free, free)]
    scale = np.sqrt(np.diagonal(kept))
    return float(np.linalg.cond(kept / np.outer(scale, scale)))
