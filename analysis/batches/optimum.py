"""The best batch size of each (ε, N, m), or an honest interval where none can be named.

An argmin always exists; an optimum need not. Each group is therefore labelled first, flatness
before edges, because the argmin of a flat curve often lies at an edge:

- flat: the batch sizes not worse than the best reach both edges of the grid;
- censored: they reach one edge, beyond which the optimum may lie;
- plateau: they span more than two octaves;
- interior: the optimum is enclosed, and estimated by a local parabola.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from analysis import columns
from analysis.batches.batch_grid import BatchGrid, arrange_batch_grid
from analysis.batches.collapse import Curves, common_shape
from analysis.batches.grid_phase import vertex_bias
from analysis.batches.moderated import moderate, variance_prior
from analysis.batches.parabola import parabola_vertex
from analysis.curves.curve_points import PLATEAU
from analysis.errors import FitError

__all__ = [
    "SHAPE_GROUPS",
    "BatchForm",
    "OptimumLabel",
    "Peaks",
    "find_peaks",
    "optimal_batch_sizes",
]

Floats = NDArray[np.float64]
BatchForm = Literal["B", "B/(1-B/N)"]

ALPHA = 0.05
"""Chance that a group's truly best batch size is called worse than another."""
PLATEAU_OCTAVES = 2.0
SHAPE_GROUPS = 8
"""Groups that can tell their common shape: with fewer, a shape fitted to noise would move optima
more than the grid's phase does."""


class OptimumLabel(StrEnum):
    """What a group's curve says of its best batch size."""

    FLAT = "flat"
    CENSORED = "censored"
    PLATEAU = "plateau"
    INTERIOR = "interior"


@dataclass(frozen=True, eq=False)
class Peaks:
    """Optima of G groups in octaves (log₂), found again in F folds, each of which leaves out seeds.

    Labels and bounds are those of all seeds. Found again in every fold too, they jump from fold to
    fold, and the jackknife's intervals covered .98 to .99 at a nominal .95 (standard errors of
    .04 to .10); kept, .95 to .96.
    """

    label: NDArray[np.object_]
    """(G,) `OptimumLabel`s."""
    estimate: Floats
    """(F, G) optimum of an interior group, in every fold; NaN where there is none."""
    lower: Floats
    """(G,) largest batch size below the set of the best, known to be worse; -inf if none."""
    upper: Floats
    """(G,) smallest batch size above that set, known to be worse; inf if none."""
    best: NDArray[np.intp]
    """(F, G) index of the smallest mean error."""
    first: NDArray[np.intp]
    """(G,) index of the smallest batch size not worse than the best."""
    last: NDArray[np.intp]
    """(G,) index of the largest one."""
    octave: Floats
    """(G, K) log₂ of the batch sizes, in the form asked for."""
    mean: Floats
    """(F, G, K) mean errors; infinite where there is no batch size."""
    learned: NDArray[np.bool_]
    """(F, G, K) batch sizes on the optimum's side of the cliff."""
    untrained: NDArray[np.bool_]
    """(G,) groups that train at no batch size: even their lowest mean error is above `PLATEAU` of
    the chance error, as in a learning curve. None where the chance error is not known."""
    noise: float
    """Standard deviation of a mean error of all seeds, pooled over groups; NaN for one seed."""
    noise_freedom: int
    """Degrees of freedom of `noise`."""
    group_noise: Floats
    """(G,) that of each group's best batch size and its neighbours, on which its vertex rests,
    drawn towards what all groups have there."""
    corrected_by: int
    """Groups whose common shape corrected the estimates for the grid's phase; 0: they are not."""

    @property
    def observed(self) -> tuple[Floats, Floats]:
        """(F, G) bounds for interval-censored regression, equal where there is an estimate."""
        known = np.isfinite(self.estimate)
        return (
            np.where(known, self.estimate, self.lower),
            np.where(known, self.estimate, self.upper),
        )

    @property
    def centre(self) -> Floats:
        """(F, G) about where the optimum lies; NaN for flat groups."""
        argmin = np.take_along_axis(self.octave, self.best.T, axis=1).T
        near = np.where(np.isfinite(self.estimate), self.estimate, argmin)
        return np.where(self.label == OptimumLabel.FLAT, np.nan, near)

    @property
    def untrained_note(self) -> str:
        """How many groups train at no batch size, as a sentence; empty where all train."""
        if not self.untrained.any():
            return ""
        return (
            f"{self.untrained.sum()} of {len(self.untrained)} groups train at no batch size (their "
            f"lowest mean error is above {PLATEAU:g} of the chance error), which more seeds do not "
            "change."
        )

    def curves(self, fold: int) -> Curves:
        """Return one fold's curves within the windows of the collapse."""
        return Curves.windowed(self.octave, self.mean[fold], self.learned[fold], self.centre[fold])


