"""The best batch size of each (ε, N, m), or an honest interval where none can be named.

An argmin always exists; an optimum need not. Each group is therefore labelled first, flatness
before edges, because the argmin of a flat curve often lies at an edge:

- flat: the batch sizes not worse than the best reach both edges of the grid;
- censored: they reach one edge, beyond which the optimum may lie;
- plateau: they span more than two octaves;
- interior: the optimum is enclosed, and estimated by a local parabola.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis import columns
from analysis.batch_grid import BatchGrid, arrange_batch_grid
from analysis.errors import FitError

__all__ = ["BatchForm", "OptimumLabel", "Peaks", "find_peaks", "optimal_batch_sizes"]

Floats = NDArray[np.float64]
BatchForm = Literal["B", "B/(1-B/N)"]

ALPHA = 0.05
"""Chance that a group's truly best batch size is called worse than another."""
PLATEAU_OCTAVES = 2.0
WINDOW_OCTAVES = 1.25
"""The parabola's half width: one octave, with room for rounded grids and for B/(1-B/N)."""


class OptimumLabel(StrEnum):
    """What a group's curve says of its best batch size."""

    FLAT = "flat"
    CENSORED = "censored"
    PLATEAU = "plateau"
    INTERIOR = "interior"


@dataclass(frozen=True, eq=False)
class Peaks:
    """Optima of G groups in F folds (a fold leaves out seeds), in octaves (log₂)."""

    label: NDArray[np.object_]
    """(F, G) `OptimumLabel`s."""
    estimate: Floats
    """(F, G) vertex of the parabola; NaN where there is none."""
    lower: Floats
    """(F, G) largest batch size below the set of the best, known to be worse; -inf if none."""
    upper: Floats
    """(F, G) smallest batch size above that set, known to be worse; inf if none."""
    best: NDArray[np.intp]
    """(F, G) index of the smallest mean error."""
    first: NDArray[np.intp]
    """(F, G) index of the smallest batch size not worse than the best."""
    last: NDArray[np.intp]
    """(F, G) index of the largest one."""

    @property
    def observed(self) -> tuple[Floats, Floats]:
        """Bounds for interval-censored regression; both equal the estimate where there is one."""
        known = np.isfinite(self.estimate)
        return (
            np.where(known, self.estimate, self.lower),
            np.where(known, self.estimate, self.upper),
        )


