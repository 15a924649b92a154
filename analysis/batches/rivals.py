"""Rival laws of the best batch size, ranked by how well they foretell groups left out.

Rivals, not controls: several may be right within the data's reach, and the ranking says which of
them the optima favour.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_ndtr

from analysis.batches.factors import independent_factors
from analysis.batches.peak_regression import PeakObservations
from analysis.fits.censored_regression import fit_interval_censored

__all__ = ["RIVALS", "rank_rivals"]

Floats = NDArray[np.float64]

RIVALS = {
    "εN/(1-m)": (1.0, 1.0, 1.0),
    "ε/(1-m)": (1.0, 0.0, 1.0),
    "√(εN/(1-m))": (0.5, 0.5, 0.5),
    "ε": (1.0, 0.0, 0.0),
    "constant": (0.0, 0.0, 0.0),
}
"""Exponents of ε, N and 1/(1-m)."""


def rank_rivals(observations: PeakObservations) -> pd.DataFrame:
    """Return the rivals and the freely fitted law, the best first and those without a score last.

    Each group's optimum is foretold by a regression of the others. `log_score`: mean over groups of
    the log density of an optimum that is known, or of the log probability of its interval; the
    larger the better; NaN where a regression of the others is not identified, or passes through all
    of them, which leaves no residual to judge a miss by. `error_octaves`: root mean square over the
    known ones. Columns also `learning_rate`, `train_examples`, `momentum`: the exponents, NaN where
    the groups vary no such factor and for the free law, which has others in every fold. Empty
    without 3 informative groups.
    """
    informative = np.flatnonzero(observations.informative)
    lower, upper = observations.lower[0, informative], observations.upper[0, informative]
    octaves = observations.octaves[informative]
    columns = ["learning_rate", "train_examples", "momentum", "log_score", "error_octaves"]
    if len(informative) < 3:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="rival"))
    used = independent_factors(octaves)
    centred = octaves - octaves.mean(axis=0)
    known = np.array(list(RIVALS.values())) @ centred.T
    scores = _foretell(np.ones((len(octaves), 1)), lower - known, upper - known)
    rows = {
        name: (*_named(exponents, used), *score)
        for (name, exponents), score in zip(RIVALS.items(), scores, strict=True)
    }
    free = np.column_stack([np.ones(len(octaves)), centred[:, used]])
    rows["free"] = (np.nan, np.nan, np.nan, *_foretell(free, lower[None], upper[None])[0])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("rival")
    return table.sort_values("log_score", ascending=False, na_position="last", kind="stable")


def _named(exponents: tuple[float, ...], used: list[int]) -> list[float]:
    return [e if factor in used else np.nan for factor, e in enumerate(exponents)]


def _foretell(design: Floats, lower: Floats, upper: Floats) -> list[tuple[float, float]]:
    """Return each rival's mean log score and root mean square error of left-out groups.

    `lower`, `upper`: (rivals, groups).
    """
    left_out = np.eye(len(design), dtype=bool)
    fits = fit_interval_censored(
        design,
        np.where(left_out, -np.inf, lower[:, None]),
        np.where(left_out, np.inf, upper[:, None]),
    )
    foretold = (fits.coefficients * design).sum(axis=-1)
    low, high = (lower - foretold) / fits.scale, (upper - foretold) / fits.scale
    exact = lower == upper
    density = -0.5 * low**2 - 0.5 * np.log(2 * np.pi) - np.log(fits.scale)
    score = np.where(exact, density, _log_probability(low, high)).mean(axis=1)
    score[fits.at_minimum.any(axis=1)] = np.nan
    squared = np.where(exact, (np.where(exact, lower, 0.0) - foretold) ** 2, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(squared / exact.sum(axis=1))
    told = np.asarray(fits.identified.all(axis=1))
    return [
        (float(s), float(e)) if known else (np.nan, np.nan)
        for s, e, known in zip(score, error, told, strict=True)
    ]


def _log_probability(low: Floats, high: Floats) -> Floats:
    """Return log(Φ(high) - Φ(low)) from the tail that does not cancel."""
    flip = low > 0
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(log_ndtr(near) + np.log1p(-np.exp(log_ndtr(far) - log_ndtr(near))))
