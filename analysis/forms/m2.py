"""M2, the power law with a floor: for one model at all sizes."""

from itertools import pairwise
from typing import final

import numpy as np
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["M2"]

_MAGNITUDES = np.geomspace(0.005, EXPONENT_LIMIT, 36)
_EXPONENTS = np.concatenate([-_MAGNITUDES[::-1], [0.0], _MAGNITUDES[::3], [EXPONENT_LIMIT]])
# The floor's share of y at the geometric mean of the sizes: dense near 1, where curves are flat.
_SHARES = np.concatenate([[0.0], 1 / (1 + np.exp(-np.linspace(-4, 7, 24)))])
_BASINS = np.array([0, 1, 13, 19, len(_SHARES)])
"""First share of each group that sends its best grid point on."""


@final
class M2(Form):
    """y = α m^β + γ, γ ≥ 0; θ = (log α, β, γ)."""

    name = "M2"
    equation = "α m^β + γ"
    variables = ("m",)
    parameters = ("alpha", "beta", "gamma")
    lower = (-np.inf, -EXPONENT_LIMIT, 0.0)
    upper = (np.inf, EXPONENT_LIMIT, np.inf)
    typical = (2.0, -0.3, 0.05)
    reference = "Hestness et al. 2017, §3, arXiv:1712.00409; named in arXiv:2209.06640"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        return np.asarray(np.log(_power(theta, x) + theta[..., 2:3]))

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        power = _power(theta, x)
        inverse = 1 / (power + theta[..., 2:3])
        share = power * inverse
        return np.stack([share, share * np.log(x[:, 0]), inverse], axis=-1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        """Return the best point of each group of floor shares, the level projected out."""
        log_size = np.log(x[:, 0])
        centre = log_size.mean()
        power = np.exp(_EXPONENTS[:, None] * (log_size - centre))
        shape = np.log((1 - _SHARES[:, None, None]) * power + _SHARES[:, None, None])
        flat = shape.reshape(-1, len(x))
        share_of = weights / weights.sum(axis=1, keepdims=True)
        centred = log_y - (share_of * log_y).sum(axis=1, keepdims=True)
        level = share_of @ flat.T
        # The weighted sum of squares about its best level, less what no grid point changes.
        loss = share_of @ (flat**2).T - level**2 - 2 * (share_of * centred) @ flat.T
        grid = (len(_SHARES), len(_EXPONENTS))
        loss, level = loss.reshape(-1, *grid), level.reshape(-1, *grid)
        mean = (share_of * log_y).sum(axis=1)
        best = [_best(loss, level, mean, centre, *pair) for pair in pairwise(_BASINS)]
        return np.stack(best, axis=1)

    @override
    def reported(self, theta: Array) -> Array:
        return np.stack([np.exp(theta[..., 0]), theta[..., 1], theta[..., 2]], axis=-1)


def _power(theta: Array, x: Array) -> Array:
    """Return (..., n) α m^β, kept where its logarithm is finite."""
    log_power = theta[..., :1] + theta[..., 1:2] * np.log(x[:, 0])
    return np.asarray(np.exp(np.clip(log_power, -700.0, 700.0)))


def _best(loss: Array, level: Array, mean: Array, centre: float, first: int, last: int) -> Array:
    """Return (k, 3) best grid points of k curves among the shares from `first` to `last`."""
    rows = np.arange(len(loss))
    best = loss[:, first:last].reshape(len(loss), -1).argmin(axis=1)
    at, beta = np.unravel_index(best, (last - first, len(_EXPONENTS)))
    total = mean - level[rows, first + at, beta]
    share, slope = _SHARES[first + at], _EXPONENTS[beta]
    return np.stack(
        [total + np.log1p(-share) - slope * centre, slope, np.exp(total) * share], axis=1
    )
