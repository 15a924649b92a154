"""The runs that a study of the batch-size law plans: curves, batch sizes and seeds, no errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.batches.batch_grid import BatchGrid, arrange_batch_grid
from analysis.batches.factors import FACTORS, factor_octaves
from analysis.errors import FitError

__all__ = ["DesignGrid"]

Floats = NDArray[np.float64]

PLANNED = "planned error"
"""Column that stands for the error of a run that was not made yet."""


@dataclass(frozen=True, eq=False)
class DesignGrid:
    """G groups (ε, N, m) at up to K batch sizes each, every one with the same seeds."""

    groups: pd.DataFrame
    """(G) rows: learning_rate, train_examples, momentum."""
    octaves: Floats
    """(G, 3) log₂ ε, log₂ N, log₂ 1/(1 - m)."""
    batch_sizes: Floats
    """(G, K) batch sizes below N, ascending; NaN beyond a group's own number of them."""
    seeds: int
    """Replicates that all of them have."""

    @classmethod
    def crossed(
        cls,
        learning_rates: Sequence[float],
        train_examples: Sequence[float],
        momenta: Sequence[float],
        batch_sizes: Sequence[float],
        seeds: int,
    ) -> "DesignGrid":
        """Return the full cross of the factors, each with the batch sizes below its shard.

        Raises `FitError` on an empty list, or a value that a factor cannot have.
        """
        if seeds < 1 or seeds != int(seeds):
            raise FitError(f"`seeds` is {seeds!r}; allowed: how many, a whole number from 1.")
        axes = (learning_rates, train_examples, momenta, batch_sizes)
        names = (*FACTORS, columns.BATCH_SIZE)
        for name, values in zip(names, axes, strict=True):
            if not len(values):
                raise FitError(f"There is no {name}; give at least one.")
        mesh = np.meshgrid(*(np.asarray(values, dtype=float) for values in axes), indexing="ij")
        table = pd.DataFrame({n: v.ravel() for n, v in zip(names, mesh, strict=True)})
        return cls._of_table(table.assign(seed=0), seeds)

    @classmethod
    def of_cells(cls, cells: pd.DataFrame) -> "DesignGrid":
        """Return the grid of a table with one row a run, under the store's names of columns.

        What the law's analysis would leave out (B >= N, incomplete seeds) is left out. Raises
        `FitError` like that analysis.
        """
        return cls._of_table(cells, None)

    @classmethod
    def _of_table(cls, cells: pd.DataFrame, seeds: int | None) -> "DesignGrid":
        arranged = arrange_batch_grid(
            cells.assign(**{PLANNED: 0.0}),
            y=PLANNED,
            by=FACTORS,
            batch_size=columns.BATCH_SIZE,
            train_examples=columns.TRAIN_EXAMPLES,
            seed=columns.SEED,
            chance_error=1.0,
        )
        return cls(
            groups=arranged.groups,
            octaves=factor_octaves(arranged.groups, *FACTORS),
            batch_sizes=arranged.batch_sizes,
            seeds=len(arranged.seeds) if seeds is None else seeds,
        )

    @property
    def log2_batch(self) -> Floats:
        """(G, K) log₂ of the batch sizes."""
        return np.log2(self.batch_sizes)

    @property
    def sizes_of_group(self) -> NDArray[np.intp]:
        """(G,) numbers of batch sizes."""
        return np.asarray(np.isfinite(self.batch_sizes).sum(axis=1))

    @property
    def middle(self) -> Floats:
        """(3,) mean of the factors over the groups, in octaves."""
        return np.asarray(self.octaves.mean(axis=0))

    @property
    def middle_batch(self) -> float:
        """log₂ of the batch size in the middle of the whole range."""
        return float((np.nanmin(self.log2_batch) + np.nanmax(self.log2_batch)) / 2)

    def setting(self, octaves: Floats) -> str:
        """Return (3,) factors in octaves as a person writes them."""
        rate, examples, factor = np.exp2(octaves)
        return f"ε {rate:.3g}, N {examples:.4g}, m {1 - 1 / factor:.3g}"

    def with_errors(self, errors: Floats, chance_error: Floats) -> BatchGrid:
        """Return the grid with (S, G, K) errors, as the law's analysis takes it.

        Without the rows of a table: what comes of it has no ids of cells.
        """
        nothing = pd.DataFrame()
        return BatchGrid(
            groups=self.groups,
            train_examples=self.groups[columns.TRAIN_EXAMPLES].to_numpy(dtype=np.float64),
            batch_sizes=self.batch_sizes,
            errors=errors,
            chance_error=chance_error,
            seeds=tuple(range(self.seeds)),
            cells=nothing,
            excluded=nothing,
        )
