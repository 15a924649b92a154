"""Curves of error against batch size with a known law, as arrays: what calibrates the verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.batches.batch_grid import BatchGrid
from tests.analysis.synthetic_batches import CHANCE, SMALLEST_SHARD, asymmetric_bowl

Floats = NDArray[np.float64]


RISE = 1.75
"""Power of the error that the noise grows with: studies/smith_le.yaml's."""


class Noise(StrEnum):
    """How the errors of seeds scatter about a curve."""

    INDEPENDENT = "independent"
    SHIFT = "seed shift"
    """A seed's whole curve of a group is higher or lower as well."""
    SLOPE = "seed × slope"
    """All of a seed's curves are tilted alike, too."""
    FALLING = "sd falling with N"
    RISING = "sd rising with the error"
    """As towards a cliff: in perceptrons on MNIST, from .1 % at an error of 4 % to 9 % at 43 %."""
    T3 = "t3"
    """Student's t with 3 degrees of freedom, of the same standard deviation."""


def symmetric_bowl(octaves_above: Floats) -> Floats:
    """.1 at the optimum, and as steep on both sides."""
    return 0.1 + 0.01 * octaves_above**2


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A crossed ε × N × 1/(1-m) design, an octave a level, with optima about the grid's middle."""

    truth: Sequence[float]
    """Exponents of the optimum."""
    noise: float
    """Standard deviation of one run's error."""
    kind: Noise = Noise.INDEPENDENT
    shape: Callable[[Floats], Floats] = asymmetric_bowl
    levels: int = 4
    seeds: int = 5
    batch_sizes: int = 12
    spacing: float = 1.0
    """Octaves between batch sizes."""
    heights: float = 0.0
    """Octaves by which the height of the curves grows with an octave of N."""
    widths: float = 0.0
    """Share by which the curves get narrower with an octave of N."""
    cliff: Sequence[float] | None = None
    """Exponents of a cliff below which runs stand at chance; None: the bowl itself reaches it."""
    gap: float = 2.0
    """Octaves from the cliff to the optimum in the middle of the design."""

    @property
    def octaves(self) -> Floats:
        """(G, 3) centred factors."""
        level = np.arange(self.levels) - (self.levels - 1) / 2
        return np.stack(np.meshgrid(level, level, level, indexing="ij"), -1).reshape(-1, 3)

    def grid(self, rng: np.random.Generator) -> BatchGrid:
        """Return curves with noise; the grid's phase is drawn, too."""
        factors = self.octaves
        octave = self.spacing * np.arange(self.batch_sizes)
        middle = octave.mean() + self.spacing * rng.uniform(-0.5, 0.5)
        above = octave - (middle + factors @ np.asarray(self.truth, dtype=float))[:, None]
        n = factors[:, 1:2]
        expected = 0.1 + (self.shape(above * (1 + self.widths * n)) - 0.1) * 2 ** (self.heights * n)
        if self.cliff is not None:
            edge = middle - self.gap + factors @ np.asarray(self.cliff, dtype=float)
            expected = np.where(octave < edge[:, None], CHANCE, expected)
        expected = np.minimum(expected, CHANCE)
        scatter = self._scatter(rng, above, n - n.min(), expected)
        errors = np.where(expected < CHANCE, expected + scatter, CHANCE)
        groups = len(factors)
        return BatchGrid(
            groups=pd.DataFrame(factors, columns=["learning_rate", "train_examples", "momentum"]),
            train_examples=np.full(groups, 2.0**40),
            batch_sizes=np.broadcast_to(2.0**octave, (groups, len(octave))).copy(),
            errors=errors,
            chance_error=np.full(groups, CHANCE),
            seeds=tuple(range(self.seeds)),
            cells=pd.DataFrame(),
            excluded=pd.DataFrame(),
        )

    def _scatter(
        self, rng: np.random.Generator, above: Floats, n_above: Floats, expected: Floats
    ) -> Floats:
        shape = (self.seeds, *above.shape)
        if self.kind is Noise.T3:
            return self.noise * rng.standard_t(3, shape) / np.sqrt(3)
        own = self.noise * rng.standard_normal(shape)
        if self.kind is Noise.SHIFT:
            own += 2 * self.noise * rng.standard_normal((self.seeds, len(above), 1))
        if self.kind is Noise.SLOPE:
            own += self.noise / 4 * rng.standard_normal((self.seeds, 1, 1)) * above
        if self.kind is Noise.FALLING:  # to a quarter over the four levels of N
            own *= 1.6 * 2 ** (-2 / 3 * n_above)
        if self.kind is Noise.RISING:
            own *= (expected / expected.min()) ** RISE
        return own


def table(grid: BatchGrid) -> pd.DataFrame:
    """Return the runs of a grid as a table with the store's names."""
    seed, group, place = np.indices(grid.errors.shape).reshape(3, -1)
    factors = grid.groups.to_numpy()[group]
    return pd.DataFrame(
        {
            "learning_rate": 0.1 * 2 ** factors[:, 0],
            "train_examples": SMALLEST_SHARD * 2 ** (factors[:, 1] - factors[:, 1].min()),
            "momentum": 1 - 2 ** -(factors[:, 2] - factors[:, 2].min()),
            "batch_size": grid.batch_sizes[group, place],
            "seed": seed,
            "validation_error": grid.errors.ravel(),
            "chance_error": CHANCE,
        }
    )
