"""What the data say of a claimed exponent, as pure functions of an estimate and its design.

The order of the rules is fixed, and both intervals share one standard error and its degrees of
freedom, so that they cannot contradict. "Refuted", "censored" and "unidentified" are answers,
not failures: a claim is supported only when its whole 90 % interval lies inside the margin.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

__all__ = [
    "Evidence",
    "Judgement",
    "Verdict",
    "holm",
    "judge_factor",
    "judge_interval",
    "judge_jointly",
    "reconcile",
    "t_interval",
    "undecided",
]

MINIMUM_LEVELS = 3
MINIMUM_OCTAVES = 2.0
MAXIMUM_VARIANCE_INFLATION = 10.0
"""A factor's variance is at most this many times that of an orthogonal design. Inflation is
taken on centred and scaled regressors: a raw condition number refuses even a perfect cross."""
MINIMUM_SEEDS = 5
MAXIMUM_SHARE = 0.5
"""Share of groups that may be flat or plateau, and that may be censored."""
OCTAVE_TOLERANCE = 1e-9
"""Room for rounding in log2, so that 0.1, 0.2, 0.4 span two octaves."""


class Verdict(StrEnum):
    """What the data say of a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    CENSORED = "censored"
    UNIDENTIFIED = "unidentified"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a verdict on one factor rests on. A group is one (ε, N, m)."""

    exponent: float
    """Estimate; NaN where the table admits none."""
    standard_error: float
    """Jackknife standard error; infinite where a fold could not be estimated."""
    degrees_of_freedom: int
    """Seeds - 1."""
    levels: int
    """Distinct values of the factor."""
    octaves: float
    """log2 of the factor's largest over its smallest value."""
    variance_inflation: float
    """1 / (1 - R²) of the factor on the others; infinite when collinear."""
    seeds: int
    """Seeds that every group has."""
    groups: int
    """Groups in the table, whatever their label."""
    flat: int
    """Groups without a visible optimum."""
    plateau: int
    """Groups whose optimum is known within more than two octaves only."""
    censored: int
    """Groups whose optimum may lie beyond their grid."""
    censored_above: int
    """Those of them whose optimum may lie above it; that of the others may lie below."""
    interior_levels: int
    """Levels of the factor with at least one interior group."""
    estimated_levels: int
    """Levels with at least one interior group whose optimum a parabola estimates."""
    failure: str = ""
    """Why exponent or standard error could not be estimated, as a clause; empty if they were."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict, and the sentence that says why."""

    verdict: Verdict
    reason: str
    p_value: float = 1.0
    """Two-sided p of the exponent lying in the band; 1 where the design admits no test."""
    one_excluded: bool = False
    """Whether the 95 % interval excludes the claimed value itself."""


def t_interval(
    estimate: float, standard_error: float, degrees_of_freedom: float, level: float
) -> tuple[float, float]:
    """Return the two-sided Student interval; (-inf, inf) where there is no estimate or no SE."""
    if not (math.isfinite(estimate) and math.isfinite(standard_error)):
        return -math.inf, math.inf
    half = float(stdtrit(degrees_of_freedom, (1 + level) / 2)) * standard_error
    return estimate - half, estimate + half


def judge_interval(
    estimate: float,
    standard_error: float,
    degrees_of_freedom: float,
    *,
    claimed: float,
    margin: float,
) -> Judgement:
    """Judge whether `estimate` lies in [claimed - margin, claimed + margin].

    Refuted when the 95 % interval is disjoint from the band; else supported when the 90 %
    interval lies inside it (two one-sided tests at 5 %); else inconclusive.
    """
    low95, high95 = t_interval(estimate, standard_error, degrees_of_freedom, 0.95)
    low90, high90 = t_interval(estimate, standard_error, degrees_of_freedom, 0.90)
    low, high = claimed - margin, claimed + margin
    band = f"[{low:.4g}, {high:.4g}]"
    if low95 > high or high95 < low:
        verdict = Verdict.REFUTED
        reason = f"The 95 % interval [{low95:.3f}, {high95:.3f}] is disjoint from {band}."
    elif low90 >= low and high90 <= high:
        verdict = Verdict.SUPPORTED
        reason = f"The 90 % interval [{low90:.3f}, {high90:.3f}] lies inside {band}."
    else:
        verdict = Verdict.INCONCLUSIVE
        reason = (
            f"The 90 % interval [{low90:.3f}, {high90:.3f}] is not inside {band}, "
            f"and the 95 % interval [{low95:.3f}, {high95:.3f}] is not disjoint from it. More "
            "seeds, or more levels of the factor, narrow both."
        )
    return Judgement(
        verdict=verdict,
        reason=reason,
        p_value=_band_p_value(abs(estimate - claimed) - margin, standard_error, degrees_of_freedom),
        one_excluded=not low95 <= claimed <= high95,
    )


def judge_factor(evidence: Evidence, *, claimed: float = 1.0, margin: float) -> Judgement:
    """Judge one factor: the first rule that matches.

    1. unidentified: < 3 levels, < 2 octaves, variance inflation > 10, < 5 seeds, or more than
       half of the groups flat or plateau;
    2. censored: more than half of the groups censored, or < 3 levels with an interior group;
       then unidentified where, though neither rule matched, < 3 levels have an estimated
       optimum (slopes between mere bounds have no standard error) or the regression failed;
    3. refuted, 4. supported, 5. inconclusive: see `judge_interval`.
    """
    lacking = _lacking_identification(evidence)
    if lacking:
        return Judgement(verdict=Verdict.UNIDENTIFIED, reason=lacking)
    hidden = _censoring(evidence)
    if hidden:
        return Judgement(verdict=Verdict.CENSORED, reason=hidden)
    inestimable = _inestimable(evidence)
    if inestimable:
        return Judgement(verdict=Verdict.UNIDENTIFIED, reason=inestimable)
    return judge_interval(
        evidence.exponent,
        evidence.standard_error,
        evidence.degrees_of_freedom,
        claimed=claimed,
        margin=margin,
    )


