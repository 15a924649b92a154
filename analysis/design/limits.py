"""What a study cannot decide however little noise it has: told by its grid alone, at once.

These are the rules of the verdicts themselves (`analysis.evidence`), asked of the best data that
the grid could bring. What noise does to the rest, `analysis.design.batch_law` simulates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.batches.factors import FACTORS, variance_inflation
from analysis.curves.curve_points import SEEDS_TO_CHOOSE
from analysis.design.planned_runs import DesignGrid
from analysis.evidence import MAXIMUM_SHARE, MINIMUM_LEVELS, Evidence, design_fault
from analysis.json_values import json_value
from analysis.law_questions import LEVELS_NEEDED

__all__ = ["BatchLawLimits", "PowerLawLimits", "batch_law_limits", "power_law_limits"]

Floats = NDArray[np.float64]

PARABOLA_OCTAVES = 1.25
"""Farthest neighbour that a parabola uses; see `analysis.batches.parabola`."""
SCAN_OCTAVES = 0.05
"""Step at which places of the optimum are tried."""
RECOMMENDED_SEEDS = 5
"""From which verdicts on the batch-size law are given, too; Student's quantile is 2.8 there, 4.3 at
3 seeds and 12.7 at 2."""


@dataclass(frozen=True, eq=False)
class BatchLawLimits:
    """What the grid of a study of B_opt ∝ ε N / (1 - m) admits."""

    grid: DesignGrid
    reasons: Mapping[str, str]
    """By factor: why no data can decide it; empty where some could."""
    moves: float
    """Octaves between the smallest and the largest optimum of the groups, if the law holds."""
    window: tuple[float, float] | None
    """log₂ of the optimum at the middle of the factors between which, if the law holds, enough
    groups have theirs inside their batch sizes; None where it may lie nowhere."""
    most_inside: int
    """Groups that have it inside where that optimum lies best."""

    @property
    def decidable(self) -> tuple[str, ...]:
        """Factors that some data could decide."""
        return tuple(name for name, reason in self.reasons.items() if not reason)

    def sentences(self) -> tuple[str, ...]:
        """Return what the study can and cannot decide, whatever the noise."""
        said = [*_refusals(self.reasons)]
        if not self.decidable:
            return tuple(said)
        grid, names = self.grid, ", ".join(self.decidable)
        said.append(
            f"The grid admits a verdict on {names}: {len(grid.groups)} curves of "
            f"{_range(grid.sizes_of_group)} batch sizes with {grid.seeds} seeds."
        )
        return (*said, self._about_censoring())

    def _about_censoring(self) -> str:
        groups = len(self.grid.groups)
        moves = (
            f"If the law holds, the best batch size moves over {self.moves:.2g} octaves from curve "
            f"to curve, and the batch sizes of a curve span {self._spans()}"
        )
        if self.window is None:
            return (
                f"{moves}: wherever it lies, at most {self.most_inside} of {groups} curves have it "
                "inside, too few or at too few levels, and the verdict would be censored. Add "
                "batch sizes, or take levels off."
            )
        low, high = np.exp2(self.window)
        return (
            f"{moves}: enough curves have it inside only if that of the middle setting "
            f"({self.grid.setting(self.grid.middle)}) lies between {low:.3g} and {high:.3g}; "
            "elsewhere the verdict would be censored."
        )

    def _spans(self) -> str:
        octave = self.grid.log2_batch
        spans = np.nanmax(octave, axis=1) - np.nanmin(octave, axis=1)
        return f"{_range(spans)} octaves"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "groups": len(self.grid.groups),
            "seeds": self.grid.seeds,
            "cannot_decide": {name: reason for name, reason in self.reasons.items() if reason},
            "can_decide": list(self.decidable),
            "optimum_moves_octaves": json_value(self.moves),
            "optimum_between": None if self.window is None else [2.0**end for end in self.window],
            "sentences": list(self.sentences()),
        }


def batch_law_limits(grid: DesignGrid) -> BatchLawLimits:
    """Return what `grid` could decide of the batch-size law at best."""
    reasons = {
        name: design_fault(_best_evidence(grid, factor)) for factor, name in enumerate(FACTORS)
    }
    inside = _inside_of(grid)
    moved = _moved(grid)
    return BatchLawLimits(
        grid=grid,
        reasons=reasons,
        moves=float(np.ptp(moved)),
        window=_window(grid, inside, [f for f, name in enumerate(FACTORS) if not reasons[name]]),
        most_inside=int(inside[1].sum(axis=1).max()),
    )


def _best_evidence(grid: DesignGrid, factor: int) -> Evidence:
    """Return the evidence of errors without noise, with every optimum in its best place."""
    octaves = grid.octaves[:, factor]
    inner = grid.sizes_of_group >= 3
    gaps = np.diff(grid.log2_batch, axis=1)
    near = gaps <= PARABOLA_OCTAVES
    estimable = (near[:, 1:] & near[:, :-1]).any(axis=1)
    return Evidence(
        exponent=1.0,
        standard_error=0.0,
        degrees_of_freedom=grid.seeds - 1,
        levels=len(np.unique(octaves)),
        octaves=float(np.ptp(octaves)),
        variance_inflation=float(variance_inflation(grid.octaves)[factor]),
        seeds=grid.seeds,
        groups=len(octaves),
        flat=0,
        plateau=0,
        censored=int((~inner).sum()),
        censored_above=int((~inner).sum()),
        interior_levels=len(np.unique(octaves[inner])),
        estimated_levels=len(np.unique(octaves[estimable])),
    )


def _moved(grid: DesignGrid) -> Floats:
    """Return the (G,) octaves by which the law moves each group's optimum from the middle."""
    return np.asarray((grid.octaves - grid.middle).sum(axis=1))


