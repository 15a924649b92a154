"""Exact expected risks of a noisy quadratic trained by heavy ball for a fixed number of epochs.

At a fixed number of steps the quadratic has no optimum in B; at T = 4 N/B steps under-training
gives it one. Its exponents are local: they depend on the levels, a little, and are computed here
over the same levels as the tables.
"""

from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CURVATURE = 1 / np.arange(1, 21)
EPOCHS = 4


def heavy_ball_second_moment(
    learning_rate: float, momentum: float, curvature: Floats, batch_size: float, steps: int
) -> Floats:
    """E[w²] per curvature h after `steps` of v ← m v + h w + noise, w ← w - ε v, from w = 1.

    Gradient noise of variance h/B, exactly: the second moments of (w, v) move linearly.
    """
    identity = np.ones_like(curvature)
    move = np.array(
        [
            [1 - learning_rate * curvature, -learning_rate * momentum * identity],
            [curvature, momentum * identity],
        ]
    ).transpose(2, 0, 1)
    noise = np.array([-learning_rate, 1.0])
    power = np.zeros((len(curvature), 5, 5))
    power[:, :4, :4] = np.einsum("hij,hkl->hikjl", move, move).reshape(-1, 4, 4)
    power[:, :4, 4] = np.kron(noise, noise) * curvature[:, None] / batch_size
    power[:, 4, 4] = 1
    start = np.array([1.0, 0, 0, 0, 1])
    return np.asarray((np.linalg.matrix_power(power, steps) @ start)[:, 0])


def quadratic_risk(rate: float, train: float, inverse: float, batch: float) -> float:
    """Return the excess risk after `EPOCHS` epochs at learning rate ε, N, 1/(1 - m) and B."""
    steps = max(round(EPOCHS * train / batch), 1)
    moment = heavy_ball_second_moment(rate, 1 - 1 / inverse, CURVATURE, batch, steps)
    return float(0.5 * CURVATURE @ moment)


@dataclass(frozen=True, kw_only=True)
class Risks:
    """Exact risks of 64 groups, four levels an octave apart of each factor."""

    groups: Floats
    """(64, 3) ε, N, 1/(1 - m)."""
    batch_sizes: Floats
    """(K,)"""
    risk: Floats
    """(64, K)"""
    exponents: Floats
    """(3,) least squares of exact optima on the log₂ of the factors."""

    def table(self, errors: Floats) -> pd.DataFrame:
        """Return one row a run from (64, K, S) errors."""
        groups, sizes, seeds = errors.shape
        each = np.repeat(self.groups, sizes * seeds, axis=0)
        return pd.DataFrame(
            {
                "learning_rate": each[:, 0],
                "train_examples": each[:, 1],
                "momentum": 1 - 1 / each[:, 2],
                "batch_size": np.tile(np.repeat(self.batch_sizes, seeds), groups),
                "seed": np.tile(np.arange(seeds), groups * sizes),
                "y": errors.ravel(),
            }
        )


@cache
def exact_risks(rate: float, train: float, largest: float, step: float = 0.125) -> Risks:
    """Return risks from the smallest ε and N, on a √2 grid of B from 1 to 2^`largest`.

    `step`: octaves between the batch sizes among which the exact optimum is sought.
    """
    level = 2.0 ** np.arange(4)
    groups = np.array(list(product(rate * level, train * level, level)))
    batch_sizes = 2.0 ** np.arange(0, largest + 0.1, 0.5)
    fine = np.arange(1, largest, step)
    risk, optima = [], []
    for group in groups:
        at = partial(quadratic_risk, *group)
        risk.append([at(size) for size in batch_sizes])
        optima.append(fine[np.argmin([at(size) for size in 2**fine])])
    design = np.column_stack([np.ones(len(groups)), np.log2(groups)])
    exponents = np.linalg.lstsq(design, np.array(optima), rcond=None)[0][1:]
    return Risks(groups=groups, batch_sizes=batch_sizes, risk=np.array(risk), exponents=exponents)