def reconcile(judged: Judgement, beside: Judgement) -> Judgement:
    """Return `judged`, or that nothing is concluded where another estimator says the opposite.

    The opposite is that `beside` supports what `judged` refutes, or refutes what it supports.
    """
    opposite = {Verdict.SUPPORTED: Verdict.REFUTED, Verdict.REFUTED: Verdict.SUPPORTED}
    if opposite.get(judged.verdict) is not beside.verdict:
        return judged
    return Judgement(
        verdict=Verdict.INCONCLUSIVE,
        reason=(
            f"Two estimators disagree: by the one that was asked for it is {judged.verdict} "
            f"({judged.reason}), by the other {beside.verdict} ({beside.reason})"
        ),
    )


def judge_jointly(judgements: Mapping[str, Judgement]) -> Judgement:
    """Judge all factors together: the first rule that matches.

    Refuted if Holm's procedure refutes any factor at 5 %; supported if every factor is
    (intersection-union, which needs no correction); unidentified or censored if any factor is;
    inconclusive.
    """
    adjusted = holm([judgement.p_value for judgement in judgements.values()])
    refuted = [
        f"{name} (Holm p = {p:.2g})"
        for (name, judgement), p in zip(judgements.items(), adjusted, strict=True)
        if judgement.verdict is Verdict.REFUTED and p <= 0.05
    ]
    if refuted:
        return Judgement(
            verdict=Verdict.REFUTED,
            reason=f"Refuted for {', '.join(refuted)}.",
            p_value=float(adjusted.min()),
        )
    if all(judgement.verdict is Verdict.SUPPORTED for judgement in judgements.values()):
        return Judgement(verdict=Verdict.SUPPORTED, reason="Every factor is supported.")
    for verdict in (Verdict.UNIDENTIFIED, Verdict.CENSORED):
        names = [name for name, judgement in judgements.items() if judgement.verdict is verdict]
        if names:
            return Judgement(verdict=verdict, reason=undecided(names, verdict))
    words = ", ".join(f"{name} {judgement.verdict}" for name, judgement in judgements.items())
    return Judgement(
        verdict=Verdict.INCONCLUSIVE,
        reason=f"Not every factor is supported, and Holm's procedure refutes none ({words}).",
    )


def undecided(names: Sequence[str], verdict: Verdict) -> str:
    """Return why factors that are unidentified or censored leave a joint question open."""
    are = "is" if len(names) == 1 else "are"
    return f"No answer while {', '.join(names)} {are} {verdict}."


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's step-down adjusted p-values, in the order given. Source: Holm 1979."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _lacking_identification(evidence: Evidence) -> str:
    if evidence.levels < MINIMUM_LEVELS:
        return f"The factor has {_count(evidence.levels, 'level')}; at least 3 are needed."
    if evidence.octaves < MINIMUM_OCTAVES - OCTAVE_TOLERANCE:
        return f"The factor spans {evidence.octaves:.2f} octaves; at least 2 are needed."
    if evidence.seeds < MINIMUM_SEEDS:
        return f"There are {_count(evidence.seeds, 'complete seed')}; at least 5 are needed."
    if evidence.flat + evidence.plateau > MAXIMUM_SHARE * evidence.groups:
        return (
            f"{evidence.flat} flat and {evidence.plateau} plateau of {evidence.groups} groups, "
            "more than half: the error hardly depends on the batch size. More seeds may show that "
            "it does."
        )
    if not evidence.variance_inflation <= MAXIMUM_VARIANCE_INFLATION:
        return (
            f"The variance inflation is {evidence.variance_inflation:.3g}, above 10: the factor "
            "moves together with the others; cross them."
        )
    return ""


def _censoring(evidence: Evidence) -> str:
    above, below = evidence.censored_above, evidence.censored - evidence.censored_above
    beyond = f"{above} above the largest batch size, {below} below the smallest"
    if evidence.censored > MAXIMUM_SHARE * evidence.groups:
        sides = {"larger batch sizes, each below its shard,": above, "smaller batch sizes": below}
        wider = " and ".join(side for side, groups in sides.items() if groups)
        return (
            f"{evidence.censored} of {evidence.groups} groups, more than half, may have their "
            f"optimum beyond the grid ({beyond}). Add {wider} or seeds, which show more of the "
            "grid's batch sizes to be worse than the best."
        )
    if evidence.interior_levels < MINIMUM_LEVELS:
        return (
            f"{_count(evidence.interior_levels, 'level')} of the factor with an interior "
            f"optimum; at least 3 are needed. Of {evidence.groups} groups {evidence.censored} may "
            f"have theirs beyond the grid ({beyond}), and {evidence.plateau} have a plateau. Add "
            "batch sizes, seeds, or levels of the factor."
        )
    return ""


def _inestimable(evidence: Evidence) -> str:
    if evidence.estimated_levels < MINIMUM_LEVELS:
        return (
            f"{_count(evidence.estimated_levels, 'level')} of the factor with an optimum that a "
            "parabola estimates; at least 3 are needed. A parabola needs batch sizes an octave "
            "apart or less, on both sides of the best and above the cliff."
        )
    if evidence.failure:
        return f"No interval can be given: {evidence.failure}."
    return ""


def _band_p_value(distance: float, standard_error: float, degrees_of_freedom: float) -> float:
    if not distance > 0 or not math.isfinite(standard_error):
        return 1.0
    if standard_error == 0:
        return 0.0
    return float(2 * stdtr(degrees_of_freedom, -distance / standard_error))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
