"""The three factors of the batch-size law, in octaves, and whether a design tells them apart."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["FACTORS", "independent_factors", "variance_inflation"]

Floats = NDArray[np.float64]

FACTORS = ("learning_rate", "train_examples", "momentum")
"""Keys of exponents and verdicts; the momentum factor is 1 / (1 - m)."""
SAME_OCTAVES = 1e-6
"""Singular values below this many octaves are rounding: the factors are collinear."""


def variance_inflation(octaves: Floats) -> Floats:
    """Return (3,) 1/(1 - R²) of each factor on the others; infinite if constant or collinear."""
    inflation = np.full(octaves.shape[1], np.inf)
    if not len(octaves):
        return inflation
    centred = octaves - octaves.mean(axis=0)
    for factor in _varying(centred):
        others = np.delete(centred, factor, axis=1)
        own = centred[:, factor]
        unexplained = own - others @ np.linalg.lstsq(others, own, rcond=1e-9)[0]
        if np.linalg.norm(unexplained) > SAME_OCTAVES:
            inflation[factor] = (own @ own) / (unexplained @ unexplained)
    return inflation


def _varying(centred: Floats) -> list[int]:
    return [int(f) for f in np.flatnonzero(np.linalg.norm(centred, axis=0) > SAME_OCTAVES)]


def independent_factors(octaves: Floats) -> list[int]:
    """Return the first factors that vary and are linearly independent."""
    used: list[int] = []
    if not len(octaves):
        return used
    centred = octaves - octaves.mean(axis=0)
    for factor in _varying(centred):
        chosen = centred[:, [*used, factor]]
        if np.linalg.matrix_rank(chosen, tol=SAME_OCTAVES) == len(used) + 1:
            used.append(factor)
    return used
