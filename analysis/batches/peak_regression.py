"""The regression of optimal batch sizes on learning rate, shard size and momentum, in octaves.

It takes what is known of each optimum in every fold of the seeds, and gives the exponents with
their jackknife, and what a verdict on each of them rests on.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.batches.factors import independent_factors, variance_inflation
from analysis.batches.optimum import OptimumLabel
from analysis.evidence import Evidence
from analysis.fits.censored_regression import fit_interval_censored
from analysis.fits.jackknife import Jackknife

__all__ = [
    "PeakObservations",
    "PeakRegression",
    "evidence",
    "regress_peaks",
    "regress_relabelled",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PeakObservations:
    """What the regression sees: G groups, in S + 1 folds of which the first has every seed."""

    octaves: Floats
    """(G, 3) log₂ ε, log₂ N, log₂ 1/(1 - m)."""
    lower: Floats
    """(S + 1, G) lower bounds on log₂ B_opt; equal to `upper` where there is an estimate."""
    upper: Floats
    """(S + 1, G) upper bounds."""
    label: NDArray[np.object_]
    """(G,) labels with every seed."""
    seeds: tuple[object, ...]
    """(S) labels; fold 1 + s leaves out seed s. A single seed has no folds."""

    @property
    def informative(self) -> NDArray[np.bool_]:
        """(G,) whether anything is known of the group's optimum."""
        return np.asarray(self.label != OptimumLabel.FLAT)


@dataclass(frozen=True, eq=False)
class PeakRegression:
    """Exponents of a regression of peaks, their jackknife, and what could not be estimated."""

    exponents: Floats
    """(3,) NaN where the design does not determine the factor's exponent."""
    covariance: Floats
    """(3, 3) jackknife covariance; infinite where a fold could not be estimated."""
    residual_octaves: float
    """Standard deviation of B_opt about the law, in octaves; NaN without a regression, and where it
    passes through all that is known, which leaves nothing to estimate the deviation from."""
    variance_inflation: Floats
    """(3,) infinite for a factor that does not vary or is collinear."""
    failure: str
    """Why there is no standard error, as a clause; empty if there is."""


def regress_peaks(observations: PeakObservations) -> PeakRegression:
    """Regress the optima of all folds on the factors that the informative groups vary."""
    (regression,) = regress_relabelled([observations])
    return regression


def regress_relabelled(relabelled: Sequence[PeakObservations]) -> list[PeakRegression]:
    """Return `regress_peaks` of each, at once, where they differ in nothing but `octaves`."""
    bounds = relabelled[0].lower, relabelled[0].upper
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, observations in enumerate(relabelled):
        octaves = observations.octaves[observations.informative]
        alike[tuple(independent_factors(octaves))].append(place)
    regressions: dict[int, PeakRegression] = {}
    for used, places in alike.items():
        varied = np.stack([relabelled[place].octaves for place in places])[..., list(used)]
        centred = varied - varied.mean(axis=1, keepdims=True)
        design = np.concatenate([np.ones((*centred.shape[:2], 1)), centred], axis=2)
        fits = fit_interval_censored(design[:, None], *bounds)
        residual = np.where(fits.at_minimum, np.nan, fits.scale)
        for row, place in enumerate(places):
            fit = fits.coefficients[row], residual[row, 0], fits.identified[row]
            regressions[place] = _regression(relabelled[place], used, *fit)
    return [regressions[place] for place in range(len(relabelled))]


def _regression(
    observations: PeakObservations,
    used: tuple[int, ...],
    coefficients: Floats,
    residual: float,
    identified: NDArray[np.bool_],
) -> PeakRegression:
    """Return what the folds' (S + 1, 1 + used) coefficients say of the three factors."""
    inflation = variance_inflation(observations.octaves[observations.informative])
    named = np.array(used, dtype=np.intp)
    determined = np.isfinite(inflation[named])
    named, estimates = named[determined], coefficients[:, 1:][:, determined]
    exponents, covariance = np.full(3, np.nan), np.full((3, 3), np.inf)
    exponents[named] = estimates[0]
    failure = _failure(estimates, identified, observations.seeds)
    if not failure:
        covariance[np.ix_(named, named)] = Jackknife(estimates[0], estimates[1:]).covariance
        for factor in named:
            levels, estimated = _levels(observations, factor)
            if estimated < min(3, levels):  # bounds alone made the slope, and no seed moves them
                covariance[factor, :] = covariance[:, factor] = np.inf
    return PeakRegression(exponents, covariance, float(residual), inflation, failure)


def evidence(observations: PeakObservations, regression: PeakRegression, factor: int) -> Evidence:
    """Return what the verdict on one factor (its index in `FACTORS`) rests on."""
    octaves, label = observations.octaves[:, factor], observations.label
    levels, estimated_levels = _levels(observations, factor)
    no_upper_bound = np.isinf(observations.upper[0])
    return Evidence(
        exponent=float(regression.exponents[factor]),
        standard_error=math.sqrt(regression.covariance[factor, factor]),
        degrees_of_freedom=len(observations.seeds) - 1,
        levels=levels,
        octaves=float(np.ptp(octaves)),
        variance_inflation=float(regression.variance_inflation[factor]),
        seeds=len(observations.seeds),
        groups=len(label),
        flat=int((label == OptimumLabel.FLAT).sum()),
        plateau=int((label == OptimumLabel.PLATEAU).sum()),
        censored=int((label == OptimumLabel.CENSORED).sum()),
        censored_above=int(((label == OptimumLabel.CENSORED) & no_upper_bound).sum()),
        interior_levels=len(np.unique(octaves[label == OptimumLabel.INTERIOR])),
        estimated_levels=estimated_levels,
        failure=regression.failure,
    )


def _levels(observations: PeakObservations, factor: int) -> tuple[int, int]:
    """Return the factor's number of levels, and of those with an estimated optimum."""
    octaves = observations.octaves[:, factor]
    estimated = observations.lower[0] == observations.upper[0]
    return len(np.unique(octaves)), len(np.unique(octaves[estimated]))


def _failure(estimates: Floats, identified: NDArray[np.bool_], seeds: tuple[object, ...]) -> str:
    """Return why the folds give no standard error; empty if they do."""
    if not identified[0]:
        return "the optima do not determine the regression"
    if len(seeds) < 2:
        return "one seed has no spread"
    lost = [str(seed) for seed, fold in zip(seeds, identified[1:], strict=True) if not fold]
    if lost:
        return f"without seed {', '.join(lost)} the optima no longer determine the regression"
    # 1e-9: Newton's last step; seeds that truly differ move exponents by far more
    if estimates.shape[-1] and np.ptp(estimates, axis=0).max() < 1e-9:
        return "no seed changes any exponent, so that nothing is known of their noise"
    return ""