def _inside_of(grid: DesignGrid) -> tuple[Floats, NDArray[np.bool_]]:
    """Return (P,) places of the middle optimum, and (P, G) which groups then have theirs inside.

    Inside is nearer to another than to the first and the last batch size: at the end itself no
    neighbour can be known to be worse.
    """
    octave, count = grid.log2_batch, grid.sizes_of_group
    rows = np.arange(len(octave))
    low = octave[:, :2].mean(axis=1) if octave.shape[1] > 1 else octave[:, 0]
    high = (octave[rows, count - 1] + octave[rows, np.maximum(count - 2, 0)]) / 2
    moved = _moved(grid)
    place = np.arange(np.nanmin(low - moved) - SCAN_OCTAVES, np.nanmax(high - moved), SCAN_OCTAVES)
    optimum = place[:, None] + moved
    with np.errstate(invalid="ignore"):
        return place, np.asarray((optimum > low) & (optimum < high))


def _window(
    grid: DesignGrid, inside: tuple[Floats, NDArray[np.bool_]], factors: Sequence[int]
) -> tuple[float, float] | None:
    """Return the first and last place from which no factor's verdict is censored."""
    place, within = inside
    enough = within.sum(axis=1) >= (1 - MAXIMUM_SHARE) * within.shape[1]
    for factor in factors:
        levels = grid.octaves[:, factor]
        seen = [within[:, levels == level].any(axis=1) for level in np.unique(levels)]
        enough &= np.sum(seen, axis=0) >= MINIMUM_LEVELS
    good = place[enough]
    return (float(good[0]), float(good[-1])) if len(good) else None


@dataclass(frozen=True, kw_only=True)
class PowerLawLimits:
    """What the sizes and seeds of a learning curve admit."""

    sizes: tuple[float, ...]
    seeds: int
    reason: str
    """Why there can be no interval of the exponent; empty where there can."""
    reserves: tuple[str, ...]
    """What will be held against it, as sentences."""

    @property
    def decades(self) -> float:
        """log₁₀ of the largest over the smallest size; 0 where there is none."""
        if not self.sizes:
            return 0.0
        return float(np.log10(max(self.sizes) / min(self.sizes)))

    def sentences(self) -> tuple[str, ...]:
        """Return what the study can and cannot decide, whatever the noise."""
        if self.reason:
            return (f"This study cannot bound β of ε(m) = α m^β + γ: {self.reason}",)
        return (
            f"The grid admits an interval of β of ε(m) = α m^β + γ: {len(self.sizes)} sizes over "
            f"{self.decades:.2g} decades, {self.seeds} seeds.",
            *self.reserves,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "sizes": json_value(self.sizes),
            "seeds": self.seeds,
            "decades": self.decades,
            "cannot_decide": {"beta": self.reason} if self.reason else {},
            "can_decide": [] if self.reason else ["beta"],
            "sentences": list(self.sentences()),
        }


def power_law_limits(
    sizes: Sequence[float], seeds: int, *, choose: Sequence[str] = ()
) -> PowerLawLimits:
    """Return what a learning curve at `sizes` could tell; `choose`: see `fit_power_law`."""
    distinct = tuple(sorted({float(size) for size in sizes}))
    limits = PowerLawLimits(sizes=distinct, seeds=seeds, reason="", reserves=())
    reserves = []
    if limits.decades < 1:
        reserves.append(
            f"The sizes span {limits.decades:.2g} decades, less than one: the fit would be "
            "'narrow', not to be extrapolated. Add smaller or larger shards."
        )
    if seeds < RECOMMENDED_SEEDS:
        reserves.append(
            f"An interval of {seeds} seeds is wide, as their spread is hardly known; "
            f"{RECOMMENDED_SEEDS} or more are recommended."
        )
    return PowerLawLimits(
        sizes=distinct,
        seeds=seeds,
        reason=_no_interval(len(distinct), seeds, choose),
        reserves=tuple(reserves),
    )


def _no_interval(sizes: int, seeds: int, choose: Sequence[str]) -> str:
    if sizes < LEVELS_NEEDED:
        return f"there are {sizes} sizes; at least {LEVELS_NEEDED} are needed."
    if choose and seeds < SEEDS_TO_CHOOSE:
        return (
            f"there are {seeds} seeds; choosing the best {', '.join(choose)} at each size needs "
            f"at least {SEEDS_TO_CHOOSE}."
        )
    if seeds < 2:
        return "there is 1 seed; at least 2 are needed for an interval."
    return ""


def _refusals(reasons: Mapping[str, str]) -> list[str]:
    """Return one sentence for each reason, of all factors that it keeps from a verdict."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason:
            names.setdefault(reason, []).append(name)
    return [
        f"This study cannot decide {', '.join(of_reason)}: {reason}"
        for reason, of_reason in names.items()
    ]


def _range(numbers: NDArray[Any]) -> str:
    """Return such as `5 to 7`, or `7` where they are all alike."""
    low, high = f"{np.min(numbers):.3g}", f"{np.max(numbers):.3g}"
    return low if low == high else f"{low} to {high}"
