"""The cliff below which training fails, as a law of its own: the stability edge.

At a small batch the gradient noise is large, and below some batch size a rate no longer trains.
Where that cliff lies is known between two neighbouring batch sizes. It is fitted apart from the
optimum, since curves looked at as a whole measure it instead; and where the optimum stands right
above it, what moves the one moves the other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.batches.batch_grid import BatchGrid
from analysis.batches.optimum import OptimumLabel, Peaks
from analysis.batches.peak_regression import PeakObservations, PeakRegression, regress_peaks

__all__ = ["NEAR_OCTAVES", "StabilityEdge", "find_stability_edge"]

Floats = NDArray[np.float64]

NEAR_OCTAVES = 1.5
"""From the middle of the cliff's interval to the optimum: nearer, the cliff is what a sweep of
factors of 2 sees first."""


@dataclass(frozen=True, eq=False)
class StabilityEdge:
    """Where training begins to fail, and how that moves with the factors."""

    lower: Floats
    """(G,) log₂ of the largest batch size that fails below the optimum; -inf where none does, and
    that of the whole grid where none trains. NaN where no chance error is known."""
    upper: Floats
    """(G,) log₂ of the smallest one above it that trains; inf where none does. NaN like `lower`."""
    regression: PeakRegression
    """Of the edge on the three factors; without exponents where no chance error is known."""
    distance_octaves: float
    """Median over groups of the optimum's distance from the edge; NaN where no edge was seen."""
    near_share: float
    """Share of the groups with a known optimum that have it within `NEAR_OCTAVES` of an edge."""


def find_stability_edge(grid: BatchGrid, peaks: Peaks, octaves: Floats) -> StabilityEdge:
    """Return the edge of all groups and its regression on (G, 3) `octaves`.

    A batch size fails where its mean error is more than half the way from the best to chance, and
    all do of a group that is `Peaks.untrained`. Such a group is left out of the regression: as one
    whose edge lies above all batch sizes it bends the exponents where training fails for another
    reason, such as rates that diverge at any (an exponent of 1.05 became 3.06). What failure is can
    be said only where the chance error is known; elsewhere there is no edge. An edge enters as the
    middle between its neighbours (as intervals alone, some plane passes through all of them, and
    none is the likeliest), one that no batch size shows as an open bound.
    """
    bounds = [_edge(peaks, fold) for fold in range(len(peaks.mean))]
    lower, upper = (np.array(side) for side in zip(*bounds, strict=True))
    if not grid.chance_known:
        lower, upper = np.full_like(lower, -np.inf), np.full_like(upper, np.inf)
    shown = np.isfinite(lower) & np.isfinite(upper)
    middle = np.full_like(lower, np.nan)
    middle[shown] = (lower[shown] + upper[shown]) / 2
    seen = shown[0]
    low, high = np.where(shown, middle, lower), np.where(shown, middle, upper)
    silent = peaks.untrained | (not grid.chance_known)
    low[:, silent], high[:, silent] = -np.inf, np.inf
    label = np.where(seen, OptimumLabel.INTERIOR, OptimumLabel.CENSORED).astype(object)
    label[silent] = OptimumLabel.FLAT
    regression = regress_peaks(PeakObservations(octaves, low, high, label, grid.seeds))
    known = np.isfinite(peaks.estimate[0])
    both = known & seen
    distance = (peaks.estimate[0] - middle[0])[both]
    return StabilityEdge(
        lower=lower[0] if grid.chance_known else np.full(len(octaves), np.nan),
        upper=upper[0] if grid.chance_known else np.full(len(octaves), np.nan),
        regression=regression,
        distance_octaves=float(np.median(distance)) if len(distance) else np.nan,
        near_share=float((distance <= NEAR_OCTAVES).sum() / max(known.sum(), 1)),
    )


def _edge(peaks: Peaks, fold: int) -> tuple[Floats, Floats]:
    """Return (G,) bounds of the edge: the last failure below the best, and what comes after it.

    Of a group that trains nowhere: its largest batch size, and no upper bound.
    """
    learned, octave = peaks.learned[fold], peaks.octave
    place = np.arange(octave.shape[1])
    failed = np.isfinite(octave) & ~learned & (place < peaks.best[fold][:, None])
    last = np.where(failed, place, -1).max(axis=1)
    groups = np.arange(len(octave))
    lower = np.where(last >= 0, octave[groups, np.maximum(last, 0)], -np.inf)
    return (
        np.where(peaks.untrained, np.nanmax(octave, axis=1), lower),
        np.where(peaks.untrained, np.inf, octave[groups, last + 1]),
    )
