"""From curves of error against batch size to exponents and verdicts, without tables.

What `check_batch_size_law` does between reading a table and writing a result; simulations that
calibrate the verdicts call it with curves of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from analysis.batches.batch_grid import BatchGrid
from analysis.batches.collapse_regression import CollapseRegression, regress_curves
from analysis.batches.factors import FACTORS
from analysis.batches.optimum import ALPHA, BatchForm, Peaks, find_peaks
from analysis.batches.peak_regression import (
    PeakObservations,
    PeakRegression,
    evidence,
    regress_peaks,
)
from analysis.errors import FitError
from analysis.evidence import MAXIMUM_SHARE
from analysis.verdict import Evidence, Judgement, Verdict, judge_factor, judge_jointly, reconcile

__all__ = ["MARGIN", "Estimator", "JudgedCurves", "judge_curves"]

Floats = NDArray[np.float64]

MARGIN = 0.15
"""Default half width δ of the band that counts as an exponent of 1."""


class Estimator(StrEnum):
    """What is judged; the other one is printed beside."""

    PEAKS = "peaks"
    """The regression of optima."""
    COLLAPSE = "collapse"
    """The windowed collapse of the curves."""

    @classmethod
    def named(cls, name: "Estimator | str") -> "Estimator":
        """Return the estimator of that name; `FitError` names all."""
        try:
            return cls(name)
        except ValueError:
            allowed = ", ".join(repr(str(estimator)) for estimator in cls)
            raise FitError(f"`estimator` is {name!r}; allowed: {allowed}.") from None


@dataclass(frozen=True, eq=False)
class JudgedCurves:
    """Exponents by both estimators, and verdicts by either."""

    peaks: Peaks
    observations: PeakObservations
    by_peaks: PeakRegression
    by_collapse: CollapseRegression
    judged: Mapping[Estimator, Mapping[str, Judgement]]
    """Of learning_rate, train_examples, momentum and joint, by the estimator asked for."""

    def exponents(self, estimator: Estimator) -> PeakRegression | CollapseRegression:
        """Return the exponents by one estimator."""
        return self.by_peaks if estimator is Estimator.PEAKS else self.by_collapse


def judge_curves(
    grid: BatchGrid,
    octaves: Floats,
    *,
    form: BatchForm = "B",
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> JudgedCurves:
    """Return exponents and verdicts of the curves in `grid`; `octaves`: (G, 3) factors, log₂.

    A factor is judged by one estimator. Where the other judges the opposite (one supported, one
    refuted), it is inconclusive.
    """
    peaks = find_peaks(grid, _folds(len(grid.seeds)), form=form, alpha=alpha)
    lower, upper = peaks.observed
    observations = PeakObservations(octaves, lower, upper, peaks.label, grid.seeds)
    by_peaks = regress_peaks(observations)
    by_collapse = regress_curves(peaks, octaves, by_peaks.exponents)
    judged: dict[Estimator, dict[str, Judgement]] = {estimator: {} for estimator in Estimator}
    for factor, name in enumerate(FACTORS):
        optima = evidence(observations, by_peaks, factor)
        curves = replace(
            optima,
            exponent=float(by_collapse.exponents[factor]),
            standard_error=float(np.sqrt(by_collapse.covariance[factor, factor])),
            failure=by_collapse.failure,
        )
        by_optima, by_curves = (
            _judged(each, margin, peaks.untrained_note) for each in (optima, curves)
        )
        judged[Estimator.PEAKS][name] = reconcile(by_optima, by_curves)
        judged[Estimator.COLLAPSE][name] = reconcile(by_curves, by_optima)
    for factors in judged.values():
        factors["joint"] = judge_jointly(factors)
    return JudgedCurves(peaks, observations, by_peaks, by_collapse, judged)


def _judged(seen: Evidence, margin: float, untrained_note: str) -> Judgement:
    """Return the verdict on a factor; where groups are flat that train nowhere, it is said."""
    judgement = judge_factor(seen, margin=margin)
    flat = seen.flat + seen.plateau > MAXIMUM_SHARE * seen.groups
    if not (untrained_note and flat and judgement.verdict is Verdict.UNIDENTIFIED):
        return judgement
    return replace(judgement, reason=f"{judgement.reason} {untrained_note}")


def _folds(seeds: int) -> NDArray[np.bool_]:
    """Return (S + 1, S) seeds kept: all of them, then all but each; one row for a single seed."""
    everyone = np.ones((1, seeds), dtype=bool)
    return np.concatenate([everyone, ~np.eye(seeds, dtype=bool)]) if seeds > 1 else everyone
