"""The law by the windowed collapse: exponents with a jackknife over seeds, and how well it fits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

from analysis.batches.collapse import (
    Collapse,
    Curves,
    collapse_curves,
    stretch_gain,
    stretched_collapse,
)
from analysis.batches.factors import independent_factors, variance_inflation
from analysis.batches.optimum import SHAPE_GROUPS, Peaks
from analysis.fits.jackknife import Jackknife

__all__ = ["POOR_FIT", "CollapseRegression", "regress_curves"]

Floats = NDArray[np.float64]

POOR_FIT = 0.001
"""Chance at which curves of one shape are said to have several. They have no interval then: seeds
say nothing of how far a wrong shape leads (on the noisy quadratic, .07 with a tenth of that as
standard error)."""
ONE_WIDTH = 0.01
"""Chance at which curves of one width are given several, which doubles the standard errors. Widths
that change by 12 % for each octave of N are found in nearly all tables whose exponents have a
standard error of .01; undiscovered they would move N's exponent by .05."""
FARTHEST_EXPONENT = 10.0
"""An exponent beyond this is no estimate: the curves slid off one another."""


@dataclass(frozen=True, eq=False)
class CollapseRegression:
    """Exponents of the collapse, their jackknife, and the collapse itself."""

    exponents: Floats
    """(3,) NaN where the collapse does not determine the factor's exponent."""
    covariance: Floats
    """(3, 3) jackknife covariance; infinite where there is none."""
    collapse: Collapse | None
    """Of all seeds; None where there is a failure before it. Stretched where one width does not
    fit."""
    lack_of_fit: float
    """p-value of the curves having the shape of the collapse: residual against the noise of seeds;
    NaN if none."""
    failure: str
    """Why there is no standard error, as a clause; empty if there is."""

    @property
    def stretched(self) -> bool:
        """Whether the curves were given widths that are powers of the factors."""
        return self.collapse is not None and self.collapse.stretches.size > 0


def regress_curves(peaks: Peaks, octaves: Floats, start: Floats) -> CollapseRegression:
    """Collapse the curves of every fold along the factors that they vary.

    `peaks`: of all folds, in their windows. `octaves`: (G, 3) factors. `start`: (3,) exponents to
    begin with, NaN where none is known.
    """
    exponents, covariance = np.full(3, np.nan), np.full((3, 3), np.inf)
    curves = peaks.curves(0)
    used = independent_factors(octaves[curves.groups])
    if curves.groups.sum() < SHAPE_GROUPS or not used:
        failure = f"{int(curves.groups.sum())} curves are too few to find a common shape"
        return CollapseRegression(exponents, covariance, None, np.nan, failure)
    begun = np.nan_to_num(start[used])
    whole = collapse_curves(curves, octaves[:, used], begun, peaks.centre[0])
    if _widths_differ(curves, octaves[:, used], whole, peaks):
        stretched = stretched_collapse(curves, octaves[:, used], whole, peaks.centre[0])
        whole = whole if stretched.folded else stretched
    folds = [
        _again(peaks.curves(fold), octaves[:, used], whole, peaks.centre[fold]).exponents
        for fold in range(1, len(peaks.mean))
    ]
    estimates = np.array([whole.exponents, *folds])
    determined = np.isfinite(variance_inflation(octaves[curves.groups])[used])
    named = np.array(used, dtype=np.intp)[determined]
    exponents[named] = estimates[0, determined]
    lack_of_fit = _lack_of_fit(whole, peaks)
    failure = _failure(estimates, lack_of_fit)
    if not failure:
        spread = Jackknife(estimates[0, determined], estimates[1:, determined]).covariance
        covariance[np.ix_(named, named)] = spread
    return CollapseRegression(exponents, covariance, whole, lack_of_fit, failure)


def _widths_differ(curves: Curves, octaves: Floats, whole: Collapse, peaks: Peaks) -> bool:
    """Return whether widths that are powers of the factors explain what one width leaves."""
    if not peaks.noise > 0:
        return False
    d = octaves.shape[1]
    gain = stretch_gain(curves, octaves, whole, peaks.centre[0])
    return bool(fdtrc(d, peaks.noise_freedom, max(gain, 0.0) / d / peaks.noise**2) < ONE_WIDTH)


def _again(curves: Curves, octaves: Floats, whole: Collapse, centre: Floats) -> Collapse:
    """Return the collapse of a fold, of the kind that the `whole` one is."""
    if whole.stretches.size:
        return stretched_collapse(curves, octaves, whole, centre, refit=True)
    return collapse_curves(curves, octaves, whole.exponents, centre, whole.pieces)


def _failure(estimates: Floats, lack_of_fit: float) -> str:
    if len(estimates) < 2:
        return "one seed has no spread"
    if lack_of_fit < POOR_FIT:
        return f"the curves have not one shape (p = {lack_of_fit:.1g})"
    if np.abs(estimates).max() > FARTHEST_EXPONENT:
        return "the curves cannot be brought onto one another"
    if np.ptp(estimates, axis=0).max() < 1e-9:
        return "no seed changes any exponent, so that nothing is known of their noise"
    return ""


def _lack_of_fit(whole: Collapse, peaks: Peaks) -> float:
    if whole.freedom < 1 or not peaks.noise > 0:
        return np.nan
    return float(fdtrc(whole.freedom, peaks.noise_freedom, whole.mean_square / peaks.noise**2))
