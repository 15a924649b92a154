"""What a forecast takes the runs of a study to be: curves, their place, and the noise about them.

Either by assumption (a bowl), or from a pilot's table: then shape, heights, levels, noise and the
place of the optimum are the pilot's own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.batches.batch_grid import BatchGrid, arrange_batch_grid
from analysis.batches.collapse import Collapse, common_shape
from analysis.batches.curve_shape import CurveShape
from analysis.batches.factors import FACTORS, factor_octaves
from analysis.batches.optimum import SHAPE_GROUPS, OptimumLabel, Peaks, find_peaks
from analysis.design.planned_runs import DesignGrid
from analysis.errors import FitError

__all__ = ["DEPTH", "NOISE", "AssumedCurves", "Bowl", "assumed_curves", "curves_of_pilot"]

Floats = NDArray[np.float64]
Curve = Callable[[Floats], Floats]

NOISE = 0.005
"""Standard deviation of a run's error in the pilot on MNIST; its peak was .02 high."""
DEPTH = 0.02
CHANCE_ERROR = 0.9
LOWEST_ERROR = 0.1
"""Of ten classes, and at the optimum: they matter only for where a curve goes over its cliff."""


@dataclass(frozen=True, kw_only=True)
class Bowl:
    """depth · (1 - 2^(-u s))² at u octaves above the optimum: steep below it, levelling off above.

    The default is .02 one octave below and .005, .011, .018 one, two and four octaves above. A
    perceptron on 1,000 digits of MNIST (ε = .1, m = .9, 2,000 steps) had about .03 there, and .01,
    .017, .02: a little sharper.
    """

    depth: float = DEPTH
    """Error far above the optimum, less that at it."""
    steepness: float = 1.0
    """s: halvings of the remaining effect in an octave."""

    def __post_init__(self) -> None:
        for name, value in (("depth", self.depth), ("steepness", self.steepness)):
            if not 0 < value < math.inf:
                raise FitError(f"`{name}` is {value!r}; allowed: a number above 0.")

    def __call__(self, octaves_above: Floats) -> Floats:
        """Return the excess of the error over the optimum's, in the shape of `octaves_above`."""
        powers = np.exp2(-self.steepness * np.maximum(octaves_above, -100 / self.steepness))
        return np.asarray(self.depth * (1 - powers) ** 2)


@dataclass(frozen=True, eq=False, kw_only=True)
class AssumedCurves:
    """Curves of the G groups of a design, wherever the law puts their optima."""

    curve: Curve
    """Excess error at octaves above the optimum."""
    height: Floats
    """(G,) factors of `curve`; 0 for a flat curve."""
    level: Floats
    """(G,) errors at the optimum."""
    chance_error: Floats
    """(G,)"""
    noise: float
    """Standard deviation of a run's error, less what its seed does at all batch sizes alike."""
    optimum: float
    """log₂ of the best batch size at `middle`."""
    middle: Floats
    """(3,) factors in octaves."""
    phase: float
    """Octaves by which that optimum is moved up or down at random: half a step of the grid."""
    sentences: tuple[str, ...]
    """What is assumed."""

    def draw(
        self, grid: DesignGrid, exponents: Sequence[float], rng: np.random.Generator
    ) -> BatchGrid:
        """Return one simulated study in which optima move by these exponents.

        Errors beyond half the way to chance are far over the cliff: at chance, without noise.
        """
        moved = (grid.octaves - self.middle) @ np.asarray(exponents, dtype=np.float64)
        optimum = self.optimum + moved + rng.uniform(-self.phase, self.phase)
        excess = self.curve(np.nan_to_num(grid.log2_batch - optimum[:, None]))
        expected = self.level[:, None] + self.height[:, None] * excess
        noise = self.noise * rng.standard_normal((grid.seeds, *expected.shape))
        limit = (self.level + (self.chance_error - self.level) / 2)[:, None]
        errors = np.where(expected < limit, expected + noise, self.chance_error[:, None])
        errors[:, ~np.isfinite(grid.batch_sizes)] = np.nan
        return grid.with_errors(errors, self.chance_error)


def assumed_curves(
    grid: DesignGrid, noise: float, curve: Curve, optimum: float | None
) -> AssumedCurves:
    """Return curves of one shape and height with independent noise.

    `optimum`: best batch size at the middle of the factors; None: the middle of the batch sizes.
    """
    _check_noise(noise)
    if optimum is not None and not 0 < optimum < math.inf:
        raise FitError(f"`optimum` is {optimum!r}; allowed: a batch size above 0.")
    place = grid.middle_batch if optimum is None else math.log2(optimum)
    groups = len(grid.groups)
    shape = (
        f"a bowl of depth {curve.depth:g} and steepness {curve.steepness:g}"
        if isinstance(curve, Bowl)
        else "the curve given"
    )
    where = "the middle of the batch sizes" if optimum is None else "as given"
    return AssumedCurves(
        curve=curve,
        height=np.ones(groups),
        level=np.full(groups, LOWEST_ERROR),
        chance_error=np.full(groups, CHANCE_ERROR),
        noise=noise,
        optimum=place,
        middle=grid.middle,
        phase=_half_step(grid),
        sentences=(
            f"Every curve of error against batch size is {shape}, with independent noise of "
            f"standard deviation {noise:.2g} in each run.",
            f"The best batch size of the middle setting ({grid.setting(grid.middle)}) is about "
            f"{2**place:.3g}: {where}.",
        ),
    )


