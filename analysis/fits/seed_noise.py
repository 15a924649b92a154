"""How much runs scatter where a shift of a seed's whole curve does not count."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

__all__ = ["seed_noise"]


def seed_noise(scores: NDArray[np.float64]) -> tuple[float, int]:
    """Return the variance between runs, and its degrees of freedom.

    From what sizes and seeds leave unexplained; from the scatter within sizes, where they leave
    nothing, as where every run has a seed of its own and no shift can be told.

    `scores`: (n, S) logs of each size and seed, NaN where there was no run; each size has at least
    2 seeds, so that there is some scatter.
    """
    has = ~np.isnan(scores)
    left = scores - np.nanmean(scores, axis=1, keepdims=True)
    sizes, seeds = scores.shape
    # Sizes that share no seed, not even by others between them, have a level each.
    parts = int(connected_components(has @ has.T)[0])
    freedom = int(has.sum()) - sizes - seeds + parts
    if freedom > 0:
        left = left - np.nanmean(left, axis=0)
    else:
        freedom = int(has.sum()) - sizes
    return float(np.nansum(left**2)) / freedom, freedom
