"""The check of the batch-size law that must fail: one factor's labels shuffled over the groups.

If shuffled labels were "supported" too, or left as small a residual as the true ones, the
verdict would come from the procedure and not from the factor. A few groups cannot be shuffled
into enough that is wrong: there is no control of them, which is said and is no failure.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

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

Floats = NDArray[np.float64]

FEWEST = 100
"""Permutations, and different ones there are: of fewer the 1st percentile would be the smallest."""
MAXIMUM_SUPPORTED_SHARE = 0.01
RESIDUAL_PERCENTILE = 1.0
ROUNDING = 1e-9
"""Share by which equal residuals may differ. Iterations end closer."""
SAME_OCTAVES = 1e-6
"""Labels closer than this are the same."""
TOGETHER = 50
"""Permutations that are fitted at once: many cost little more than one, and memory."""


@dataclass(frozen=True, kw_only=True)
class PermutationControl:
    """What became of the law when one factor's labels were shuffled."""

    factor: str
    permutations: int
    seed: int
    supported_share: float
    """Share of permutations in which the factor was supported; at most .01 is allowed. NaN where
    there is a `problem`."""
    observed_residual_octaves: float
    """Standard deviation of B_opt about the law with the true labels; 0 where that passes through
    all that is known."""
    permuted_residual_octaves: float
    """1st percentile of that over the permutations; NaN where there is a `problem`."""
    passed: bool | None
    """Whether both hold: few supported, and the true labels' residual below that percentile.
    It is a control of a supported factor: labels of an exponent near 0 explain little. None where
    there is a `problem`."""
    problem: str = ""
    """Why the control cannot be run, as a clause; empty where it was."""

    def __str__(self) -> str:
        if self.passed is None:
            return f"Negative control, {self.factor}: cannot be run, as {self.problem}."
        return (
            f"Negative control, {self.factor}: {'passed' if self.passed else 'FAILED'}. Of "
            f"{self.permutations} shuffles of its labels {self.supported_share:.1%} were "
            f"supported (at most 1 % may be); the residual is "
            f"{self.observed_residual_octaves:.2g} octaves with the true labels, and "
            f"{self.permuted_residual_octaves:.2g} at the 1st percentile of shuffled ones."
        )


def permutation_control(
    law: BatchSizeLaw, factor: str, *, permutations: int = 500, seed: int = 0
) -> PermutationControl:
    """Return the negative control of one factor of a checked law.

    Labels are shuffled over groups, and the regression, its jackknife and the verdict are made
    again. A shuffle that gives the groups with a known optimum the true labels again, or their
    mirror image, is the same regression up to sign, and is drawn anew. The optima, which know
    nothing of the labels, are those of the law, in every fold. A regression that passes through all
    that is known has a residual of 0, and a permutation that admits none counts as one, so that
    what could not be estimated does not pass.

    With few groups the control cannot be run, and `problem` says so: where there are fewer than
    100 other labellings (without mirror images), or where more than 1 % of the shuffles are so near
    to the true labels that optima exactly on the fitted law (its exponent of this factor taken into
    the margin) would have one within the margin under them too: a law that holds could not pass.

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
    if permutations < FEWEST:
        raise FitError(
            f"`permutations` is {permutations}; at least {FEWEST} give a 1st percentile."
        )
    observed = regress_peaks(law.observations)
    index = FACTORS.index(factor)
    if observed.failure or not np.isfinite(observed.exponents[index]):
        why = observed.failure or "the design does not determine its exponent"
        raise FitError(f"There is no verdict on {factor} to control: {why}.")
    control = PermutationControl(
        factor=factor,
        permutations=permutations,
        seed=seed,
        supported_share=math.nan,
        observed_residual_octaves=_residual(observed),
        permuted_residual_octaves=math.nan,
        passed=None,
        problem=_too_few_labellings(law.observations, index),
    )
    if control.problem:
        return control
    rng = np.random.default_rng(seed)
    shuffled = [_shuffled(law.observations, index, rng) for _ in range(permutations)]
    supposed = observed.exponents.copy()
    supposed[index] = supposed[index].clip(1 - law.margin, 1 + law.margin)
    exponents = [_exponent_on(law.observations, supposed, of, index) for of in shuffled]
    near = float((np.abs(np.array(exponents) - 1) <= law.margin).mean())
    if near > MAXIMUM_SUPPORTED_SHARE:
        return replace(control, problem=_too_near(law.observations, near))
    supported, residuals = 0, []
    for of, regression in zip(shuffled, _regressed(shuffled), strict=True):
        judgement = judge_factor(evidence(of, regression, index), margin=law.margin)
        supported += judgement.verdict is Verdict.SUPPORTED
        residuals.append(_residual(regression))
    threshold = float(np.percentile(residuals, RESIDUAL_PERCENTILE))
    share = supported / permutations
    return replace(
        control,
        supported_share=share,
        permuted_residual_octaves=threshold,
        passed=share <= MAXIMUM_SUPPORTED_SHARE
        and _residual(observed) < threshold * (1 - ROUNDING),
    )


def _regressed(shuffled: Sequence[PeakObservations]) -> Iterator[PeakRegression]:
    for first in range(0, len(shuffled), TOGETHER):
        yield from regress_relabelled(shuffled[first : first + TOGETHER])


def _too_few_labellings(observations: PeakObservations, factor: int) -> str:
    """Return why the groups with a known optimum have too few other labellings; empty if not."""
    labels = observations.octaves[observations.informative, factor]
    mirrored = labels.min() + labels.max() - labels
    alike = np.unique(labels, return_counts=True)[1]
    labellings = math.factorial(len(labels))
    for number in alike:
        labellings //= math.factorial(int(number))
    if np.allclose(np.sort(mirrored), np.sort(labels), rtol=0, atol=SAME_OCTAVES):
        labellings //= 2
    if labellings - 1 >= FEWEST:
        return ""
    return (
        f"{len(labels)} groups with a known optimum can be labelled in {labellings - 1} other ways "
        f"only, mirror images apart, and at least {FEWEST} give a 1st percentile"
    )


def _too_near(observations: PeakObservations, share: float) -> str:
    return (
        f"{int(observations.informative.sum())} groups with a known optimum are too few: "
        f"{share:.1%} of the shuffles are so near to the true labels that a law that holds exactly "
        "would be supported under them too, and at most 1 % may be"
    )


def _exponent_on(
    true: PeakObservations, exponents: Floats, shuffled: PeakObservations, factor: int
) -> float:
    """Return the factor's exponent by shuffled labels, of optima exactly on the true ones' law."""
    used = np.flatnonzero(np.isfinite(exponents))
    on_law = _centred(true)[:, used] @ exponents[used]
    slopes = np.linalg.lstsq(_centred(shuffled)[:, used], on_law, rcond=None)[0]
    return float(slopes[used == factor][0])


def _centred(observations: PeakObservations) -> Floats:
    octaves = observations.octaves[observations.informative]
    return np.asarray(octaves - octaves.mean(axis=0))


def _residual(regression: PeakRegression) -> float:
    return float(np.nan_to_num(regression.residual_octaves, nan=0.0))


def _shuffled(
    observations: PeakObservations, factor: int, rng: np.random.Generator
) -> PeakObservations:
    true = _centred(observations)[:, factor]
    while True:
        octaves = observations.octaves.copy()
        octaves[:, factor] = rng.permutation(octaves[:, factor])
        shuffled = replace(observations, octaves=octaves)
        labels = _centred(shuffled)[:, factor]
        apart = min(np.abs(labels - true).max(), np.abs(labels + true).max())
        if apart > SAME_OCTAVES:
            return shuffled
