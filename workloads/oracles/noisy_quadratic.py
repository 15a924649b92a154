# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A quadratic whose minimum is seen through noise: what heavy ball makes of it is known exactly.

One example is a point z, its loss ½ Σ h_i (w_i − z_i)²: nothing depends on an input, the model is
its weights w. In every set every coordinate takes equally spaced values, each once, in an order of
its own. So the sets' means and variances are exact: the validation loss is ½ Σ h_i (w_i − μ_i)²,
the excess risk, plus `noise_floor`. Source: the noisy quadratic model of Zhang et al. 2019,
arXiv:1907.04164, whose gradient noise has variance h_i too.
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split, Workload
from workloads.streams import permutation

__all__ = [
    "DISTANCE",
    "POOL",
    "NoisyQuadratic",
    "curvatures",
    "noise_floor",
    "target_variances",
]

POOL, VALIDATION, TEST = 16_384, 512, 512
"""Held-out sets are exact, however small; the pool is four times the largest shard of the study."""

LARGEST = 16
"""Distinct curvatures of the data."""

COPIES = 4
"""Coordinates of each curvature: more of them make the risk of one run less a matter of chance."""

RECIPE = 1
"""Version of the recipe: raise it with any change to the data."""

DISTANCE = Axis(
    name="distance",
    kind=AxisKind.NUMBER,
    meaning="Distance of the start from the minimum, in every coordinate.",
    default=0.25,
    minimum=0.0,
    maximum=100.0,
)


class NoisyQuadratic(Workload):
    """Coordinates of curvature 1, 1/2, 1/3, …, four of each; z has variance 1/h.

    The error of an example is q/(1 + q), with q the mean over coordinates of h (w − z)²: bounded,
    and the larger the larger its loss. It is 1 for weights far away, which is where a run is that
    diverges; no output depends on an input, so that there is no guess to compare with. Its mean is
    not a function of the risk: laws are to be checked on `validation_loss`.
    """

    name = "noisy_quadratic"
    version = 1
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Number k of distinct curvatures, 1, 1/2, …, 1/k.",
        minimum=1,
        maximum=LARGEST,
    )
    axes = (DISTANCE,)
    chance_error = 1.0

    def data(self, axes: AxisValues) -> Data:
        return _data(float(axes[DISTANCE.name]))

    def data_fingerprint(self, axes: AxisValues) -> str:
        recipe = (
            f"noisy quadratic recipe {RECIPE}: {POOL} + {VALIDATION} + {TEST} examples, "
            f"{COPIES} coordinates of each of {LARGEST} curvatures, distance {axes[DISTANCE.name]}"
        )
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def model(self, size: int) -> nn.Module:
        weights = nn.Linear(1, COPIES * size, bias=False)
        nn.init.zeros_(weights.weight)
        return nn.Sequential(weights)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * _terms(outputs, targets).sum(1)

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        mean = _terms(outputs, targets).mean(1).clamp(max=1e30)  # of weights that overflow, 1
        return mean / (1 + mean)


def curvatures(size: int) -> NDArray[np.float64]:
    """Return the (4 k,) curvatures h of a model of size k."""
    return np.repeat(1 / np.arange(1, size + 1), COPIES)


def target_variances(size: int) -> NDArray[np.float64]:
    """Return the (4 k,) variances of z over the pool, with P − 1 below: those of samples of it."""
    return POOL / (POOL - 1) / curvatures(size)


def noise_floor(size: int) -> float:
    """Return the validation and test loss at the minimum: ½ Σ h · 1/h."""
    return COPIES * size / 2


def _terms(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return (n, 4 k) h (w − z)² of the model's coordinates."""
    coordinates = outputs.shape[1]
    places = torch.arange(coordinates, device=outputs.device)
    divisors = (torch.div(places, COPIES, rounding_mode="floor") + 1).to(outputs.dtype)
    return (outputs - targets[:, :coordinates]).square() / divisors


@lru_cache(maxsize=2)
def _data(distance: float) -> Data:
    sets = ((POOL, "pool"), (VALIDATION, "validation"), (TEST, "test"))
    return Data(*(_split(examples, purpose, distance) for examples, purpose in sets))


def _split(examples: int, purpose: str, distance: float) -> Split:
    """Return points whose coordinates have exactly the mean and variance that they should have.

    Rounded alike everywhere: of real numbers, only sums, products, quotients and square roots.
    """
    order = np.stack(
        [permutation(examples, NoisyQuadratic.name, purpose, i) for i in range(COPIES * LARGEST)],
        axis=1,
    )
    odd = 2 * order + 1 - examples  # each of -(n-1), …, n-3, n-1 once: variance (n² - 1) / 3
    scale = np.sqrt(np.repeat(np.arange(1, LARGEST + 1), COPIES) * 3.0 / (examples**2 - 1.0))
    points = torch.from_numpy((distance + odd * scale).astype(np.float32))
    return Split(torch.ones(examples, 1), points)
