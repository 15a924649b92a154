"""The three factors of the batch-size law, in octaves, and whether a design tells them apart."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import FitError

__all__ = ["FACTORS", "factor_octaves", "independent_factors", "variance_inflation"]

Floats = NDArray[np.float64]

FACTORS = ("learning_rate", "train_examples", "momentum")
"""Keys of exponents and verdicts; the momentum factor is 1 / (1 - m)."""
SAME_OCTAVES = 1e-6
"""Singular values below this many octaves are rounding: the factors are collinear."""


def factor_octaves(
    groups: pd.DataFrame, learning_rate: str, train_examples: str, momentum: str
) -> Floats:
    """Return (G, 3) log₂ of ε, N and 1/(1 - m), which are columns of `groups`.

    Raises `FitError` where a value is no number, or one that its factor cannot have.
    """
    for name in (learning_rate, train_examples, momentum):
        if not pd.api.types.is_numeric_dtype(groups[name]):
            raise FitError(f"{name!r} is {groups[name].iloc[0]!r}; allowed: numbers.")
    if (groups[learning_rate] <= 0).any():
        value = groups[learning_rate].min()
        raise FitError(f"{learning_rate!r} is {value:g} in the table; allowed: above 0.")
    m = groups[momentum]
    if not m.between(0, 1, inclusive="left").all():
        value = m[~m.between(0, 1, inclusive="left")].iloc[0]
        raise FitError(f"{momentum!r} is {value:g} in the table; allowed: in [0, 1).")
    factors = np.column_stack([groups[learning_rate], groups[train_examples], 1 / (1 - m)])
    # 9 digits: 1/(1 - .9) and 10 are one level
    return np.asarray(np.log2(factors).round(9), dtype=np.float64)


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
