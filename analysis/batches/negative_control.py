"""The check of the batch-size law that must fail: one factor's labels shuffled over the groups.

If shuffled labels were "supported" too, or left as small a residual as the true ones, the
verdict would come from the procedure and not from the factor.
"""

from dataclasses import dataclass, replace

import numpy as np

from analysis.batches.batch_law import BatchSizeLaw
from analysis.batches.factors import FACTORS
from analysis.batches.law_judgement import Estimator
from analysis.batches.peak_regression import (
    PeakObservations,
    PeakRegression,
    evidence,
    regress_peaks,
    regress_relabelled,
)
from analysis.errors import FitError
from analysis.verdict import Verdict, judge_factor

__all__ = ["PermutationControl", "permutation_control"]

MAXIMUM_SUPPORTED_SHARE = 0.01
RESIDUAL_PERCENTILE = 1.0
ROUNDING = 1e-9
"""Share by which equal residuals may differ: that of labels shuffled into themselves, or mirrored,
is no larger than the true labels'. Iterations end closer."""
TOGETHER = 50
"""Permutations that are fitted at once: many cost little more than one, and memory."""


@dataclass(frozen=True, kw_only=True)
class PermutationControl:
    """What became of the law when one factor's labels were shuffled."""

    factor: str
    permutations: int
    seed: int
    supported_share: float
    """Share of permutations in which the factor was supported; at most .01 is allowed."""
    observed_residual_octaves: float
    """Standard deviation of B_opt about the law with the true labels; 0 where that passes through
    all that is known."""
    permuted_residual_octaves: float
    """1st percentile of that over the permutations."""
    passed: bool
    """Whether both hold: few supported, and the true labels' residual below that percentile.
    It is a control of a supported factor: labels of an exponent near 0 explain little."""


def permutation_control(
    law: BatchSizeLaw, factor: str, *, permutations: int = 500, seed: int = 0
) -> PermutationControl:
    """Return the negative control of one factor of a checked law.

    Labels are shuffled over groups, and the regression, its jackknife and the verdict are made
    again. The optima, which know nothing of the labels, are those of the law, in every fold. A
    regression that passes through all that is known has a residual of 0, and a permutation that
    admits none counts as one, so that a control that could not be run does not pass.

    Raises `FitError` for an unknown factor, fewer than 100 permutations (the 1st percentile
    would be the smallest), a law that is judged by its collapse, or one whose own regression
    failed.
    """
    if law.estimator is not Estimator.PEAKS:
        raise FitError(
            f"The law is judged by its {law.estimator}, and what is controlled are verdicts by "
            'peaks. Check it with estimator="peaks".'
        )
    if factor not in FACTORS:
        raise FitError(f"Unknown factor {factor!r}. Available: {', '.join(FACTORS)}.")
    if permutations < 100:
        raise FitError(f"`permutations` is {permutations}; at least 100 give a 1st percentile.")
    observed = regress_peaks(law.observations)
    index = FACTORS.index(factor)
    if observed.failure or not np.isfinite(observed.exponents[index]):
        why = observed.failure or "the design does not determine its exponent"
        raise FitError(f"There is no verdict on {factor} to control: {why}.")
    rng = np.random.default_rng(seed)
    supported = 0
    residuals = np.zeros(permutations)
    for first in range(0, permutations, TOGETHER):
        draws = range(first, min(first + TOGETHER, permutations))
        shuffled = [_shuffled(law.observations, index, rng) for _ in draws]
        for draw, of, regression in zip(draws, shuffled, regress_relabelled(shuffled), strict=True):
            judgement = judge_factor(evidence(of, regression, index), margin=law.margin)
            supported += judgement.verdict is Verdict.SUPPORTED
            residuals[draw] = _residual(regression)
    threshold = float(np.percentile(residuals, RESIDUAL_PERCENTILE))
    share = supported / permutations
    return PermutationControl(
        factor=factor,
        permutations=permutations,
        seed=seed,
        supported_share=share,
        observed_residual_octaves=_residual(observed),
        permuted_residual_octaves=threshold,
        passed=share <= MAXIMUM_SUPPORTED_SHARE
        and _residual(observed) < threshold * (1 - ROUNDING),
    )


def _residual(regression: PeakRegression) -> float:
    return float(np.nan_to_num(regression.residual_octaves, nan=0.0))


def _shuffled(
    observations: PeakObservations, factor: int, rng: np.random.Generator
) -> PeakObservations:
    octaves = observations.octaves.copy()
    octaves[:, factor] = rng.permutation(octaves[:, factor])
    return replace(observations, octaves=octaves)
