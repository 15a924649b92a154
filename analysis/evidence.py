"""What a verdict on one factor rests on, and the rules by which that may be too little.

Apart from `analysis.verdict`, as a plan asks them of a study that has no data yet.
"""

from dataclasses import dataclass

__all__ = ["Evidence", "design_fault", "hidden_optima", "inestimable", "lacking_identification"]

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


def design_fault(evidence: Evidence) -> str:
    """Return the first rule that keeps the factor from being judged; empty if none does."""
    return lacking_identification(evidence) or hidden_optima(evidence) or inestimable(evidence)


def lacking_identification(evidence: Evidence) -> str:
    """Return why the design or the labels leave the factor unidentified; empty if they do not."""
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


def hidden_optima(evidence: Evidence) -> str:
    """Return why too many optima may lie beyond the grid; empty if they do not."""
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


def inestimable(evidence: Evidence) -> str:
    """Return why no exponent or no standard error could be had; empty if both were."""
    if evidence.estimated_levels < MINIMUM_LEVELS:
        return (
            f"{_count(evidence.estimated_levels, 'level')} of the factor with an optimum that a "
            "parabola estimates; at least 3 are needed. A parabola needs batch sizes an octave "
            "apart or less, on both sides of the best and above the cliff."
        )
    if evidence.failure:
        return f"No interval can be given: {evidence.failure}."
    return ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