def curves_of_pilot(
    grid: DesignGrid,
    pilot: pd.DataFrame,
    *,
    y: str = columns.VALIDATION_ERROR,
    chance_error: str | float | None = None,
) -> AssumedCurves:
    """Return curves like those of a pilot's table, under the store's names of columns.

    Of each group, height and level are those of the nearest group of the pilot, in octaves of the
    factors; where that one is flat, so is this. Noise is that of the pilot's best batch sizes and
    their neighbours, of the median curve: towards a cliff there may be far more. The optimum is
    the mean of the pilot's, at the mean of their factors. Raises `FitError` for a pilot with fewer
    than 8 curves that have an optimum, or fewer than 2 seeds: it shows no shape.
    """
    arranged = arrange_batch_grid(
        pilot,
        y=y,
        by=FACTORS,
        batch_size=columns.BATCH_SIZE,
        train_examples=columns.TRAIN_EXAMPLES,
        seed=columns.SEED,
        chance_error=chance_error,
    )
    peaks = find_peaks(arranged, np.ones((1, len(arranged.seeds)), dtype=bool))
    noise = float(np.median(peaks.group_noise)) * math.sqrt(len(arranged.seeds))
    _check_pilot(peaks, noise)
    common = common_shape(peaks.curves(0), peaks.centre[0])
    octaves = factor_octaves(arranged.groups, *FACTORS)
    known = np.isfinite(common.height)
    nearest = _nearest(grid.octaves, octaves, known | (peaks.label == OptimumLabel.FLAT))
    place = float(common.optimum[known].mean())
    middle = np.asarray(octaves[known].mean(axis=0))
    return AssumedCurves(
        curve=_continued(common.shape),
        height=np.nan_to_num(common.height)[nearest],
        level=peaks.mean[0].min(axis=1)[nearest],
        chance_error=arranged.chance_error[nearest],
        noise=noise,
        optimum=place,
        middle=middle,
        phase=_half_step(grid),
        sentences=(
            _said_of_pilot(arranged, peaks, common, noise),
            f"The best batch size is about {2**place:.3g} at the middle of the pilot's curves "
            f"({grid.setting(middle)}), the mean of theirs.",
        ),
    )


def _said_of_pilot(arranged: BatchGrid, peaks: Peaks, common: Collapse, noise: float) -> str:
    flat = int((peaks.label == OptimumLabel.FLAT).sum())
    curves = int(np.isfinite(common.height).sum())
    return (
        f"Curves have the shape that {curves} of the pilot's {len(peaks.label)} curves share "
        f"({flat} are flat), each with height and level of the pilot's nearest; beyond its window "
        "they go on straight. Noise is independent in each run, of the pilot's standard deviation "
        f"{noise:.2g} by its best batch sizes ({len(arranged.seeds)} seeds)."
    )


def _check_noise(noise: float) -> None:
    if not 0 < noise < math.inf:
        raise FitError(
            f"`noise` is {noise!r}; allowed: a standard deviation above 0, in the unit of the "
            "error, such as 0.005."
        )


def _check_pilot(peaks: Peaks, noise: float) -> None:
    if not noise > 0:
        raise FitError(
            "The pilot has no noise to go by: it needs at least 2 seeds whose errors differ. Train "
            "another seed, or pass `noise` instead of a pilot."
        )
    curves = int(peaks.curves(0).groups.sum())
    if curves < SHAPE_GROUPS:
        raise FitError(
            f"The pilot has {curves} curves with a visible optimum and 4 batch sizes near it; "
            f"their common shape needs {SHAPE_GROUPS}. Forecast by assumption instead, with the "
            f"noise that it measured: noise={noise:.2g}."
        )


def _half_step(grid: DesignGrid) -> float:
    """Return half of the median step between neighbouring batch sizes, in octaves; 0 if none."""
    steps = np.diff(grid.log2_batch, axis=1)
    return float(np.nanmedian(steps)) / 2 if np.isfinite(steps).any() else 0.0


def _nearest(octaves: Floats, of_pilot: Floats, usable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the (G,) usable pilot group nearest to each group, by the factors in octaves."""
    candidates = np.flatnonzero(usable)
    distance = ((octaves[:, None, :] - of_pilot[candidates]) ** 2).sum(axis=2)
    return np.asarray(candidates[distance.argmin(axis=1)])


def _continued(shape: CurveShape) -> Curve:
    """Return the shape's excess over its lowest, by octaves above that place.

    Beyond the outer knots it goes on as a straight line, but never downwards: a fitted spline
    may turn at its ends, and an optimum out there would be of our own making.
    """
    ends = shape.knots[[0, -1]]
    outward = np.maximum(shape.slope(ends) * np.array([-1.0, 1.0]), 0.0)
    lowest = float(shape.value(np.array([shape.lowest]))[0])

    def excess(octaves_above: Floats) -> Floats:
        u = octaves_above + shape.lowest
        inside = np.clip(u, *ends)
        beyond = outward[0] * np.maximum(ends[0] - u, 0) + outward[1] * np.maximum(u - ends[1], 0)
        return np.asarray(shape.value(inside) - lowest + beyond)

    return excess
