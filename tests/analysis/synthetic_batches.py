"""Tables of runs whose optimal batch sizes follow a known law."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHANCE = 0.9
SMALLEST_SHARD = 2**14  # above every batch size below, so that B >= N never interferes


def asymmetric_bowl(octaves_above: Floats) -> Floats:
    """.1 at the optimum; steep below it as towards a cliff, gentle above it."""
    return 0.1 + 0.025 * (np.exp(-0.9 * octaves_above) + 0.9 * octaves_above - 1)


def law_cells(
    exponents: Sequence[float],
    *,
    noise: float,
    rng: np.random.Generator,
    seeds: int = 5,
    levels: int = 4,
    batch_sizes: int = 12,
    octaves_per_step: float = 1.0,
    seed_slope: float = 0.0,
    curve: Callable[[Floats], Floats] = asymmetric_bowl,
) -> pd.DataFrame:
    """A crossed ε × N × 1/(1-m) design, an octave a level, its optima about the grid's middle.

    The grid's phase is drawn from `rng`. `noise` is the seed's sd at each batch size; `seed_slope`
    tilts a seed's curves, all alike, by that much times a standard normal per octave.
    """
    level = np.arange(levels) - (levels - 1) / 2
    step = octaves_per_step * np.arange(batch_sizes)
    e, n, q, b = np.meshgrid(level, level, level, step, indexing="ij")
    optimum = step.mean() + rng.uniform(-0.5, 0.5) + np.tensordot(exponents, [e, n, q], axes=1)
    expected = np.minimum(curve(b - optimum), CHANCE)
    tables = []
    for seed in range(seeds):
        tilt = seed_slope * rng.normal() * (b - optimum)
        noisy = expected + tilt + rng.normal(0, noise, expected.shape)
        tables.append(frame(e, n, q, b, np.where(expected < CHANCE, noisy, CHANCE), seed))
    return pd.concat(tables, ignore_index=True)


def frame(e: Floats, n: Floats, q: Floats, b: Floats, error: Floats, seed: int) -> pd.DataFrame:
    """One seed's rows; e, n, q: levels in octaves, centred; b: log2 of the batch size."""
    return pd.DataFrame(
        {
            "learning_rate": 0.1 * 2 ** e.ravel(),
            "train_examples": (SMALLEST_SHARD * 2 ** (n - n.min())).ravel(),
            "momentum": 1 - 2 ** -(q - q.min()).ravel(),
            "batch_size": 2 ** b.ravel(),
            "seed": seed,
            "validation_error": error.ravel(),
            "chance_error": CHANCE,
        }
    ).assign(cell_id=lambda table: [f"cell-{seed}-{i}" for i in range(len(table))])


def one_group(
    errors: Floats, batch_sizes: Sequence[float], train_examples: int = 10**6
) -> pd.DataFrame:
    """One (ε, N, m) with the given (seeds, batch sizes) errors."""
    seed, column = np.indices(np.shape(errors))
    return pd.DataFrame(
        {
            "learning_rate": 0.1,
            "train_examples": train_examples,
            "momentum": 0.0,
            "batch_size": np.asarray(batch_sizes)[column.ravel()],
            "seed": seed.ravel(),
            "validation_error": np.ravel(errors),
            "chance_error": CHANCE,
        }
    )
