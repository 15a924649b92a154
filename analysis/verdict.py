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

from analysis.evidence import Evidence, hidden_optima, inestimable, lacking_identification

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


class Verdict(StrEnum):
    """What the data say of a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    CENSORED = "censored"
    UNIDENTIFIED = "unidentified"


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
    lacking = lacking_identification(evidence)
    if lacking:
        return Judgement(verdict=Verdict.UNIDENTIFIED, reason=lacking)
    hidden = hidden_optima(evidence)
    if hidden:
        return Judgement(verdict=Verdict.CENSORED, reason=hidden)
    without = inestimable(evidence)
    if without:
        return Judgement(verdict=Verdict.UNIDENTIFIED, reason=without)
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


def _band_p_value(distance: float, standard_error: float, degrees_of_freedom: float) -> float:
    if not distance > 0 or not math.isfinite(standard_error):
        return 1.0
    if standard_error == 0:
        return 0.0
    return float(2 * stdtr(degrees_of_freedom, -distance / standard_error))