def optimal_batch_sizes(
    cells: pd.DataFrame,
    *,
    y: str = columns.VALIDATION_ERROR,
    by: Sequence[str] = (columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM),
    batch_size: str = columns.BATCH_SIZE,
    train_examples: str = columns.TRAIN_EXAMPLES,
    seed: str = columns.SEED,
    chance_error: str | float = columns.CHANCE_ERROR,
    form: BatchForm = "B",
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """Return one row per group: its label, bounds and optimal batch size.

    A batch size belongs to the set S of the best unless its mean error, paired by seed, exceeds
    the smallest one at level `alpha`, Bonferroni over the batch sizes, by Student's t with the
    residual variance pooled over all groups. Batch sizes across the cliff (error above the best
    by more than half the way to chance) are worse or not like any other, but their spread (wild
    at the cliff, none at chance) does not enter the pooled variance, and no parabola rests on
    them. Where S touches an edge of the grid the bound on that side is infinite, elsewhere it
    is the nearest batch size known to be worse.

    An interior optimum is the vertex of the least-squares parabola in log₂B over ±1 octave. On
    a 2× grid that is an exact 3-point parabola, whose bias on an asymmetric curve depends on
    the grid's phase (.13-.21 octave); it is not corrected here. A vertex that is no minimum,
    lies outside its window, or lacks a neighbour above the cliff gives bounds and no estimate.

    The pooled variance takes the noise to be of one size in all groups. Where it shrinks with
    the error, quiet groups become plateaus: blind, not wrong. The log of the error as `y`, with
    that of chance as `chance_error`, then sees more.

    Args:
        cells: one row per run, with the final-step error; diverged runs at chance.
        y: column of the error. The best along training erases the effect of the batch size.
        by: columns that make a group.
        batch_size: column of B, examples per step.
        train_examples: column of N; runs with B >= N are excluded.
        seed: column of the replicate, shared across batch sizes.
        chance_error: a column or a number; the table's largest error where the column is absent.
        form: "B", or "B/(1-B/N)" for every batch size; all columns log2_… are in this form.
        alpha: level at which a batch size counts as worse.

    Returns:
        The columns of `by`, then `label`, `log2_lower`, `log2_upper`, `log2_optimum` (NaN where
        there is no estimate), `optimal_batch_size` (as B), `best_batch_size` (the argmin),
        `set_lower` and `set_upper` (S), `grid_lower`, `grid_upper`, `batch_sizes` (their
        number), `seeds`, `n_cells` and `cell_ids`. `.attrs["notes"]` says what was excluded.

    Raises:
        FitError: the table cannot be analyzed as asked.
    """
    grid = arrange_batch_grid(
        cells,
        y=y,
        by=by,
        batch_size=batch_size,
        train_examples=train_examples,
        seed=seed,
        chance_error=chance_error,
    )
    everyone = np.ones((1, len(grid.seeds)), dtype=bool)
    return optima_frame(grid, find_peaks(grid, everyone, form=form, alpha=alpha), form=form)


def find_peaks(
    grid: BatchGrid, keep: NDArray[np.bool_], *, form: BatchForm = "B", alpha: float = ALPHA
) -> Peaks:
    """Find the optima of all groups in every fold; `keep`: (F, S), the seeds of each fold."""
    if not 0 < alpha < 1:
        raise FitError(f"`alpha` is {alpha!r}; allowed: a number between 0 and 1.")
    octave = _octaves(grid, form)
    present = np.isfinite(octave)
    mean = _means(grid.errors, keep)
    mean[:, ~present] = np.inf
    best = mean.argmin(axis=-1)
    lowest = mean.min(axis=-1, keepdims=True)
    half_way = lowest + 0.5 * (grid.chance_error[:, None] - lowest)
    learned = present & ((mean < half_way) | (mean == lowest))

    worse = mean - lowest > _critical_difference(grid.errors, keep, learned, present, alpha)
    in_set = present & ~worse
    count = present.sum(axis=-1)
    first = in_set.argmax(axis=-1)
    last = in_set.shape[-1] - 1 - in_set[..., ::-1].argmax(axis=-1)
    low_edge, high_edge = first == 0, last == count - 1
    groups = np.arange(len(count))
    span = octave[groups, last] - octave[groups, first]
    label = np.select(
        [low_edge & high_edge, low_edge | high_edge, span > PLATEAU_OCTAVES + 1e-9],
        [OptimumLabel.FLAT, OptimumLabel.CENSORED, OptimumLabel.PLATEAU],
        OptimumLabel.INTERIOR,
    )
    vertex = _parabola_vertex(octave, mean, learned, best)
    return Peaks(
        label=label.astype(object),
        estimate=np.where(label == OptimumLabel.INTERIOR, vertex, np.nan),
        lower=np.where(low_edge, -np.inf, octave[groups, np.maximum(first - 1, 0)]),
        upper=np.where(high_edge, np.inf, octave[groups, np.minimum(last + 1, count - 1)]),
        best=best,
        first=first,
        last=last,
    )


def optima_frame(grid: BatchGrid, peaks: Peaks, *, form: BatchForm) -> pd.DataFrame:
    """Return the first fold of `peaks` as the frame of `optimal_batch_sizes`."""
    groups = np.arange(len(grid.groups))
    count = np.isfinite(grid.batch_sizes).sum(axis=-1)
    estimate = peaks.estimate[0]
    effective = np.exp2(estimate)
    frame = grid.groups.assign(
        label=pd.Series([OptimumLabel(label) for label in peaks.label[0]], dtype=object),
        log2_lower=peaks.lower[0],
        log2_upper=peaks.upper[0],
        log2_optimum=estimate,
        optimal_batch_size=(
            effective if form == "B" else effective / (1 + effective / grid.train_examples)
        ),
        best_batch_size=grid.batch_sizes[groups, peaks.best[0]],
        set_lower=grid.batch_sizes[groups, peaks.first[0]],
        set_upper=grid.batch_sizes[groups, peaks.last[0]],
        grid_lower=grid.batch_sizes[:, 0],
        grid_upper=grid.batch_sizes[groups, count - 1],
        batch_sizes=count,
        seeds=len(grid.seeds),
        n_cells=count * len(grid.seeds),
        cell_ids=pd.Series(grid.cell_ids, dtype=object),
    )
    frame.attrs["notes"] = list(grid.notes)
    return frame


def _octaves(grid: BatchGrid, form: BatchForm) -> Floats:
    """Return (G, K) log₂ of the batch size in the form asked for."""
    if form == "B":
        return np.log2(grid.batch_sizes)
    if form == "B/(1-B/N)":
        return np.log2(grid.batch_sizes / (1 - grid.batch_sizes / grid.train_examples[:, None]))
    raise FitError(f"`form` is {form!r}; allowed: 'B', 'B/(1-B/N)'.")


def _means(errors: Floats, keep: NDArray[np.bool_]) -> Floats:
    """Return (F, G, K) means over the seeds of each fold."""
    share = keep / keep.sum(axis=-1, keepdims=True)
    return np.asarray(np.einsum("fs,sgk->fgk", share, np.nan_to_num(errors)))


def _critical_difference(
    errors: Floats,
    keep: NDArray[np.bool_],
    learned: NDArray[np.bool_],
    present: NDArray[np.bool_],
    alpha: float,
) -> Floats:
    """Return (F, G, 1) excesses over the best mean beyond which a batch size is worse.

    The variance is that of errors less their seed and batch-size effects, pooled over groups.
    Infinite where it cannot be measured (one seed): nothing is then known to be worse.
    """
    numbers = keep.sum(axis=-1)
    learned_count = learned.sum(axis=-1)
    centred = np.nan_to_num(errors) - _means(errors, keep)[:, None]
    centred *= learned[:, None] & keep[..., None, None]
    seed_effect = centred.sum(axis=-1) / learned_count[:, None]
    squares = (centred**2).sum(axis=(1, 2, 3)) - (seed_effect**2 * learned_count[:, None]).sum(
        axis=(1, 2)
    )
    freedom = (numbers - 1) * (learned_count - 1).sum(axis=-1)
    variance = np.maximum(squares, 0.0) / np.maximum(freedom, 1)
    comparisons = np.maximum(present.sum(axis=-1) - 1, 1)
    quantile = stdtrit(np.maximum(freedom, 1)[:, None], 1 - alpha / comparisons)
    critical = quantile * np.sqrt(2 * variance / numbers)[:, None]
    return np.where(freedom[:, None] > 0, critical, np.inf)[..., None]


def _parabola_vertex(
    octave: Floats, mean: Floats, learned: NDArray[np.bool_], best: NDArray[np.intp]
) -> Floats:
    """Return (F, G) vertices of least-squares parabolas about the best; NaN where there is none."""
    offset = np.nan_to_num(octave - np.take_along_axis(octave, best.T, axis=-1).T[..., None], nan=0)
    inside = learned & np.isfinite(octave) & (np.abs(offset) <= WINDOW_OCTAVES)
    offset = np.where(inside, offset, 0.0)
    height = np.where(inside, mean, 0.0)
    left, right = offset.min(axis=-1), offset.max(axis=-1)
    usable = (left < 0) & (right > 0)
    powers = np.stack([np.ones_like(offset), offset, offset**2], axis=-1) * inside[..., None]
    moments = np.einsum("fgki,fgkj->fgij", powers, powers)
    moments[~usable] = np.eye(3)
    sums = np.einsum("fgki,fgk->fgi", powers, height)
    _, slope, curvature = np.moveaxis(np.linalg.solve(moments, sums[..., None])[..., 0], -1, 0)
    usable &= curvature > 0
    vertex = -slope / (2 * np.where(usable, curvature, 1.0))
    usable &= (vertex >= left) & (vertex <= right)
    centre = np.take_along_axis(octave, best.T, axis=-1).T
    return np.where(usable, centre + vertex, np.nan)