def optimal_batch_sizes(
    cells: pd.DataFrame,
    *,
    y: str = columns.VALIDATION_ERROR,
    by: Sequence[str] = (columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM),
    batch_size: str = columns.BATCH_SIZE,
    train_examples: str = columns.TRAIN_EXAMPLES,
    seed: str = columns.SEED,
    chance_error: str | float | None = None,
    form: BatchForm = "B",
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """Return one row per group: its label, bounds and optimal batch size.

    A batch size belongs to the set S of the best unless its mean error, paired by seed, exceeds
    the smallest one at level `alpha`, Bonferroni over the batch sizes, by Smyth's moderated t: the
    variance of its differences is drawn towards what all batch sizes of all groups have, the less
    the more these vary. Runs near the cliff scatter a hundred times as much as those at the
    optimum in real curves, and one variance for all would find no batch size worse than another.
    Batch sizes across the cliff (error above the best by more than half the way to chance) are
    worse or not like any other, but their spread (wild at the cliff, none at chance) does not
    enter what is common, and no parabola rests on them. Where S touches an edge of the grid the
    bound on that side is infinite, elsewhere it is the nearest batch size known to be worse.

    An interior optimum is the vertex of the least-squares parabola in log₂B over ±1 octave. On
    a 2× grid that is an exact 3-point parabola, whose bias on an asymmetric curve depends on
    the grid's phase (.13-.21 octave). With 8 groups and more it is corrected by the shape that
    their curves have in common (see `analysis.batches.grid_phase`). A vertex that is no minimum,
    lies outside its window, or lacks a neighbour above the cliff gives bounds and no estimate. So
    does any group whose set S reaches down to the cliff: whether it has a vertex depends on its
    noise, and those that do lie too high (with a cliff of its own law, N's exponent was .03 off;
    .013 so).

    Args:
        cells: one row per run, with the final-step error; diverged runs at chance.
        y: column of the error. The best along training erases the effect of the batch size.
        by: columns that make a group; what else a run is set by (see `mixed_settings`) is one.
        batch_size: column of B, examples per step.
        train_examples: column of N; runs with B >= N are excluded.
        seed: column of the replicate, shared across batch sizes.
        chance_error: a column or a number; by default the column `chance_error` where y is one of
            the store's error rates. The table's largest y where the column is absent, or y another.
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
    """Find the optima of all groups in every fold; `keep`: (F, S), first all seeds."""
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

    squares, freedoms = _residual_squares(grid.errors, learned[0])
    freedom = int(freedoms.sum())
    variance = float(squares.sum()) / max(freedom, 1)
    worse = _worse_than_best(grid.errors, best[0], learned[0], present, alpha)
    in_set = present & ~worse
    count = present.sum(axis=-1)
    first = in_set.argmax(axis=-1)
    last = in_set.shape[-1] - 1 - in_set[:, ::-1].argmax(axis=-1)
    low_edge, high_edge = first == 0, last == count - 1
    groups = np.arange(len(count))
    span = octave[groups, last] - octave[groups, first]
    label = np.select(
        [low_edge & high_edge, low_edge | high_edge, span > PLATEAU_OCTAVES + 1e-9],
        [OptimumLabel.FLAT, OptimumLabel.CENSORED, OptimumLabel.PLATEAU],
        OptimumLabel.INTERIOR,
    )
    vertex = parabola_vertex(octave, mean, learned, best)
    by_the_cliff = present[groups, first - 1] & ~learned[0, groups, first - 1] & ~low_edge
    known = (label == OptimumLabel.INTERIOR) & np.isfinite(vertex[0]) & ~by_the_cliff
    peaks = Peaks(
        label=label.astype(object),
        estimate=np.where(known, vertex, np.nan),
        lower=np.where(low_edge, -np.inf, octave[groups, np.maximum(first - 1, 0)]),
        upper=np.where(high_edge, np.inf, octave[groups, np.minimum(last + 1, count - 1)]),
        best=best,
        first=first,
        last=last,
        octave=octave,
        mean=mean,
        learned=learned,
        untrained=grid.chance_known & (lowest[0, :, 0] > PLATEAU * grid.chance_error),
        noise=float(np.sqrt(variance / len(grid.seeds))) if freedom else np.nan,
        noise_freedom=freedom,
        group_noise=_noise_by_the_best(grid.errors, learned[0], best[0]),
        corrected_by=0,
    )
    return _corrected(peaks)


def _corrected(peaks: Peaks) -> Peaks:
    """Return `peaks` with estimates corrected for the grid's phase, where a shape can be found."""
    curves = peaks.curves(0)
    groups = int(curves.groups.sum())
    if groups < SHAPE_GROUPS or not np.isfinite(peaks.noise):
        return peaks
    common = common_shape(curves, peaks.centre[0])
    bias = vertex_bias(peaks.octave, peaks.estimate, common.shape, common.height, peaks.group_noise)
    return replace(peaks, estimate=peaks.estimate - bias, corrected_by=groups)


def optima_frame(grid: BatchGrid, peaks: Peaks, *, form: BatchForm) -> pd.DataFrame:
    """Return the first fold of `peaks` as the frame of `optimal_batch_sizes`."""
    groups = np.arange(len(grid.groups))
    count = np.isfinite(grid.batch_sizes).sum(axis=-1)
    estimate = peaks.estimate[0]
    effective = np.exp2(estimate)
    frame = grid.groups.assign(
        label=pd.Series([OptimumLabel(label) for label in peaks.label], dtype=object),
        log2_lower=peaks.lower,
        log2_upper=peaks.upper,
        log2_optimum=estimate,
        optimal_batch_size=(
            effective if form == "B" else effective / (1 + effective / grid.train_examples)
        ),
        best_batch_size=grid.batch_sizes[groups, peaks.best[0]],
        set_lower=grid.batch_sizes[groups, peaks.first],
        set_upper=grid.batch_sizes[groups, peaks.last],
        grid_lower=grid.batch_sizes[:, 0],
        grid_upper=grid.batch_sizes[groups, count - 1],
        batch_sizes=count,
        seeds=len(grid.seeds),
        n_cells=count * len(grid.seeds),
        cell_ids=pd.Series(grid.cell_ids, dtype=object),
    )
    frame.attrs["notes"] = [*grid.notes, _phase_note(peaks)]
    return frame


def _phase_note(peaks: Peaks) -> str:
    if peaks.corrected_by:
        return (
            "Optima are corrected for how the grid falls on the curves, by the shape that "
            f"{peaks.corrected_by} of them share."
        )
    return (
        "Optima are not corrected for how the grid falls on the curves, which can move one by .2 "
        f"octave: that needs {SHAPE_GROUPS} curves with an optimum, and 2 seeds."
    )


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


def _residual_squares(errors: Floats, learned: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return (G,) sums of squares less seed and batch-size effects, and their degrees of freedom.

    `learned`: (G, K), what enters. No freedom with one seed.
    """
    seeds = len(errors)
    number = learned.sum(axis=-1)
    centred = np.where(learned, np.nan_to_num(errors - errors.mean(axis=0)), 0.0)
    seed_effect = centred.sum(axis=-1) / number
    squares = (centred**2).sum(axis=(0, 2)) - (seed_effect**2).sum(axis=0) * number
    return squares.clip(min=0), (seeds - 1.0) * (number - 1)


def _noise_by_the_best(
    errors: Floats, learned: NDArray[np.bool_], best: NDArray[np.intp]
) -> Floats:
    """Return (G,) standard deviations of a mean error about the best; NaN for one seed."""
    place = np.arange(learned.shape[-1])
    squares, freedoms = _residual_squares(errors, learned & (abs(place - best[:, None]) <= 1))
    if not freedoms.any():
        return np.full(len(best), np.nan)
    own = np.divide(squares, freedoms, out=np.full(len(best), np.nan), where=freedoms > 0)
    moderated, _ = moderate(np.nan_to_num(own), freedoms, *variance_prior(own, freedoms))
    return np.asarray(np.sqrt(moderated / len(errors)))


def _worse_than_best(
    errors: Floats,
    best: NDArray[np.intp],
    learned: NDArray[np.bool_],
    present: NDArray[np.bool_],
    alpha: float,
) -> NDArray[np.bool_]:
    """Return (G, K) which batch sizes are worse than the best, by moderated t, paired by seed.

    None is where the variance cannot be measured (one seed).
    """
    seeds = len(errors)
    if seeds < 2:
        return np.zeros_like(present)
    groups = np.arange(len(best))
    paired = errors - errors[:, groups, best][:, :, None]
    others = present.copy()
    others[groups, best] = False
    with np.errstate(invalid="ignore"):
        excess, variance = paired.mean(axis=0), paired.var(axis=0, ddof=1)
    prior, prior_freedom = variance_prior(variance[others & learned], seeds - 1)
    moderated, freedom = moderate(variance, seeds - 1, prior, prior_freedom)
    comparisons = np.maximum(others.sum(axis=-1), 1)
    quantile = stdtrit(freedom, 1 - alpha / comparisons[:, None])
    return np.asarray(others & (excess > quantile * np.sqrt(moderated / seeds)))
