"""The loss as a sum of what is lost to few parameters, to few data, and to chance."""

from typing import final

import numpy as np
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.linear_starts import linear_starts, smallest_and_largest
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = [
    "Chinchilla",
    "sum_of_powers",
    "sum_of_powers_gradient",
    "sum_of_powers_starts",
]

_EXPONENTS = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.1])
_FLOORS = np.array([0.0, 0.3, 0.6, 0.85, 0.97])
"""E as a share of the smallest L."""
_SMALLEST_SHARE = 1e-3
"""A term of the sum starts at no less than this share of L: the logarithm of 0 has no slope."""


def sum_of_powers(theta: Array, x: Array) -> tuple[Array, Array, Array]:
    """Return A/N^α, B/D^β and their sum with E at θ = (log E, log A, log B, α, β, …).

    Shapes (..., n). Kept where their logarithms are finite.
    """
    by_n = _power(theta[..., 1:2] - theta[..., 3:4] * np.log(x[:, 0]))
    by_d = _power(theta[..., 2:3] - theta[..., 4:5] * np.log(x[:, 1]))
    return by_n, by_d, by_n + by_d + np.exp(theta[..., :1])


def _power(exponent: Array) -> Array:
    """Return e^exponent between e^-700 and e^700; overwrites `exponent`."""
    return np.asarray(np.exp(np.clip(exponent, -700.0, 700.0, out=exponent), out=exponent))


def sum_of_powers_gradient(theta: Array, x: Array) -> Array:
    """Return (..., n, 5) derivatives of log(E + A/N^α + B/D^β) by the working parameters."""
    by_n, by_d, total = sum_of_powers(theta, x)
    gradient = np.empty((*total.shape, 5))
    np.divide(np.exp(theta[..., :1]), total, out=gradient[..., 0])
    np.divide(by_n, total, out=gradient[..., 1])
    np.divide(by_d, total, out=gradient[..., 2])
    np.multiply(gradient[..., 1], -np.log(x[:, 0]), out=gradient[..., 3])
    np.multiply(gradient[..., 2], -np.log(x[:, 1]), out=gradient[..., 4])
    return gradient


def sum_of_powers_starts(x: Array, log_y: Array, weights: Array) -> Array:
    """Return (k, s, 5) starts: A and B by linear least squares at each (α, β, E)."""
    alpha, beta, floors = (
        axis.ravel() for axis in np.meshgrid(_EXPONENTS, _EXPONENTS, _FLOORS, indexing="ij")
    )
    y = np.exp(log_y)
    low, _ = smallest_and_largest(y, weights)
    floor = low[:, None] * floors
    logs = np.log(x) - np.log(x).mean(axis=0)
    design = np.exp(-np.stack([alpha, beta], axis=1)[:, None] * logs)
    target = y[:, None] - floor[..., None]
    scale = linear_starts(design[None], target, (weights / y**2)[:, None])
    scale = np.maximum(scale, _SMALLEST_SHARE * low[:, None, None])
    powers = np.stack([alpha, beta], axis=1) * np.ones((len(y), 1, 1))
    level = np.log(scale) + powers * np.log(x).mean(axis=0)
    log_floor = np.log(np.maximum(floor, _SMALLEST_SHARE * low[:, None]))
    return np.concatenate([log_floor[..., None], level, powers], axis=2)


@final
class Chinchilla(Form):
    """L = E + A/N^α + B/D^β; θ = (log E, log A, log B, α, β)."""

    name = "Chinchilla"
    equation = "E + A/N^α + B/D^β"
    variables = ("N", "D")
    parameters = ("E", "A", "B", "alpha", "beta")
    lower = (-30.0, -50.0, -50.0, 0.0, 0.0)
    upper = (30.0, 200.0, 200.0, EXPONENT_LIMIT, EXPONENT_LIMIT)
    typical = (0.5, 3.0, 3.5, 0.34, 0.28)
    reference = "Hoffmann et al. 2022, §3.3, arXiv:2203.15556"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        return np.asarray(np.log(sum_of_powers(theta, x)[2]))

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        return sum_of_powers_gradient(theta, x)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        return sum_of_powers_starts(x, log_y, weights)

    @override
    def reported(self, theta: Array) -> Array:
        return np.concatenate([np.exp(theta[..., :3]), theta[..., 3:]], axis=-1)
