"""Do two learning curves share their exponent? Asked as equivalence, not as failure to differ.

"Architecture shifts α, not β" is a claim of sameness, which a large p-value does not support.
Source: Hestness et al. 2017, arXiv:1712.00409, for the claim; Schuirmann 1987 for the two
one-sided tests.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.power_law import PowerLawFit
from analysis.errors import FitError
from analysis.fits.jackknife import Jackknife
from analysis.json_values import json_value
from analysis.summary_table import Summary
from analysis.verdict import Verdict, judge_interval, t_interval

__all__ = ["Equivalence", "ExponentComparison", "compare_exponents"]

MARGIN = 0.05
"""Exponents of deep learning's tasks lie between -.07 and -.35; architectures that differ by less
than this belong to one task (a convention of this project)."""


class Equivalence(StrEnum):
    """What the data say of two exponents being one."""

    EQUIVALENT = "equivalent"
    """The 90 % interval of the difference lies inside the margin."""
    DIFFERENT = "different"
    """The 95 % interval is disjoint from the margin."""
    INCONCLUSIVE = "inconclusive"
    """Neither."""


_TOLD = {
    Verdict.SUPPORTED: Equivalence.EQUIVALENT,
    Verdict.REFUTED: Equivalence.DIFFERENT,
    Verdict.INCONCLUSIVE: Equivalence.INCONCLUSIVE,
}


@dataclass(frozen=True, kw_only=True)
class ExponentComparison:
    """The difference of two exponents, and whether it is within the margin."""

    exponents: tuple[float, float]
    """β of the first and of the second fit."""
    difference: float
    """The first less the second."""
    standard_error: float
    """Jackknife over seeds; infinite where an exponent is unidentified."""
    degrees_of_freedom: float
    """S - 1 where paired, Welch and Satterthwaite's otherwise."""
    paired: bool
    """Whether both fits rest on the same seeds, whose folds are then subtracted."""
    margin: float
    """Difference that still counts as one exponent."""
    interval90: tuple[float, float]
    """Interval that must lie inside ±margin for equivalence."""
    interval95: tuple[float, float]
    """Interval that must lie outside for a difference."""
    verdict: Equivalence
    """What the data say."""
    reason: str
    """Why."""
    n_cells: int
    """Number of cells behind both fits."""

    def summary(self) -> Summary:
        """Return a printable summary."""
        table = pd.DataFrame(
            [self.interval90, self.interval95],
            index=["90 %", "95 %"],
            columns=["lower", "upper"],
        )
        facts = (
            ("First β", f"{self.exponents[0]:.4g}"),
            ("Second β", f"{self.exponents[1]:.4g}"),
            ("Difference", f"{self.difference:.4g}"),
            ("Standard error", f"{self.standard_error:.3g}"),
            ("Seeds", "paired" if self.paired else "not shared"),
            ("Margin", f"{self.margin:g}"),
            ("Cells", str(self.n_cells)),
        )
        notes = (f"Verdict: {self.verdict}. {self.reason}",)
        return Summary(title="Two exponents, by equivalence", facts=facts, table=table, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; infinite bounds are "inf" and "-inf"."""
        return {str(name): json_value(value) for name, value in vars(self).items()}

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def compare_exponents(
    first: PowerLawFit, second: PowerLawFit, margin: float = MARGIN
) -> ExponentComparison:
    """Judge whether two fits share their exponent within `margin`, by two one-sided tests.

    Fits with the same seeds are paired: the jackknife is that of the difference, fold by fold, t
    with S - 1 degrees, right whether or not seeds share noise. Otherwise the variances add, with
    Welch and Satterthwaite's degrees; seeds that only some fits have are then taken as independent,
    which is wide where shared ones agree. Each fit's variance of the held-out set is added in full.

    At a true difference of ±margin "equivalent" was said in .02 to .07 of sets at a nominal .05 (M1
    .04-.06, M2 .01-.07; β -.1 to -.35, 5 and 10 seeds, four noises, 400 to 2,000 sets each). With
    a floor, an exponent rarely has the standard error below .015 that a margin of .05 asks for.

    Args:
        first: a fit with an interval, by jackknife.
        second: another one, of the same form.
        margin: difference that still counts as one exponent, above 0.

    Raises:
        FitError: fits of different forms, with fewer than 2 seeds, or a margin that is no number
            above 0.
    """
    if not 0 < margin < math.inf:
        raise FitError(f"margin is {margin}; it must be above 0 and finite, such as {MARGIN}.")
    if first.form != second.form:
        raise FitError(
            f"The fits are of {first.form} and {second.form}, whose exponents differ on one and "
            "the same data. Fit both with one form."
        )
    if "beta" not in first.params:
        raise FitError(f"{first.form} has no one exponent; compare fits of 'M1' or 'M2'.")
    for fit in (first, second):
        if len(fit.folds) < 2:
            raise FitError("A comparison needs at least 2 seeds in each fit; there is 1 in one.")
    difference = first.beta - second.beta
    paired = first.seeds == second.seeds
    error, freedom = _standard_error(first, second, paired=paired)
    told = judge_interval(difference, error, freedom, claimed=0.0, margin=margin)
    unidentified = not (first.identified and second.identified)
    return ExponentComparison(
        exponents=(first.beta, second.beta),
        difference=difference,
        standard_error=error,
        degrees_of_freedom=freedom,
        paired=paired,
        margin=margin,
        interval90=t_interval(difference, error, freedom, 0.90),
        interval95=t_interval(difference, error, freedom, 0.95),
        verdict=_TOLD[told.verdict],
        reason=_UNIDENTIFIED if unidentified else _REASONS[_TOLD[told.verdict]].format(margin),
        n_cells=first.n_cells + second.n_cells,
    )


_REASONS = {
    Equivalence.EQUIVALENT: "The 90 % interval of the difference lies inside ±{:g}.",
    Equivalence.DIFFERENT: "The 95 % interval of the difference is disjoint from ±{:g}.",
    Equivalence.INCONCLUSIVE: (
        "The 90 % interval of the difference is not inside ±{:g}, and the 95 % interval is not "
        "disjoint from it. More seeds, or more sizes, narrow both."
    ),
}
_UNIDENTIFIED = "An exponent is unidentified: its data do not bound it, nor the difference."


def _standard_error(
    first: PowerLawFit, second: PowerLawFit, *, paired: bool
) -> tuple[float, float]:
    """Return the standard error of the difference and its degrees of freedom."""
    if not (first.identified and second.identified):
        return math.inf, min(fit.curve.degrees_of_freedom for fit in (first, second))
    # In every form with a β it is the second working parameter, and reported as it is.
    held_out = float(first.held_out_variance[1] + second.held_out_variance[1])
    if paired:
        folds = first.folds[:, 1] - second.folds[:, 1]
        freedom = min(fit.curve.degrees_of_freedom for fit in (first, second))
        return math.sqrt(_variance(folds) + held_out), freedom
    parts = [(_variance(fit.folds[:, 1]), fit.curve.degrees_of_freedom) for fit in (first, second)]
    total = sum(variance for variance, _ in parts)
    squares = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = total**2 / squares if squares else float(min(f for _, f in parts))
    return math.sqrt(total + held_out), freedom


def _variance(folds: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    return float(Jackknife(np.zeros(1), folds[:, None]).covariance[0, 0])
